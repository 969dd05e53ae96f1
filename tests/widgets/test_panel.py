"""The base of the panels, and a menu whose options change with its buttons."""

import pytest
from ipywidgets.widgets.widget import _instances

from nezha_lite.widgets import CodebookExplorer, CollisionSimulator
from nezha_lite.widgets.panel import ChoiceBox, Panel
from tests.helpers.panels import parts
from tests.widgets.test_codebook_explorer import IDS, VECTORS, dataset


def test_replaced_options_leave_nothing_behind() -> None:
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
    box = ChoiceBox("Item", {"Take": lambda: taken.append(box.menu.value)})
    box.offer([("one", 1)])
    box.buttons[0].click()
    box.offer([])
    box.buttons[0].click()
    assert taken == [1]
    box.offer([("two", 2)])
    box.buttons[0].click()
    assert taken == [1, 2]


@pytest.mark.parametrize(("length", "index"), [(5, 2), (3, 2), (2, 1), (1, 0)])
def test_the_menu_stays_at_its_place_as_far_as_it_can(length: int, index: int) -> None:
    box = ChoiceBox("Item")
    box.offer([(str(number), number) for number in range(4)])
    box.menu.index = 2
    box.offer([(f"other {number}", -number) for number in range(length)])
    assert box.menu.index == index


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
    assert panel.summary in parts(panel)
    assert panel.summary.value.count("<p>") == 2
    assert "a &lt; b" in panel.summary.value
    assert panel.table.value == ""
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "a < b c & d"
    assert "a &lt; b" in bundle["image/svg+xml"]
    assert Panel().summary.value == ""


def test_replacing_the_options_chooses_nothing() -> None:
    chosen: list[object] = []
    box = ChoiceBox("Item", {"Take": lambda: None}, chosen.append)
    box.offer([("one", 1), ("two", 2), ("three", 3)])
    box.menu.index = 2
    assert chosen == [3]
    box.offer([("four", 4), ("five", 5)])
    assert chosen == [3]
    assert (box.menu.value, box.buttons[0].tooltip) == (5, "Take: five")
    box.offer([])
    assert (box.menu.disabled, box.menu.value, chosen) == (True, "", [3])
