"""`nezha-lite recommend --all`: the lists of all users, or some, in a file."""

from pathlib import Path

import polars as pl
import pytest

from nezha_lite.cli import recommend as command
from nezha_lite.datasets import load_folder
from nezha_lite.decoding.recommender import Recommender
from tests.helpers.shops import Run
from tests.helpers.toys import COLOURS, THINGS


def test_all_users_get_their_lists(trained: Path, shop: Path, tmp_path: Path, cli: Run) -> None:
    out = tmp_path / "new" / "lists.parquet"
    answer = cli("recommend", trained, shop, "--all", "--out", out, "--k", "3", "--exclude-seen")
    assert answer.status == 0, answer.err
    assert answer.out == f"30 users, 90 rows: {out}\n"
    assert "users/s" in answer.err
    data, recommender = load_folder(shop), Recommender.load(trained)
    lists = recommender.recommend(
        data.sequences, 3, popularity=data.popularity(), exclude_seen=True
    )
    names = [best.name for ranked in lists for best in ranked]
    frame = pl.read_parquet(out)
    assert frame["item"].to_list() == names
    assert frame["user"].to_list() == [user for user in data.users for _ in range(3)]


def test_users_of_a_file_and_items_of_another(
    trained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    (tmp_path / "users.txt").write_bytes(b"\xef\xbb\xbfu7\r\nu3\r\n\r\nu7\r\n")
    (tmp_path / "deny.txt").write_text("i0\ni1\n")
    ask = ("recommend", trained, shop, "--users", tmp_path / "users.txt", "-k", "20")
    sets = ("--category", "mug", "--category", "rug", "--deny", tmp_path / "deny.txt")
    out = tmp_path / "lists.csv"
    answer = cli(*ask, *sets, "--deny", "i2", "--out", out)
    assert answer.out == f"2 users, 14 rows: {out}\n", answer.err
    frame = pl.read_csv(out)
    assert frame["user"].unique(maintain_order=True).to_list() == ["u7", "u3"]
    rugs = range(THINGS.index("rug") * len(COLOURS), len(THINGS) * len(COLOURS))
    expected = {f"i{item}" for item in (3, 4, *rugs)}
    for _, rows in frame.group_by("user"):
        assert {*rows["item"]} == expected
        assert rows["rank"].to_list() == [*range(1, 8)]


def test_empty_lists_are_counted(trained: Path, shop: Path, tmp_path: Path, cli: Run) -> None:
    mugs = [argument for item in range(5) for argument in ("--deny", f"i{item}")]
    sets = ("--category", "mug", *mugs)
    answer = cli("recommend", trained, shop, "--all", *sets, "--out", tmp_path / "lists.jsonl")
    reason = "30 users have an empty list: every item that is left is denied.\n"
    assert answer.out == f"30 users, 0 rows: {tmp_path / 'lists.jsonl'}\n{reason}"
    assert "nothing: every item that is left is denied\n" in (
        cli("recommend", trained, shop, "--user", "u3", *sets).out
    )


def test_what_is_wrong_is_one_sentence(trained: Path, shop: Path, tmp_path: Path, cli: Run) -> None:
    for name, content in (("some", b"u1\nnobody\nu99\n"), ("none", b"\n"), ("latin", b"\xfc")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "there.csv").touch()
    out = ("--out", tmp_path / "lists.csv")
    one, file = ("--user", "u1"), tmp_path / "some"
    for arguments, words in (
        (("--all",), "or --all or a file of --users, with the file to write as --out."),
        ((*one, *out), "or --all or a file of --users, with the file to write as --out."),
        (("--all", *one, *out), "or --all or a file of --users, with the file"),
        (("--all", "--users", file, *out), "or --all or a file of --users, with the file"),
        (("--users", file, *out), "User 'nobody' is not in data set 'shop', nor is 1 other, which"),
        (("--users", tmp_path / "none", *out), "none holds no names; write one on each line."),
        (("--users", tmp_path / "latin", *out), "latin is not a text file in UTF-8: 'utf-8' codec"),
        (("--users", tmp_path / "gone", *out), "No such file or directory: "),
        ((*one, "--deny", file), "Item 'u1' is not in data set 'shop', nor are 2 others, which"),
        (("--all", "--out", tmp_path / "lists.txt"), "but must be a name that ends in .csv"),
        (("--all", "--out", tmp_path / "there.csv"), "there.csv exists already: delete it, or"),
        (("--all", "--out", tmp_path / "some" / "lists.csv"), "some"),
        (("--all", *out, "-k", "0"), "k is 0, but must be a whole number of at least 1."),
        (("--all", *out, "--beam", "0"), "beam is 0, but must be a whole number of at least 1."),
        ((*one, "--category", "mug", "--category", "x"), "Category 'x' is not in data set 'shop',"),
        ((*one, "--user", "u2"), "--user is given 2 times, but takes one value."),
        (("--all", *out, "-k", "3", "--k", "4"), "-k is given 2 times, but takes one value."),
        ((*one, "--compile", "--no-compile"), "--compile is given 2 times, but takes one value."),
    ):
        answer = cli("recommend", trained, shop, *arguments)
        assert (answer.status, answer.out) == (2, ""), arguments
        assert answer.err.startswith("nezha-lite: ")
        assert words in answer.err
        assert answer.err.count("\n") == 1, answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"some", "none", "latin", "there.csv"}


@pytest.mark.parametrize(
    ("users_from", "compiler", "option", "compiled"),
    [
        (30, "g++", (), True),
        (31, "g++", (), False),
        (30, None, (), False),
        (31, None, ("--compile",), True),
        (30, "g++", ("--no-compile",), False),
    ],
)
def test_many_users_are_worth_a_compilation(
    trained: Path,
    shop: Path,
    tmp_path: Path,
    cli: Run,
    monkeypatch: pytest.MonkeyPatch,
    users_from: int,
    compiler: str | None,
    option: tuple[str, ...],
    compiled: bool,
) -> None:
    asked = []

    def load_run(data: object, folder: Path, device: str, compile: bool) -> Recommender:
        asked.append(compile)
        return Recommender.load(folder)

    monkeypatch.setattr(command, "COMPILE_FROM", users_from)
    monkeypatch.setattr(command, "cpp_compiler", lambda: compiler)
    monkeypatch.setattr(command, "load_run", load_run)
    cli("recommend", trained, shop, "--all", "--out", tmp_path / "lists.csv", *option)
    assert asked == [compiled]
