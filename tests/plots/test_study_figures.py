"""Figures of the quality study: what their marks and captions say, and readable pages."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from nezha_lite.common.results import ResultRow
from nezha_lite.evaluation.study.config import COMPARISONS, PUBLISHED, Published, all_systems
from nezha_lite.plots import (
    Figure,
    clear,
    differences_figure,
    figure_svg,
    hallucination_figure,
    pair_name,
    system_name,
    systems_figure,
)
from nezha_lite.plots.static_svg import plain
from nezha_lite.plots.study_figures import NAMES, corrected_p, measure
from nezha_lite.plots.style import KINDS, PALETTE, nth_style
from tests.helpers.hostile import MARKUP
from tests.helpers.rows import row_of
from tests.plots.test_static_layout import assert_readable


def row(
    metrics: dict[str, float],
    dataset: str = "beauty",
    decoder: str | None = "nezha",
    verifier: str | None = "prefix",
    beam: int | None = 20,
    **settings: Any,
) -> ResultRow:
    known = {"decoder": decoder, "verifier": verifier, "beam": beam, "settings": settings}
    return row_of(metrics, kind="quality", dataset=dataset, **known)


def system(name: str, value: float, spread: float = 0.01, **fields: Any) -> ResultRow:
    metrics = {"recall@10": value}
    metrics |= {"recall@10_low": value - spread, "recall@10_high": value + spread}
    return row(metrics, system=name, **fields)


def pair(one: str, other: str, low: float, high: float, dataset: str = "beauty") -> ResultRow:
    metrics = {"ndcg@10_gain": (low + high) / 2, "ndcg@10_low": low, "ndcg@10_high": high}
    return row(metrics | {"ndcg@10_p": 0.01}, dataset, system=one, against=other)


SYSTEMS = [
    system("popularity", 0.02, decoder="popularity", verifier=None, beam=None),
    system("nezha", 0.06),
    system("nezha, autoregressive", 0.05, decoder="autoregressive"),
]
THEIRS = [Published("TIGER", "beauty", {"recall@10": 0.055}, "a paper")]
PAIRS = [
    pair("nezha", "nezha, autoregressive", 0.001, 0.003),
    pair("nezha", "nezha, autoregressive", -0.001, 0.003, "toys"),
    pair("nezha", "no-transition", -0.003, -0.001),
]


def caption(figure: Figure) -> str:
    return plain(figure.layout.title.text).split("\n", 1)[1].replace("\n", " ")


def marks(figure: Figure, name: str) -> Any:
    (found,) = [
        trace for trace in figure.data if trace.name == name and trace.showlegend is not False
    ]
    return found


# ---- names --------------------------------------------------------------------------------------


def test_everything_that_is_studied_has_a_name_of_its_own() -> None:
    labels = {one.label for one in all_systems()}
    assert labels == set(NAMES)
    assert len(set(NAMES.values())) == len(NAMES)
    pairs = [(system_name(one.label), system_name(other.label)) for _, one, other in COMPARISONS]
    assert len(set(pairs)) == len(COMPARISONS)


def test_names() -> None:
    assert system_name("three-levels") == "3-level NEZHA"
    assert system_name("something new") == "something new"
    assert pair_name(PAIRS[2]) == "NEZHA − no transition"
    assert (measure("recall@10"), measure("ndcg@5"), measure("hits@3")) == (
        "Recall@10",
        "NDCG@5",
        "hits@3",
    )


@pytest.mark.parametrize(("low", "high", "says"), [(1, 2, 1), (-1, 1, 0), (-2, -1, -1), (0, 1, 0)])
def test_a_difference_is_clear_if_its_interval_leaves_out_0_and_p_is_small(
    low: float, high: float, says: int
) -> None:
    found = pair("nezha", "nezha, off", low, high)
    assert clear(found, "ndcg@10") == says
    by_chance = replace(found, metrics={**found.metrics, "ndcg@10_p": 0.06})
    assert clear(by_chance, "ndcg@10") == 0
    # Alone its p is small enough; beside two others it is not.
    alone = replace(found, metrics={**found.metrics, "ndcg@10_p": 0.02})
    assert clear(alone, "ndcg@10") == says
    assert clear(alone, "ndcg@10", [by_chance, alone, by_chance]) == 0
    assert corrected_p(alone, "ndcg@10", [by_chance, alone, by_chance]) == pytest.approx(0.06)


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: f"{one.label} {one.dataset}")
def test_published_figures_say_where_they_are_from(one: Published) -> None:
    assert one.source
    assert 0 < one.metrics["ndcg@10"] < one.metrics["recall@10"] < 1
    assert one.label.endswith("(second-hand)" if one.second_hand else "(paper)")


# ---- systems ------------------------------------------------------------------------------------


def test_systems_stand_best_first_with_published_figures_among_them() -> None:
    figure = systems_figure(SYSTEMS, THEIRS, "recall@10", "Title")
    names = ["NEZHA", "TIGER (paper)", "NEZHA's backbone", "popularity"]
    assert list(figure.layout.yaxis.ticktext) == names
    head = marks(figure, KINDS["head"].name)
    assert (list(head.x), list(head.y)) == ([0.06], [0])
    assert list(marks(figure, KINDS["published"].name).x) == [0.055]
    assert list(marks(figure, KINDS["backbone"].name).y) == [2]
    assert list(figure.data[-1].text) == ["0.0600", "0.0550", "0.0500", "0.0200"]
    said = caption(figure)
    assert "Best of ours: NEZHA, 0.0600 (0.0500 to 0.0700)." in said
    assert "Best published: TIGER (paper), 0.0550." in said
    assert "published" not in caption(systems_figure(SYSTEMS, [], "recall@10", ""))


def test_systems_of_two_data_sets_are_not_mixed() -> None:
    for rows in ([], [SYSTEMS[0], system("nezha", 0.1, dataset="toys")]):
        with pytest.raises(ValueError, match="needs rows of one data set"):
            systems_figure(rows, [], "recall@10", "")


# ---- differences --------------------------------------------------------------------------------


def test_differences_are_filled_where_0_lies_outside() -> None:
    figure = differences_figure(PAIRS, "ndcg@10", "Title", "Said.")
    assert list(figure.layout.yaxis.ticktext) == [
        "NEZHA − NEZHA's backbone",
        "NEZHA − no transition",
    ]
    beauty, toys = marks(figure, "Beauty"), marks(figure, "Toys")
    assert list(beauty.x) == pytest.approx([0.002, -0.002])
    assert (beauty.marker.symbol, toys.marker.symbol) == ("circle", "diamond-open")
    assert list(beauty.y) != list(toys.y), "the marks of two data sets lie on one another"
    assert caption(figure) == "Said. Within chance (open marks): 1 of 3."


def test_one_data_set_stands_in_the_middle_of_its_rows() -> None:
    figure = differences_figure([PAIRS[0], PAIRS[2]], "ndcg@10", "")
    assert list(marks(figure, "Beauty").y) == [0, 1]


def test_differences_that_would_lie_on_one_another_are_refused() -> None:
    for rows in ([], [PAIRS[0], PAIRS[0]]):
        with pytest.raises(ValueError, match="one row, or more, for each label"):
            differences_figure(rows, "ndcg@10", "")


# ---- hallucination ------------------------------------------------------------------------------


def test_hallucination_by_beam_by_removal_and_by_epoch() -> None:
    drafts = [
        row({"valid": share}, beam=beam, verifier="off", system="nezha, off", removed=removed)
        for beam, share, removed in ((50, 0.5, 0.2), (10, 0.9, 0.0))
    ]
    figure = hallucination_figure(drafts, "beam", "Title", "Said.")
    line = marks(figure, "Beauty, NEZHA")
    assert (list(line.x), list(line.y)) == ([10, 50], [90, 50])
    removed = hallucination_figure(drafts, "removed", "", "")
    assert list(marks(removed, "Beauty, NEZHA").x) == [0, 20]
    epochs = [
        row({"valid_unchecked": 0.4}, "toys", system="three-levels, off", epoch=epoch)
        for epoch in (1.0, 2.0)
    ]
    learning = hallucination_figure(epochs, "epoch", "", "")
    assert list(marks(learning, "Toys, 3-level NEZHA").y) == [40, 40]
    with pytest.raises(ValueError, match="at which epoch"):
        hallucination_figure(drafts, "epoch", "", "")


def test_lines_differ_in_more_than_colour() -> None:
    looks = [nth_style(index, "") for index in range(len(PALETTE))]
    assert len({(look.dash, look.symbol) for look in looks}) == len(PALETTE)
    assert len({look.symbol for look in KINDS.values()}) == len(KINDS)


# ---- the page -----------------------------------------------------------------------------------


def every_figure() -> list[Figure]:
    studied = [
        system(
            one.label,
            0.001 + 0.004 * place,
            decoder=one.decoder,
            verifier=None if one.verification == "items" else one.verification,
        )
        for place, one in enumerate(all_systems())
    ]
    published = [one for one in PUBLISHED if one.dataset == "beauty"]
    pairs = [
        pair(one.label, other.label, -0.002 * place, 0.003, dataset)
        for place, (_, one, other) in enumerate(COMPARISONS)
        for dataset in ("beauty", "toys", MARKUP)
    ]
    drafts = [
        row({"valid": 0.9}, dataset, beam=beam, system=name)
        for dataset in ("beauty", "toys", MARKUP)
        for name in ("nezha, off", "three-levels, off")
        for beam in (10, 20, 50, 128)
    ]
    return [
        systems_figure([*studied, system(MARKUP, 0.5)], published, "recall@10", MARKUP),
        differences_figure(pairs, "ndcg@10", MARKUP, MARKUP),
        hallucination_figure(drafts, "beam", MARKUP, MARKUP),
    ]


@pytest.mark.parametrize("place", range(3))
def test_nothing_is_cut_or_written_across_and_data_is_text(place: int) -> None:
    svg = figure_svg(every_figure()[place])
    assert svg == figure_svg(every_figure()[place])
    assert_readable(svg)
    ElementTree.fromstring(svg)
    assert "<img" not in svg
