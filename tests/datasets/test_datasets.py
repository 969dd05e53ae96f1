"""Reading data sets: the layout, the catalogue's order, the splits, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite import datasets
from nezha_lite.datasets import InteractionDataset, ItemText, Split, load_dataset, load_folder

REAL_DATA = Path(os.environ.get("NEZHA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write(folder: Path, name: str | None = None, **parts: Any) -> Path:
    """Write NAME.part.json for each part; strings and bytes go to the file as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in parts.items():
        if not isinstance(content, bytes):
            text = content if isinstance(content, str) else json.dumps(content)
            content = text.encode()
        (folder / f"{name or folder.name}.{part}.json").write_bytes(content)
    return folder


def small(**changes: Any) -> InteractionDataset:
    fields: dict[str, Any] = {
        "name": "small",
        "items": ("a", "b", "c"),
        "users": ("u", "v"),
        "sequences": ((0, 1, 2), (1,)),
    }
    return InteractionDataset(**(fields | changes))


def test_reads_all_three_files(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "shop",
        inter={"ann": [10, 9, 9], "bob": ["9"]},
        item={
            "9": {"title": "Cup &amp;\n Saucer", "brand": "Unknown", "categories": "Home, Tea , "},
            "100": {"title": "Pot", "brand": "L&#39;Or", "categories": ["Home"], "asin": "B0"},
        },
        index={"9": ["<a_1>", "<b_0>"], "10": ["<a_1>", "<b_255>"], "100": ["<a_0>", "<b_7>"]},
    )
    dataset = load_dataset(folder)
    assert dataset.name == "shop"
    assert dataset.items == ("9", "10", "100")
    assert dataset.users == ("ann", "bob")
    assert dataset.sequences == ((1, 0, 0), (0,))
    assert dataset.released_codes == ((1, 0), (1, 255), (0, 7))
    assert dataset.texts is not None
    assert dataset.texts[0].categories == ("Home", "Tea")
    assert dataset.texts[1] == ItemText("")
    assert [text.sentence() for text in dataset.texts] == [
        "Cup & Saucer. Home, Tea",
        "",
        "Pot, L'Or. Home",
    ]
    assert [dataset.title(item) for item in range(3)] == ["Cup & Saucer", "item 10", "Pot"]
    assert (dataset.n_items, dataset.n_users, dataset.n_interactions) == (3, 2, 4)


def test_item_and_index_files_are_optional(tmp_path: Path) -> None:
    dataset = load_folder(write(tmp_path / "shop", inter={"ann": ["x2", "x10"], "bob": []}))
    assert dataset.items == ("x10", "x2")  # not all numbers: alphabetical
    assert dataset.sequences == ((1, 0), ())
    assert dataset.texts is None
    assert dataset.released_codes is None
    assert dataset.title(0) == "item x10"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, ItemText("")),
        ({"title": None, "brand": float("nan"), "categories": None}, ItemText("")),
        ({"title": "T", "description": ["one", "two"]}, ItemText("T", description="one two")),
        ({"categories": ["A", "", None, "B, C"]}, ItemText("", categories=("A", "B, C"))),
        ({"categories": ""}, ItemText("")),
    ],
)
def test_missing_text_is_empty_text(tmp_path: Path, entry: Any, expected: ItemText) -> None:
    dataset = load_folder(write(tmp_path / "shop", inter={"u": [1]}, item={"1": entry}))
    assert dataset.texts == (expected,)


def test_sentence_is_one_line_and_joins_only_what_there_is() -> None:
    text = ItemText(" Tea\tpot ", "Hob &lt;3", ("Kitchen", " ", "Tea"), "For\n\ntwo")
    assert text.sentence() == "Tea pot, Hob <3. Kitchen, Tea. For two"
    assert ItemText("", "Hob").sentence() == "Hob"
    assert ItemText("", "unknown ").sentence() == ""


@pytest.mark.parametrize("name", ["Shop", "SHOP"])
def test_capitalisation_of_file_names_does_not_matter(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "shop", name, inter={"u": [1]}, item={"1": {"title": "T"}})
    assert load_folder(folder).title(0) == "T"


