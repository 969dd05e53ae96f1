"""A slider whose options change, and its buttons."""

import pytest
from ipywidgets.widgets.widget import _instances

from nezha_lite.widgets import CodebookExplorer, CollisionSimulator
from nezha_lite.widgets.panel import ChoiceBox, Panel
from tests.widgets.test_codebook_explorer import IDS, VECTORS, dataset


def test_a_replaced_slider_leaves_nothing_behind() -> None:
    box = ChoiceBox("Item", {"Take": lambda: None})
    before = set(_instances)
    for count in range(1, 20):
        box.offer([(str(number), number) for number in range(count)])
        assert len(_instances) == len(before)


def test_nothing_is_left_behind_by_the_codebook_explorer_either() -> None:
    explorer = CodebookExplorer(dataset(), IDS, VECTORS)
    explorer.prefix = tuple(IDS.codes[0].tolist())
    before = len(_instances)
    for row in IDS.codes[:20].tolist():
        explorer.prefix = tuple(row)
        assert len(_instances) == before


def test_a_button_that_is_disabled_does_nothing() -> None:
    """A second click may be on its way when the first leaves nothing to choose."""
    taken: list[object] = []
    box = ChoiceBox("Item", {"Take": lambda: taken.append(box.slider.value)})
    box.offer([("one", 1)])
    box.buttons[0].click()
    box.offer([])
    box.buttons[0].click()
    assert taken == [1]
    box.offer([("two", 2)])
    box.buttons[0].click()
    assert taken == [1, 2]


@pytest.mark.parametrize(("length", "index"), [(5, 2), (3, 2), (2, 1), (1, 0)])
def test_the_slider_stays_at_its_place_as_far_as_it_can(length: int, index: int) -> None:
    box = ChoiceBox("Item")
    box.offer([(str(number), number) for number in range(4)])
    box.slider.index = 2
    box.offer([(f"other {number}", -number) for number in range(length)])
    assert box.slider.index == index


def test_a_trait_that_a_panel_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Simulator has no trait 'level', but levels, codes, items"):
        CollisionSimulator(VECTORS, level=3)
    with pytest.raises(TypeError, match="Panel has no trait 'user'"):
        Panel(user=1)


class Words(Panel):
    def sentences(self) -> list[str]:
        return ["a < b", "c & d"]


def test_sentences_alone_make_a_panel() -> None:
    panel = Words()
    assert panel.children[0] is panel.summary
    assert panel.summary.value.count("<p ") == 2
    assert "a &lt; b" in panel.summary.value
    assert panel.table.value == ""
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "a < b c & d"
    assert "a &lt; b" in bundle["image/svg+xml"]
    assert Panel().summary.value == ""
