"""Every user's list in a file: the lists of single calls, however often the run was stopped."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, ItemText, load_folder
from nezha_lite.decoding import list_files
from nezha_lite.decoding.list_files import (
    DENIED,
    GONE,
    NO_DRAFT,
    SCHEMA,
    SEEN,
    ListOptions,
    ListReport,
    batch_size,
    write_lists,
)
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.semantic_ids import SemanticIds
from tests.helpers.runs import python
from tests.helpers.toys import N_ITEMS, shared_ids, toy_dataset, toy_ids, toy_model

EVERYTHING = tuple(range(N_ITEMS))
PROGRAM = """
import os, signal, sys
from nezha_lite.datasets import load_folder
from nezha_lite.decoding import list_files
from nezha_lite.decoding.recommender import Recommender

run, shop, out, last = sys.argv[1:]
write, left = list_files.atomic_write, iter(range(int(last)))

def atomic_write(path, content):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)

list_files.atomic_write = atomic_write
print(list_files.write_lists(Recommender.load(run), load_folder(shop), out, users_a_part=4))
"""


def toy(semantic_ids: SemanticIds | None = None, users: int = 12) -> tuple[Recommender, Any]:
    """A model that was not trained, and users of whom one has no history."""
    ids = semantic_ids or toy_ids()
    dataset = toy_dataset(users)
    dataset = replace(
        dataset,
        users=(*dataset.users, "new"),
        sequences=(*dataset.sequences, ()),
    )
    return Recommender(toy_model(ids), ids), dataset


def read(path: Path) -> pl.DataFrame:
    """The rows, read by other means than they were written, except Parquet."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    if path.suffix == ".csv":
        return pl.read_csv(path, schema=SCHEMA)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return pl.DataFrame(rows, schema=SCHEMA)


def lists_of(frame: pl.DataFrame) -> dict[str, list[tuple[Any, ...]]]:
    lists: dict[str, list[tuple[Any, ...]]] = {}
    for user, *row, reason in frame.iter_rows():
        entries = lists.setdefault(user, [])
        if reason is None:
            entries.append(tuple(row))
        else:
            assert row == [None] * 4
            assert not entries
    return lists


def single_calls(
    trained: Recommender, dataset: InteractionDataset, options: ListOptions
) -> dict[str, list[tuple[Any, ...]]]:
    return {
        user: [
            (rank, best.name, pytest.approx(best.score, abs=1e-5), dataset.title(best.item))
            for rank, best in enumerate(
                trained.recommend(
                    [sequence],
                    options.k,
                    options.beam,
                    options.verification,
                    dataset.popularity(),
                    allow=None if options.allow is None else [options.allow],
                    deny=[options.deny],
                    exclude_seen=options.exclude_seen,
                )[0],
                start=1,
            )
        ]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }


item_sets = st.lists(st.sampled_from(EVERYTHING), unique=True)


@settings(max_examples=25)
@given(
    options=st.builds(
        ListOptions,
        k=st.integers(1, 8),
        beam=st.sampled_from((1, 4, 40)),
        verification=st.sampled_from(("off", "final", "prefix")),
        allow=st.none() | item_sets,
        deny=item_sets,
        exclude_seen=st.booleans(),
    ),
    removed=item_sets,
    share=st.booleans(),
    users_a_part=st.integers(1, 20),
)
def test_the_lists_are_those_of_single_calls(
    tmp_path_factory: pytest.TempPathFactory,
    options: ListOptions,
    removed: list[int],
    share: bool,
    users_a_part: int,
) -> None:
    trained, dataset = toy(shared_ids() if share else toy_ids())
    trained.remove_items(removed)
    out = tmp_path_factory.mktemp("lists") / "lists.parquet"
    report = write_lists(trained, dataset, out, options, users_a_part=users_a_part)
    expected = single_calls(trained, dataset, options)
    frame = read(out)
    assert frame.schema == SCHEMA
    written = lists_of(frame)
    assert list(written) == list(dataset.users)
    assert written == expected
    assert report == ListReport(
        users=dataset.n_users,
        rows=sum(map(len, expected.values())),
        empty=dict(frame.drop_nulls("reason")["reason"].value_counts().iter_rows()),
    )
    assert [*out.parent.iterdir()] == [out]


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_batch_of_any_size_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(list_files, "batch_size", lambda trained, beam: batch)
    trained, dataset = toy()
    options = ListOptions(k=5, beam=40, exclude_seen=True)
    write_lists(trained, dataset, tmp_path / "lists.parquet", options)
    lists = lists_of(read(tmp_path / "lists.parquet"))
    assert lists == single_calls(trained, dataset, options)


