"""Semantic IDs against counting by hand; their files."""

import itertools
import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids import SemanticIds, radix_strides, released_semantic_ids
from tests.helpers.builders import catalogue

ODD_NAMES = ("", 'quo"te', "back\\slash", "new\nline\r", "tab\t\0", "ünï — 中文 🛒", "[1, 2]")


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    radices = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=20)), radices)


def same(one: SemanticIds, other: SemanticIds) -> bool:
    return (
        torch.equal(one.codes, other.codes)
        and one.codes.dtype == other.codes.dtype
        and (one.radices, one.items) == (other.radices, other.items)
    )


# ---- keys ---------------------------------------------------------------------------------------


def test_keys_by_hand() -> None:
    # Level 1 weighs 1, level 2 weighs 3, level 3 weighs 3 · 4.
    ids = SemanticIds.from_codes([[2, 1, 1], [0, 0, 0], [2, 3, 1]], (3, 4, 2))
    assert ids.strides == (1, 3, 12)
    assert ids.keys.tolist() == [2 + 3 + 12, 0, 2 + 9 + 12]
    assert ids.space == 24
    assert ids.keys_of(torch.tensor([[2, 1], [0, 3]])).tolist() == [5, 9]
    assert ids.prefix_keys(1).tolist() == [0, 2]
    assert ids.prefix_keys(2).tolist() == [0, 5, 11]
    assert ids.prefix_keys(3).tolist() == [0, 17, 23]


