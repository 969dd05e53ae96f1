"""Tables of one's own: times, order, names and texts, against a slow reading of the same rows."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import (
    InteractionDataset,
    ItemText,
    TableLayout,
    check_tables,
    load_folder,
    read_tables,
    write_folder,
)

# Names as people have them: quotes, separators, line ends, formulas, other scripts. A table's cell
# is stripped of blanks around it, and holds no NUL.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda name: name == name.strip())

# Quotes are known to be quotes: a name with line ends and commas in it looks like rows.
AS_WRITTEN = TableLayout(separator=",", quote='"', items_separator=",", items_quote='"')


def write(path: Path, rows: Sequence[Sequence[object]], **dialect: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **dialect).writerows(rows)
    return path


def interactions(folder: Path, *rows: Sequence[object]) -> Path:
    return write(folder / "orders.csv", [("user", "item", "time"), *rows])


# ---- sequences -----------------------------------------------------------------------------------


def slow_sequences(rows: Sequence[tuple[str, str, int]]) -> dict[str, list[str]]:
    """Every user's items: the earliest left row first, the first in the file of equal ones."""
    left, found = list(rows), {}
    while left:
        earliest = min(time for _, _, time in left)
        place = next(place for place, row in enumerate(left) if row[2] == earliest)
        user, item, _ = left.pop(place)
        found.setdefault(user, []).append(item)
    return found


