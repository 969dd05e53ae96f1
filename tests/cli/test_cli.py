"""The command line: its help, and what its commands do from data to list."""

import json
import re
from pathlib import Path

import pytest
import typer.main

from nezha_lite.cli import app
from nezha_lite.common.results import read_results
from nezha_lite.datasets import load_folder
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import read_training_record
from tests.helpers.shops import SMALL, Run, write_dataset
from tests.helpers.toys import toy_dataset

TOP = typer.main.get_command(app).commands
COMMANDS = {
    path: command
    for name, found in TOP.items()
    for path, command in (
        ((name, part), found.commands[part]) if part else ((name,), found)
        for part in getattr(found, "commands", {None: None})
    )
}

# ---- help ----------------------------------------------------------------------------------------


def test_help_lists_the_commands(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    answer = cli("--help")
    assert answer.status == 0
    assert set(TOP) >= {"data", "train", "evaluate", "recommend", "bench", "hallucination"}
    benches = {"decode", "verify", "train", "equal", "tokenize"}
    assert {("bench", name) for name in benches} <= set(COMMANDS)
    for name in TOP:
        assert re.search(rf"\b{name}\b", answer.out)
    assert "--debug" in answer.out


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_help_of_a_command_explains_every_option(
    name: tuple[str, ...], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    answer = cli(*name, "--help")
    assert answer.status == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", answer.out).split())
    for parameter in COMMANDS[name].params:
        if parameter.name == "help":
            continue
        flag = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
        assert flag.lower() in text.lower(), flag
        assert parameter.help, f"{flag} is not explained"
        assert " ".join(parameter.help.split()) in text


# ---- what the commands do ------------------------------------------------------------------------


def test_data_describes_the_folder(shop: Path, tmp_path: Path, cli: Run) -> None:
    dataset = toy_dataset()
    targets = sum(len(sequence) - 3 for sequence in dataset.sequences)
    answer = cli("data", shop)
    assert answer.status == 0
    assert answer.out.splitlines() == [
        f"shop: 30 users, 20 items, {dataset.n_interactions} interactions, "
        f"{targets} training targets",
        "split: leave-one-out; validation 30 users (0 without enough history left out, 0 targets "
        "not in the training part), test 30 users (0 without enough history left out, 0 targets "
        "not in the training part)",
        "item texts: yes",
        "released semantic IDs: none; `train` builds some from the texts",
    ]
    coded = write_dataset(tmp_path / "coded", dataset)
    released = {item: [f"<a_{i // 4}>", f"<b_{i % 2}>"] for i, item in enumerate(dataset.items)}
    (coded / "coded.index.json").write_text(json.dumps(released))
    last = cli("data", coded).out.splitlines()[-1]
    assert last == "released semantic IDs: radices (5, 5), 10 distinct, collision rate 0.5000"


def test_train_writes_a_run_with_the_asked_settings(trained: Path, shop: Path) -> None:
    record = read_training_record(trained)
    assert record["dataset"] == "shop"
    wanted = {"epochs": 2, "batch_rows": 8, "learning_rate": 0.01, "seed": 0}
    assert wanted.items() <= record["config"].items()
    ids = SemanticIds.load(trained / "semantic_ids.safetensors")
    assert ids.items == load_folder(shop).items
    assert ids.radices[:2] == (4, 4)
    assert ids.n_distinct == 20
    config = json.loads((trained / "config.json").read_text())
    assert config["max_items"] == 6
    assert (trained / "checkpoints").is_dir()


def test_train_passes_every_option_on(shop: Path, tmp_path: Path, cli: Run) -> None:
    options = "--ids rq-kmeans --collisions shared --embedding-lr 3 --transition-lr 2 --seed 5"
    more = "--dropout 0.3 --next-code-weight 0.5 --no-checkpoints --preset tiny"
    answer = cli("train", shop, tmp_path / "run", *SMALL, *options.split(), *more.split())
    assert answer.status == 0
    assert "semantic IDs of radices (4, 4)" in answer.out
    assert str(tmp_path / "run") in answer.out.splitlines()[-1]
    record = read_training_record(tmp_path / "run")["config"]
    wanted = {"embedding_lr": 3.0, "transition_lr": 2.0, "seed": 5, "epochs": 2}
    assert {**wanted, "checkpoints": False}.items() <= record.items()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"dropout": 0.3, "next_code_weight": 0.5}.items() <= config.items()


def test_train_resumes(shop: Path, tmp_path: Path, cli: Run) -> None:
    run = tmp_path / "run"
    assert cli("train", shop, run, *SMALL).status == 0
    answer = cli("train", shop, run, *SMALL, "--resume")
    assert answer.status == 0
    assert read_training_record(run)["resumed"] is True


def test_evaluate_prints_and_writes_the_same_figures(
    trained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "new" / "quality.json"
    both = ["--decoder", "nezha", "--decoder", "autoregressive"]
    options = [*both, "--beam", "12", "--results", results]
    answer = cli("evaluate", trained, shop, *options)
    assert answer.status == 0
    rows = read_results(results)
    assert [row.decoder for row in rows] == ["nezha", "autoregressive", "popularity"]
    assert [row.beam for row in rows] == [12, 12, None]
    assert [row.verifier for row in rows] == ["prefix", "prefix", None]
    printed = [line for line in answer.out.splitlines() if "recall@10" in line]
    for row, line in zip(rows, printed, strict=True):
        assert line.split()[0] == row.decoder
        assert f"recall@10 {row.metrics['recall@10']:.4f}" in line
        assert row.kind == "quality"
        assert row.dataset == "shop"
        assert row.settings["split"] == "test"
        assert row.seeds == [0]
        assert row.settings["users"] == 30
    for row in rows[:2]:
        assert row.settings["training"]["config"]["epochs"] == 2
    assert rows[0].metrics["valid"] == 1.0
    gain = rows[0].metrics["recall@10"] - rows[1].metrics["recall@10"]
    assert rows[0].metrics["recall@10_gain"] == pytest.approx(gain, abs=1e-5)
    assert 0 < rows[0].metrics["overlap@10"] <= 1


def test_evaluate_takes_a_sample_a_split_and_a_mode(
    trained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "off.json"
    options = "--users 7 --split validation --verification off --beam 16 --decoder nezha"
    assert cli("evaluate", trained, shop, *options.split(), "--results", results).status == 0
    model, popularity = read_results(results)
    assert (model.settings["users"], model.settings["split"]) == (7, "validation")
    assert model.verifier == "off"
    assert model.metrics["valid"] < 1.0
    assert popularity.decoder == "popularity"


def test_recommend_prints_titles_for_a_user_and_for_a_history(
    trained: Path, shop: Path, cli: Run
) -> None:
    dataset = load_folder(shop)
    by_user = cli("recommend", trained, shop, "--user", "u3", "-k", "5")
    assert by_user.status == 0
    history, ranked = by_user.out.split("Recommended:")
    known = dataset.sequences[3][-6:]
    assert [line.strip() for line in history.splitlines()[1:]] == [
        dataset.title(item) for item in known
    ]
    lines = ranked.strip().splitlines()
    assert len(lines) == 5
    for place, line in enumerate(lines, start=1):
        found = re.fullmatch(r" *(\d+)\. (.+)  \(item (\w+), (-?\d+\.\d+)\)", line)
        assert found is not None
        assert int(found[1]) == place
        assert dataset.title(dataset.items.index(found[3])) == found[2]

    names = [name for item in known for name in ("--item", dataset.items[item])]
    assert cli("recommend", trained, shop, *names, "-k", "5").out == by_user.out


def test_recommend_orders_items_that_share_an_id_by_popularity(tmp_path: Path, cli: Run) -> None:
    dataset = toy_dataset()
    shop = write_dataset(tmp_path / "pairs", dataset)
    index = {item: [f"<a_{i // 4}>", f"<b_{i // 2 % 2}>"] for i, item in enumerate(dataset.items)}
    (shop / "pairs.index.json").write_text(json.dumps(index))
    # Everybody's training part holds odd items only: each is more popular than its twin.
    histories = {user: ["i1", "i3", "i5", "i7", "i0", "i2"] for user in dataset.users}
    (shop / "pairs.inter.json").write_text(json.dumps(histories))
    assert cli("train", shop, tmp_path / "run", *SMALL, "--collisions", "shared").status == 0
    answer = cli("recommend", tmp_path / "run", shop, "--user", "u0", "-k", "20")
    items = [int(name) for name in re.findall(r"item i(\d+),", answer.out)]
    places = {item: place for place, item in enumerate(items)}
    assert len(places) == 20
    for odd in (1, 3, 5, 7):
        assert places[odd] == places[odd - 1] - 1


def test_hallucination_prints_and_writes_rows(
    trained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "hallucination.json"
    options = ["--beam", "4", "--removed", "0.5", "--users", "9"]
    earlier = trained / "checkpoints" / "checkpoint-4"
    answer = cli(
        "hallucination", trained, shop, *options, "--earlier", earlier, "--results", results
    )
    assert answer.status == 0
    rows = read_results(results)
    assert [row.verifier for row in rows] == ["off", "final", "prefix"] * 3
    assert [row.settings["removed"] for row in rows] == [0.0] * 3 + [0.5] * 3 + [0.0] * 3
    assert [row.settings["epochs"] for row in rows] == [2.0] * 6 + [1.0] * 3
    assert all(row.metrics["valid"] == 1.0 for row in rows if row.verifier != "off")
    assert rows[3].metrics["valid"] < rows[0].metrics["valid"]
