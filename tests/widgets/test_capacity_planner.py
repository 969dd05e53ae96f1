"""The capacity planner: its figures are those of the simulation, its controls work by keyboard."""

from xml.etree import ElementTree

import ipywidgets
import pytest
import traitlets

from nezha_lite.bench.capacity import servers_needed, simulate
from nezha_lite.bench.services import PAPER_SERVICES, Cluster, Service
from nezha_lite.plots import figure_svg
from nezha_lite.plots.capacity_figures import responses_figure, servers_figure, service_style
from nezha_lite.plots.numbers import number
from nezha_lite.widgets import CapacityPlanner
from nezha_lite.widgets.capacity_planner import DEADLINES, RATES, REQUESTS
from tests.helpers.panels import controls, parts
from tests.plots.test_static_layout import assert_readable

SERVICES = (
    Service("nezha", ((1, 2.0),), 1.2),
    Service("generate-constrained", ((1, 600.0),), 1.03),
    Service("batched", ((1, 21.0), (8, 28.0))),
)


@pytest.fixture
def planner() -> CapacityPlanner:
    return CapacityPlanner(SERVICES, "Servers of two CPU cores.", requests_per_second=50)


# ---- what is simulated --------------------------------------------------------------------------


def test_what_is_on_show_is_what_the_simulation_says(planner: CapacityPlanner) -> None:
    planner.servers, planner.deadline_ms, planner.max_batch = 32, 2000, 4
    for place, (service, batch) in enumerate(zip(SERVICES, (1, 1, 4), strict=True)):
        forecast = simulate(service, 50, Cluster(32, batch), REQUESTS)
        assert planner.forecasts[place] == forecast
        assert planner.needed[place] == servers_needed(service, 50, 2000, batch, requests=REQUESTS)
        medians = (number(forecast.percentile(50)), number(forecast.percentile(99)))
        assert planner.rows()[place][1:3] == medians


def test_the_fast_decoder_needs_fewer_servers(planner: CapacityPlanner) -> None:
    planner.deadline_ms = 2000
    few, many, _ = planner.needed
    assert few == 1
    assert many is not None
    assert many > 30
    planner.deadline_ms = 100
    assert planner.needed[:2] == [1, None]


