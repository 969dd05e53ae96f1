"""`nezha-lite bench`: what it prints for people and for machines, and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from nezha_lite.bench.tables import listed
from nezha_lite.common.results import ResultRow, provenance, read_results, write_results
from tests.bench.test_bench_decode import tiny_case
from tests.cli.test_cli_errors import refused
from tests.helpers.shops import Answer, Run, write_dataset
from tests.helpers.toys import toy_dataset
from tools import bench_gpu
from tools.bench_gpu import GPU_CASES

QUICK = ["--beam", "3", "--history", "4", "--repeats", "2", "--warmup", "1", "--no-compile"]
TINY = ["--preset", "tiny", *QUICK]
TOY = [*TINY, "--levels", "3", "--codes", "7", "--items", "40"]


def machine_and_rows(answer: Answer) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Every line on stdout is a JSON object."""
    assert answer.status == 0, answer.err
    machine, *rows = [json.loads(line) for line in answer.out.splitlines()]
    assert set(machine) == {"device", "versions", "commit", "date", "torch_threads"}
    return machine, rows


def test_decode_needs_no_data(tmp_path: Path, cli: Run) -> None:
    results = tmp_path / "latency.json"
    answer = cli("bench", "decode", *TOY, "--results", results)
    assert answer.status == 0, answer.err
    usual = ["forward", "forward-captured", "nezha", "nezha-eager", "autoregressive", "speculative"]
    usual.append("generate-constrained")
    rows = read_results(results)
    assert [row.decoder for row in rows] == usual
    assert {row.dataset for row in rows} == {"synthetic"}
    assert rows[0].model["preset"] == "tiny"
    words = [line.split()[0] for line in answer.out.splitlines() if line]
    assert [word for word in words if word in usual][: len(usual)] == usual
    assert f"Written to {results}." in answer.out
    assert "40 items, IDs of 3 × 7 codes" in answer.out
    assert "Floor of one forward pass" in answer.out
    assert "Timing, turn 5 of 5." in answer.err


@pytest.mark.slow
def test_decode_answers_machines_in_json_alone(tmp_path: Path, cli: Run) -> None:
    sweep = "--decoder nezha-eager --beam 2 --batch 1 --batch 2 --levels 2 --verification off"
    options = f"{sweep} --structure sorted --structure trie --threads 2 --no-phases --json"
    options = [*options.split(), "--results", str(tmp_path / "rows.json")]
    answer = cli("bench", "decode", *TOY, *options)
    threads = torch.get_num_threads()
    machine, rows = machine_and_rows(answer)
    assert machine["torch_threads"] == 2
    assert torch.get_num_threads() == threads == 1
    assert len(rows) == 2 * 2 * (1 + 2 * 2)  # levels, batches; forward, and structures and beams
    assert {(row["levels"], row["batch"]) for row in rows} == {(3, 1), (3, 2), (2, 1), (2, 2)}
    for row in rows:
        wanted = {"decoder", "verifier", "beam", "batch", "history", "median_ms", "p95_ms"}
        assert wanted | {"p99_ms", "ratio_to_eager_forward"} <= set(row)
        assert "head_ms" not in row
        assert row["verifier"] == (None if row["decoder"] == "forward" else "off")
    assert len(read_results(tmp_path / "rows.json")) == len(rows)


@pytest.mark.slow
def test_decode_takes_a_trained_model_with_or_without_its_data(
    trained: Path, shop: Path, cli: Run
) -> None:
    options = ["--decoder", "nezha-eager", "--json", *QUICK]
    _, rows = machine_and_rows(cli("bench", "decode", "--model", trained, *options))
    assert [(row["dataset"], row["prompts"]) for row in rows] == [("synthetic", "random")] * 2
    asked = ("--model", trained, "--dataset", shop)
    _, rows = machine_and_rows(cli("bench", "decode", *asked, *options))
    assert [(row["dataset"], row["prompts"]) for row in rows] == [("shop", "test users")] * 2
    assert rows[0]["model"]["radices"][:2] == [4, 4]  # type: ignore[index]


