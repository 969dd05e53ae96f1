"""The codebook explorer: what it says about a prefix, recounted, and what it shows of it."""

import html
import re
from xml.etree import ElementTree

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.plots import figure_svg, residual_figure
from nezha_lite.plots.prefix_figures import prefix_zoom_figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets import CodebookExplorer
from nezha_lite.widgets.codebook_explorer import PrefixIndex
from tests.helpers.hostile import HOSTILE
from tests.helpers.panels import controls, parts, shown_html
from tests.plots.test_static_layout import assert_readable

N_ITEMS = 80
DRAW = torch.Generator().manual_seed(4)
IDS = SemanticIds.from_codes(torch.randint(0, 4, (N_ITEMS, 3), generator=DRAW), (4, 5, 4))
VECTORS = torch.randn(N_ITEMS, 6, generator=DRAW)


def dataset(title: str = "thing", titled: bool = True) -> InteractionDataset:
    texts = tuple(
        ItemText(f"{title} {item} {HOSTILE[item % 3]}", categories=(f"half {item % 2}", "all <i>"))
        for item in range(N_ITEMS)
    )
    return InteractionDataset(
        name="toy",
        items=IDS.items,
        users=("u",),
        sequences=((0, 1, 2),),
        texts=texts if titled else None,
    )


@pytest.fixture
def explorer() -> CodebookExplorer:
    return CodebookExplorer(dataset(), IDS, VECTORS)


def every_prefix() -> list[tuple[int, ...]]:
    return sorted({tuple(row[:n]) for row in IDS.codes.tolist() for n in range(4)})


# ---- the index ----------------------------------------------------------------------------------


def test_items_and_children_equal_a_recount() -> None:
    index, rows = PrefixIndex(IDS, dataset(), VECTORS), IDS.codes.tolist()
    for prefix in every_prefix():
        level = len(prefix)
        items = [item for item, codes in enumerate(rows) if tuple(codes[:level]) == prefix]
        assert index.items(prefix) == items
        if level == 3:
            assert index.children(prefix) == []
            continue
        following = [rows[item][level] for item in items]
        children = index.children(prefix)
        assert dict(children) == {code: following.count(code) for code in following}
        assert [count for _, count in children] == sorted(dict(children).values(), reverse=True)


def test_neighbours_are_the_nearest_mean_vectors_of_that_length() -> None:
    index = PrefixIndex(IDS, dataset(), VECTORS)
    for level in (1, 2, 3):
        prefixes = [prefix for prefix in every_prefix() if len(prefix) == level]
        means = {
            prefix: VECTORS[index.items(prefix)].double().numpy().mean(axis=0)
            for prefix in prefixes
        }
        for prefix in prefixes:
            wanted = sorted(
                (float(np.linalg.norm(means[other] - means[prefix])), other)
                for other in prefixes
                if other != prefix
            )[:3]
            found = index.neighbours(prefix, 3)
            assert [near.prefix for near in found] == [other for _, other in wanted]
            assert [near.distance for near in found] == pytest.approx([d for d, _ in wanted])
            assert all(list(near.items) == index.items(near.prefix) for near in found)


def test_what_items_share_is_told_with_how_usual_it_is() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]])
    ids = SemanticIds.from_codes(codes)
    titles = ("red mug new", "red cup new", "red mug new", "blue mug new", "blue rug new", "old")
    texts = tuple(ItemText(title, categories=("Home",)) for title in titles)
    data = InteractionDataset("toy", ids.items, ("u",), ((0,),), texts)
    index = PrefixIndex(ids, data)
    found = [(trait.name, trait.kind, trait.here, trait.everywhere) for trait in index.common((0,))]
    # red: 3/3 - 3/6; mug: 2/3 - 3/6 and new: 3/3 - 5/6, equally far apart; cup: 1/3 - 1/6 too.
    assert found == [
        ("red", "word", 3, 3),
        ("new", "word", 3, 5),
        ("mug", "word", 2, 3),
        ("cup", "word", 1, 1),
        ("Home", "category", 3, 6),
    ]
    assert [trait.name for trait in index.common((), words=2)] == ["new", "mug", "Home"]


