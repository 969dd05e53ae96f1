"""The verifier bench runs at small sizes, and its rows hold together. Nothing judges a speed."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.bench import verifiers as bench_module
from nezha_lite.bench.extrapolate import expected_bytes, extrapolate
from nezha_lite.bench.verifiers import (
    CHANGED,
    N_BEAMS,
    STRUCTURES,
    BeamStep,
    VerifierBench,
    bench_verifiers,
)
from nezha_lite.bench.workload import random_keys
from nezha_lite.common.memory import free_memory
from nezha_lite.common.results import ResultRow, read_results, write_results
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys, HashSetVerifier, make_verifier
from tests.helpers.logs import logged
from tools.bench_peer import OURS, PEER, bench_masked_step

RADICES = (16, 16, 16)
SIZES = (100, 1000)
METRICS = {
    *("build_seconds", "bytes_per_item", "step_ms", "p95_ms", "p99_ms", "candidates_ms"),
    *("ranked_ms", "add_ms", "remove_ms"),
}
RATIOS = {"ratio_to_isin", "candidates_ratio_to_isin"}


@pytest.fixture(scope="module")
def messages() -> list[str]:
    return []


@pytest.fixture(scope="module")
def rows(messages: list[str]) -> list[ResultRow]:
    with logged(messages):
        return bench_verifiers(
            VerifierBench(SIZES, RADICES, ("trie", *VERIFIER_KINDS), 8, 3, compile=False)
        )


def test_a_row_per_size_and_structure(rows: list[ResultRow], messages: list[str]) -> None:
    kinds = ("isin", "trie", *(kind for kind in VERIFIER_KINDS if kind != "isin"))
    assert [(row.settings["items"], row.verifier) for row in rows] == [
        (size, kind) for size in SIZES for kind in kinds
    ]
    assert messages == [
        "Timing a decode.",
        *(f"Measuring {kind} at {size:,} items." for size in SIZES for kind in kinds),
    ]
    for row in rows:
        assert (row.kind, row.dataset, row.decoder, row.beam) == ("latency", "synthetic", None, 8)
        assert set(row.metrics) == METRICS | RATIOS | {"decode_ms", "share_of_decode"}
        assert all(figure > 0 for figure in row.metrics.values())
        assert row.metrics["step_ms"] <= row.metrics["p95_ms"] <= row.metrics["p99_ms"]
        assert row.model["preset"] == "small"
        assert row.settings["radices"] == [16, 16, 16]
        assert row.settings["repeats"] == 3
        assert row.settings["changed"] == min(CHANGED, row.settings["items"])
        share = row.metrics["candidates_ms"] / row.metrics["decode_ms"]
        assert row.metrics["share_of_decode"] == pytest.approx(share, abs=1e-4)
    assert len({row.metrics["decode_ms"] for row in rows}) == 1
    for number, row in enumerate(rows):
        baseline = rows[number // len(kinds) * len(kinds)].metrics
        ratio = baseline["step_ms"] / row.metrics["step_ms"]
        assert row.metrics["ratio_to_isin"] == pytest.approx(ratio, abs=0.006)
        ratio = baseline["candidates_ms"] / row.metrics["candidates_ms"]
        assert row.metrics["candidates_ratio_to_isin"] == pytest.approx(ratio, abs=0.006)


def test_without_baseline_and_decode_there_is_nothing_to_compare_to() -> None:
    rows = bench_verifiers(VerifierBench((100,), RADICES, ("trie",), 8, 2, decode=False))
    assert [set(row.metrics) for row in rows] == [METRICS]
    assert rows[0].model == {}


def test_rows_survive_their_file(rows: list[ResultRow], tmp_path: Path) -> None:
    write_results(tmp_path / "verify.json", rows)
    for read, row in zip(read_results(tmp_path / "verify.json"), rows, strict=True):
        assert replace(read, seeds=()) == row


def test_measuring_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    bench_verifiers(VerifierBench((100,), RADICES, STRUCTURES, 8, 1, compile=False))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"sizes": (100, 4097)},
            "size is 4097, but must be 1 to 4,096, the number of IDs of",
        ),
        ({"sizes": (0,)}, "size is 0, but must be 1 to 4,096"),
        ({"sizes": ()}, r"sizes is \(\), but must be one or more"),
        ({"structures": ()}, r"structures is \(\), but must be one"),
        ({"beam": 0}, "beam is 0, but must be a whole number of at least 1"),
        ({"repeats": 0}, "repeats is 0, but must be a whole number of at least 1"),
        ({"seed": -1}, "seed is -1, but must be a whole number of at least 0"),
        ({"radices": (512,) * 8}, "space is 4722366482869645213696, but must be below 2.63"),
        ({"structures": ("trie", "abacus")}, "structure is 'abacus', but must be one of hash-set"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    fields = {"sizes": (10,), "radices": RADICES, "decode": False} | arguments
    with pytest.raises(ValueError, match=words):
        bench_verifiers(VerifierBench(**fields))


def test_what_does_not_fit_is_left_out_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "free_memory", lambda device: 100_000)
    with logged() as messages:
        rows = bench_verifiers(
            VerifierBench(SIZES, RADICES, ("hash-set", "trie"), 8, 1, decode=False)
        )
    assert [(row.verifier, row.settings["items"]) for row in rows] == [
        ("hash-set", 100),
        ("trie", 100),
        ("trie", 1000),
    ]
    (left_out,) = [line for line in messages if line.startswith("Left out")]
    assert left_out.startswith("Left out: hash-set at 1,000 items: building takes about 0.0 GiB")

    wide = (2**12, 2**12, 2**13)  # 16 GiB of bits
    with logged() as messages:
        rows = bench_verifiers(VerifierBench((100,), wide, ("bitset", "trie"), 8, 1, decode=False))
    assert [row.verifier for row in rows] == ["trie"]
    assert any(line.startswith("Left out: bitset at 100 items: ") for line in messages)


def test_free_memory_is_known_on_a_cpu_or_not_asked_for() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**50
    assert free_memory(torch.device("meta")) is None
    assert bench_module._fitting(("trie",), 1, 10, torch.device("cpu")) == ["trie"]


# ---- what is asked ------------------------------------------------------------------------------


@given(space=st.integers(1, 500), share=st.floats(0, 1), seed=st.integers(0, 50))
@settings(max_examples=80)
def test_keys_are_distinct_inside_the_space_and_of_the_seed(
    space: int, share: float, seed: int
) -> None:
    n = max(1, round(share * space))
    keys = random_keys(n, space, seed)
    assert (keys.dtype, keys.shape) == (torch.int64, (n,))
    assert len(set(keys.tolist())) == n
    assert int(keys.min()) >= 0
    assert int(keys.max()) < space
    assert torch.equal(keys, random_keys(n, space, seed))


def test_every_key_is_as_likely_in_every_place() -> None:
    found = torch.stack([random_keys(4, 10, seed) for seed in range(4000)])
    counts = torch.stack([place.bincount(minlength=10) for place in found.T])
    assert ((counts - 400).abs() < 5 * math.sqrt(400)).all()


def test_more_keys_than_the_space_has_are_refused() -> None:
    for n in (0, 11):
        with pytest.raises(ValueError, match=f"n is {n}, but must be 1 to 10, the number of keys"):
            random_keys(n, 10, 0)


@pytest.mark.parametrize("n", [1, 5, 3000])
def test_beams_hold_existing_prefixes(n: int) -> None:
    keys = random_keys(n, math.prod(RADICES), 0)
    verifier = HashSetVerifier(CatalogueKeys(keys, RADICES))
    step = BeamStep.of(keys, VerifierBench((100,), RADICES, beam=12), torch.device("cpu"))
    assert len(step.prefixes) == len(step.continuations) == N_BEAMS
    for prefixes, continuations in zip(step.prefixes, step.continuations, strict=True):
        assert prefixes.shape == (1, 12)
        assert verifier.prefix_contains(2, prefixes).all()
        assert continuations.shape == (1, 12, 16)
        assert torch.equal(continuations % 256, prefixes.unsqueeze(-1).expand(-1, -1, 16))
        assert len(continuations.unique()) == 16 * len(prefixes.unique())
    assert len(step.prefixes[0].unique()) == (12 if n == 3000 else n)
    for changed in step.changed:
        assert len(changed.unique()) == min(n, CHANGED)
        assert verifier.contains(changed).all()


# ---- beyond what was measured -------------------------------------------------------------------


@pytest.mark.parametrize("radices", [(128,) * 3, (9, 100, 50, 70), (256, 1, 5000), (2_000_000,)])
@pytest.mark.parametrize("kind", [kind for kind in VERIFIER_KINDS if kind != "hash-set"])
def test_expected_memory_is_what_a_structure_takes(kind: str, radices: tuple[int, ...]) -> None:
    near = {"rel": 0.01, "abs": 10_000}  # small tables of a constant size are left out
    for n in (50_000, 200_000):
        keys = random_keys(n, math.prod(radices), 0)
        verifier = make_verifier(kind, CatalogueKeys(keys, radices))
        assert expected_bytes(kind, n, radices) == pytest.approx(verifier.nbytes, **near)
    space = math.prod(radices)
    full = make_verifier(kind, CatalogueKeys(torch.arange(space), radices))
    assert expected_bytes(kind, space, radices) == pytest.approx(full.nbytes, **near)


def test_expected_memory_with_wide_keys() -> None:
    radices = (2**13, 2**13, 2**13)
    keys = random_keys(20_000, math.prod(radices), 0)
    for kind in ("isin", "sorted", "hash-table", "trie"):
        verifier = make_verifier(kind, CatalogueKeys(keys, radices))
        assert expected_bytes(kind, 20_000, radices) == pytest.approx(verifier.nbytes, rel=0.01)
    assert expected_bytes("hash-set", 20_000, radices) is None


def measured(kind: str, items: Sequence[int], milliseconds: Sequence[float]) -> list[ResultRow]:
    (row,) = bench_verifiers(VerifierBench((100,), RADICES, (kind,), 8, 1, decode=False))
    return [
        replace(
            row,
            metrics={"bytes_per_item": 10.0 + n / 1e4, "step_ms": ms, "candidates_ms": ms / 2}
            | {"decode_ms": 4.0},
            settings={**row.settings, "items": n},
        )
        for n, ms in zip(items, milliseconds, strict=True)
    ]


def test_times_follow_the_law_of_the_largest_sizes() -> None:
    # Square roots from 100 on; the smallest size is another regime.
    rows = measured("trie", (10, 100, 400, 1600), (5.0, 0.1, 0.2, 0.4))
    (found,) = extrapolate(rows[::-1], (3600,))
    assert found.metrics["step_ms"] == pytest.approx(0.6, rel=1e-3)
    assert found.metrics["candidates_ms"] == pytest.approx(0.3, rel=1e-3)
    assert found.metrics["share_of_decode"] == pytest.approx(0.075, rel=1e-3)
    assert found.settings["exponents"] == {"step_ms": 0.5, "candidates_ms": 0.5}
    assert found.settings["extrapolated"] is True
    assert found.settings["items"] == 3600
    assert found.settings["measured_items"] == [100, 400, 1600]
    bytes_ = expected_bytes("trie", 3600, RADICES)
    assert bytes_ is not None
    assert found.metrics["bytes_per_item"] == pytest.approx(bytes_ / 3600, abs=1e-3)
    assert found.seconds == 0


def test_no_structure_becomes_faster_and_memory_without_formula_grows_evenly() -> None:
    rows = measured("hash-set", (100, 1000), (0.4, 0.1))
    (found,) = extrapolate(rows, (4000,))
    assert found.metrics["step_ms"] == pytest.approx(0.2, rel=1e-3)
    assert found.settings["exponents"]["step_ms"] == 0
    assert found.metrics["bytes_per_item"] == pytest.approx(10.1)


def test_a_larger_space_holds_larger_catalogues() -> None:
    rows = measured("bitset", (100, 1000), (1.0, 1.0)) + measured("isin", (100, 1000), (1.0, 10.0))
    with pytest.raises(ValueError, match="size is 1000000000, but must be 1 to 4,096"):
        extrapolate(rows, (10**9,))
    bitset, isin = extrapolate(rows, (10**9,), (2048, 2048, 2048))
    assert (bitset.verifier, isin.verifier) == ("bitset", "isin")
    assert bitset.metrics["gib"] == pytest.approx((2048**3 + 2048**2 + 2048) / 8 / 2**30, abs=1e-3)
    assert isin.metrics["step_ms"] == pytest.approx(1e7, rel=1e-3)
    assert isin.settings["radices"] == [2048] * 3
    assert isin.settings["measured_radices"] == [16] * 3


def test_what_no_law_fits_is_refused() -> None:
    rows = measured("trie", (100, 1000), (1.0, 1.0))
    with pytest.raises(ValueError, match="trie was measured at one size"):
        extrapolate(rows[:1] * 2, (2000,))
    other = replace(rows[0], settings={**rows[0].settings, "radices": [8, 8]})
    with pytest.raises(ValueError, match="number of ID spaces in rows is 2, but must be 1"):
        extrapolate([*rows, other], (2000,))
    with pytest.raises(ValueError, match="number of ID spaces in rows is 0"):
        extrapolate([], (2000,))


def test_a_catalogue_of_names_is_a_catalogue_of_keys() -> None:
    ids = SemanticIds.from_codes([[0, 1], [2, 3], [0, 1]], (3, 4))
    named, bare = (make_verifier("trie", c) for c in (ids, CatalogueKeys(ids.keys, (3, 4))))
    keys = torch.arange(12)
    assert torch.equal(named.contains(keys), bare.contains(keys))


def test_the_peers_step_gives_the_same_list() -> None:
    pytest.importorskip("static_decoding")
    rows = bench_masked_step(VerifierBench((50, 3000), RADICES, beam=8, repeats=3))  # or it raises
    assert [row.verifier for row in rows] == [PEER, *OURS] * 2
    assert all(row.metrics["step_ms"] > 0 and row.settings["repeats"] == 3 for row in rows)


def test_the_peer_is_asked_for_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("static_decoding", "static_decoding.csr_utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="The peer is not installed: put github"):
        bench_masked_step(VerifierBench((50,), RADICES, beam=8))
    with pytest.raises(ValueError, match="levels is 2, but must be 3 beside STATIC"):
        bench_masked_step(VerifierBench((50,), (16, 16), beam=8))