@given(radices=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_keys_number_the_whole_space_once(radices: list[int]) -> None:
    every = list(itertools.product(*(range(radix) for radix in radices)))
    ids = SemanticIds.from_codes(every, radices)
    assert sorted(ids.keys.tolist()) == list(range(ids.space))
    assert torch.equal(ids.codes_of(ids.keys), ids.codes)


@given(data=st.data())
@settings(max_examples=50)
def test_keys_round_trip_up_to_the_largest_space(data: st.DataObject) -> None:
    radices, room = [], 2**63 - 1
    for _ in range(data.draw(st.integers(1, 6))):
        radices.append(data.draw(st.integers(1, room)))
        room //= radices[-1]
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    ids = SemanticIds.from_codes(data.draw(st.lists(row, min_size=1, max_size=5)), radices)
    by_hand = []
    for codes in ids.codes.tolist():
        key, weight = 0, 1
        for code, radix in zip(codes, radices, strict=True):
            key, weight = key + code * weight, weight * radix
        by_hand.append(key)
    assert ids.keys.tolist() == by_hand
    assert torch.equal(ids.codes_of(ids.keys), ids.codes)
    assert torch.equal(ids.codes_of(ids.keys[:, None]), ids.codes[:, None])


@given(ids=catalogues())
@settings(max_examples=50)
def test_a_prefix_key_is_the_key_of_its_codes_followed_by_zeros(ids: SemanticIds) -> None:
    for level in range(1, ids.levels + 1):
        padded = ids.codes.clone()
        padded[:, level:] = 0
        expected = sorted(set(ids.keys_of(padded).tolist()))
        assert ids.prefix_keys(level).tolist() == expected


@pytest.mark.parametrize("level", [0, 4, -1])
def test_prefix_keys_names_a_wrong_level(level: int) -> None:
    with pytest.raises(ValueError, match=f"level is {level}, but must be between 1 and 3"):
        catalogue().prefix_keys(level)


def test_radix_strides() -> None:
    assert radix_strides((3, 4, 2)) == (1, 3, 12)
    assert radix_strides(()) == ()


# ---- bad input ----------------------------------------------------------------------------------


def test_the_largest_space_is_allowed_and_the_next_refused() -> None:
    largest = 2**63 - 1
    assert SemanticIds.from_codes([[largest - 1]], [largest]).keys.tolist() == [largest - 1]
    with pytest.raises(
        ValueError, match=r"radices \(9223372036854775808,\) span .* overflow|int64"
    ):
        SemanticIds.from_codes([[0]], [largest + 1])
    with pytest.raises(ValueError, match=f"span {2**64} IDs, but keys are int64"):
        SemanticIds.from_codes([[0, 0]], [2**32, 2**32])


@pytest.mark.parametrize(
    ("codes", "radices", "items", "message"),
    [
        ([], None, None, r"shape of codes is \(0,\)"),
        ([], [2], None, r"shape of codes is \(0,\)"),
        ([[]], None, None, r"shape of codes is \(1, 0\)"),
        ([[1, 2], [1]], None, None, r"lengths of the rows of codes is \[1, 2\]"),
        (torch.zeros(3, dtype=torch.int64), [2], None, r"shape of codes is \(3,\)"),
        ([[0, 1]], [2], None, r"radices is \(2,\).*each of the 2 levels"),
        ([[0, 0]], [1, 0], None, r"radices is \(1, 0\)"),
        ([[0, 1]], [2, 2], ["a", "b"], "items names 2 items, but codes has 1 rows"),
        ([[0, 1], [1, 2]], [2, 2], ["a", "b"], r"Item 'b' has code 2 at level 2.*0 to 1"),
        ([[0, -1]], [2, 2], ["a"], r"Item 'a' has code -1 at level 2.*0 to 1"),
    ],
)
def test_bad_input_is_named(
    codes: object, radices: list[int] | None, items: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticIds.from_codes(codes, radices, items)


def test_codes_must_be_int64() -> None:
    with pytest.raises(ValueError, match=r"dtype of codes is torch\.int32"):
        SemanticIds(torch.zeros(1, 1, dtype=torch.int32), (1,), ("a",))


@pytest.mark.parametrize("codes", [[[0.5, 1.0]], torch.tensor([[0.9, 1.2]])])
def test_fractions_are_no_codes(codes: object) -> None:
    with pytest.raises(ValueError, match="codes"):
        SemanticIds.from_codes(codes, [2, 2])


def test_defaults_of_from_codes() -> None:
    ids = SemanticIds.from_codes(torch.tensor([[0, 5], [2, 1]], dtype=torch.int32))
    assert (ids.radices, ids.items, ids.codes.dtype) == ((3, 6), ("0", "1"), torch.int64)


# ---- collisions and quality ---------------------------------------------------------------------


@given(ids=catalogues())
@settings(max_examples=50)
def test_quality_against_counting(ids: SemanticIds) -> None:
    rows = [tuple(row) for row in ids.codes.tolist()]
    counts = Counter(rows)
    assert ids.n_distinct == len(counts)
    assert ids.collision_rate == pytest.approx(sum(n - 1 for n in counts.values()) / len(rows))
    whole = itertools.product(*(range(radix) for radix in ids.radices))
    assert ids.occupancy == pytest.approx(
        sum(row in counts for row in whole) / torch.tensor(ids.radices).prod().item()
    )
    for level, use in enumerate(ids.codebook_use()):
        used = [any(row[level] == code for row in rows) for code in range(ids.radices[level])]
        assert use == pytest.approx(sum(used) / len(used))


@given(ids=catalogues())
@settings(max_examples=50)
def test_items_of_every_key(ids: SemanticIds) -> None:
    keys = ids.keys.tolist()
    for key in range(-1, ids.space + 1):
        assert ids.items_of(key) == [item for item, own in enumerate(keys) if own == key]


def test_items_of_returns_a_fresh_list() -> None:
    ids = SemanticIds.from_codes([[1], [1]])
    ids.items_of(1).append(99)
    assert ids.items_of(1) == [0, 1]


@given(ids=catalogues())
@settings(max_examples=50)
def test_an_extra_level_numbers_the_items_of_a_group_in_order(ids: SemanticIds) -> None:
    longer = ids.with_extra_level()
    assert longer.items == ids.items
    assert longer.n_distinct == ids.n_items
    assert longer.collision_rate == 0
    if ids.collision_rate == 0:
        assert longer is ids
        return
    assert torch.equal(longer.codes[:, :-1], ids.codes)
    seen: Counter[tuple[int, ...]] = Counter()
    for *codes, extra in longer.codes.tolist():
        assert extra == seen[tuple(codes)]
        seen[tuple(codes)] += 1
    assert longer.radices == (*ids.radices, max(seen.values()))
    assert longer.with_extra_level() is longer


@given(ids=catalogues(), keys=st.lists(st.integers(-3, 1300), max_size=12), data=st.data())
@settings(max_examples=50)
def test_the_items_of_many_keys_are_those_of_each(
    ids: SemanticIds, keys: list[int], data: st.DataObject
) -> None:
    width = data.draw(st.sampled_from([n for n in range(1, 13) if len(keys) % n == 0]))
    items, counts = ids.items_of_keys(torch.tensor(keys, dtype=torch.int64).view(-1, width))
    assert counts.shape == (len(keys) // width, width)
    per_key = [part.tolist() for part in items.split(counts.flatten().tolist())]
    assert per_key[: len(keys)] == [ids.items_of(key) for key in keys]
    assert (items.dtype, counts.dtype) == (torch.int64, torch.int64)


def test_a_key_beyond_int64_has_no_items() -> None:
    ids = SemanticIds.from_codes([[0], [1]], [2**63 - 1])
    assert ids.items_of(2**64) == ids.items_of(-(2**64)) == []


def test_finding_items_needs_no_python_object_per_item() -> None:
    ids = SemanticIds.from_codes(torch.arange(20_000)[:, None])
    tracemalloc.start()
    ids.items_of(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000, "a list for each of 20,000 keys takes megabytes"


@given(ids=catalogues(), data=st.data())
@settings(max_examples=50)
def test_the_most_popular_item_of_a_group_gets_number_0(
    ids: SemanticIds, data: st.DataObject
) -> None:
    popularity = data.draw(st.lists(st.integers(0, 3), min_size=ids.n_items, max_size=ids.n_items))
    longer = ids.with_extra_level(popularity)
    if longer is ids:
        return
    for key in ids.keys.unique().tolist():
        group = sorted(ids.items_of(key), key=lambda item: -popularity[item])
        assert longer.codes[group, -1].tolist() == list(range(len(group)))


@given(ids=catalogues(), data=st.data())
@settings(max_examples=50)
def test_a_smaller_catalogue_says_which_items_remain(ids: SemanticIds, data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.integers(0, ids.n_items - 1), max_size=ids.n_items - 1))
    smaller, remaining = ids.without(removed)
    assert set(remaining.tolist()) == set(range(ids.n_items)) - removed
    assert smaller.radices == ids.radices
    for index, item in enumerate(remaining.tolist()):
        assert smaller.items[index] == ids.items[item]
        assert smaller.keys[index] == ids.keys[item]


def test_a_smaller_catalogue_needs_items_that_exist_and_one_that_remains() -> None:
    ids = SemanticIds.from_codes([[0], [1]])
    with pytest.raises(ValueError, match="removed holds item 2, but the catalogue's items are 0 "):
        ids.without([2])
    with pytest.raises(ValueError, match="at least one item"):
        ids.without([0, 1])


def test_an_extra_level_that_would_overflow_is_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        SemanticIds.from_codes([[0], [0]], [2**63 - 1]).with_extra_level()


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@given(
    ids=catalogues(),
    names=st.lists(st.text(st.characters(codec="utf-8")), min_size=20, max_size=20, unique=True),
)
@settings(max_examples=20)
def test_a_file_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, ids: SemanticIds, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    named = SemanticIds(ids.codes, ids.radices, tuple(names[: ids.n_items]))
    path = named.save(folder / f"ids{suffix}")
    assert same(SemanticIds.load(path), named)
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_odd_names_and_another_load_order(tmp_path: Path, suffix: str) -> None:
    # A transposed tensor is not contiguous, which safetensors refuses.
    codes = torch.arange(2 * len(ODD_NAMES)).view(2, -1).T
    ids = SemanticIds.from_codes(codes, items=ODD_NAMES)
    path = str(tmp_path / f"ids{suffix}")
    assert ids.save(path) == Path(path)
    assert same(SemanticIds.load(path), ids)
    other = SemanticIds.from_codes([[0]])
    other.save(path)
    assert same(SemanticIds.load(path), other), "an older file is replaced"


GOOD = {"radices": [2, 2], "items": ["a", "b"], "codes": [[0, 1], [1, 0]]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        json.dumps(GOOD).encode()[:-7],
        *(
            json.dumps(content).encode()
            for content in (
                {name: GOOD[name] for name in ("radices", "items")},
                {name: GOOD[name] for name in ("codes", "items")},
                {name: GOOD[name] for name in ("codes", "radices")},
                GOOD | {"codes": [[0, 1], [1, 2]]},
                GOOD | {"codes": [[0, 1], [1]]},
                GOOD | {"codes": [[0, 1], [1, None]]},
                GOOD | {"codes": [[0, 1], [1, 10**30]]},
                GOOD | {"codes": [[0, 1], [1, 0.5]]},
                GOOD | {"codes": [[0, 1], [1, "x"]]},
                GOOD | {"codes": {"a": 1}},
                GOOD | {"codes": "ab"},
                GOOD | {"codes": []},
                GOOD | {"radices": [2]},
                GOOD | {"radices": 2},
                GOOD | {"radices": [float("inf"), 2]},
                GOOD | {"radices": [float("nan"), 2]},
                GOOD | {"radices": [2**40, 2**40]},
                GOOD | {"items": ["a"]},
                GOOD | {"items": 2},
            )
        ),
    ],
)
def test_a_broken_json_file_is_one_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json does not hold valid semantic IDs"):
        SemanticIds.load(path)


def test_every_truncated_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    for suffix in (".json", ".safetensors"):
        whole = catalogue(3).save(tmp_path / f"whole{suffix}").read_bytes()
        path = tmp_path / f"cut{suffix}"
        # The last byte of a JSON file is a newline that nothing needs.
        for length in range(len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f"cut{suffix} does not hold valid semantic IDs"):
                SemanticIds.load(path)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"codes": torch.zeros(1, 2, dtype=torch.int64)}, None),
        ({"codes": torch.zeros(1, 2, dtype=torch.int64)}, {"radices": "[2, 2]"}),
        ({"codes": torch.zeros(1, 2, dtype=torch.int64)}, {"radices": "[2,", "items": '["a"]'}),
        ({"other": torch.zeros(1, 2, dtype=torch.int64)}, {"radices": "[2,2]", "items": '["a"]'}),
        ({"codes": torch.full((1, 2), 2)}, {"radices": "[2,2]", "items": '["a"]'}),
        ({"codes": torch.full((1, 2), 0.5)}, {"radices": "[2,2]", "items": '["a"]'}),
    ],
)
def test_a_strange_safetensors_file_is_one_error_that_names_it(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "strange.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"strange\.safetensors does not hold valid semantic IDs"):
        SemanticIds.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path.name} is not a file"):
            SemanticIds.load(path)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"ids{suffix}"
    old = SemanticIds.from_codes([[0]])
    old.save(path)

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        catalogue().save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name]
    assert same(SemanticIds.load(path), old)


