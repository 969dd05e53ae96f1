"""The split at a moment, from the table to the figures."""

import json
from pathlib import Path

import pytest

from nezha_lite.common.results import read_results
from nezha_lite.datasets import load_folder, write_folder
from tests.helpers.shops import SMALL, Run
from tests.helpers.toys import toy_dataset

TEMPORAL = ("--split", "temporal", "--test-from")


@pytest.fixture
def shop(tmp_path: Path, cli: Run) -> Path:
    """The toy shop with times: a new user came at the very end."""
    toy = toy_dataset()
    rows = [
        (toy.users[user], toy.items[item], 1000 * place + user)
        for user, sequence in enumerate(toy.sequences)
        for place, item in enumerate(sequence)
    ]
    rows.append(("newcomer", toy.items[0], 10**6))
    lines = "".join(f"{user},{item},{time}\n" for user, item, time in rows)
    (tmp_path / "orders.csv").write_text(f"user,item,time\n{lines}")
    assert cli("import", tmp_path / "orders.csv", tmp_path / "shop").status == 0
    return tmp_path / "shop"


def test_a_run_is_evaluated_by_the_split_it_was_trained_with(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    run, results = tmp_path / "run", tmp_path / "rows.json"
    data = load_folder(shop).by_time("0.2")
    test = data.split("test")
    assert test.left_out == 1
    answer = cli("train", shop, run, *SMALL, *TEMPORAL, "0.2")
    assert answer.status == 0
    (said,) = [line for line in answer.out.splitlines() if line.startswith("split: ")]
    assert said.startswith(f"split: {data.split_method}; validation ")
    assert f"test {len(test)} users (1 without enough history left out" in said
    assert said in cli("data", shop, *TEMPORAL, "0.2").out
    assert data.time_split is not None
    assert json.loads((run / "training.json").read_text())["time_split"] == vars(data.time_split)

    answer = cli("evaluate", run, shop, "--beam", "16", "--results", results)
    assert answer.status == 0
    assert said in answer.out
    settings = read_results(results)[0].settings
    assert settings["split_method"] == data.split_method
    assert (settings["users"], settings["users_left_out"]) == (len(test), 1)
    assert cli("hallucination", run, shop, "--beam", "8", "--removed", "0.5").status == 0

    (shop / "shop.times.safetensors").unlink()
    answer = cli("evaluate", run, shop)
    assert answer.status == 2
    assert "'shop' has no times, which a temporal split needs" in answer.err


def test_impossible_splits_are_one_sentence(shop: Path, tmp_path: Path, cli: Run) -> None:
    bare = write_folder(toy_dataset(), tmp_path / "bare")
    for arguments, message in (
        ((shop, *TEMPORAL, "2"), "test_from is 2, but must be a share in (0, 1) or a date such as"),
        ((shop, "--split", "temporal"), "--test-from is None, but a temporal split needs a date"),
        ((shop, "--test-from", "0.1"), "--split is 'leave-one-out' and --test-from is '0.1'"),
        ((bare, *TEMPORAL, "0.1"), "'bare' has no times, which a temporal split needs"),
    ):
        answer = cli("data", *arguments)
        assert (answer.status, answer.out) == (2, "")
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1
