"""Tables of the widgets: what is text stays text."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from nezha_lite.widgets.tables import html_table

# Letters that mean something in HTML, and any that XML can hold.
WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cn")), max_size=20)
TEXT = st.one_of(
    WORDS, st.sampled_from(["<b>", "&amp;", "</td></tr>", "\"'><script>", "{}{0}", "%s"])
)


@given(st.lists(TEXT, min_size=3, max_size=3), st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_every_cell_comes_out_as_it_was(words: list[str], rows: list[tuple[str, str]]) -> None:
    caption, *heads = words
    table = ElementTree.fromstring(html_table(caption, heads, rows, numbers=(1,)))
    assert [cell.text or "" for cell in table.iter("th")] == heads
    found = [tuple(cell.text or "" for cell in line) for line in table.find("tbody") or ()]
    assert found == rows
    assert [part.text for part in table.iter("caption")] == ([caption] if caption else [])


def test_markup_is_taken_as_it_is_and_rows_can_have_heads() -> None:
    table = ElementTree.fromstring(
        html_table("", (), [(Markup("<b>one</b>"), "two")], numbers=(1,), row_heads=True)
    )
    (head,), (cell,) = list(table.iter("th")), list(table.iter("td"))
    assert head.get("scope") == "row"
    assert head.findtext("b") == "one"
    assert "text-align:right" in str(cell.get("style"))
    assert table.find("thead") is None
    assert table.find("caption") is None