@pytest.mark.slow
def test_decode_takes_a_data_set_and_its_released_ids_as_they_are(tmp_path: Path, cli: Run) -> None:
    dataset = toy_dataset()
    coded = write_dataset(tmp_path / "coded", dataset)
    options = [*TINY, "--decoder", "nezha-eager", "--json", "--dataset", coded]
    _, rows = machine_and_rows(cli("bench", "decode", *options, "--codes", "4", "--context", "9"))
    assert [row["history"] for row in rows] == [4, 4, 2, 2]
    assert rows[0]["levels"] == 3
    assert rows[0]["codes"] == 4

    released = {item: [f"<a_{i // 4}>", f"<b_{i % 2}>"] for i, item in enumerate(dataset.items)}
    (coded / "coded.index.json").write_text(json.dumps(released))
    _, rows = machine_and_rows(cli("bench", "decode", *options))
    assert (rows[0]["levels"], rows[0]["codes"], rows[0]["items"]) == (2, 5, 20)
    answer = cli("bench", "decode", *options, "--levels", "3")
    assert refused(answer, "--levels has no say in the released IDs")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--decoder magic", ("decoder is 'magic'", "nezha-eager")),
        ("--beam 0", ("beam is 0",)),
        ("--batch 0", ("batch is 0",)),
        ("--history 0", ("history is 0",)),
        ("--context 0", ("context is 0",)),
        ("--structure tree", ("structure is 'tree'", "trie")),
        ("--verification often", ("verification is 'often'", "prefix")),
        ("--device abacus", ("device is 'abacus'",)),
        ("--threads 0", ("threads is 0",)),
        ("--repeats 0", ("repeats is 0",)),
        ("--preset huge", ("preset is 'huge'", "tiny")),
        (
            "--levels 2 --codes 5 --items 26",
            ("items is 26", "1 to 25, the number of IDs"),
        ),
        ("--items 0", ("items is 0",)),
        ("--codes 0", ("codes is 0",)),
        ("--levels 0", ("levels is 0",)),
        ("--history 5000", ("history is 5000", "at most 8,192 tokens")),
        ("--dataset bueaty", ("'bueaty' is neither a folder",)),
        ("--dataset sample --items 7", ("--items has no say",)),
        ("--model nowhere", ("nowhere has no config.json", "nezha-lite train")),
        ("--model nowhere --preset tiny", ("--preset has no say in the trained --model",)),
    ],
)
def test_decode_refuses_in_one_sentence(options: str, words: tuple[str, ...], cli: Run) -> None:
    assert refused(cli("bench", "decode", *options.split()), *words)


def test_decode_refuses_a_model_of_another_catalogue(
    trained: Path, tmp_path: Path, cli: Run
) -> None:
    other = write_dataset(tmp_path / "other", toy_dataset())
    histories = {"u0": ["x1", "x2", "x3"]}
    (other / "other.inter.json").write_text(json.dumps(histories))
    (other / "other.item.json").unlink()
    answer = cli("bench", "decode", "--model", trained, "--dataset", other)
    assert refused(answer, "trained on another catalogue", "'other'")


def test_verify_has_a_row_per_size_and_structure(tmp_path: Path, cli: Run) -> None:
    options = "--items 50 --items 200 --levels 3 --codes 8 --beam 4 --repeats 2 --no-compile"
    structures = ["--structure", "trie", "--structure", "isin"]
    options = [*options.split(), *structures]
    _, rows = machine_and_rows(cli("bench", "verify", *options, "--json"))
    found = [(row["items"], row["verifier"], row["decoder"]) for row in rows]
    assert found == [(n, kind, None) for n in (50, 200) for kind in ("isin", "trie")]
    wanted = {"build_seconds", "bytes_per_item", "step_ms", "candidates_ms", "ratio_to_isin"}
    assert all(wanted | {"share_of_decode"} <= set(row) for row in rows)

    results = tmp_path / "verify.json"
    answer = cli("bench", "verify", *options, "--no-decode", "--results", results)
    assert answer.status == 0
    head, *lines = [line for line in answer.out.splitlines() if line][2:7]
    assert head.split()[:2] == ["structure", "items"]
    assert [line.split()[:2] for line in lines] == [
        [str(row.verifier), str(row.settings["items"])] for row in read_results(results)
    ]
    assert refused(cli("bench", "verify", "--levels", "0"), "levels", "at least 1")
    assert refused(cli("bench", "verify", "--structure", "tree"), "structure is 'tree'")


@pytest.mark.slow
def test_train_answers_people_and_machines(trained: Path, shop: Path, cli: Run) -> None:
    recipes = ["row-random", "row-bucketed", "packed-stride-1", "packed"]
    answer = cli("bench", "train", trained, shop, "--repeats", "2")
    assert answer.status == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == recipes
    _, rows = machine_and_rows(cli("bench", "train", trained, shop, "--repeats", "2", "--json"))
    assert [row["recipe"] for row in rows] == recipes
    assert all("targets_per_second" in row for row in rows)


def test_names_and_figures_stay_apart() -> None:
    facts = provenance(torch.device("cpu"))
    row = ResultRow(
        kind="quality", dataset="shop", model={}, metrics={"valid": 1.0}, **facts, seconds=1.0
    )
    assert listed([row], lambda _: "packed") == f"{'packed':26}valid 1.0"
    assert listed([row], lambda _: "a" * 26) == f"{'a' * 26} valid 1.0"


@pytest.mark.slow
def test_gpu_runs_its_cases_and_keeps_each(
    tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU here")
    gpu = partial(cli, program=bench_gpu.main)
    assert refused(gpu(), "no GPU here", "--device cpu")
    assert refused(gpu("--case", "fast"), "case is 'fast'", "throughput")
    small = [tiny_case(case) for case in GPU_CASES]
    monkeypatch.setattr("tools.bench_gpu.GPU_CASES", small)
    results = tmp_path / "gpu.json"
    kept: list[int] = []

    def keep(path: Path, rows: list[ResultRow]) -> None:
        kept.append(len(rows))
        write_results(path, rows)

    monkeypatch.setattr("nezha_lite.cli.options.write_results", keep)
    options = ["--device", "cpu", "--case", "throughput", "--case", "context-1000"]
    answer = gpu(*options, "--json", "--results", results)
    _, rows = machine_and_rows(answer)
    assert len(kept) == 2
    assert kept[0] < kept[1] == len(rows) == len(read_results(results))
    assert list(dict.fromkeys(row["case"] for row in rows)) == ["throughput", "context-1000"]
    assert "Case throughput: prompts a second" in answer.err