@given(
    rows=st.lists(st.tuples(NAMES, NAMES, st.integers(-5, 5)), min_size=1, max_size=40),
    few=st.lists(NAMES, min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_any_row_order_gives_the_sequences_in_order_of_time(
    rows: list[tuple[str, str, int]],
    few: list[str],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    draw = random.Random(seed)
    rows = [(draw.choice(few), item, time) for _, item, time in rows] + rows[:3]
    draw.shuffle(rows)
    folder = tmp_path_factory.mktemp("tables")
    dataset = read_tables(interactions(folder, *rows), layout=AS_WRITTEN)
    read = {
        user: [dataset.items[item] for item in sequence]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }
    assert read == slow_sequences(rows)
    assert set(dataset.items) == {item for _, item, _ in rows}
    assert dataset.texts is None

    again = load_folder(write_folder(dataset, folder / "orders"))
    assert again == dataset


@given(rows=st.permutations([(f"u{i % 3}", f"i{i}", i) for i in range(9)]))
def test_a_tables_row_order_changes_nothing_when_times_differ(
    rows: list[tuple[str, str, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = read_tables(interactions(tmp_path_factory.mktemp("tables"), *rows))
    assert dataset.users == ("u0", "u1", "u2")
    assert dataset.items == tuple(f"i{i}" for i in range(9))
    assert dataset.sequences == ((0, 3, 6), (1, 4, 7), (2, 5, 8))


def test_names_that_are_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    rows = [(10, 7, 1), (9, 30, 2), (9, 7, 3)]
    dataset = read_tables(interactions(tmp_path, *rows))
    assert dataset.users == ("9", "10")
    assert dataset.items == ("7", "30")
    assert dataset.sequences == ((1, 0), (0,))
    assert dataset.name == "orders"
    assert read_tables(interactions(tmp_path, *rows), name="shop").name == "shop"


def test_repeated_rows_and_equal_times_are_kept_in_the_files_order(tmp_path: Path) -> None:
    rows = [("u", "b", 5), ("u", "a", 5), ("u", "b", 5), ("u", "c", 4)]
    dataset = read_tables(interactions(tmp_path, *rows))
    assert dataset.sequences == ((2, 1, 0, 1),)


# ---- items ---------------------------------------------------------------------------------------


@given(
    texts=st.dictionaries(
        NAMES,
        st.tuples(
            *[
                st.text(
                    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
                )
            ]
            * 3
        ),
        min_size=1,
        max_size=6,
    )
)
def test_texts_come_back_as_they_were_written(
    texts: dict[str, tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    rows = [("description", "item", "brand", "extra", "title")]
    rows += [(about, item, brand, "x", title) for item, (title, brand, about) in texts.items()]
    items = write(folder / "items.csv", rows)
    first = next(iter(texts))
    dataset = read_tables(
        interactions(folder, ("u", "bought", 1), ("u", first, 2)), items, AS_WRITTEN
    )
    assert dataset.texts is not None
    found = dict(zip(dataset.items, dataset.texts, strict=True))
    expected = {
        item: ItemText(title, brand, (), about) for item, (title, brand, about) in texts.items()
    }
    assert found == {"bought": ItemText(""), **expected}
    assert load_folder(write_folder(dataset, folder / "orders")) == dataset


def test_columns_and_separators_can_have_other_names(tmp_path: Path) -> None:
    rows = [("when", "shop", "sku", "who"), (" 2 ", "x", " 7 ", "ann"), (1, "x", 8, "ann")]
    orders = write(tmp_path / "o.csv", rows, delimiter="\t")
    path = [("name", "sku", "path"), ("Mug", 7, "Home > Tea >"), ("Pot", 8, "")]
    items = write(tmp_path / "i.csv", path, delimiter="\t")
    layout = TableLayout(
        user="who",
        item="sku",
        time="when",
        title="name",
        categories="path",
        category_separator=">",
    )
    dataset = read_tables(orders, items, layout)
    assert dataset == InteractionDataset(
        "o",
        ("7", "8"),
        ("ann",),
        ((1, 0),),
        (ItemText("Mug", "", ("Home", "Tea")), ItemText("Pot")),
        times=dataset.times,
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"separator": ""}, "separator is ''"),
        ({"encoding": "utf-9"}, "encoding is 'utf-9'"),
        ({"quote": "''"}, "quote is"),
        ({"time_format": "day"}, "time_format is 'day'"),
        ({"min_interactions": 0}, "min_interactions is 0"),
        ({"separator": '"'}, "separator is '\"'"),
        ({"separator": "\n"}, "must be a text such as"),
        ({"category_separator": ""}, "category_separator is ''"),
        ({"user": "item"}, "'item', 'item', 'time'"),
        ({"title": ""}, "each needs a name of its own"),
        ({"brand": "item"}, "each needs a name of its own"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TableLayout(**settings)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_and_blank_rows_do_not_matter(
    end: str, mark: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    lines = ["", "user,item,time", "ann,7,1", ",,", "", 'ann,"8",2']
    path.write_bytes((mark + end.join(lines)).encode())
    dataset = read_tables(path)
    assert (dataset.items, dataset.users, dataset.sequences) == (("7", "8"), ("ann",), ((0, 1),))
    path.write_bytes(path.read_bytes() + f"{end}ann,9,x".encode())
    assert check_tables(path).errors[0].line == 7


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_cell_of_several_lines_is_one_row_and_lines_are_still_right(
    end: str, tmp_path: Path
) -> None:
    orders, items = interactions(tmp_path, ("u", "7", 1)), tmp_path / "items.csv"
    items.write_bytes(end.join(["item,title", '7,"a', 'b, ""c"""', " ,d"]).encode())
    (problem,) = check_tables(orders, items).errors
    assert (problem.line, problem.column) == (4, "item")
    items.write_bytes(items.read_bytes().replace(b" ,d", b"8,d"))
    assert read_tables(orders, items).texts == (ItemText(f'a{end}b, "c"'), ItemText("d"))


def test_reading_changes_no_global_setting_and_keeps_little(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows = [("u", f"i{row}", "soon") for row in range(10_000)]
    last = check_tables(interactions(tmp_path, ("a,b", "x" * (before + 1), 1), *rows)).errors[-1]
    assert csv.field_size_limit() == before
    assert (len(last.places), last.count) == (5, 10_000)
    assert str(last).endswith("line 7 ('soon'), 9,995 more.")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_reported_or_read(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tables") / "orders.csv"
    path.write_bytes(b"user,item,time\nann,7,1\n" + content)
    report = check_tables(path)
    if report.errors:
        with pytest.raises(ValueError, match=r"orders\.csv"):
            read_tables(path)
    else:
        assert read_tables(path).n_interactions == report.interactions
