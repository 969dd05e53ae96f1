"""The study's rows are what its files say."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nezha_lite.common.results import ResultRow, read_results, write_results
from nezha_lite.evaluation import overlap_at
from nezha_lite.evaluation.study import VARIANTS, Report
from nezha_lite.evaluation.study.config import COMPARISONS, NOT_GENERATIVE, System, all_systems
from nezha_lite.evaluation.study.job_runner import (
    AGREEMENT_FILE,
    HALLUCINATION_FILE,
    TRAINED_FILE,
)
from tests.helpers.studies import CONFIG, DATASET, DONE, USERS, all_lists, jobs

pytestmark = pytest.mark.timeout(600)  # the first test to ask for a study waits for its training
SEEDS = CONFIG.seeds


@pytest.fixture(scope="module")
def rows(studied: Path) -> list[ResultRow]:
    return Report(DATASET, CONFIG, studied).rows()


def part(rows: list[ResultRow], name: str) -> list[ResultRow]:
    return [row for row in rows if row.settings["part"] == name]


def places(study: Path, system: System) -> list[list[int]]:
    """The targets' places, per seed, looked up again in the lists themselves."""
    counted = system.name in ("popularity", "item-knn")
    job = "sasrec" if system.name == "blend" else system.name
    folders = ["counting/seed-0"] if counted else [f"{job}/seed-{seed}" for seed in SEEDS]
    found = all_lists(study)
    targets = DATASET.split("test").targets
    each = []
    for folder in folders:
        lists = found[f"{folder}/lists/{system.decoder}-{system.verification}.safetensors"]
        each.append(
            [
                items.index(target) if target in items else -1
                for (_, *items), target in zip(lists, targets, strict=True)
            ]
        )
    return each


def figure(name: str, ranks: list[int]) -> float:
    measure, k = name.split("@")
    hits = [rank for rank in ranks if 0 <= rank < int(k)]
    gains = [1.0 if measure == "recall" else 1 / math.log2(2 + rank) for rank in hits]
    return sum(gains) / len(ranks)


def done(system: System) -> bool:
    return system.name in (*DONE, "popularity", "item-knn", "blend")


def test_systems_have_names_of_their_own_and_comparisons_are_among_them() -> None:
    systems = all_systems()
    assert len({system.label for system in systems}) == len(systems) == len(set(systems))
    assert {side for _, *pair in COMPARISONS for side in pair} <= set(systems)
    assert len({question for question, *_ in COMPARISONS}) == len(COMPARISONS)
    assert {system.name for system in systems} == {*NOT_GENERATIVE, *VARIANTS}
    assert System("nezha", "", "").label == "nezha"


def test_figures_are_those_of_the_stored_lists(rows: list[ResultRow], studied: Path) -> None:
    found = {row.settings["system"]: row for row in part(rows, "systems")}
    wanted = [system for system in all_systems() if done(system)]
    assert list(found) == [system.label for system in wanted]
    for system in wanted:
        row, ranks = found[system.label], places(studied, system)
        for name in ("recall@5", "recall@10", "ndcg@5", "ndcg@10"):
            values = [figure(name, one) for one in ranks]
            assert row.metrics[name] == pytest.approx(np.mean(values), abs=2e-5), system
            if len(values) > 1:
                assert row.per_seed[name] == pytest.approx(values, abs=2e-5), "in the seeds' order"
                assert row.std[name] == pytest.approx(np.std(values, ddof=1), abs=2e-5)
        for name in ("recall@10", "ndcg@10"):
            low, high = row.metrics[f"{name}_low"], row.metrics[f"{name}_high"]
            assert low <= row.metrics[name] <= high
        assert row.settings["users"] == USERS


def test_rows_say_what_was_measured(rows: list[ResultRow]) -> None:
    found = {row.settings["system"]: row for row in part(rows, "systems")}
    nezha = found["nezha"]
    assert (nezha.decoder, nezha.verifier, nezha.beam) == ("nezha", "prefix", 10)
    assert nezha.model["preset"] == "tiny"
    assert nezha.settings["training"]["epochs"] == 2
    assert found["nezha, off"].verifier == "off"
    assert found["nezha, autoregressive"].decoder == "autoregressive"
    assert (found["item-knn"].beam, found["item-knn"].verifier) == (None, None)
    assert found["item-knn"].seeds == found["popularity"].seeds == []
    assert found["sasrec"].model["width"] == 16
    assert nezha.metrics["valid"] == 1.0
    assert found["nezha, off"].metrics["valid"] < 1.0, "or nothing hallucinates, and tests less"


