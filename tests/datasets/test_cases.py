"""The cases that lie beside the repository: each is read rightly, or asks for an option."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.datasets import InteractionDataset, TableLayout, load_folder, read_tables
from nezha_lite.semantic_ids.outside import load_ids
from nezha_lite.semantic_ids.tokenizer import item_vectors

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")

ABC = {"u1": "a b c"}
MOVIES = {"186": "302 242 377", "196": "242 302 377"}
NUMBERED = {"header": False, "user": "1", "item": "2"}
QUOTED = {'"Rex': "a", "u": "b c", 'u"': "d"}
NAMED = {"user": "user_id", "item": "movieId", "time": "timestamp", "items_item": "id"}
READ: list[tuple[str, str | None, dict[str, Any], dict[str, str]]] = [
    (
        "amazon2014_reviews.json",
        None,
        {},
        {
            "A1XQ": "B000AAA001 B000AAA002 B000AAA003",
            "A2YR": "B000AAA002 B000AAA001 B000AAA004",
        },
    ),
    (
        "amazon2023_reviews.jsonl.gz",
        None,
        {},
        {"AGK1": "B00A B00B B00C", "AGK2": "B00B B00A B00C"},
    ),
    ("yelp_reviews.json", None, {}, {"y1": "p1 p2 p3", "y2": "p1 p3 p2"}),
    ("movielens100k_u.data", "movielens100k_u.item", {}, MOVIES),
    (
        "movielens1m_ratings.dat",
        "movielens1m_movies.dat",
        {},
        {"1": "1193 914 661", "2": "1193 914 661"},
    ),
    ("recbole.inter", "recbole.item", {}, {"u1": "a b c", "u2": "b c a"}),
    ("stray_quotes.tsv", None, {"quote": "none"}, QUOTED),
    ("mind_behaviors.tsv", None, {}, {"U1": "N1 N2 N3", "U2": "N2 N1"}),
    (
        "mind_behaviors.tsv",
        None,
        {"header": False, "user": "2", "history": "4", "item": "5"},
        {"U1": "N1 N2 N3 N4", "U2": "N2 N1 N4"},
    ),
    (
        "one_sequence_a_line.txt",
        None,
        {"sequences": True},
        {"1": "10 20 30 40", "2": "20 10 40", "3": "30 20 10"},
    ),
    (
        "pairs_in_time_order.txt",
        None,
        {**NUMBERED, "file_order": True},
        {"1": "10 20 30", "2": "20 10 30"},
    ),
    (
        "no_header.csv",
        None,
        {**NUMBERED, "time": "4"},
        {"AQ1": "B001 B002 B003", "AQ2": "B002 B001 B003"},
    ),
    ("dates_german.csv", None, {"time_format": "%d.%m.%Y %H:%M"}, ABC),
    ("dates_american.csv", None, {"time_format": "%m/%d/%Y %I:%M %p"}, ABC),
    ("float_ids.csv", "float_ids_items.csv", {}, {"1": "101 102 103"}),
    ("other_names.csv", "other_names_items.csv", NAMED, {"1": "1 2 3"}),
    ("missing_times.csv", None, {"drop_bad_rows": True}, {"u1": "a c c d"}),
    (
        "missing_times.csv",
        None,
        {"drop_bad_rows": True, "drop_repeats": True},
        {"u1": "a c d"},
    ),
]


@pytest.mark.parametrize(("name", "items", "layout", "histories"), READ)
def test_cases_are_read(
    name: str, items: str | None, layout: dict[str, Any], histories: dict[str, str]
) -> None:
    data = read_tables(CASES / name, CASES / items if items else None, TableLayout(**layout))
    taken = {
        user: " ".join(data.items[item] for item in sequence)
        for user, sequence in zip(data.users, data.sequences, strict=True)
    }
    assert taken == histories
    assert all(text.title for text in data.texts or ())


@pytest.mark.parametrize(
    ("name", "items", "title"),
    [
        ("movielens100k_u.data", "movielens100k_u.item", "Café Noir (1994)"),
        ("movielens1m_ratings.dat", "movielens1m_movies.dat", "Misérables (1995)"),
        ("recbole.inter", "recbole.item", '"Weird" Lamp'),
        ("recbole.inter", "recbole.item", 'Monitor 24" wide'),
    ],
)
def test_titles_of_cases_are_whole(name: str, items: str, title: str) -> None:
    assert title in {text.title for text in read_tables(CASES / name, CASES / items).texts or ()}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("stray_quotes.tsv", "line 2: a quote is opened here.*--quote none"),
        ("one_sequence_a_line.txt", "--sequences"),
        ("pairs_in_time_order.txt", "--file-order"),
        ("no_header.csv", "line 1.*--no-header.*--user 1 --item 2 --time 3"),
        ("dates_german.csv", r"line 2.*--time-format '%d\.%m\.%Y' or '%m\.%d\.%Y'"),
        ("dates_american.csv", "line 2.*--time-format '%d/%m/%Y' or '%m/%d/%Y'"),
        ("other_names.csv", "'user': .*'user_id', 'movieId' and 'timestamp'.*--user"),
        ("missing_times.csv", "line 3, column 'time': '' is no time.*--drop-bad-rows"),
    ],
)
def test_cases_that_leave_a_choice_ask_for_an_option(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_tables(CASES / name)


def test_the_case_of_plain_semantic_ids_is_read() -> None:
    data = InteractionDataset("shop", ("2", "0", "1"), ("u",), ((0, 1, 2),))
    ids = load_ids(CASES / "letter_ints.index.json", data)
    assert ids.codes.tolist() == [[5, 2, 3], [1, 2, 3], [1, 2, 4]]
    assert ids.radices == (6, 3, 5)


def test_the_case_of_titles_without_spaces_has_neighbours_of_its_kind() -> None:
    data = load_folder(CASES / "chinese_shop")
    vectors = item_vectors(data)
    nearest = (vectors @ vectors.T).fill_diagonal_(-9).topk(10).indices
    kind = torch.tensor([int(name) // 20 for name in data.items])
    assert float((kind[nearest] == kind[:, None]).float().mean()) >= 0.8