def test_a_single_inter_file_names_the_data_set(tmp_path: Path) -> None:
    write(tmp_path / "here", "other", inter={"u": [1]}, item={"1": {"title": "T"}})
    write(tmp_path / "here", "stray", item={"2": {"title": "S"}})
    dataset = load_folder(tmp_path / "here")
    assert (dataset.name, dataset.items) == ("other", ("1",))


def test_the_folders_name_wins_over_other_inter_files(tmp_path: Path) -> None:
    write(tmp_path / "here", "other", inter={"u": [1]})
    write(tmp_path / "here", "here", inter={"u": [2]})
    assert load_folder(tmp_path / "here").items == ("2",)


def test_a_relative_folder_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "shop", inter={"u": [1]}))
    assert load_folder(".").name == "shop"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", inter=b'\xef\xbb\xbf{"u": [1]}')
    assert load_folder(folder).items == ("1",)


MALFORMED = {
    "broken JSON": ({"inter": '{"u": [1,\n 2'}, "inter.json.*line 2 column 3"),
    "not UTF-8": ({"inter": b'{"\xff": [1]}'}, "inter.json.*UTF-8.*0xff.*position 2"),
    "too deep": ({"inter": "[" * 100_000}, "inter.json.*nested too deeply"),
    "a list on top": ({"inter": [[1, 2]]}, "inter.json must be a JSON object.*per user"),
    "the same user twice": ({"inter": '{"u": [1], "u": [2]}'}, "inter.json.*'u' occurs 2 times"),
    "history is a string": ({"inter": {"u": "1 2"}}, "inter.json, user 'u'.*'1 2'.*a list"),
    "item is a number": ({"inter": {"u": [1, 2.5]}}, "user 'u': entry 1 is 2.5.*integers"),
    "item is true": ({"inter": {"u": [True]}}, "user 'u': entry 0 is True.*integers"),
    "item is null": ({"inter": {"u": [None]}}, "user 'u': entry 0 is None.*integers"),
    "item is a list": ({"inter": {"u": [[1]]}}, r"user 'u': entry 0 is \[1\].*integers"),
    "no items": ({"inter": {}}, "inter.json names no item"),
    "only empty users": ({"inter": {"u": []}}, "inter.json names no item"),
    "item file is a list": ({"item": []}, "item.json must be a JSON object.*per item"),
    "text is a string": ({"item": {"1": "Mug"}}, "item.json, item '1': the entry is 'Mug'"),
    "title is a number": ({"item": {"1": {"title": 3}}}, "item '1': title is 3.*string"),
    "categories nested": ({"item": {"1": {"categories": [[3]]}}}, "item '1': categories is"),
    "codes are a string": ({"index": {"1": "lamp"}}, "index.json, item '1'.*'lamp'.*<a_183>"),
    "no codes": ({"index": {"1": []}}, r"index.json, item '1'.*is \[\]"),
    "fraction": ({"index": {"1": [7.0]}}, "index.json, item '1': the token 7.0 must read <a_183>"),
    "two ways": (
        {"index": {"1": ["<a_1>", 7], "2": [1, 7]}},
        "the token 7 must read <b_183>",
    ),
    "wrong token": ({"index": {"1": ["<a_x>"]}}, "item '1': the token '<a_x>' must read <a_183>"),
    "trailing text": ({"index": {"1": ["<a_1> "]}}, "item '1': the token '<a_1> '"),
    "wrong level": ({"index": {"1": ["<a_1>", "<c_1>"]}}, "the token '<c_1>' must read <b_183>"),
    "an item without SID": ({"index": {"2": ["<a_1>"]}}, "index.json, item '1': no semantic ID"),
    "uneven SIDs": (
        {"index": {"1": ["<a_1>", "<b_2>"], "2": ["<a_1>"]}},
        "index.json, item '2': it must have 2 tokens",
    ),
}


