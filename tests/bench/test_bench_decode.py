"""The decode bench runs every decoder on a toy, and its rows hold together: no speed is judged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.bench import DECODERS, DecodeBench, bench_decoding
from nezha_lite.bench import interleaved as cases_module
from nezha_lite.bench.decoders import HuggingFaceForward, forward_ratio
from nezha_lite.bench.roofline import Peaks, forward_cost
from nezha_lite.bench.tables import json_lines, latency_table
from nezha_lite.bench.workload import histories_of, prompts_of, synthetic_ids
from nezha_lite.common.results import ResultRow, read_results, write_results
from nezha_lite.decoding import NezhaDecoder
from nezha_lite.decoding.beam_search import ignore_phase
from nezha_lite.model.prompts import Prompts
from tests.helpers.logs import logged
from tests.helpers.toys import shared_ids, toy_dataset, toy_ids, toy_model
from tools.bench_gpu import GPU_CASES, GpuCase, bench_gpu

RESULTS = Path(__file__).parents[2] / "data" / "results"
PEAKS = Peaks("toy", flops=1e9, bandwidth=1e9, source="made up")
SHORT = DecodeBench(
    decoders=tuple(DECODERS),
    beams=(2, 5),
    histories=(4,),
    structures=("trie",),
    repeats=3,
    warmup=1,
    compile=False,
)
PHASES = {"forward_ms", "head_ms", "verify_ms", "select_ms"}


@pytest.fixture(scope="module")
def rows() -> list[ResultRow]:
    with logged() as messages:
        rows = bench_decoding(toy_model().eval(), toy_ids(), toy_dataset(), SHORT, PEAKS)
    assert not [message for message in messages if "Left out" in message]
    return rows


def test_every_decoder_has_a_row_for_every_beam(rows: list[ResultRow]) -> None:
    searches = [name for name in DECODERS if not name.startswith("forward")]
    assert [(row.decoder, row.beam) for row in rows] == [
        ("forward", None),
        ("forward-captured", None),
        *((name, beam) for beam in (2, 5) for name in searches),
    ]
    for row in rows:
        bare, generates = row.beam is None, "generate" in str(row.decoder)
        checked = None if bare else "off" if row.decoder == "generate" else "prefix"
        assert row.verifier == checked
        assert row.settings["structure"] == (None if bare or generates else "trie")
        assert (row.kind, row.dataset, row.model["hidden_size"]) == ("latency", "toy", 16)
        wanted = {"batch": 1, "history": 4, "tokens": 16, "levels": 3, "codes": [2, 5, 4]}
        wanted |= {"items": 20, "prompts": "test users", "precision": "float32", "repeats": 3}
        assert wanted == {name: row.settings[name] for name in wanted}


def test_figures_of_a_row_agree(rows: list[ResultRow]) -> None:
    forward, captured = rows[:2]
    floor = forward_cost(toy_model().backbone.config, 1, 16).floor_ms(PEAKS)
    for row in rows:
        metrics = row.metrics
        median = metrics["median_ms"]
        assert 0 < median <= metrics["p95_ms"] <= metrics["p99_ms"]
        name = "captured" if DECODERS[str(row.decoder)].captured else "eager"
        passes = {"captured": captured, "eager": forward}
        ratio = median / passes.pop(name).metrics["median_ms"]
        assert metrics[f"ratio_to_{name}_forward"] == pytest.approx(ratio, rel=0.02)
        assert f"ratio_to_{next(iter(passes))}_forward" not in metrics, "like for like alone"
        assert "ratio_to_forward" not in metrics
        assert metrics["floor_ms"] == pytest.approx(floor, abs=1e-4)
        assert metrics["prompts_per_second"] == pytest.approx(1000 / median, rel=0.02)
        assert metrics["peak_mib"] >= 0
    calls = {row.decoder: row.metrics.get("backbone_calls") for row in rows}
    assert calls["forward"] is None
    assert calls["forward-captured"] == calls["nezha"] == calls["parallel-heads"] == 1
    assert calls["autoregressive"] == calls["generate"] == 3
    accepting = {row.decoder for row in rows if "accepted" in row.metrics}
    assert accepting == {"speculative"}


def test_eager_decoders_are_split_into_phases(rows: list[ResultRow]) -> None:
    for row in rows:
        found = PHASES & set(row.metrics)
        eager = str(row.decoder).endswith("-eager")
        assert found == PHASES if eager else row.decoder == "speculative" or not found
    plain = replace(SHORT, decoders=("nezha-eager",), beams=(2,), phases=False)
    _, row = bench_decoding(toy_model().eval(), toy_ids(), config=plain, peaks=PEAKS)
    assert not PHASES & set(row.metrics)


def test_the_clock_is_taken_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = toy_model(shared_ids()).eval(), shared_ids()
    made: list[NezhaDecoder] = []
    config = replace(SHORT, decoders=("nezha-eager",), beams=(2,), repeats=1)
    init = NezhaDecoder.__init__

    def watched(decoder: NezhaDecoder, *arguments: object) -> None:
        init(decoder, *arguments)  # type: ignore[arg-type]
        made.append(decoder)

    monkeypatch.setattr(NezhaDecoder, "__init__", watched)
    bench_decoding(model, ids, config=config, peaks=PEAKS)
    (decoder,) = made
    assert decoder.on_phase is ignore_phase


def test_all_decoders_get_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    call = cases_module.Case.call

    def watched(case: cases_module.Case, index: int) -> None:
        prompts = case.prompts[index % len(case.prompts)]
        seen.setdefault(case.decoder, []).append(prompts.input_ids)
        call(case, index)

    monkeypatch.setattr(cases_module.Case, "call", watched)
    config = replace(SHORT, beams=(2,), batches=(3,), repeats=4, phases=False)
    bench_decoding(toy_model().eval(), toy_ids(), toy_dataset(), config, peaks=PEAKS)
    assert set(seen) == set(DECODERS)
    first = {tuple(map(tuple, ids.tolist())) for ids in seen["forward"]}
    assert len(first) > 1
    for prompts in seen.values():
        assert {ids.shape for ids in prompts} == {(3, 16)}
        assert {tuple(map(tuple, ids.tolist())) for ids in prompts} == first


@pytest.mark.slow
def test_sweeps_cover_every_combination() -> None:
    config = DecodeBench(
        decoders=("nezha-eager", "generate"),
        beams=(2, 3),
        batches=(1, 2),
        histories=(1, 30),  # longer than the model was trained for
        contexts=(12,),
        verifications=("off", "final", "prefix"),
        structures=("auto", "sorted"),
        repeats=1,
        warmup=1,
        phases=False,
    )
    model = toy_model().eval()
    rows = bench_decoding(model, toy_ids(), config=config, peaks=PEAKS)
    groups = [(history, batch) for history in (1, 30, 3) for batch in (1, 2)]
    assert [
        (row.settings["history"], row.settings["batch"]) for row in rows if row.decoder == "forward"
    ] == groups
    combinations = {
        (*group, row.beam, row.verifier, row.settings["structure"])
        for row in rows
        for group in [(row.settings["history"], row.settings["batch"])]
        if row.decoder == "nezha-eager"
    }
    assert len(combinations) == 6 * 2 * 3 * 2
    auto = "bitset"  # half of the toy's IDs exist
    assert {row.settings["structure"] for row in rows} == {auto, "sorted", None}
    assert sum(row.decoder == "generate" for row in rows) == 6 * 2
    assert {row.settings["tokens"] for row in rows} == {7, 94, 13}  # 13 is the first with 12
    assert {row.dataset for row in rows} == {"synthetic"}
    assert model.config.max_items == 6


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("nezha_lite.decoding.nezha.ParallelHeadsDecoder.run", explode)
    config = replace(
        SHORT, beams=(2,), structures=("hash-set",), generate_tokens=20, phases=False, repeats=1
    )
    model = toy_model(next_code_weight=0.0).eval()
    with logged() as messages:
        rows = bench_decoding(model, toy_ids(), config=config, peaks=PEAKS)
    assert [row.decoder for row in rows] == ["forward", "forward-captured", "nezha-eager"]
    left_out = [line for line in messages if line.startswith("Left out: ")]
    assert len(left_out) == 8
    reasons = {line.removeprefix("Left out: ").split(" ")[0].rstrip(":"): line for line in left_out}
    assert set(reasons) == set(DECODERS) - {row.decoder for row in rows}
    assert "next_code_weight is 0" in reasons["generate"]
    assert "waits for the device" in reasons["nezha"]

    config = replace(config, structures=("trie",))
    with logged() as messages:
        rows = bench_decoding(toy_model().eval(), toy_ids(), None, config, PEAKS)
    left_out = [line for line in messages if line.startswith("Left out: ")]
    for name, reason in (
        ("generate (off)", "it would read 32 tokens at once, more than 20."),
        ("generate-constrained (prefix)", "it would read 32 tokens at once, more than 20."),
        ("parallel-heads (prefix, trie)", "there is too little memory for it."),
    ):
        assert f"Left out: {name} at beam 2: {reason}" in left_out
    assert len(left_out) == 4
    assert len(rows) == len(DECODERS) - 4


@pytest.mark.slow
def test_a_capture_broken_by_a_lack_of_memory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr("nezha_lite.decoding.nezha.NezhaDecoder.run", explode)
    config = replace(SHORT, decoders=("nezha",), repeats=1)
    rows = bench_decoding(toy_model().eval(), toy_ids(), config=config, peaks=PEAKS)
    assert [row.decoder for row in rows] == ["forward", "forward-captured"]
    monkeypatch.setattr("nezha_lite.bench.decoders.HuggingFaceForward.decode", explode)
    with pytest.raises(MemoryError, match="too little memory for one forward pass"):
        bench_decoding(toy_model().eval(), toy_ids(), config=config, peaks=PEAKS)


@pytest.mark.parametrize("where", ["HuggingFaceForward.decode", "prompts"])
def test_what_was_measured_outlives_a_lack_of_memory(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "nezha_lite.bench.decoders.HuggingFaceForward.decode"
    original: Callable[..., object] = HuggingFaceForward.decode
    if where == "prompts":
        place, original = "nezha_lite.bench.decode.prompts_of", prompts_of

    def lacking(*arguments: object) -> object:
        if 2 in arguments or any(len(a) == 2 for a in arguments if isinstance(a, Prompts)):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(*arguments)

    monkeypatch.setattr(place, lacking)
    config = replace(SHORT, decoders=("nezha-eager",), batches=(2, 1), beams=(3,), repeats=1)
    with logged() as messages:
        rows = bench_decoding(toy_model().eval(), toy_ids(), None, config, PEAKS)
    assert {row.settings["batch"] for row in rows} == {1}
    assert {row.decoder for row in rows} == {"forward", "nezha-eager"}
    (left_out,) = [line for line in messages if line.startswith("Left out: ")]
    assert left_out.startswith(
        "Left out: there is too little memory for one forward pass of 2 prompts of "
    )


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("nezha_lite.decoding.nezha.NezhaDecoder.run", explode)
    config = replace(SHORT, decoders=("nezha-eager",), repeats=1)
    with pytest.raises(RuntimeError, match="a defect"):
        bench_decoding(toy_model().eval(), toy_ids(), config=config, peaks=PEAKS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"decoders": ("nezah",)}, "decoder is 'nezah'.*nezha-eager"),
        ({"verifications": ("often",)}, "verification is 'often'.*prefix"),
        ({"structures": ("tree",)}, "structure is 'tree'.*auto.*trie"),
        ({"beams": (4, 0)}, "beam is 0"),
        ({"batches": (0,)}, "batch is 0"),
        ({"histories": (-1,)}, "history is -1"),
        ({"contexts": (0,)}, "context is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"warmup": 0}, "warmup is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"beams": ()}, r"beams is \(\), but must be one or more"),
        ({"histories": ()}, r"histories is \(\), but must be one or more"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SHORT, **wrong)


def test_a_prompt_must_fit_the_backbone() -> None:
    model = toy_model().eval()
    model.backbone.config.max_position_embeddings = 15
    with pytest.raises(ValueError, match="history is 4, but must be a prompt of at most 15"):
        bench_decoding(model, toy_ids(), config=SHORT, peaks=PEAKS)


# ---- what is decoded -----------------------------------------------------------------------------


@pytest.mark.parametrize(("items", "radices"), [(20, (4, 5)), (15, (4, 5)), (300, (512,) * 6)])
def test_synthetic_ids_are_distinct(items: int, radices: tuple[int, ...]) -> None:
    ids = synthetic_ids(items, radices, seed=3)
    assert (ids.n_items, ids.n_distinct, ids.radices) == (items, items, radices)
    assert torch.equal(ids.codes, synthetic_ids(items, radices, seed=3).codes)
    assert not torch.equal(ids.codes, synthetic_ids(items, radices, seed=4).codes)
    for level, radix in enumerate(radices):
        assert len(ids.codes[:, level].unique()) > radix // 3


def test_more_items_than_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="items is 21, but must be 1 to 20, the number"):
        synthetic_ids(21, (4, 5))
    with pytest.raises(ValueError, match="items is 0"):
        synthetic_ids(0, (4, 5))


def test_real_histories_end_where_users_ended() -> None:
    dataset = toy_dataset()
    known = dataset.split("test").histories
    histories, origin = histories_of(5, 8, dataset.n_items, dataset, seed=1)
    assert origin == "test users"
    ends = {history[-5:] for history in known if len(history) >= 5}
    assert all(tuple(history) in ends for history in histories)
    assert len(histories) == 8
    assert histories != histories_of(5, 8, dataset.n_items, dataset, seed=2)[0]


def test_short_histories_are_repeated_where_long_ones_are_few() -> None:
    dataset = toy_dataset(users=3)
    histories, origin = histories_of(11, 7, dataset.n_items, dataset, seed=0)
    assert origin == "test users, short histories repeated"
    assert {len(history) for history in histories} == {11}
    repeated = [[*history * 11][-11:] for history in dataset.split("test").histories]
    assert all(history in repeated for history in histories)


def test_histories_without_a_data_set_are_random_items() -> None:
    histories, origin = histories_of(6, 50, 20, None, seed=0)
    assert origin == "random"
    assert {item for history in histories for item in history} == set(range(20))
    assert {len(history) for history in histories} == {6}


def test_prompts_are_full_batches_without_padding() -> None:
    model, ids = toy_model(), toy_ids()
    prompts = prompts_of(model, ids, [[1, 2, 3, 4, 5, 6, 7, 8]] * 6, batch=3)
    assert [tuple(batch.input_ids.shape) for batch in prompts] == [(3, 28)] * 2
    assert not any(batch.padded for batch in prompts)


# ---- what comes out ------------------------------------------------------------------------------


def test_rows_survive_their_file(rows: list[ResultRow], tmp_path: Path) -> None:
    write_results(tmp_path / "latency.json", rows)
    for read, row in zip(read_results(tmp_path / "latency.json"), rows, strict=True):
        assert replace(read, seeds=()) == row  # JSON has lists only


def test_json_lines_are_the_machine_and_then_the_rows(rows: list[ResultRow]) -> None:
    machine, *lines = [json.loads(line) for line in json_lines(rows)]
    assert set(machine) == {"device", "versions", "commit", "date", "torch_threads"}
    assert (machine["commit"], machine["versions"]) == (rows[0].commit, rows[0].versions)
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert list(line)[:6] == ["decoder", "verifier", "beam", "batch", "history", "median_ms"]
        assert {"p95_ms", "p99_ms", "floor_ms", "structure"} <= set(line)
        assert (line["decoder"], line["beam"]) == (row.decoder, row.beam)
        assert row.metrics.items() <= line.items()
        assert row.settings.items() <= line.items()


def test_the_table_has_a_line_per_row(rows: list[ResultRow]) -> None:
    text = latency_table(rows)
    about, empty, described, head, *lines = text.splitlines()
    assert rows[0].device in about
    assert rows[0].commit[:12] in about
    assert empty == ""
    assert "toy: 20 items, IDs of (2, 5, 4) codes" in described
    assert head.split()[-5:] == ["×", "forward", "forward", "peak", "MiB"]
    assert head.split()[:5] == ["decoder", "verifier", "beam", "batch", "history"]
    table = lines[: len(rows)]
    assert {len(line) for line in table} == {len(head)}  # the last column's figures are aligned
    for line, row in zip(table, rows, strict=True):
        assert line.split()[0] == row.decoder
        assert f"{row.metrics['median_ms']:,.2f}" in line.split()
    floor, *phases = lines[len(rows) :]
    assert floor.startswith("Floor of one forward pass at batch 1, history 4: ")
    assert "1 GFLOP/s and 1.0 GB/s" in floor
    assert sum("-eager at beam" in line for line in phases) == 6

    other = [replace(row, dataset="other") for row in rows]
    assert latency_table([*rows, *other]).count("× forward") == 2


def test_captured_decoders_are_compared_with_the_captured_pass_and_eager_with_eager() -> None:
    rows = bench_decoding(
        toy_model().eval(),
        toy_ids(),
        None,
        replace(SHORT, decoders=("nezha", "nezha-eager")),
        PEAKS,
    )
    passes = {row.decoder: row.metrics["median_ms"] for row in rows if row.beam is None}
    assert set(passes) == {"forward", "forward-captured"}, "measured though it was not asked for"
    for row in rows:
        captured = row.decoder in ("nezha", "forward-captured")
        ratio, forward = forward_ratio(row)
        assert forward == ("captured" if captured else "eager")
        expected = row.metrics["median_ms"] / passes["forward-captured" if captured else "forward"]
        assert ratio == pytest.approx(expected, rel=0.01)
    (line,) = [line for line in latency_table(rows).splitlines() if line.startswith("nezha  ")][:1]
    assert "captured" in line.split()


def test_rows_of_before_are_compared_like_for_like_too() -> None:
    """In them `ratio_to_forward` is to the eager pass, of captured decoders as well."""
    rows = read_results(RESULTS / "latency-beauty-decoders.json")
    nezha, eager = (
        next(row for row in rows if (row.decoder, row.beam, row.verifier) == (name, 512, "prefix"))
        for name in ("nezha", "nezha-eager")
    )
    assert forward_ratio(nezha) == (2.249, "captured")
    assert forward_ratio(eager) == (2.545, "eager")
    unknown = replace(nezha, metrics={"median_ms": 2.0, "ratio_to_forward": 1.335})
    assert forward_ratio(unknown) == (None, "captured")
    assert forward_ratio(replace(nezha, decoder="popularity")) == (None, "")


# ---- the suite for a GPU -------------------------------------------------------------------------


def test_the_gpu_cases_ask_what_the_project_promised() -> None:
    asked = {
        (case.name, case.preset, tuple(case.bench.beams), tuple(case.bench.batches))
        for case in GPU_CASES
    }
    assert asked == {
        ("paper", "qwen3-0.6b", (512,), (1,)),
        ("context-1000", "qwen3-1.7b", (256,), (1,)),
        ("context-5000", "qwen3-1.7b", (256,), (8,)),
        ("throughput", "qwen3-0.6b", (512,), (1, 2, 4, 8, 16, 32, 64)),
    }
    tokens = {case.name: 1 + 3 * (case.bench.items_per_prompt(3)[0] + 1) for case in GPU_CASES}
    assert tokens == {"paper": 64, "context-1000": 1000, "context-5000": 5002, "throughput": 64}
    for case in GPU_CASES:
        assert case.radices == (512,) * 3
        assert case.dtype == torch.bfloat16
        assert {"forward", "nezha"} <= set(case.bench.decoders)
        assert case.bench.repeats >= 100


def tiny_case(case: GpuCase) -> GpuCase:
    """The same case for a small CPU."""
    bench = replace(
        case.bench,
        beams=(4,),
        batches=case.bench.batches[:2],
        contexts=[tokens // 100 for tokens in case.bench.contexts],
        repeats=2,
        warmup=1,
        compile=False,
    )
    return replace(case, preset="tiny", radices=(8, 8, 8), items=100, bench=bench)


@pytest.mark.slow
def test_the_gpu_cases_run_at_a_smaller_size() -> None:
    small = [tiny_case(case) for case in GPU_CASES]
    found = list(bench_gpu(small, "cpu"))
    assert [{row.settings["case"] for row in rows} for rows in found] == [
        {case.name} for case in GPU_CASES
    ]
    assert {row.settings["precision"] for rows in found for row in rows} == {"bfloat16"}
    assert [row.settings["batch"] for row in found[3] if row.decoder == "nezha"] == [1, 2]
    assert found[1][0].settings["tokens"] == 10