def test_a_save_that_fails_while_writing_leaves_nothing(tmp_path: Path) -> None:
    unwritable = SemanticIds.from_codes([[0]], items=["\ud800"])  # half a surrogate pair
    with pytest.raises(UnicodeEncodeError):
        unwritable.save(tmp_path / "ids.json")
    assert os.listdir(tmp_path) == []


def test_an_unknown_file_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.json or \.safetensors, but the path is .*ids\.pt"):
        catalogue().save(tmp_path / "ids.pt")
    assert os.listdir(tmp_path) == []


# ---- released IDs -------------------------------------------------------------------------------


def small_dataset(codes: tuple[tuple[int, ...], ...] | None) -> InteractionDataset:
    return InteractionDataset(
        name="Small",
        items=("x", "y", "z"),
        users=("u",),
        sequences=((0, 1, 2),),
        texts=None,
        released_codes=codes,
    )


def test_released_ids_keep_codes_names_and_collisions() -> None:
    ids = released_semantic_ids(small_dataset(((1, 0), (0, 6), (1, 0))))
    assert ids.codes.tolist() == [[1, 0], [0, 6], [1, 0]]
    assert ids.radices == (7, 7), "every level gets the largest level's codebook"
    assert ids.items == ("x", "y", "z")
    assert ids.collision_rate == pytest.approx(1 / 3)


def test_a_dataset_without_released_ids_is_named() -> None:
    with pytest.raises(ValueError, match=r"'Small' has no index\.json"):
        released_semantic_ids(small_dataset(None))