def test_spread_has_a_value_for_every_seed(rows: list[ResultRow]) -> None:
    for row in rows:
        counted = row.settings["system"] in ("popularity", "item-knn")
        assert list(row.seeds) == ([] if counted else [1, 0])
        assert all(len(values) == 2 for values in row.per_seed.values())
        assert {*row.std} == {*row.per_seed}
        compared = row.settings["part"] in ("comparisons", "strata")
        assert bool(row.per_seed) is not (counted or compared)


def test_gains_are_differences_of_the_two_systems(rows: list[ResultRow], studied: Path) -> None:
    of_system = {row.settings["system"]: row.metrics for row in part(rows, "systems")}
    compared = part(rows, "comparisons")
    asked = [entry for entry in COMPARISONS if done(entry[1]) and done(entry[2])]
    assert [row.settings["question"] for row in compared] == [question for question, *_ in asked]
    lists = all_lists(studied)
    for row, (_, one, other) in zip(compared, asked, strict=True):
        assert (row.settings["system"], row.settings["against"]) == (one.label, other.label)
        for name in ("recall@10", "ndcg@10"):
            mine, theirs = of_system[one.label][name], of_system[other.label][name]
            assert row.metrics[name] == pytest.approx(mine, abs=2e-5)
            assert row.metrics[f"{name}_other"] == pytest.approx(theirs, abs=2e-5)
            assert row.metrics[f"{name}_gain"] == pytest.approx(mine - theirs, abs=4e-5)
            low, high = row.metrics[f"{name}_low"], row.metrics[f"{name}_high"]
            assert low <= row.metrics[f"{name}_gain"] <= high
            assert 0 < row.metrics[f"{name}_p"] <= 1
    shares = []
    for seed in SEEDS:
        pair = [
            f"nezha/seed-{seed}/lists/{how}-prefix.safetensors"
            for how in ("nezha", "autoregressive")
        ]
        shares.append(overlap_at(*([row[1:] for row in lists[name]] for name in pair), k=10))
    assert compared[0].metrics["overlap@10"] == pytest.approx(np.mean(shares), abs=2e-5)


def test_strata_add_up_to_the_whole(rows: list[ResultRow]) -> None:
    whole = {
        (row.settings["system"], row.settings["against"]): row.metrics
        for row in part(rows, "comparisons")
    }
    for system in ("nezha", "three-levels"):
        for kind in ("target", "history"):
            strata = [
                row
                for row in part(rows, "strata")
                if (row.settings["system"], row.settings["by"]) == (system, kind)
            ]
            sizes = [row.settings["stratum_users"] for row in strata]
            assert sum(sizes) == USERS
            for name in ("recall@10", "recall@10_other", "ndcg@10_gain", "overlap@10"):
                mean = np.average([row.metrics[name] for row in strata], weights=sizes)
                expected = whole[system, f"{system}, autoregressive"][name]
                assert mean == pytest.approx(expected, abs=4e-5)


def read(study: Path, name: str, file: str) -> list[dict]:
    return [json.loads((study / name / f"seed-{seed}" / file).read_text()) for seed in SEEDS]


def test_agreement_and_hallucination_are_those_of_the_files(
    rows: list[ResultRow], studied: Path
) -> None:
    agreement = {row.settings["system"]: row for row in part(rows, "agreement")}
    assert {*agreement} == {"nezha", "three-levels"}
    for name, row in agreement.items():
        found = read(studied, name, AGREEMENT_FILE)
        assert row.settings["users"] == 8
        for metric, values in row.per_seed.items():
            assert values == [one["metrics"][metric] for one in found]
    assert "accepted_level_2" in agreement["three-levels"].metrics
    assert not [name for name in agreement["nezha"].metrics if name.startswith("accepted")]
    checked = [r for r in part(rows, "hallucination") if r.settings["system"].startswith("nezha")]
    asked = [(row.beam, row.settings["removed"], row.verifier) for row in checked]
    modes = ("off", "final", "prefix")
    settings = ((10, 0.0), (12, 0.0), (10, 0.2))
    assert asked == [(*setting, mode) for setting in settings for mode in modes]
    for index, row in enumerate(checked):
        found = [one["rows"][index] for one in read(studied, "nezha", HALLUCINATION_FILE)]
        assert row.per_seed["valid"] == [one["metrics"]["valid"] for one in found]
        assert row.settings["users"] == 12
        assert 0 < row.settings["occupancy"] <= 1
        assert row.verifier == "off" or row.metrics["valid"] == 1.0