def test_prefixes_that_no_item_has_are_refused() -> None:
    index = PrefixIndex(IDS, dataset())
    for prefix in ((9,), (0, 4), (0, 0, 0, 0)):
        with pytest.raises(ValueError, match=re.escape(f"begin with {prefix}")):
            index.items(prefix)
    explorer = CodebookExplorer(dataset(), IDS)
    with pytest.raises(traitlets.TraitError, match="begin with"):
        explorer.prefix = (9,)
    assert explorer.prefix == ()
    with pytest.raises(traitlets.TraitError, match="begin with"):
        CodebookExplorer(dataset(), IDS, prefix=(9,))


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="of the vectors is 79, but must be 80, as the semantic"):
        CodebookExplorer(dataset(), IDS, VECTORS[:-1])
    fewer = SemanticIds.from_codes(IDS.codes[:-1], IDS.radices)
    with pytest.raises(ValueError, match="of the data set is 80, but must be 79, as the semantic"):
        CodebookExplorer(dataset(), fewer)


# ---- the widget ---------------------------------------------------------------------------------


def test_menus_and_prefix_follow_each_other(explorer: CodebookExplorer) -> None:
    def read(name: str) -> list[object]:
        return [getattr(choice.menu, name) for choice in explorer.choices]

    assert read("description") == ["Code 1", "Code 2", "Code 3"]
    assert read("disabled") == [False, True, True]
    explorer.prefix = tuple(IDS.codes[7, :2].tolist())
    assert read("value") == [*explorer.prefix, -1]
    assert read("disabled") == [False, False, False]
    first, _, third = (choice.menu for choice in explorer.choices)
    third.value = third.options[1][1]
    assert explorer.prefix == (*IDS.codes[7, :2].tolist(), third.value)
    # Another first code closes what was open below it.
    other = next(code for _, code in first.options[1:] if code != first.value)
    first.value = other
    assert explorer.prefix == (other,)
    assert read("value") == [other, -1, -1]
    first.value = -1
    assert explorer.prefix == ()


def test_every_option_leads_to_items(explorer: CodebookExplorer) -> None:
    explorer.prefix = tuple(IDS.codes[3, :1].tolist())
    for label, code in explorer.choices[1].menu.options[1:]:
        count = len(explorer.index.items((*explorer.prefix, code)))
        assert label == f"{code}: {count} item{'' if count == 1 else 's'}"


def test_it_says_share_children_and_collisions(explorer: CodebookExplorer) -> None:
    for prefix in every_prefix():
        explorer.prefix = prefix
        items = explorer.index.items(prefix)
        text = html.unescape(explorer.summary.value)
        said = re.search(rf"{len(items)} of 80 items \(([\d.]+) %\)", text)
        assert said
        assert float(said[1]) == pytest.approx(100 * len(items) / 80, rel=0.005)
        if len(prefix) < 3:
            used = len({int(IDS.codes[item, len(prefix)]) for item in items})
            radix = IDS.radices[len(prefix)]
            assert f"Of the {radix} codes that may come next, {used} lead to an item." in text
        else:
            assert ("collide in it" in text) == (len(items) > 1)


def test_it_lists_the_prefixs_items_and_neighbours(explorer: CodebookExplorer) -> None:
    explorer.prefix = tuple(IDS.codes[5, :2].tolist())
    items = explorer.index.items(explorer.prefix)
    rows = re.findall(r"<tr><td.*?</tr>", explorer.tables()[1].html())
    assert len(rows) == min(12, len(items))
    for row, item in zip(rows, items, strict=False):
        assert f"thing {item} {HOSTILE[item % 3]}" in html.unescape(row)
        assert "-".join(map(str, IDS.codes[item].tolist())) in row
    near = explorer.index.neighbours(explorer.prefix, 5)
    assert re.findall(r"<td[^>]*>(\d+-\d+)</td>", explorer.tables()[2].html()) == [
        f"{other.prefix[0]}-{other.prefix[1]}" for other in near
    ]


def test_without_vectors_it_says_what_is_missing() -> None:
    explorer = CodebookExplorer(dataset(), IDS, prefix=(1,))
    assert "Neighbours need the item vectors" in explorer.table.value
    assert not explorer.tables()[2].rows


def test_without_texts_it_shows_names() -> None:
    explorer = CodebookExplorer(dataset(titled=False), IDS, VECTORS, prefix=(1,))
    assert "item " in explorer.table.value
    assert not explorer.tables()[0].rows
    ElementTree.fromstring(explorer.static_svg())