@pytest.mark.parametrize(("parts", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_are_refused(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    folder = write(tmp_path / "shop", **({"inter": {"u": [1]}} | parts))
    with pytest.raises(ValueError, match=message) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(folder)) + 200


def test_what_is_not_a_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("{}")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        load_dataset(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"must hold .*it has 0 files"):
        load_folder(tmp_path)
    write(tmp_path, "one", inter={"u": [1]})
    write(tmp_path, "two", inter={"u": [1]})
    with pytest.raises(FileNotFoundError, match=r"must hold .*it has 2 files"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'toy'.*sample, beauty, instruments, yelp"):
        load_dataset("toy")


def test_a_missing_sample_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DATA_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"sample is not at .*pip install -e"):
        load_dataset("sample")


def test_downloaded_files_are_read_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        pytest.fail(f"fetched {arguments}")

    monkeypatch.setattr(datasets, "fetch", no_network)
    write(tmp_path / "beauty", "Beauty", inter={"u": [3, 4]})
    assert load_dataset("beauty", downloads=tmp_path).items == ("3", "4")
    monkeypatch.setattr(datasets, "DATA_FOLDER", tmp_path)
    write(tmp_path / "downloads" / "yelp", inter={"u": [5]})
    assert load_dataset("yelp").items == ("5",)


def test_a_missing_download_is_fetched_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, folder: Path) -> None:
        write(folder, name, inter={"u": [6]})

    monkeypatch.setattr(datasets, "fetch", fetch)
    # An item file alone is what an interrupted download leaves.
    write(tmp_path / "yelp", item={"7": {"title": "T"}})
    assert load_dataset("yelp", downloads=tmp_path).items == ("6", "7")


texts = st.builds(
    ItemText,
    title=st.text(max_size=8),
    brand=st.text(max_size=4),
    categories=st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple),
    description=st.text(max_size=4),
)


@st.composite
def random_datasets(draw: st.DrawFn) -> InteractionDataset:
    numbers = st.integers(0, 10**6).map(str)
    # One name that is not a number puts all of them in alphabetical order.
    names = draw(
        st.one_of(
            st.sets(numbers, min_size=1, max_size=6).map(lambda items: sorted(items, key=int)),
            st.sets(st.text(max_size=3), min_size=1, max_size=6).map(lambda s: sorted(s | {"x"})),
        )
    )
    n_items = len(names)
    users = draw(st.lists(st.text(max_size=3), unique=True, max_size=4))
    history = st.lists(st.integers(0, n_items - 1), max_size=6).map(tuple)
    levels = draw(st.integers(1, 4))
    codes = st.lists(st.integers(0, 999), min_size=levels, max_size=levels).map(tuple)

    def per_item(row: st.SearchStrategy[Any]) -> Any:
        return draw(st.lists(row, min_size=n_items, max_size=n_items).map(tuple))

    sequences = tuple(draw(history) for _ in users)
    if draw(st.booleans()):
        item_texts, item_codes = per_item(texts), None
    else:  # the index file alone names the whole catalogue
        item_texts, item_codes = None, per_item(codes)
    return InteractionDataset("shop", tuple(names), tuple(users), sequences, item_texts, item_codes)


@given(dataset=random_datasets(), as_numbers=st.booleans(), comma_categories=st.booleans())
@pytest.mark.slow
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    dataset: InteractionDataset,
    as_numbers: bool,
    comma_categories: bool,
) -> None:
    all_numbers = all(name.isascii() and name.isdecimal() for name in dataset.items)
    ids = [int(name) if all_numbers and as_numbers else name for name in dataset.items]
    parts: dict[str, Any] = {
        "inter": {
            user: [ids[item] for item in sequence]
            for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
        }
    }
    if dataset.texts is not None:
        parts["item"] = {}
        for name, text in zip(dataset.items, dataset.texts, strict=True):
            entry: dict[str, Any] = {key: value for key, value in vars(text).items() if value}
            plain = all(c == c.strip() and "," not in c for c in text.categories)
            if comma_categories and plain:
                entry["categories"] = ", ".join(text.categories)
            parts["item"][name] = entry
    if dataset.released_codes is not None:
        parts["index"] = {
            name: [f"<{letter}_{code}>" for letter, code in zip("abcd", codes, strict=False)]
            for name, codes in zip(dataset.items, dataset.released_codes, strict=True)
        }
    folder = write(tmp_path_factory.mktemp("data") / "shop", **parts)
    assert load_folder(folder) == dataset


