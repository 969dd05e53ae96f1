"""The trade-off of time and quality, driven through its traits."""

import html
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import ipywidgets
import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.common.results import ResultRow, read_results
from nezha_lite.plots.tradeoff_figures import TradeoffPoint, with_dominated
from nezha_lite.widgets import TradeoffExplorer
from tests.helpers.hostile import MARKUP
from tests.helpers.panels import controls, parts
from tests.helpers.rows import row_of

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


def row(
    decoder: str, beam: int | None, verifier: str | None = "prefix", **metrics: float
) -> ResultRow:
    known = {"decoder": decoder, "verifier": verifier, "beam": beam}
    return row_of(metrics, **known, settings={"users": 100}, device="a machine <i>")


def both(
    decoder: str, beam: int, ms: float, recall: float, valid: float = 1.0, verifier: str = "prefix"
) -> tuple[ResultRow, ResultRow]:
    quality = {"recall@10": recall, "ndcg@10": recall / 2, "valid": valid}
    return row(decoder, beam, verifier, median_ms=ms), row(decoder, beam, verifier, **quality)


ROWS = [
    both("nezha", 10, 1.1, 0.2),
    both("nezha", 50, 1.4, 0.3),
    both("nezha", 512, 4.0, 0.3),
    both("nezha", 50, 1.3, 0.25, 0.8, "off"),
    both("autoregressive", 10, 6.0, 0.25),
    both("autoregressive", 50, 9.0, 0.35),
    both(MARKUP, 10, 1.0, 0.1),
]
SPEED = [row("forward", None, None, median_ms=0.7), *(speed for speed, _ in ROWS)]
QUALITY = [*(quality for _, quality in ROWS), row("popularity", None, None, **{"recall@10": 0.1})]


@pytest.fixture
def explorer() -> TradeoffExplorer:
    return TradeoffExplorer(SPEED, QUALITY)


def shown(explorer: TradeoffExplorer) -> set[tuple[str, str | None, int]]:
    return {(point.decoder, point.verifier, point.beam) for point in explorer.points}


def drawn(explorer: TradeoffExplorer, kind: int) -> list[tuple[float, float]]:
    """The marks (kind 0) or the holes (kind 1) of all decoders, sorted."""
    traces = explorer.figure.data[kind:-1:2]
    return sorted(pair for trace in traces for pair in zip(trace.x, trace.y, strict=True))


# ---- dominated ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=12))
def test_a_point_is_dominated_if_another_is_as_good_twice_and_better_once(
    pairs: list[tuple[int, int]],
) -> None:
    points = [TradeoffPoint("nezha", "prefix", 1, ms, value) for ms, value in pairs]
    for (ms, value), point in zip(pairs, with_dominated(points), strict=True):
        better = [
            pair for pair in pairs if pair[0] <= ms and pair[1] >= value and pair != (ms, value)
        ]
        assert point.dominated == bool(better)


def test_dominated_marks_are_hollow_and_depend_on_what_is_shown(explorer: TradeoffExplorer) -> None:
    assert drawn(explorer, 0) == sorted(
        (s.metrics["median_ms"], q.metrics["recall@10"]) for s, q in ROWS
    )
    assert drawn(explorer, 1) == [(4.0, 0.3), (6.0, 0.25)]
    assert "2 of 7 points on show are dominated" in explorer.summary.value
    explorer.decoders = ("autoregressive",)
    assert drawn(explorer, 1) == []
    assert drawn(explorer, 0) == [(6.0, 0.25), (9.0, 0.35)]


# ---- choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["recall@10", "ndcg@10", "valid"])
@pytest.mark.parametrize("beam", [0, 10, 512])
@pytest.mark.parametrize("verifier", ["all", "prefix", "off"])
def test_what_is_shown_is_what_was_chosen(
    explorer: TradeoffExplorer, metric: str, beam: int, verifier: str
) -> None:
    explorer.metric, explorer.beam, explorer.verifier = metric, beam, verifier
    explorer.decoders = ("nezha", MARKUP)
    expected = {
        (s.decoder, s.verifier, s.beam): (s.metrics["median_ms"], q.metrics[metric])
        for s, q in ROWS
        if s.decoder in ("nezha", MARKUP)
        and beam in (0, s.beam)
        and verifier in ("all", s.verifier)
    }
    assert shown(explorer) == set(expected)
    assert drawn(explorer, 0) == sorted(expected.values())
    assert explorer.table.value.count("<tr>") == (len(expected) + 1 if expected else 0)
    if not expected:
        assert "Nothing was measured for this choice" in explorer.summary.value
    ElementTree.fromstring(explorer.static_svg())