def test_a_batch_fits_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, _ = toy()
    sizes = []
    for free in (None, 2**60, 2**24, 2**20, 0):
        monkeypatch.setattr(list_files, "free_memory", lambda device, free=free: free)
        sizes.append(batch_size(trained, beam=50))
    user = 4 * (22 * (16 * 16 + 22) + 10 * 50 * 5)  # 22 tokens, width 16, 5 codes at most
    assert 4 * user * 4 <= 2**20 < 8 * user * 4
    assert sizes == [256, 256, 64, 4, 1]
    monkeypatch.setattr(list_files, "free_memory", lambda device: 2**24)
    assert batch_size(trained, beam=1000) < batch_size(trained, beam=50)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_any_name_and_title_survives(tmp_path: Path, suffix: str) -> None:
    odd = ['a,b"c', "007", "x\ny", "=1+1", "1e5", "null", "ü☕", " pad ", "'", ""]
    names = [*odd, *(f"i{item}" for item in range(len(odd), N_ITEMS))]
    ids = SemanticIds.from_codes(toy_ids().codes, toy_ids().radices, names)
    trained, dataset = Recommender(toy_model(ids), ids), toy_dataset(len(odd))
    titles = ('Cup, "large"', "two\nlines", "", "5", 'He said ""no""', "tab\there", "ünï")
    dataset = replace(
        dataset,
        items=tuple(names),
        users=tuple(odd),
        texts=tuple(ItemText(titles[item % len(titles)]) for item in range(N_ITEMS)),
    )
    out = tmp_path / f"lists{suffix}"
    options = ListOptions(k=N_ITEMS, beam=40)
    write_lists(trained, dataset, out, options, users_a_part=3)
    assert lists_of(read(out)) == single_calls(trained, dataset, options)


def test_some_users_come_in_the_order_asked_for(tmp_path: Path) -> None:
    trained, dataset = toy()
    out = tmp_path / "lists.csv"
    report = write_lists(trained, dataset, out, ListOptions(k=2), users=[7, 0, 3], users_a_part=2)
    assert report == ListReport(3, 6, {})
    assert read(out)["user"].to_list() == ["u7", "u7", "u0", "u0", "u3", "u3"]


