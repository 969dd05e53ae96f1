"""The collision simulator: measured by real fits, compared with chance, one setting at a time."""

import math
import re
from collections import Counter
from threading import Event

import ipywidgets
import pytest
import torch
import traitlets

from nezha_lite.plots import figure_svg
from nezha_lite.plots.collision_figures import CollisionPoint, collision_figure, occupancy_figure
from nezha_lite.semantic_ids.collisions import resolve
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.widgets import CollisionSimulator
from tests.helpers.panels import controls, parts
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
    """Set traits one by one."""
    for name, value in setting.items():
        setattr(simulator, name, value)


# ---- what is measured ---------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_a_point_is_what_a_quantizer_of_that_shape_gives(
    simulator: CollisionSimulator, levels: int
) -> None:
    simulator.levels = levels
    codes = make_quantizer("rq-kmeans", levels, 16).fit(VECTORS).encode(VECTORS).tolist()
    groups = Counter(map(tuple, codes))
    crowds = Counter(tuple(row[:-1]) for row in codes)
    found = simulator.point
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
    assert measured.point.rate > 3 * measured.point.chance
    assert "alike items want alike codes" in measured.figures[0].layout.title.text


def test_a_smaller_catalogue_is_part_of_a_larger_one(simulator: CollisionSimulator) -> None:
    assert simulator.sizes == (100, 200, 300)
    rows = [set(simulator.order[:size].tolist()) for size in simulator.sizes]
    assert rows[0] < rows[1] < rows[2] == set(range(300))
    choose(simulator, items=100)
    assert simulator.point.n_items == 100
    subset = VECTORS[simulator.order[:100].sort().values]
    codes = make_quantizer("rq-kmeans", 3, 16).fit(subset).encode(subset)
    assert simulator.point.distinct == len({tuple(row) for row in codes.tolist()})


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
    with pytest.raises(AssertionError, match="fitted again"):
        choose(simulator, codes=64)


def test_fits_are_announced_and_may_be_cancelled(
    simulator: CollisionSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, go_on = Event(), Event()

    def slow(*arguments: object) -> object:
        at_work.set()
        assert go_on.wait(30)
        return make_quantizer(*arguments)

    monkeypatch.setattr("nezha_lite.widgets.collision_simulator.make_quantizer", slow)
    before = simulator.point, len(simulator.figure.data[2].x)
    simulator.work.start_button.click()
    assert at_work.wait(30)
    assert "Fitting RQ-KMeans: 8 codes, 300 items (0 of 6 done)" in simulator.work.message.value
    simulator.work.cancel_button.click()
    go_on.set()
    simulator.work.wait(30)
    assert "Cancelled" in simulator.work.message.value
    assert (simulator.point, len(simulator.figure.data[2].x)) == before


# ---- what is shown ------------------------------------------------------------------------------


def test_controls_and_traits_follow_each_other(simulator: CollisionSimulator) -> None:
    found = controls(simulator)
    assert {"Levels", "Codes per level", "Items"} <= set(found)
    found["Levels"].value, found["Codes per level"].value = 2, 8
    found["Items"].value = 200
    assert (simulator.levels, simulator.codes, simulator.items) == (2, 8, 200)
    choose(simulator, codes=16)
    assert found["Codes per level"].value == 16
    for child in parts(simulator):
        interactive = hasattr(child, "value") and not isinstance(child, ipywidgets.HTML)
        assert not interactive or child.description


def test_the_button_measures_every_codebook_size(simulator: CollisionSimulator) -> None:
    marks = [len(simulator.figures[0].data[place].x) for place in MARKS.values()]
    assert marks == [1, 1, 1, 1]
    simulator.work.start_button.click()
    simulator.work.wait(30)
    marks = [len(simulator.figures[0].data[place].x) for place in MARKS.values()]
    assert marks == [6, 6, 6, 6]
    choose(simulator, items=200)
    marks = [len(simulator.figures[0].data[place].x) for place in MARKS.values()]
    assert marks == [1, 1, 1, 1], "points of another catalogue are not shown"


def test_marks_and_ring_stand_at_their_figures(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 2, 32
    point = measured.point
    for figure, height in (
        (measured.figures[0], point.rate),
        (measured.figures[1], point.occupancy),
    ):
        ring, marks = figure.data[1], figure.data[MARKS[2]]
        assert (list(ring.x), list(ring.y)) == ([1024], [pytest.approx(height)])
        assert height == pytest.approx(marks.y[list(marks.x).index(1024)])
        assert len({trace.marker.symbol for trace in figure.data[1:]}) == 5, "not colour alone"


def test_no_collision_is_drawn_below_a_single_one(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 4, 256
    assert measured.point.rate == 0
    (height,) = measured.figures[0].data[1].y
    assert 0 < height < 1 / 300
    ticks = dict(
        zip(
            measured.figures[0].layout.yaxis.tickvals,
            measured.figures[0].layout.yaxis.ticktext,
            strict=True,
        )
    )
    assert ticks[height] == "none"
    assert "No item collides." in measured.table.value
    assert measured.resolutions() == []


def test_the_curve_of_chance_falls_and_ends_at_one_item(measured: CollisionSimulator) -> None:
    curve = measured.figures[0].data[0]
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
    point = simulator.point
    text = " ".join(simulator.sentences())
    assert "3 × 16 codes for 300 items: 4,096 IDs could be written." in text
    assert f"{point.distinct} are in use, so {300 - point.distinct} items" in text
    rates = [float(rate) for rate in re.findall(r"([\d.]+) %", text)]
    assert rates == pytest.approx([100 * point.rate, 100 * point.chance], rel=0.01)


def test_figures_are_the_same_redrawn_as_new(measured: CollisionSimulator) -> None:
    measured.levels, measured.codes = 3, 8
    points, point = measured._points(), measured.point
    for live, fresh in (
        (measured.figures[0], collision_figure(points, point)),
        (measured.figures[1], occupancy_figure(points, point)),
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


def test_bad_input_is_refused(simulator: CollisionSimulator) -> None:
    with pytest.raises(ValueError, match=r"shape of vectors is \(0, 4\), but must be \(N, D\)"):
        CollisionSimulator(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="vectors row 7 holds NaN"):
        CollisionSimulator(VECTORS.index_fill(0, torch.tensor([7]), math.nan))
    with pytest.raises(traitlets.TraitError, match="items is 250"):
        choose(simulator, items=250)
    with pytest.raises(traitlets.TraitError):
        simulator.levels = 5
    with pytest.raises(traitlets.TraitError):
        CollisionSimulator(VECTORS, codes=7)
