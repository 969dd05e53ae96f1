"""Tables of the widgets: what is text stays text."""

from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from nezha_lite.widgets.tables import Table

# Letters that mean something in HTML, and any that XML can hold.
WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cn")), max_size=20)
TEXT = st.one_of(
    WORDS, st.sampled_from(["<b>", "&amp;", "</td></tr>", "\"'><script>", "{}{0}", "%s"])
)


ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)


@given(st.lists(TEXT, min_size=3, max_size=3), ROWS)
def test_every_cell_comes_out_as_it_was(words: list[str], rows: list[tuple[str, str]]) -> None:
    caption, *heads = words
    table = ElementTree.fromstring(Table(caption, heads, rows, numbers=(1,)).html())
    assert [cell.text or "" for cell in table.iter("th")] == heads
    found = [tuple(cell.text or "" for cell in line) for line in table.find("tbody") or ()]
    assert found == rows
    assert [part.text for part in table.iter("caption")] == ([caption] if caption else [])


def test_markup_is_taken_as_it_is_and_rows_can_have_heads() -> None:
    table = ElementTree.fromstring(
        Table("", (), [(Markup("<b>one</b>"), "two")], numbers=(1,), row_heads=True).html()
    )
    (head,), (cell,) = list(table.iter("th")), list(table.iter("td"))
    assert head.get("scope") == "row"
    assert head.findtext("b") == "one"
    assert cell.get("class") == "nezha-number"
    assert table.find("thead") is None
    assert table.find("caption") is None


def test_lines_are_plain_text() -> None:
    cells = [("1", Markup("<b>a &amp; b</b> &lt;i&gt;"), ""), ("2", "<c>", "3")]
    assert Table("A list", ("rank", "item", "score"), cells).lines() == [
        "A list",
        "rank · item · score",
        "1 · a & b <i>",
        "2 · <c> · 3",
    ]
    named = Table("", ("decoder", "ms", "calls"), [("NEZHA", "1.5", ""), ("other", "2", "3")])
    assert replace(named, row_heads=True).lines() == ["NEZHA: ms 1.5", "other: ms 2; calls 3"]


def test_a_table_without_rows_is_its_caption() -> None:
    assert Table("a < b", ("one",), ()).html() == "<p>a &lt; b</p>"
    assert Table("", ("one",), ()).html() == ""
