"""Pictures of the method: what their marks and captions say, and that nothing is cut off."""

from collections.abc import Sequence

import pytest
import torch

from nezha_lite.plots import Figure, figure_svg
from nezha_lite.plots.method_figures import (
    cache_figure,
    draft_tree_figure,
    head_figure,
    list_figure,
    residual_plane_figure,
    trie_figure,
    ways_out_figure,
)
from nezha_lite.plots.static_svg import plain
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import TrieVerifier
from tests.plots.test_static_layout import assert_readable

DRAFTS: list[list[tuple[int, ...]]] = [[(1,), (2,), (3,)], [(1, 2), (1, 3), (2, 2), (3, 1)]]
BEAMS: list[list[tuple[int, ...]]] = [[(2,), (1,)], [(2, 9), (1, 2)]]
IDS = [(5, 1), (0, 3), (5, 2), (2, 0), (0, 1), (5, 0)]
BEFORE = [(4, 7), (4, 7)]


def caption(figure: Figure) -> str:
    return plain(figure.layout.title.text).split("\n", 1)[1].replace("\n", " ")


def points(figure: Figure, name: str) -> list[tuple[float, float]]:
    (trace,) = (trace for trace in figure.data if trace.name == name)
    return list(zip(trace.x, trace.y, strict=True))


def written(figure: Figure) -> list[str]:
    return [text for trace in figure.data if trace.text is not None for text in trace.text]


def every_figure() -> Sequence[Figure]:
    plane = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 0.1]])
    return (
        head_figure(3),
        residual_plane_figure(plane, plane[:2], 2),
        ways_out_figure(("a", "b"), BEFORE, {"shared": BEFORE, "longer": [(4, 7, 0), (4, 7, 1)]}),
        list_figure({"off": [True, False], "final": [True, None]}),
        draft_tree_figure(DRAFTS, BEAMS),
        trie_figure(IDS),
        cache_figure(6, 4, 2),
    )


@pytest.mark.parametrize("index", range(7))
def test_static_forms_are_readable(index: int) -> None:
    assert_readable(figure_svg(every_figure()[index]))


def test_the_head_has_a_box_for_each_state_and_one_code_a_level() -> None:
    boxes = written(head_figure(3))
    for name in ("h0", "h3", "s1", "s3", "p3", "SP3"):
        assert boxes.count(name) == 2, f"{name} in training and in inference"
    assert [name for name in boxes if name.startswith("true")] == ["true c1", "true c2", "true c3"]
    assert "s4" not in boxes


def test_a_head_of_too_many_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="levels is 5, but must be between 1 and 4"):
        head_figure(5)


def test_the_residual_leads_from_the_nearest_centroid_to_x() -> None:
    plane = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.1]])
    figure = residual_plane_figure(plane, plane[:2], 2)
    start, end, _ = points(figure, "residual")
    assert start == (1.0, 0.0)
    assert end == pytest.approx((0.7, 0.1))
    assert "code of x is 0" in caption(figure)


def test_only_changed_and_added_codes_are_orange() -> None:
    ways = {"shared": BEFORE, "moved": [(4, 7), (5, 7)], "longer": [(4, 7, 0), (4, 7, 1)]}
    figure = ways_out_figure(("a", "b"), BEFORE, ways)
    (orange,) = (trace for trace in figure.data if trace.line.color == "#FBE3B3")
    changed = len(orange.x) // 3  # two ends and a gap for each box
    assert changed == 3


def test_positions_are_counted_by_what_they_hold() -> None:
    figure = list_figure({"off": [True, False, True], "final": [True, True, None]})
    assert points(figure, "does not exist") == [(2.0, 0.0)]
    assert points(figure, "empty position") == [(3.0, 1.0)]
    assert "off 2, final 2" in caption(figure)


def test_the_tree_marks_the_beam_that_was_not_drafted() -> None:
    figure = draft_tree_figure(DRAFTS, BEAMS)
    assert caption(figure).endswith("level 1: 2 of 2, level 2: 1 of 2.")
    (missing,) = points(figure, "in the backbone's beam, not drafted")
    assert missing[0] == 2
    assert len(points(figure, "in both: accepted")) == 3
    assert len(points(figure, "drafted, not in the backbone's beam")) == 4


def test_the_arrays_under_a_trie_are_the_verifiers() -> None:
    figure = trie_figure(IDS)
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in zip(figure.data[-1].x, figure.data[-1].y, figure.data[-1].text, strict=True):
        rows.setdefault(y, []).append((x, text))
    numbers = {
        y: [int(text) for x, text in sorted(row) if x >= 0] for y, row in rows.items() if y < 4
    }
    verifier = TrieVerifier(SemanticIds.from_codes(IDS, radices=(6, 4)))
    _, starts, codes = verifier.tensors[3:6]
    exist = starts.diff() > 0  # without those of no children
    assert numbers[1] == [*starts[:-1][exist].tolist(), len(IDS)]
    assert numbers[0] == numbers[2] == codes[: len(IDS)].tolist()
    assert numbers[3] == [0, 2, 5]


def test_a_cache_is_counted_both_ways() -> None:
    figure = cache_figure(prompt=6, beams=4, codes=2)
    assert written(figure).count("p") == 4 * 6 + 6
    assert written(figure).count("c2") == 4 + 4
    assert "32 of them on the left, 14 on the right" in caption(figure)