def test_learning_and_costs_are_those_of_the_files(rows: list[ResultRow], studied: Path) -> None:
    learning = [row for row in part(rows, "learning") if row.settings["system"] == "nezha"]
    assert [row.settings["epoch"] for row in learning] == [1.0, 2.0]
    found = read(studied, "nezha", TRAINED_FILE)
    for index, row in enumerate(learning):
        logs = [[entry for entry in one["log"] if "eval_valid" in entry] for one in found]
        expected = [log[index]["eval_ndcg@10"] for log in logs]
        assert row.per_seed["validation_ndcg@10"] == pytest.approx(expected, abs=1e-5)
        expected = [log[index]["eval_backbone_ndcg@10"] for log in logs]
        assert row.per_seed["backbone_ndcg@10"] == pytest.approx(expected, abs=1e-5)
        assert row.settings["users"] == 20
    costs = {row.settings["system"]: row for row in part(rows, "costs")}
    assert {*costs} == {*DONE} - {"counting"}
    for name, row in costs.items():
        assert (row.kind, row.decoder, row.verifier, row.beam) == ("quality", None, None, None)
        assert row.metrics["epochs"] == 2
        expected = [one["seconds"] / 2 for one in read(studied, name, TRAINED_FILE)]
        assert row.per_seed["seconds_per_epoch"] == pytest.approx(expected, abs=1e-5)


def test_every_row_survives_its_file(rows: list[ResultRow], tmp_path: Path) -> None:
    write_results(tmp_path / "study.json", rows)
    assert read_results(tmp_path / "study.json") == rows


def test_what_is_missing_is_skipped(studied: Path, tmp_path: Path) -> None:
    assert Report(DATASET, CONFIG, tmp_path / "nothing").rows() == []
    study = tmp_path / "study"
    shutil.copytree(studied, study)
    (study / "nezha" / "seed-0" / "lists" / "nezha-prefix.safetensors").unlink()
    (study / "three-levels" / "seed-1" / TRAINED_FILE).unlink()
    (study / "backbone-only" / "seed-1" / "lists" / "autoregressive-prefix.safetensors").unlink()
    found = Report(DATASET, CONFIG, study).rows()
    labels = [row.settings["system"] for row in part(found, "systems")]
    others = ["nezha, autoregressive", "nezha, off", "nezha, final", "nezha, parallel-heads"]
    taught = ["strong", "strong, autoregressive"]
    assert labels == ["popularity", "item-knn", "sasrec", "blend", *others, *taught]
    assert {row.settings["system"] for row in part(found, "comparisons")} == {"strong"}
    assert part(found, "strata") == []
    assert {row.settings["system"] for row in part(found, "agreement")} == {"nezha"}
    # Fewer seeds are another question, which the same folder answers.
    alone = list(Report(DATASET, replace(CONFIG, seeds=(1,)), study).systems())
    assert {row.settings["system"] for row in alone} == {*labels, "nezha"}
    assert all(row.per_seed == row.std == {} for row in alone)
    assert {tuple(row.seeds) for row in alone} == {(), (1,)}


def test_another_studys_files_are_not_taken_for_this_one(studied: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a run of other data or settings \(config\.beam\)"):
        Report(DATASET, replace(CONFIG, beam=12), studied)


def test_a_damaged_file_is_named(studied: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(studied / "counting", study / "counting")
    path = study / "counting" / "seed-0" / "lists" / "item-knn-items.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"item-knn-items\.safetensors is damaged, delete it"):
        Report(DATASET, CONFIG, study).rows()


def test_every_job_makes_what_the_report_reads() -> None:
    made = {(job.name, name) for job in jobs() for name in job.files}
    for system in all_systems():
        owner = {"popularity": "counting", "item-knn": "counting", "blend": "sasrec"}.get(
            system.name, system.name
        )
        assert (owner, f"lists/{system.decoder}-{system.verification}.safetensors") in made