def test_nothing_is_simulated_twice(
    planner: CapacityPlanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(planner.forecasts)
    planner.requests_per_second = 20

    def refuse(*arguments: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr("nezha_lite.bench.capacity.serve", refuse)
    planner.requests_per_second = 50
    assert planner.forecasts == before
    planner.decoder = 2
    with pytest.raises(AssertionError, match="simulated again"):
        planner.requests_per_second = 100


# ---- what is said -------------------------------------------------------------------------------


def test_sentences_say_what_is_needed_and_what_happens(planner: CapacityPlanner) -> None:
    said = planner.sentences()
    assert said[0] == "NEZHA needs 1 server for 50 requests a second and 99 % within 100 ms."
    assert said[1] == planner.forecasts[0].sentence() + " 100 % keep the deadline."
    assert said[-1] == "Servers of two CPU cores."
    assert all(line in planner.summary.value for line in said)

    planner.decoder = 1
    said = planner.sentences()
    assert "cannot keep 99 % within 100 ms: it is too slow even without a queue" in said[0]
    assert said[1].startswith("Overloaded: 7.5")
    assert "deadline" not in said[1]


def test_batches_beyond_what_is_known_are_refused_in_a_sentence(planner: CapacityPlanner) -> None:
    assert not any("known" in line for line in planner.sentences())
    planner.max_batch = 16
    assert "one request at a time, so it gets no batches" in " ".join(planner.sentences())
    planner.decoder = 2
    assert "batches of up to 8, so it gets no larger" in " ".join(planner.sentences())
    assert planner.forecasts[2].cluster.max_batch == 8


def test_the_table_marks_overload_and_the_impossible(planner: CapacityPlanner) -> None:
    assert [row[0] for row in planner.rows()] == ["NEZHA", "generate, constrained", "batched"]
    overloaded = ("generate, constrained", "–", "–", "grows without end", "0 %", "100 %", "✕")
    assert planner.rows()[1] == overloaded
    assert "grows without end" in planner.table.value
    assert "nan" not in planner.table.value
    assert "inf" not in planner.table.value


def test_hostile_names_are_only_text() -> None:
    name = '<img src=x onerror="alert(1)"> $x$ & co'
    planner = CapacityPlanner([Service(name, ((1, 5.0),)), *SERVICES[:1]], where="<b>here</b>")
    for shown in (planner.summary.value, planner.table.value):
        assert "<img" not in shown
        assert "<b>here" not in shown
    for figure in (planner.figures[1], planner.figures[0]):
        assert "<img" not in figure.to_json()
        assert "$x$" not in figure.to_json()
    ElementTree.fromstring(planner.static_svg())


# ---- controls and figures -----------------------------------------------------------------------


def test_controls_and_traits_follow_each_other(planner: CapacityPlanner) -> None:
    found = controls(planner)
    traits = {
        "Decoder": ("decoder", 2),
        "Requests / s": ("requests_per_second", 200),
        "Deadline": ("deadline_ms", 500),
        "Servers": ("servers", 8),
        "Largest batch": ("max_batch", 4),
    }
    for description, (trait, value) in traits.items():
        found[description].value = value
        assert getattr(planner, trait) == value
    planner.servers = 2
    assert found["Servers"].value == 2
    for child in parts(planner):
        interactive = hasattr(child, "value") and not isinstance(child, ipywidgets.HTML)
        assert not interactive or child.description


def test_where_no_batch_is_known_there_is_no_such_control() -> None:
    planner = CapacityPlanner(SERVICES[:2])
    assert "Largest batch" not in controls(planner)


def test_figures_are_the_same_redrawn_as_new(planner: CapacityPlanner) -> None:
    planner.decoder, planner.servers, planner.deadline_ms = 2, 64, 2000
    fresh = CapacityPlanner(SERVICES, requests_per_second=50, deadline_ms=2000, servers=64)
    fresh.decoder = 2
    for live, new in zip(planner.figures, fresh.figures, strict=True):
        assert live.layout.title.text == new.layout.title.text
        assert live.layout.height == new.layout.height
        assert live.layout.xaxis.range == new.layout.xaxis.range
        assert live.layout.yaxis.range == new.layout.yaxis.range
        for one, other in zip(live.data, new.data, strict=True):
            assert (one.x, one.y, one.text, one.name) == (other.x, other.y, other.text, other.name)
            assert one.line.width == other.line.width


def test_marks_stand_at_the_servers_needed(planner: CapacityPlanner) -> None:
    planner.deadline_ms = 2000
    others, chosen = planner.figures[0].data[1:3]
    assert (list(chosen.x), list(chosen.y)) == ([planner.needed[0]], [2])
    assert (list(others.x), list(others.y)) == (planner.needed[1:], [1, 0])
    assert others.marker.symbol != chosen.marker.symbol, "not colour alone"
    assert planner.figures[0].data[3].text[1] == f"{planner.needed[1]:,}"
    planner.deadline_ms = 100
    assert list(planner.figures[0].data[1].y) == [0]
    assert "too slow" in planner.figures[0].data[3].text[1]


def test_lines_are_the_percentiles_and_the_overloaded_have_none(planner: CapacityPlanner) -> None:
    line, overloaded, _, deadline = planner.figures[1].data
    place = list(line.x).index(2)  # one in two is slower
    assert line.y[place] == pytest.approx(planner.forecasts[0].percentile(50))
    assert line.y[list(line.x).index(100)] == pytest.approx(planner.forecasts[0].percentile(99))
    assert not overloaded.x
    title = planner.figures[1].layout.title.text.replace("<br>", " ")
    assert "Overloaded, without a line: generate, constrained" in title
    assert set(deadline.y) == {100}
    planner.requests_per_second, planner.servers = 1000, 1
    assert "without a line: all." in planner.figures[1].layout.title.text
    looks = [service_style(service, place) for place, service in enumerate(SERVICES)]
    assert len({(look.dash, look.symbol) for look in looks}) == 3


@pytest.mark.parametrize("rate", [RATES[0], RATES[-1]])
@pytest.mark.parametrize("deadline", [DEADLINES[0], DEADLINES[-1]])
def test_figures_are_readable_at_both_ends_of_the_sliders(rate: int, deadline: int) -> None:
    services = [*SERVICES, *PAPER_SERVICES]
    forecasts = [simulate(service, rate, Cluster(3), 200) for service in services]
    needed = [servers_needed(service, rate, deadline, requests=200) for service in services]
    assert_readable(figure_svg(responses_figure(services, forecasts, 0, deadline)))
    assert_readable(figure_svg(servers_figure(services, needed, 0, deadline, rate)))


def test_the_static_form_is_the_same_each_time_and_readable() -> None:
    bundles = [CapacityPlanner(SERVICES, "Two cores.")._repr_mimebundle_() for _ in range(2)]
    assert bundles[0]["image/svg+xml"] == bundles[1]["image/svg+xml"]
    assert bundles[0]["text/plain"] == bundles[1]["text/plain"]
    assert_readable(bundles[0]["image/svg+xml"])
    assert "application/vnd.jupyter.widget-view+json" in bundles[0]


def test_bad_input_is_refused(planner: CapacityPlanner) -> None:
    with pytest.raises(ValueError, match=r"services is \[\], but must be one or more"):
        CapacityPlanner([])
    with pytest.raises(ValueError, match="but must be one or more, each name once"):
        CapacityPlanner([SERVICES[0], SERVICES[0]])
    with pytest.raises(traitlets.TraitError, match="decoder is 3, but must be at most 2"):
        planner.decoder = 3
    for trait, value in (("servers", 0), ("deadline_ms", 7), ("requests_per_second", 3)):
        with pytest.raises(traitlets.TraitError):
            setattr(planner, trait, value)
