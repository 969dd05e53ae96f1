"""The command line's one sentence for bad input."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nezha_lite.cli import main
from nezha_lite.datasets import InteractionDataset
from tests.helpers.runs import python
from tests.helpers.shops import SMALL, Answer, Run, write_dataset
from tests.helpers.toys import toy_dataset


def refused(answer: Answer, *words: str) -> bool:
    """One sentence on stderr that holds all these words, status 2, nothing on stdout."""
    lines = answer.err.splitlines()
    assert answer.status == 2
    assert answer.out == ""
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("nezha-lite: ")
    for word in words:
        assert word in lines[0]
    return True


@pytest.mark.slow
def test_the_console_script_answers_bad_input() -> None:
    failed = subprocess.run(
        [sys.executable, "-c", "from nezha_lite.cli import main; main()", "data", "nothing-here"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("nezha-lite: 'nothing-here' is neither")
    assert len(failed.stderr.splitlines()) == 1


def test_an_unknown_data_set_or_folder_is_one_sentence(
    trained: Path, tmp_path: Path, cli: Run
) -> None:
    unknown = "neither a folder nor one of the data sets sample, beauty"
    assert refused(cli("data", "bueaty"), "'bueaty'", unknown)
    assert refused(cli("train", "bueaty", tmp_path / "run"), unknown)
    assert refused(cli("evaluate", trained, tmp_path / "nowhere"), "nowhere", unknown)
    (tmp_path / "empty").mkdir()
    assert refused(cli("data", tmp_path / "empty"), "empty.inter.json")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "broken.inter.json").write_text("{")
    assert refused(cli("data", broken), "broken.inter.json")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["evaluate", "recommend", "bench", "hallucination"])
def test_a_missing_model_folder_is_one_sentence(
    command: str, shop: Path, tmp_path: Path, cli: Run
) -> None:
    before = ["train"] if command == "bench" else []
    after = ["--user", "u0"] if command == "recommend" else []
    answer = cli(command, *before, tmp_path / "nowhere", shop, *after)
    assert refused(answer, "nowhere has no config.json", "nezha-lite train")


def test_who_is_asked_for_must_exist_and_be_one(trained: Path, shop: Path, cli: Run) -> None:
    ask = ("recommend", trained, shop)
    assert refused(cli(*ask, "--user", "nobody"), "User 'nobody'", "'shop'", "like 'u0'")
    assert refused(cli(*ask, "--item", "i1", "--item", "i99"), "Item 'i99'", "'shop'", "like 'i0'")
    assert refused(cli(*ask, "--user", "u0", "--item", "i1"), "--user", "--item", "not both")
    assert refused(cli(*ask), "--user", "--item")


def test_another_catalogue_is_refused(trained: Path, tmp_path: Path, cli: Run) -> None:
    dataset = toy_dataset()
    renamed = InteractionDataset(
        "renamed",
        tuple(f"x{item}" for item in dataset.items),
        dataset.users,
        dataset.sequences,
        dataset.texts,
    )
    other = write_dataset(tmp_path / "other", renamed)
    for arguments in (("evaluate",), ("bench", "train"), ("hallucination",)):
        answer = cli(*arguments, trained, other)
        assert refused(answer, "trained on another catalogue", "'other'", "(20 items)")


def test_a_used_output_folder_is_refused(trained: Path, shop: Path, cli: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    answer = cli("train", shop, trained, *SMALL)
    assert answer.status == 2
    assert answer.err.splitlines()[-1].startswith(f"nezha-lite: {trained} already holds")
    assert "Traceback" not in answer.err
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--preset huge", ("preset is 'huge'", "'tiny'")),
        ("--epochs 0", ("epochs is 0",)),
        ("--levels 0", ("levels is 0",)),
        ("--dropout 2", ("dropout is 2",)),
        ("--max-items 0", ("max_items is 0",)),
        ("--ids released", ("'shop'", "released semantic IDs")),
    ],
)
def test_bad_settings_are_one_sentence_and_leave_nothing(
    options: str, words: tuple[str, ...], shop: Path, tmp_path: Path, cli: Run
) -> None:
    assert refused(cli("train", shop, tmp_path / "run", *options.split()), *words)
    assert not (tmp_path / "run").exists()


def test_bad_figures_are_one_sentence(trained: Path, shop: Path, cli: Run) -> None:
    assert refused(cli("evaluate", trained, shop, "--users", "31"), "31", "0 to 30", "users")
    assert refused(cli("evaluate", trained, shop, "--device", "abacus"), "device is 'abacus'")
    assert refused(cli("evaluate", trained, shop, "--decoder", "magic"), "'magic'", "'speculative'")
    answer = cli("evaluate", trained, shop, "--beam", "0")  # after its bar has begun
    assert answer.status == 2
    sentence = "nezha-lite: beam is 0, but must be at least 10, which Recall@10 needs."
    assert answer.err.splitlines()[-1] == sentence
    assert "Traceback" not in answer.err
    answer = cli("recommend", trained, shop, "--user", "u0", "-k", "0")
    sentence = "nezha-lite: k is 0, but must be a whole number of at least 1."
    assert (answer.status, answer.err) == (2, f"{sentence}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "a", "b", "--split", "magic"),
        ("train", "a", "b", "--epochs", "many"),
        ("recommend", "a", "b", "--usr", "u0"),
        ("dance",),
        ("train", "a"),
    ],
)
def test_misspelt_commands_and_options_are_explained(arguments: tuple[str, ...], cli: Run) -> None:
    answer = cli(*arguments)
    assert answer.status == 2
    assert answer.out == ""
    assert "Usage" in answer.err
    assert "Traceback" not in answer.err


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nezha-lite", "data", str(tmp_path / "x"), "--debug"])
    with pytest.raises(FileNotFoundError, match="neither a folder") as raised:
        main()
    assert raised.traceback[-1].name == "load_dataset"


def test_a_defect_is_not_hidden_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr("nezha_lite.cli.data.load_split", defect)
    monkeypatch.setattr(sys, "argv", ["nezha-lite", "data", "sample"])
    with pytest.raises(AssertionError, match="a defect"):
        main()


@pytest.mark.slow
def test_a_console_of_an_old_code_page_gets_every_line(trained: Path, tmp_path: Path) -> None:
    """A pipe on Windows speaks cp1252, which has no Greek, Cyrillic or Chinese letters."""
    dataset = toy_dataset()
    texts = tuple(replace(text, title="Ωмега 茶") for text in dataset.texts or ())
    shop = write_dataset(tmp_path / "shop", replace(dataset, texts=texts))
    asked = ("recommend", str(trained), str(shop), "--user", "u3", "-k", "5")
    done = python("-m", "nezha_lite.cli", *asked, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    history, recommended = done.stdout.split("Recommended:")
    assert history.count("Ωмега 茶") > 2
    assert recommended.count("Ωмега 茶") == 5
