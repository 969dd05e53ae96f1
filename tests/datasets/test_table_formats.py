"""The formats of the field: what each file means, or the sentence that says which option helps.

The files are invented, in the shapes that public data sets and exports have.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, TableLayout, check_tables, read_tables

Histories = dict[str, list[str]]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def taken(dataset: InteractionDataset) -> Histories:
    return {
        user: [dataset.items[item] for item in sequence]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


AMAZON = lines(
    {"reviewerID": "A2", "asin": "B1", "unixReviewTime": 20, "reviewTime": "02 28, 2014"},
    {"reviewerID": "A1", "asin": "B1", "unixReviewTime": 10, "reviewTime": "02 28, 2014"},
    {"reviewerID": "A2", "asin": "B2", "unixReviewTime": 10, "reviewTime": "02 28, 2014"},
)
AMAZON_2023 = lines(
    {"user_id": "A1", "asin": "B0", "parent_asin": "B1", "timestamp": 1588687728923},
    {"user_id": "A1", "asin": "B2", "parent_asin": "B2", "timestamp": 1588687728922},
)
YELP = lines(
    {"user_id": "y", "business_id": "p1", "date": "2018-07-09 12:00:00"},
    {"user_id": "y", "business_id": "p2", "date": "2018-07-09 11:59:59"},
)
STEAM = "{u'username': u'al', 'product_id': '70', 'date': '2018-01-02'}\n" * 2
MOVIELENS = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t4\t881250948\n"
MOVIELENS_AS_WRITTEN = {"186": ["302"], "196": ["242", "302"]}
RECBOLE = "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1.3876704E9\nu\tb\t1387670399\n"
MIND = "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2 N3\tN4-1 N5-0\n2\tU2\t11/12/2019 6:11:30 PM\tN2\tN3-0\n"
STRAY = 'user\titem\ttime\n"Rex\ta\t1\nu\tb\t2\nu\tc\t3\nu"\td\t4\n'

READ: dict[str, tuple[str | bytes, dict[str, Any], Histories]] = {
    "Amazon 2014": (AMAZON, {}, {"A1": ["B1"], "A2": ["B2", "B1"]}),
    "Amazon 2023, gzip": (gzip.compress(AMAZON_2023.encode()), {}, {"A1": ["B2", "B1"]}),
    "Yelp": (YELP, {}, {"y": ["p2", "p1"]}),
    "Steam": (STEAM, {}, {"al": ["70", "70"]}),
    "MovieLens 100k": (MOVIELENS, {}, {"186": ["302"], "196": ["302", "242"]}),
    "MovieLens 1M": (
        MOVIELENS.replace("\t", "::"),
        {},
        {"186": ["302"], "196": ["302", "242"]},
    ),
    "MovieLens 20M": (
        "userId,movieId,rating,timestamp\n1,31,2.5,9\n1,29,3,8\n",
        {},
        {"1": ["29", "31"]},
    ),
    "RecBole": (RECBOLE, {}, {"u": ["b", "a"]}),
    "MIND": (MIND, {}, {"U1": ["N1", "N2", "N3"], "U2": ["N2"]}),
    "MIND with clicks": (
        MIND,
        {"header": False, "user": "2", "history": "4", "item": "5"},
        {"U1": ["N1", "N2", "N3", "N4"], "U2": ["N2"]},
    ),
    "quotes are text": (
        STRAY,
        {"quote": "none"},
        {'"Rex': ["a"], "u": ["b", "c"], 'u"': ["d"]},
    ),
    "a sequence a line": (
        "1 10 20 30\n2 20\n",
        {"sequences": True},
        {"1": ["10", "20", "30"], "2": ["20"]},
    ),
    "a list in a cell": (
        "user_id,history_item_id,item_id\nu,\"['a', 'b']\",c\nu,\"['a', 'b', 'c']\",d\n",
        {"user": "user_id", "history": "history_item_id", "item": "item_id"},
        {"u": ["a", "b", "c", "d"]},
    ),
    "pairs in order of time": (
        "1  10\n1  5\n",
        {"file_order": True, "header": False, "user": "1", "item": "2"},
        {"1": ["10", "5"]},
    ),
    "no header": (
        "A,B2,5.0,1369699200\nA,B1,3.0,1369699199\n",
        {"header": False, "user": "1", "item": "2", "time": "4"},
        {"A": ["B1", "B2"]},
    ),
    "German dates": (
        "user;item;time\nu;a;31.01.2024 18:05\nu;b;30.01.2024\n",
        {"time_format": "%d.%m.%Y %H:%M"},
        {"u": ["b", "a"]},
    ),
    "American dates": (
        "user,item,time\nu,a,2/1/2024 8:00 AM\nu,b,1/31/2024 6:05 PM\nu,c,2/2/2024\n",
        {"time_format": "%m/%d/%Y %I:%M %p"},
        {"u": ["b", "a", "c"]},
    ),
    "a date without dashes": (
        "user,item,time\nu,a,20240131\nu,b,20231231\n",
        {"time_format": "%Y%m%d"},
        {"u": ["b", "a"]},
    ),
    "floats for names": ("user,item,time\n1.0,102.0,5\n1.0,101.0,6\n", {}, {"1": ["102", "101"]}),
    "MovieLens in the order of the file": (MOVIELENS, {"file_order": True}, MOVIELENS_AS_WRITTEN),
    "bad rows left out": (
        "user,item,time\nu,a,3\nu,b,\nu,c,2\nu\n,d,1\n",
        {"drop_bad_rows": True},
        {"u": ["c", "a"]},
    ),
    "repeats left out": (
        "user,item,time\nu,a,3\nu,b,4\nu,a,3\nu,a,5\n",
        {"drop_repeats": True},
        {"u": ["a", "b", "a"]},
    ),
    "the 2-core": (
        "user,item,time\nu,a,1\nu,b,2\nu,c,3\nv,a,1\nv,b,2\nw,c,1\n",
        {"min_interactions": 2},
        {"u": ["a", "b"], "v": ["a", "b"]},
    ),
    "cp1252": (
        "user,item,time\né€,ü,1\n".encode("cp1252"),
        {"encoding": "cp1252"},
        {"é€": ["ü"]},
    ),
    "a byte order mark": ("\ufeffuser,item,time\nu,a,1\n", {}, {"u": ["a"]}),
    "one list of JSON": (
        ' [\n{"user": "u", "item": "b", "time": 2},\n{"user": "u", "item": "a", "time": 1}]',
        {},
        {"u": ["a", "b"]},
    ),
}


@pytest.mark.parametrize(("content", "layout", "right"), READ.values(), ids=READ.keys())
def test_interactions_are_read(
    content: str | bytes, layout: dict[str, Any], right: Histories, tmp_path: Path
) -> None:
    path = write(tmp_path / "table.csv", content)
    assert taken(read_tables(path, layout=TableLayout(**layout))) == right


HEADER = "user,item,time\n"
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "stray quotes": (STRAY, "line 2: a quote is opened here, .*--quote none"),
    "no header": ("A,B2,5.0,1369699200\n", "line 1: .*looks like data.*--no-header .*--user 1"),
    "a sequence a line": ("1 10 20 30\n2 20\n", "--sequences"),
    "pairs": ("1 10\n1 20\n", "--file-order"),
    "other names": ("user_id,movieId,timestamp\n1,1,5\n", "'user'.*'movieId'.*--user"),
    "German dates": (HEADER + "u,a,31.01.2024 18:05\n", "--time-format '%d.%m.%Y' or"),
    "no day or month first": (HEADER + "u,a,1/2/2024\n", "'%d/%m/%Y' or '%m/%d/%Y'"),
    "a date without dashes": (HEADER + "u,a,20240131\n", "--time-format %Y%m%d or unix"),
    "an empty time": (HEADER + "u,a,1\nu,b,\n", "line 3, .*--drop-bad-rows"),
    "cp1252": (HEADER.encode() + b"u,\xe9,1\n", "line 2: byte 0xe9 .*--encoding"),
    "NumPy": (b"\x93NUMPY\1\0", "a NumPy array"),
    "half a list of JSON": ('[{"user": 1', "it is damaged"),
    "bzip2": (b"BZh91AY&SY", "packed by bzip2: save it as CSV"),
    "no JSON": ('{"user": 1, "item": 2, "time": 3}\n{"user": 1,\n', "line 2: .*no JSON object"),
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_known_is_asked(content: str | bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_tables(write(tmp_path / "table.csv", content))


ITEMS: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "MovieLens 100k": (
        "1|Café Noir (1994)|01-Jan-1994||x|0\n".encode("latin-1"),
        {},
        "Café Noir (1994)",
    ),
    "MovieLens 1M": (
        "1::Misérables (1995)::Drama|Musical\n".encode("latin-1"),
        {},
        "Misérables (1995). Drama, Musical",
    ),
    "RecBole": (
        'item_id:token\ttitle:token_seq\tclass:token_seq\n1\t24" "wide\tlight home\n',
        {},
        '24" "wide. light, home',
    ),
    "Amazon 2014": (
        "{'asin': '1', 'title': 'Mug', 'categories': [['Home', 'Tea, hot']]}\n",
        {},
        "Mug. Home, Tea, hot",
    ),
    "Amazon 2018": (
        '{"asin": "1", "title": "Mug", "brand": "Hob", "category": ["Home", "Tea"]}\n',
        {},
        "Mug, Hob. Home, Tea",
    ),
    "Amazon 2023": (
        '{"parent_asin": "1", "title": "Mug", "store": "Hob", "description": ["a", "b"]}\n',
        {},
        "Mug, Hob. a b",
    ),
    "Yelp": (
        '{"business_id": "1", "name": "Mug", "categories": "Bars, Tea"}\n',
        {},
        "Mug. Bars, Tea",
    ),
    "another name": ("id,title\n1,Mug\n", {"items_item": "id"}, "Mug"),
    "another separator": ("item;title\n1;Mug, hot\n", {}, "Mug, hot"),
    "another encoding": (
        "item,title\n1,茶\n".encode("shift-jis"),
        {"items_encoding": "shift-jis"},
        "茶",
    ),
}


@pytest.mark.parametrize(("content", "layout", "sentence"), ITEMS.values(), ids=ITEMS.keys())
def test_items_are_read(
    content: str | bytes, layout: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    orders = write(tmp_path / "orders.csv", HEADER + "u,1,1\n")
    items = write(tmp_path / "items", content)
    (text,) = read_tables(orders, items, TableLayout(**layout)).texts or ()
    assert text.sentence() == sentence


def test_the_option_of_the_item_table_is_named(tmp_path: Path) -> None:
    orders = write(tmp_path / "orders.csv", HEADER + "u,1,1\n")
    for content, words in (
        ("id,title\n1,Mug\n", "'id' and 'title': name it by --items-item"),
        ("1,Mug\n", "say --no-items-header and which is which, such as --items-item 1"),
        (b"item,title\n1,\xe9\n", "--items-encoding cp1252"),
        ('item,title\n1,"Mug" x\n', "--items-quote none"),
    ):
        with pytest.raises(ValueError, match=words):
            read_tables(orders, write(tmp_path / "items.csv", content))


def test_typed_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["u", "u"], "item": [2, 1], "time": [2, 1]})
    excel, parquet = io.BytesIO(), io.BytesIO()
    frame.write_excel(excel)
    frame.write_parquet(parquet)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.csv", frame.write_csv())
    for name, content in (("Excel", excel), ("Parquet", parquet), ("zip", packed)):
        path = write(tmp_path / "orders.csv", content.getvalue())
        assert taken(read_tables(path)) == {"u": ["1", "2"]}
        assert name in check_tables(path).readings[0]
    frame.with_columns(time=pl.Series([None, 1])).write_parquet(tmp_path / "orders.csv")
    with pytest.raises(ValueError, match="row 1, column 'time'"):
        read_tables(tmp_path / "orders.csv")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = "u,a,1\nu,a,1\nu,b,2\nv,a,1\nv,b,x\nv,b,2\nw,c,1\n"
    layout = TableLayout(drop_bad_rows=True, drop_repeats=True, min_interactions=2)
    report = check_tables(write(tmp_path / "o.csv", HEADER + rows), layout=layout)
    assert (report.users, report.items, report.interactions) == (2, 2, 4)
    text = str(report)
    assert "--drop-repeats leaves out 1 repeated row" in text
    assert "--min-interactions 2 leaves out 1 user" in text
    assert "line 6, column 'time': 'x' is no time" in text
    assert "The row is dropped" in text
    assert not report.errors


def test_a_file_sorted_by_item_is_warned_about(tmp_path: Path) -> None:
    rows = [f"u{user},{item},5\n" for item in range(9) for user in range(9)]
    path = write(tmp_path / "o.csv", HEADER + "".join(rows))
    assert "seems sorted by item" in str(check_tables(path))
    assert "the time of every row" in str(check_tables(path))
    shuffled = sorted(rows, key=lambda row: hash(tuple(row.encode())) % 1009)
    write(path, HEADER + "".join(shuffled))
    assert "seems sorted by item" not in str(check_tables(path))


# ---- frames --------------------------------------------------------------------------------------

MAKERS: list[Callable[[dict[str, list[Any]]], Any]] = [pd.DataFrame, pl.DataFrame, pa.table]


@pytest.mark.parametrize("make", MAKERS, ids=["pandas", "polars", "pyarrow"])
def test_frames_of_three_libraries_are_read_alike(make: Callable[..., Any]) -> None:
    orders = {
        "who": ["a", "a", "b"],
        "item": [3, 1, 2],
        "day": ["2024-01-03", "2024-01-02", "2024-01-01"],
    }
    items = {"item": [1, 2, 3], "title": ["x", None, "z"], "categories": [["p", "q"], [], ["r"]]}
    dataset = InteractionDataset.from_frame(make(orders), make(items), user="who", time="day")
    assert taken(dataset) == {"a": ["1", "3"], "b": ["2"]}
    assert [text.sentence() for text in dataset.texts or ()] == ["x. p, q", "", "z. r"]


def test_moments_of_a_frame_are_exact_and_its_rows_are_named() -> None:
    frame = pd.DataFrame({"user": ["a", "a"], "item": [1.0, 2.0]})
    frame["time"] = pd.to_datetime(
        ["2024-01-01T01:00:00.000000002", "2024-01-01T01:00:00.000000000"]
    )
    zoned = frame.assign(time=frame["time"].dt.tz_localize("Europe/Berlin"))
    hour = 3600 * 10**9
    plain, other = map(InteractionDataset.from_frame, (frame, zoned))
    assert plain.items == ("1", "2")
    assert plain.times is not None
    assert other.times is not None
    assert list(plain.times.values - other.times.values) == [hour, hour]
    assert plain.times.values[1] - plain.times.values[0] == 2
    with pytest.raises(ValueError, match="interactions, row 2, column 'user': '' is empty"):
        InteractionDataset.from_frame(frame.assign(user=["a", None]))
    with pytest.raises(TypeError, match="usr"):
        InteractionDataset.from_frame(frame, usr="user")
    with pytest.raises(TypeError, match="list"):
        InteractionDataset.from_frame([frame])


def test_missing_values_and_numbered_columns_of_pandas() -> None:
    frame = pd.DataFrame({0: ["a", "a", 7], 1: pd.array([2, 1, None], "Int64"), 2: [2, 1, 5]})
    layout = TableLayout(user="0", item="1", time="2", drop_bad_rows=True)
    assert taken(InteractionDataset.from_frame(frame, layout=layout)) == {"a": ["1", "2"]}
    frame[1] = [2.0, 1.0, 3.0]
    assert taken(InteractionDataset.from_frame(frame, layout=layout))["7"] == ["3"]


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=5)


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(NAMES, NAMES, st.integers(-(10**9), 10**9)), min_size=1, max_size=20)
)
def test_a_written_frame_is_the_frame(
    rows: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = pl.DataFrame(rows, ["user", "item", "time"], orient="row")
    path = tmp_path_factory.mktemp("tables") / "frame.csv"
    frame.write_csv(path)
    dataset = InteractionDataset.from_frame(frame, time_format="unix")
    assert read_tables(path, layout=TableLayout(separator=",", time_format="unix")) == dataset
    frame.write_parquet(path)
    assert read_tables(path, layout=TableLayout(time_format="unix")) == dataset
