"""The collision simulator: measured by real fits, compared with chance, one setting at a time."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from threading import Event
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
import traitlets

from nezha_lite.plots import figure_svg
from nezha_lite.plots.collision_figures import CollisionPoint, collision_figure, occupancy_figure
from nezha_lite.semantic_ids.collisions import resolve
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.widgets import CollisionSimulator
from tests.plots.test_static_layout import assert_readable

# Pairs of near twins: chance would rarely let them collide, a quantizer does.
DRAW = torch.Generator().manual_seed(6)
HALF = torch.randn(150, 8, generator=DRAW)
VECTORS = torch.cat([HALF, HALF + 0.01 * torch.randn(150, 8, generator=DRAW)])
MARKS = {1: 2, 2: 3, 3: 4, 4: 5}  # levels → trace


@pytest.fixture(scope="module")
def measured() -> CollisionSimulator:
    simulator = CollisionSimulator(VECTORS, codes=16)
    simulator.measure_all()
    return simulator


@pytest.fixture
def simulator() -> CollisionSimulator:
    return CollisionSimulator(VECTORS, codes=16)


def choose(simulator: CollisionSimulator, **setting: int) -> None:
    """Set traits one by one, and wait for what had to be measured."""
    for name, value in setting.items():
        setattr(simulator, name, value)
        simulator.work.wait(30)
        assert not simulator.work.running


def point_of(simulator: CollisionSimulator) -> CollisionPoint:
    assert simulator.point is not None
    return simulator.point


# ---- what is measured ---------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_a_point_is_what_a_quantizer_of_that_shape_gives(
    simulator: CollisionSimulator, levels: int
) -> None:
    simulator.levels = levels
    codes = make_quantizer("rq-kmeans", levels, 16).fit(VECTORS).encode(VECTORS).tolist()
    groups = Counter(map(tuple, codes))
    crowds = Counter(tuple(row[:-1]) for row in codes)
    found = point_of(simulator)
    assert (found.distinct, found.largest) == (len(groups), max(groups.values()))
    assert found.crowd == max(crowds.values())
    assert found.space == 16**levels
    assert found.rate == pytest.approx(1 - len(groups) / 300)
    assert found.occupancy == pytest.approx(len(groups) / 16**levels)


def test_chance_is_the_birthday_problem() -> None:
    point = CollisionPoint(levels=2, codes=16, n_items=100, distinct=80, largest=3, crowd=9)
    distinct = 256 * (1 - (1 - 1 / 256) ** 100)
    assert point.chance == pytest.approx(1 - distinct / 100)


def test_near_twins_collide_more_than_chance(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 3, 16
    assert point_of(measured).rate > 3 * point_of(measured).chance
    assert "alike items want alike codes" in measured.collisions.layout.title.text


def test_a_smaller_catalogue_is_part_of_a_larger_one(simulator: CollisionSimulator) -> None:
    assert simulator.sizes == (100, 200, 300)
    rows = [set(simulator.order[:size].tolist()) for size in simulator.sizes]
    assert rows[0] < rows[1] < rows[2] == set(range(300))
    choose(simulator, items=100)
    assert point_of(simulator).n_items == 100
    subset = VECTORS[simulator.order[:100].sort().values]
    codes = make_quantizer("rq-kmeans", 3, 16).fit(subset).encode(subset)
    assert point_of(simulator).distinct == len({tuple(row) for row in codes.tolist()})


def test_each_setting_is_fitted_once(
    simulator: CollisionSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(simulator, codes=32)
    calls = []

    def count(*arguments: object) -> None:
        calls.append(arguments)
        raise AssertionError("fitted again")

    monkeypatch.setattr("nezha_lite.widgets.collision_simulator.make_quantizer", count)
    for codes in (16, 32):
        for levels in (1, 2, 3, 4):
            choose(simulator, codes=codes, levels=levels)
    assert calls == []
    assert not simulator.work.message.value.count("Stopped")
    choose(simulator, codes=64)
    assert "Stopped: fitted again" in simulator.work.message.value
    assert simulator.codes == 32, "what cannot be shown is not left chosen"


def test_a_fit_is_announced_before_it_begins(simulator: CollisionSimulator) -> None:
    said = []
    simulator.work.message.observe(lambda change: said.append(change.new), "value")
    choose(simulator, codes=8)
    assert "Fitting RQ-KMeans: 8 codes, 300 items (0 of 1 done)" in said[0]
    assert "Done." in said[-1]
    said.clear()
    choose(simulator, codes=16)
    assert said == [], "kept from before"


def test_a_cancelled_fit_takes_the_sliders_back(
    simulator: CollisionSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, go_on = Event(), Event()

    def slow(*arguments: object) -> object:
        at_work.set()
        assert go_on.wait(30)
        return make_quantizer(*arguments)

    monkeypatch.setattr("nezha_lite.widgets.collision_simulator.make_quantizer", slow)
    before = point_of(simulator)
    simulator.work.start_button.click()
    assert at_work.wait(30)
    simulator.items = 100
    assert simulator.point is before, "what is not measured yet is not shown"
    simulator.work.cancel_button.click()
    go_on.set()
    simulator.work.wait(30)
    assert (simulator.codes, simulator.items) == (16, 300)
    assert simulator.point is before


@dataclass
class HeldFits:
    """Fits that begin at once and end when told; `begun` are the codes of each, in order."""

    begun: list[int] = field(default_factory=list)
    at_work: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)

    def __call__(self, name: str, levels: int, codes: int, seed: int) -> object:
        self.begun.append(codes)
        self.at_work.set()
        assert self.go_on.wait(30)
        return make_quantizer(name, levels, codes, seed)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldFits:
    fits = HeldFits()
    monkeypatch.setattr("nezha_lite.widgets.collision_simulator.make_quantizer", fits)
    return fits


def cancelled(simulator: CollisionSimulator, held: HeldFits) -> None:
    """Cancel while a fit is at work, and wait for the end."""
    assert held.at_work.wait(30)
    simulator.work.cancel_button.click()
    held.go_on.set()
    simulator.work.wait(30)
    assert "Cancelled; what is shown is as it was." in simulator.work.message.value


def test_cancelling_the_last_fit_takes_the_sliders_back_as_well(
    simulator: CollisionSimulator, held: HeldFits
) -> None:
    before = simulator.summary.value, point_of(simulator)
    simulator.items = 100
    cancelled(simulator, held)
    assert (simulator.codes, simulator.items) == (16, 300)
    assert (simulator.summary.value, simulator.point) == before
    assert held.begun == [16]


def test_every_size_that_was_cancelled_is_not_measured_later(
    simulator: CollisionSimulator, held: HeldFits
) -> None:
    simulator.work.start_button.click()
    cancelled(simulator, held)
    held.begun.clear()
    choose(simulator, items=100)
    assert held.begun == [16]


def test_taking_two_sliders_back_begins_no_fit(
    simulator: CollisionSimulator, held: HeldFits
) -> None:
    simulator.work.start_button.click()
    assert held.at_work.wait(30)
    simulator.items = 100
    simulator.codes = 128
    cancelled(simulator, held)
    assert (simulator.codes, simulator.items) == (16, 300)
    assert len(held.begun) == 1


def test_a_setting_chosen_while_another_is_fitted_comes_too(
    simulator: CollisionSimulator,
) -> None:
    simulator.codes = 32
    simulator.items = 200
    simulator.codes = 8
    simulator.work.wait(30)
    found = point_of(simulator)
    assert (found.codes, found.n_items) == (8, 200)


# ---- what is shown ------------------------------------------------------------------------------


def test_controls_and_traits_follow_each_other(simulator: CollisionSimulator) -> None:
    controls = {
        child.description: child for child in simulator.children if hasattr(child, "description")
    }
    assert {"Levels", "Codes per level", "Items"} <= set(controls)
    controls["Levels"].value, controls["Codes per level"].value = 2, 8
    controls["Items"].value = 200
    assert (simulator.levels, simulator.codes, simulator.items) == (2, 8, 200)
    choose(simulator, codes=16)
    assert controls["Codes per level"].value == 16
    for child in simulator.children:
        interactive = hasattr(child, "value") and not isinstance(child, ipywidgets.HTML)
        assert not interactive or child.description


def test_the_button_measures_every_codebook_size(simulator: CollisionSimulator) -> None:
    marks = [len(simulator.collisions.data[place].x) for place in MARKS.values()]
    assert marks == [1, 1, 1, 1]
    simulator.work.start_button.click()
    simulator.work.wait(30)
    marks = [len(simulator.collisions.data[place].x) for place in MARKS.values()]
    assert marks == [6, 6, 6, 6]
    choose(simulator, items=200)
    marks = [len(simulator.collisions.data[place].x) for place in MARKS.values()]
    assert marks == [1, 1, 1, 1], "points of another catalogue are not shown"


def test_marks_and_ring_stand_at_their_figures(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 2, 32
    point = point_of(measured)
    for figure, height in (
        (measured.collisions, point.rate),
        (measured.occupancy, point.occupancy),
    ):
        ring, marks = figure.data[1], figure.data[MARKS[2]]
        assert (list(ring.x), list(ring.y)) == ([1024], [pytest.approx(height)])
        assert height == pytest.approx(marks.y[list(marks.x).index(1024)])
        assert len({trace.marker.symbol for trace in figure.data[1:]}) == 5, "not colour alone"


def test_no_collision_is_drawn_below_a_single_one(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 4, 256
    assert point_of(measured).rate == 0
    (height,) = measured.collisions.data[1].y
    assert 0 < height < 1 / 300
    ticks = dict(
        zip(
            measured.collisions.layout.yaxis.tickvals,
            measured.collisions.layout.yaxis.ticktext,
            strict=True,
        )
    )
    assert ticks[height] == "none"
    assert "No item collides." in measured.table.value
    assert measured.resolutions() == []


def test_the_curve_of_chance_falls_and_ends_at_one_item(measured: CollisionSimulator) -> None:
    curve = measured.collisions.data[0]
    assert all(a > b for a, b in zip(curve.y, curve.y[1:], strict=False))
    assert curve.y[0] == pytest.approx(1 - 8 / 300, abs=1e-3)
    assert 0.4 / 300 <= curve.y[-1] < 2 / 300


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ways_out_say_what_resolving_really_does(
    simulator: CollisionSimulator, levels: int
) -> None:
    simulator.levels = levels
    quantizer = make_quantizer("rq-kmeans", levels, 16).fit(VECTORS)
    codes = quantizer.encode(VECTORS)
    said = dict(simulator.resolutions())
    longer = resolve(codes, quantizer, VECTORS, "extra-level")
    assert f"the last one of {longer.radices[-1]}: {longer.space:,} IDs" in said["extra level"]
    for way, how in (("optimal", "optimal"), ("next best", "next-best")):
        try:
            unique = resolve(codes, quantizer, VECTORS, how)  # type: ignore[arg-type]
        except ValueError:
            assert said[way].startswith("impossible")
        else:
            assert said[way].startswith("unique IDs of the same length")
            moved = int((unique.codes != codes).any(1).sum())
            if how == "next-best":
                assert f"; {moved} items move" in said[way]
    shared = resolve(codes, quantizer, VECTORS, "shared")
    largest = max(len(shared.items_of(key)) for key in shared.keys.tolist())
    assert f"up to {largest} items" in said["shared"]


def test_sentences_hold_the_measured_figures(simulator: CollisionSimulator) -> None:
    point = point_of(simulator)
    text = " ".join(simulator.sentences())
    assert "3 × 16 codes for 300 items: 4,096 IDs could be written." in text
    assert f"{point.distinct} are in use, so {300 - point.distinct} items" in text
    rates = [float(rate) for rate in re.findall(r"([\d.]+) %", text)]
    assert rates == pytest.approx([100 * point.rate, 100 * point.chance], rel=0.01)


def test_figures_are_the_same_redrawn_as_new(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 3, 8
    points, point = measured._points(), point_of(measured)
    for live, fresh in (
        (measured.collisions, collision_figure(points, point)),
        (measured.occupancy, occupancy_figure(points, point)),
    ):
        assert live.layout.title.text == fresh.layout.title.text
        for old, new in zip(live.data, fresh.data, strict=True):
            assert (old.x, old.y, old.hovertext) == (new.x, new.y, new.hovertext)


@pytest.mark.parametrize("n_items", [1, 7, 1512, 10**6])
@pytest.mark.parametrize(("levels", "codes"), [(1, 8), (3, 64), (4, 256)])
def test_figures_are_readable_whatever_the_catalogue(n_items: int, levels: int, codes: int) -> None:
    distinct = min(n_items, math.ceil(0.7 * codes**levels))
    point = CollisionPoint(levels, codes, n_items, distinct, 2, 2)
    for figure in (collision_figure([point], point), occupancy_figure([point], point)):
        assert_readable(figure_svg(figure))


def test_the_static_form_is_the_same_each_time_and_readable() -> None:
    bundles = [CollisionSimulator(VECTORS, codes=8)._repr_mimebundle_() for _ in range(2)]
    assert bundles[0]["image/svg+xml"] == bundles[1]["image/svg+xml"]
    assert bundles[0]["text/plain"] == bundles[1]["text/plain"]
    assert_readable(bundles[0]["image/svg+xml"])
    assert "application/vnd.jupyter.widget-view+json" in bundles[0]


def test_a_fit_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise ValueError("there are fewer <items> than codes")

    monkeypatch.setattr("nezha_lite.widgets.collision_simulator.make_quantizer", refuse)
    simulator = CollisionSimulator(VECTORS)
    assert simulator.point is None
    assert "fewer &lt;items&gt; than codes" in simulator.summary.value
    assert simulator.resolutions() == []
    simulator.measure_all()
    ElementTree.fromstring(simulator.static_svg())


def test_bad_input_is_refused(simulator: CollisionSimulator) -> None:
    with pytest.raises(ValueError, match=r"shape of vectors is \(0, 4\), but must be \(N, D\)"):
        CollisionSimulator(torch.zeros(0, 4))
    with pytest.raises(traitlets.TraitError, match="items is 250"):
        choose(simulator, items=250)
    with pytest.raises(traitlets.TraitError):
        simulator.levels = 5
    with pytest.raises(traitlets.TraitError):
        CollisionSimulator(VECTORS, codes=7)