def test_splits_leave_one_out() -> None:
    dataset = small(users=("s", "t", "u", "v"), sequences=((), (0, 1), (0, 1, 2), (2, 2, 0, 1)))
    assert dataset.train_sequences() == [[], [], [0], [2, 2]]
    assert dataset.split("validation") == Split((2, 3), ((0,), (2, 2)), (1, 0))
    assert dataset.split("test") == Split((2, 3), ((0, 1), (2, 2, 0)), (2, 1))
    with pytest.raises(ValueError, match="split is 'train'"):
        dataset.split("train")  # type: ignore[arg-type]


@given(random_datasets())
def test_splits_take_every_interaction_once(dataset: InteractionDataset) -> None:
    train = dataset.train_sequences()
    validation, test = dataset.split("validation"), dataset.split("test")
    assert validation.users == test.users
    for row, user in enumerate(test.users):
        assert validation.histories[row] == tuple(train[user])
        assert test.histories[row] == (*train[user], validation.targets[row])
        assert dataset.sequences[user] == (*test.histories[row], test.targets[row])
        assert train[user]


@given(n=st.integers(0, 20), seed=st.integers(0, 99))
def test_a_sample_of_a_split_is_part_of_it_in_order(n: int, seed: int) -> None:
    split = Split(tuple(range(20)), tuple((user,) for user in range(20)), tuple(range(20, 40)))
    drawn = split.sample(n, seed)
    assert drawn == split.sample(n, seed)
    assert len(drawn) == n
    assert sorted(set(drawn.users)) == list(drawn.users)
    assert drawn.histories == tuple((user,) for user in drawn.users)
    assert drawn.targets == tuple(user + 20 for user in drawn.users)


def test_samples_differ_between_seeds_and_know_their_limits() -> None:
    split = Split(tuple(range(20)), ((0,),) * 20, (0,) * 20)
    assert len({split.sample(5, seed).users for seed in range(8)}) > 1
    for n in (-1, 21):
        with pytest.raises(ValueError, match=f"n is {n}, but must be 0 to 20, the users"):
            split.sample(n, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": (), "sequences": ((), ())}, "items of 'small' is empty"),
        ({"items": ("a", "b", "a")}, "items of 'small' names one twice"),
        ({"users": ("u", "u")}, "users of 'small' names one twice"),
        ({"users": ("u",)}, "sequences of 'small' has 2 rows, not 1"),
        ({"sequences": ((0, 3), ())}, r"user 'u': item 3 is outside 0\.\.2"),
        ({"sequences": ((0,), (1, -1))}, r"user 'v': item -1 is outside 0\.\.2"),
        ({"texts": (ItemText("t"),)}, "texts of 'small' has 1 rows, not 3"),
        ({"released_codes": ((1,), (2,))}, "released_codes of 'small' has 2 rows, not 3"),
        ({"released_codes": ((1,), (2,), (1, 2))}, r"'c': \(1, 2\) is not 1 codes"),
        ({"released_codes": ((1,), (-2,), (1,))}, r"'b': \(-2,\) is not 1 codes of 0 or more"),
        ({"released_codes": ((), (), ())}, r"'a': \(\) is not 1 codes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    assert small().n_items == 3
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_split_columns_are_equally_long() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Split((0, 1), ((0,),), (1, 2))


@pytest.mark.skipif(not (REAL_DATA / "beauty").is_dir(), reason="the real data set is not here")
def test_beauty_has_the_counts_of_the_literature() -> None:
    dataset = load_dataset("beauty", downloads=REAL_DATA)
    assert dataset.name == "beauty"
    assert (dataset.n_users, dataset.n_items) == (22_363, 12_101)
    assert dataset.n_interactions == 198_502
    assert sum(len(items) - 1 for items in dataset.train_sequences()) == 131_413
    assert len(dataset.split("test")) == 22_363
    assert dataset.released_codes is not None
    assert len(set(dataset.released_codes)) == 12_088
    assert dataset.texts is not None
    assert not any("&amp;" in text.sentence() for text in dataset.texts)


@pytest.mark.skipif(not (REAL_DATA / "toys").is_dir(), reason="the real data set is not here")
def test_toys_has_the_counts_of_the_literature() -> None:
    dataset = load_folder(REAL_DATA / "toys")
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (19_412, 11_924, 167_597)
    assert dataset.released_codes is None