@pytest.mark.parametrize("budget", [0.7, 1, 1.5, 3, 7, math.inf])
@pytest.mark.parametrize("metric", ["recall@10", "valid"])
def test_the_best_is_the_best_within_the_budget(
    explorer: TradeoffExplorer, budget: float, metric: str
) -> None:
    explorer.budget, explorer.metric = budget, metric
    affordable = [
        (q.metrics[metric], -s.metrics["median_ms"], s.decoder, s.beam)
        for s, q in ROWS
        if s.metrics["median_ms"] <= budget
    ]
    line = explorer.figure.data[-1]
    assert list(line.x) == ([budget] * 2 if budget < math.inf else [])
    if not affordable:
        assert explorer.best is None
        assert "Nothing on show answers within 0.7 ms; the fastest is" in explorer.summary.value
        assert "★" not in explorer.table.value
        return
    value, ms, decoder, beam = max(affordable, key=lambda row: row[:2])
    assert explorer.best is not None
    assert (explorer.best.decoder, explorer.best.beam) == (decoder, beam)
    assert f"(beam {beam}) has the best" in explorer.summary.value
    assert f": {value:.3g}, in {-ms:.3g} ms." in explorer.summary.value
    (best,) = re.findall(r"<tr>(?:(?!<tr>).)*★ best within the budget", explorer.table.value)
    assert f">{-ms:.3g}<" in best


def test_the_axes_stay_while_decoders_come_and_go(explorer: TradeoffExplorer) -> None:
    before = explorer.figure.layout.to_plotly_json()
    explorer.decoders = ("nezha",)
    for axis in ("xaxis", "yaxis"):
        assert explorer.figure.layout.to_plotly_json()[axis] == before[axis]
    explorer.metric = "valid"
    assert explorer.figure.layout.yaxis.range != before["yaxis"]["range"]
    assert explorer.figure.layout.yaxis.title.text == "share of the list that exists"


def test_a_recall_comes_with_its_uncertainty(explorer: TradeoffExplorer) -> None:
    explorer.budget = 1.5
    half = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert f"With 100 users such a Recall@10 is known to ±{half:.3g}." in explorer.summary.value
    explorer.metric = "valid"
    assert "users" not in explorer.summary.value


# ---- controls -----------------------------------------------------------------------------------


def test_every_control_has_a_name_and_follows_its_trait(explorer: TradeoffExplorer) -> None:
    found = controls(explorer)
    for part in parts(explorer):
        assert isinstance(part, ipywidgets.HTML | ipywidgets.Label) or (
            getattr(part, "description", "named") != ""
        )
    assert {"Quality", "Beam width", "Verification", "Latency budget", "NEZHA"} < set(found)
    found["NEZHA"].value = False
    assert explorer.decoders == ("autoregressive", MARKUP)
    explorer.decoders = ("nezha",)
    assert (found["NEZHA"].value, found["autoregressive"].value) == (True, False)
    assert explorer.decoders == ("nezha",)
    found["Beam width"].value = 512
    found["Quality"].value = "valid"
    found["Latency budget"].value = 5
    assert (explorer.beam, explorer.metric, explorer.budget) == (512, "valid", 5)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("beam", 11, "beam is 11, but must be one of"),
        ("verifier", "final", "verifier is 'final'"),
        ("budget", 1.23, "budget is 1.23"),
        ("decoders", ("magic",), "'magic',., but must be some of nezha"),
        ("metric", "mrr", "metric"),
    ],
)
def test_what_was_not_measured_is_refused(
    explorer: TradeoffExplorer, trait: str, value: object, message: str
) -> None:
    before = getattr(explorer, trait)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(explorer, trait, value)
    assert getattr(explorer, trait) == before


def test_rows_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="No decoder was measured for both"):
        TradeoffExplorer(SPEED[:2], QUALITY[1:])


# ---- what is shown ------------------------------------------------------------------------------


def test_hostile_names_are_text(explorer: TradeoffExplorer) -> None:
    explorer.budget = 1
    everything = explorer.summary.value + explorer.table.value
    assert html.escape(MARKUP) in everything
    assert not re.search(r"<(img|b|i)\b", everything)
    assert not re.search(r"<(img|b|i)\b", explorer.static_svg())
    names = [trace.name for trace in explorer.figure.data if trace.name]
    assert not any("<" in name or "$" in name for name in names)


@pytest.mark.data
def test_the_committed_results_tell_what_they_hold() -> None:
    speed = read_results(RESULTS / "latency-beauty-decoders.json")
    quality = read_results(RESULTS / "quality-beauty-decoders.json")
    first, second = (TradeoffExplorer(speed, quality, budget=2) for _ in range(2))
    median = {(r.decoder, r.verifier, r.beam): r.metrics.get("median_ms") for r in speed}
    expected = max(
        (r.metrics["recall@10"], -ms)
        for r in quality
        if (ms := median.get((r.decoder, r.verifier, r.beam))) and ms <= 2
    )
    assert first.best is not None
    assert (first.best.value, -first.best.milliseconds) == expected
    svg = first._repr_mimebundle_()["image/svg+xml"]
    ElementTree.fromstring(svg)
    assert svg == second.static_svg()