def test_hostile_titles_are_text(explorer: CodebookExplorer) -> None:
    seen = ""
    for prefix in ((), (0,), (1,), (2,), tuple(IDS.codes[0].tolist())):
        explorer.prefix = prefix
        everything = shown_html(explorer)
        seen += everything
        assert html.escape("all <i>") in everything
        assert not re.search(r"<(script|img|i|b)\b", everything)
        assert not re.search(r"<(script|img|i|b)\b", explorer.static_svg())
    assert HOSTILE[0] in html.unescape(seen)
    assert HOSTILE[1] in html.unescape(seen)


def test_the_static_form_is_the_same_each_time_and_readable() -> None:
    prefix = tuple(IDS.codes[0, :2].tolist())
    bundles = [
        CodebookExplorer(dataset("W" * 120), IDS, VECTORS, prefix)._repr_mimebundle_()
        for _ in range(2)
    ]
    assert bundles[0]["image/svg+xml"] == bundles[1]["image/svg+xml"]
    assert bundles[0]["text/plain"] == bundles[1]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundles[0]
    assert_readable(bundles[0]["image/svg+xml"])


def test_every_control_says_what_it_is(explorer: CodebookExplorer) -> None:
    assert {"Code 1", "Code 2", "Code 3"} <= {*controls(explorer)}
    for child in parts(explorer):
        interactive = hasattr(child, "value") and not isinstance(child, ipywidgets.HTML)
        assert not interactive or child.description


# ---- its figures --------------------------------------------------------------------------------


def bars(figure: object, colour: int) -> list[tuple[float, float, float]]:
    """(left, right, y) of the bars of one trace."""
    trace = figure.data[colour]
    ends = [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
    return [(a[0], b[0], a[1]) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def test_bars_are_as_wide_as_their_shares() -> None:
    prefix = tuple(IDS.codes[2, :2].tolist())
    figure, index = prefix_zoom_figure(IDS, prefix), PrefixIndex(IDS, dataset())
    for level in range(3):
        drawn = [bar for trace in (1, 2, 3) for bar in bars(figure, trace) if bar[2] == -level]
        counts = [count for _, count in index.children(prefix[:level])]
        total = sum(counts)
        widths = [right - left for left, right, _ in sorted(drawn)]
        assert widths == pytest.approx([count / total for count in counts], abs=0.003)
        heading = f"Level {level + 1}: {total} item"
        assert any(heading in text for text in figure.data[5].text)
    assert len(bars(figure, 3)) == len(prefix), "one chosen bar a level"
    assert len(figure.data[4].x) == len(prefix), "each with its mark"


def test_a_zoom_is_redrawn_as_if_it_were_new(explorer: CodebookExplorer) -> None:
    for prefix in ((), tuple(IDS.codes[2].tolist()), tuple(IDS.codes[9, :1].tolist())):
        explorer.prefix = prefix
        fresh = prefix_zoom_figure(IDS, prefix)
        assert explorer.figure.layout.title.text == fresh.layout.title.text
        assert explorer.figure.layout.height == fresh.layout.height
        for old, new in zip(explorer.figure.data, fresh.data, strict=True):
            assert (old.x, old.y, old.text) == (new.x, new.y, new.text)


def test_a_zoom_into_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="begin with"):
        prefix_zoom_figure(IDS, (0, 4))
    with pytest.raises(ValueError, match=r"prefix is \(0, 0, 0, 0\), but must be at most 3"):
        prefix_zoom_figure(IDS, (0, 0, 0, 0))


def test_residuals_show_lengths_and_groups() -> None:
    figure = residual_figure([1.0, 0.625, 0.5], [1512, 30, 1])
    assert list(figure.data[0].y) == [1.0, 0.625, 0.5]
    assert figure.data[1].text == ("1", "0.625", "0.5")
    assert figure.layout.xaxis.ticktext == (
        "the vector: 1,512 items",
        "after code 1: 30 items",
        "after code 2: 1 item",
    )
    assert_readable(figure_svg(figure))
    with pytest.raises(ValueError, match="must be one number for each of 3 lengths"):
        residual_figure([1, 2, 3], [1, 2])
