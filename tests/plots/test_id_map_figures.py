"""The map of the ID space: squares and marks against a recount."""

from collections import Counter
from xml.etree import ElementTree

import pytest

from nezha_lite.plots import figure_svg
from nezha_lite.plots.id_map_figures import MARKS, SHADES, IdOutcome, MapMark, id_map_figure
from tests.helpers.living import IDS, N_ITEMS, catalogue


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_the_greys_are_the_items_of_every_square(levels: int) -> None:
    ids, removed = catalogue(levels), {3, 53, 7}
    codes = ids.codes.tolist()
    expected = Counter((*codes[item][:2], 0)[:2] for item in range(N_ITEMS) if item not in removed)
    figure = id_map_figure(ids, [], removed)
    assert len(figure.data) == len(SHADES) + len(MARKS)
    drawn: dict[tuple[int, int], int] = {}
    for trace, (fewest, _, _) in zip(figure.data, SHADES, strict=False):
        starts = zip(trace.x[::3], trace.y[::3], strict=True)
        drawn |= {(round(x + 0.42), y): fewest for x, y in starts}
    assert drawn == {
        square: 1 if items == 1 else 2 if items < 4 else 4 for square, items in expected.items()
    }
    ElementTree.fromstring(figure_svg(figure))


def test_marks_of_one_square_stand_side_by_side() -> None:
    kinds = (IdOutcome.ACCEPTED, IdOutcome.REJECTED, IdOutcome.WITHDRAWN)
    landed = [MapMark((2, 3, place), kind) for place, kind in enumerate(kinds)]
    landed += [MapMark((2, 3, 5), IdOutcome.ACCEPTED), MapMark((4, 1, 0), IdOutcome.ACCEPTED)]
    figure = id_map_figure(IDS, landed)
    accepted, rejected, withdrawn, instead = figure.data[len(SHADES) :]
    assert (list(accepted.y), list(rejected.y), list(withdrawn.y)) == ([3, 1], [3], [3])
    assert accepted.x[0] < rejected.x[0] < withdrawn.x[0]
    assert accepted.x[1] == 4
    assert round(accepted.x[0]) == round(withdrawn.x[0]) == 2
    assert accepted.hovertext[0] == "2-3: 2 accepted: it exists"
    assert len(instead.x) == 0
