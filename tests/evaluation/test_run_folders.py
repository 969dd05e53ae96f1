"""A run's folder knows what was asked of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.evaluation.run_folders import (
    ASKED_FILE,
    as_json,
    check_claim,
    claim,
    fingerprint,
    read_object,
    write_object,
)
from tests.helpers.toys import toy_dataset

ASKED = {
    "dataset": {"name": "toy"},
    "config": {"beam": 10, "training": {"epochs": 2}, "ks": (1, 2)},
}


def test_a_claim_is_kept_and_may_be_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert check_claim(folder, ASKED) is False
    assert not folder.exists()
    claim(folder, ASKED)
    before = (folder / ASKED_FILE).read_bytes()
    claim(folder, ASKED)
    assert check_claim(folder, ASKED) is True
    assert (folder / ASKED_FILE).read_bytes() == before
    assert read_object(folder / ASKED_FILE) == as_json(ASKED)
    assert [path.name for path in folder.iterdir()] == [ASKED_FILE]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"beam": 10, "training": {"epochs": 3}, "ks": (1, 2)}, "config.training.epochs"),
        ({"beam": 12, "training": {"epochs": 2}, "ks": (1,)}, "config.beam, config.ks"),
        ({"training": {"epochs": 2}, "ks": (1, 2), "new": None}, "config.beam, config.new"),
        ({"beam": 10, "training": None, "ks": (1, 2)}, "config.training"),
    ],
)
def test_another_run_is_refused_by_what_differs(
    config: dict[str, object], named: str, tmp_path: Path
) -> None:
    claim(tmp_path, ASKED)
    before = (tmp_path / ASKED_FILE).read_bytes()
    for refuse in (claim, check_claim):
        with pytest.raises(ValueError, match="other data or settings") as refused:
            refuse(tmp_path, ASKED | {"config": config})
        assert f"({named})" in str(refused.value)
        assert str(tmp_path) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert (tmp_path / ASKED_FILE).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"null", b"\xff\xfe"])
def test_a_damaged_file_is_one_sentence_with_a_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ASKED_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"asked\.json is damaged, delete its folder to run again"):
        claim(tmp_path, ASKED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(content=st.dictionaries(st.text(), JSON, min_size=1))
def test_objects_come_back(content: dict[str, object], tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "object" / "file.json"
    write_object(path, content)
    assert read_object(path) == content


def test_a_fingerprint_tells_data_sets_apart() -> None:
    dataset = toy_dataset()
    same = fingerprint(toy_dataset())
    assert fingerprint(dataset) == same
    assert fingerprint(replace(dataset, name="other"))["sha256"] == same["sha256"]
    first = replace(dataset.texts[0], title="something else")
    others = [
        toy_dataset(users=29),
        replace(dataset, texts=None),
        replace(dataset, texts=(first, *dataset.texts[1:])),
        replace(dataset, items=(*dataset.items[:-1], "new")),
        replace(dataset, released_codes=tuple((item,) for item in range(dataset.n_items))),
    ]
    digests = {fingerprint(other)["sha256"] for other in others}
    assert len(digests | {same["sha256"]}) == 1 + len(others)