@pytest.mark.parametrize(
    ("reason", "options", "removed"),
    [
        (GONE, ListOptions(allow=[3, 4]), [3, 4]),
        (GONE, ListOptions(), EVERYTHING),
        (GONE, ListOptions(allow=[], deny=EVERYTHING), []),
        (DENIED, ListOptions(deny=EVERYTHING), []),
        (DENIED, ListOptions(allow=[3, 4], deny=[4]), [3]),
        (SEEN, ListOptions(allow=[3, 4, 5], deny=[4], exclude_seen=True), [5]),
        (NO_DRAFT, ListOptions(k=1, beam=1, verification="off"), []),
    ],
)
def test_an_empty_list_says_why(
    tmp_path: Path, reason: str, options: ListOptions, removed: tuple[int, ...]
) -> None:
    trained, dataset = toy()
    if reason == NO_DRAFT:  # codes of which no item exists
        ids = SemanticIds.from_codes([[item // 5, item % 5] for item in range(20)], (64, 64))
        ids = SemanticIds(ids.codes, ids.radices, dataset.items)
        trained = Recommender(toy_model(ids), ids)
    trained.remove_items(removed)
    dataset = replace(dataset, users=("a",), sequences=((1, 3),))
    out = tmp_path / "lists.jsonl"
    report = write_lists(trained, dataset, out, options)
    assert report == ListReport(1, 0, {reason: 1})
    assert read(out).rows() == [("a", None, None, None, None, reason)]


@contextmanager
def stopped_at(calls: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop as Ctrl-C does while the part with this number is written; 0 are the settings."""
    write, left = list_files.atomic_write, iter(range(calls))

    def atomic_write(path: Path, content: bytes | str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(list_files, "atomic_write", atomic_write)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("calls", [0, 1, 2, 5])
def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    trained, dataset = toy()
    whole, out = tmp_path / "whole.parquet", tmp_path / "lists.parquet"
    write_lists(trained, dataset, whole, users_a_part=3)
    with stopped_at(calls, monkeypatch):
        write_lists(trained, dataset, out, users_a_part=3)
    assert not out.exists()
    decoded: list[int] = []
    recommend = trained.recommend

    def counting(histories: list[Any], *arguments: Any, **sets: Any) -> Any:
        decoded.append(len(histories))
        return recommend(histories, *arguments, **sets)

    monkeypatch.setattr(trained, "recommend", counting)
    write_lists(trained, dataset, out, users_a_part=3)
    assert sum(decoded) == dataset.n_users - 3 * max(0, calls - 1)
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "lists.parquet.parts").exists()


@pytest.mark.parametrize("step", ["os.replace", "shutil.rmtree"])
def test_a_run_stopped_while_it_joins_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    trained, dataset = toy()
    whole, out = tmp_path / "whole.csv", tmp_path / "lists.csv"
    write_lists(trained, dataset, whole, users_a_part=4)  # other batches round differently
    replace_file = os.replace

    def interrupt(path: Path, *others: Path) -> None:
        if step == "os.replace" and out not in others:
            return replace_file(path, *others)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_lists(trained, dataset, out, users_a_part=4)
    assert out.exists() == (step == "shutil.rmtree")
    write_lists(trained, dataset, out, users_a_part=4)
    assert out.read_bytes() == whole.read_bytes()
    assert {*tmp_path.iterdir()} == {whole, out}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("k 10, which now is 3", {"options": ListOptions(k=3)}),
        ("beam 50, which now is 20", {"options": ListOptions(beam=20)}),
        ("verification prefix, which now is final", {"options": ListOptions(verification="final")}),
        ("exclude-seen False, which now is True", {"options": ListOptions(exclude_seen=True)}),
        ("allowed items all, which now is 2 (", {"options": ListOptions(allow=[1, 2])}),
        ("denied items 0 (", {"options": ListOptions(deny=[1])}),
        ("users 13 (", {"users": [0, 1]}),
        ("users 13 (", {"users": [*range(12, -1, -1)]}),
        ("users in a part 3, which now is 4", {"users_a_part": 4}),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: dict[str, Any]
) -> None:
    trained, dataset = toy()
    out = tmp_path / "lists.csv"
    with stopped_at(2, monkeypatch):
        write_lists(trained, dataset, out, users_a_part=3)
    with pytest.raises(ValueError, match=r"or delete it to begin anew\.$") as refused:
        write_lists(trained, dataset, out, **{"users_a_part": 3} | change)
    assert f"{out}.parts was begun with {name}" in str(refused.value)
    write_lists(trained, dataset, out, users_a_part=3)


def test_another_model_catalogue_or_history_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, dataset = toy()
    out = tmp_path / "lists.csv"
    with stopped_at(1, monkeypatch):
        write_lists(trained, dataset, out)
    other = Recommender(toy_model(seed=1), toy_ids())
    with pytest.raises(ValueError, match="begun with model 20"):
        write_lists(other, dataset, out)
    later = replace(dataset, sequences=(*dataset.sequences[:-1], (5,)))
    with pytest.raises(ValueError, match="begun with histories 13"):
        write_lists(trained, later, out)
    trained.remove_items([3])
    with pytest.raises(ValueError, match=r"begun with removed items 0 .*, which now is 1 "):
        write_lists(trained, dataset, out)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    trained, dataset = toy()
    with pytest.raises(ValueError, match=r"out is '.*lists.txt', but must be a name that ends in "):
        write_lists(trained, dataset, tmp_path / "lists.txt")
    with pytest.raises(ValueError, match="k is 0, but must be a whole number of at least 1"):
        ListOptions(k=0)
    with pytest.raises(ValueError, match=r"users is \[\], but must be at least one user"):
        write_lists(trained, dataset, tmp_path / "lists.csv", users=[])
    with pytest.raises(ValueError, match="deny holds item 99"):
        write_lists(trained, dataset, tmp_path / "lists.csv", ListOptions(deny=[99]))
    assert not [*tmp_path.iterdir()]
    (tmp_path / "lists.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"lists.csv exists already: delete it, or name another"):
        write_lists(trained, dataset, tmp_path / "lists.csv")
    assert (tmp_path / "lists.csv").read_text() == "mine"
    (tmp_path / "lists.csv").unlink()


def test_damaged_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, dataset = toy()
    out = tmp_path / "lists.csv"
    with stopped_at(2, monkeypatch):
        write_lists(trained, dataset, out, users_a_part=3)
    settings = tmp_path / "lists.csv.parts" / "settings.json"
    (settings.parent / "part-0000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"lists.csv.parts holds parts that could not be joined: "):
        write_lists(trained, dataset, out, users_a_part=3)
    assert not out.exists()
    settings.write_text("{")
    with pytest.raises(ValueError, match=r"settings.json is damaged .delete .*parts to begin anew"):
        write_lists(trained, dataset, out, users_a_part=3)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_process_goes_on(trained: Path, shop: Path, tmp_path: Path) -> None:
    program, whole, out = tmp_path / "run.py", tmp_path / "whole.parquet", tmp_path / "l.parquet"
    program.write_text(PROGRAM)
    killed = python(str(program), str(trained), str(shop), str(out), "4")
    assert killed.returncode == -signal.SIGKILL
    assert len([*out.with_name("l.parquet.parts").glob("part-*.parquet")]) == 3
    for path in (out, whole):
        write_lists(Recommender.load(trained), load_folder(shop), path, users_a_part=4)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_write_what_one_does(trained: Path, shop: Path, tmp_path: Path) -> None:
    program, whole, out = tmp_path / "run.py", tmp_path / "whole.parquet", tmp_path / "l.parquet"
    program.write_text(PROGRAM)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    both = python(*launcher, str(program), str(trained), str(shop), str(out), "99")
    assert both.returncode == 0, both.stderr
    report = write_lists(Recommender.load(trained), load_folder(shop), whole, users_a_part=4)
    # Two processes print to one pipe: a line and its end need not stay together.
    assert sorted(both.stdout.replace("None", "None\n").split()) == sorted(f"None {report}".split())
    assert out.read_bytes() == whole.read_bytes()
    assert {*tmp_path.iterdir()} == {program, whole, out}
