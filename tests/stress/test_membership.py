"""Verifiers against one boolean for every ID there could be; `nezha-lite bench membership` is this
with 10^9 keys, and keeps the figures.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nezha_lite.common.results import ResultRow, read_results
from nezha_lite.verifiers import VERIFIER_KINDS, Candidates, CatalogueKeys, make_verifier
from nezha_lite.verifiers.base import Verifier
from nezha_lite.verifiers.hash_table import HashTableVerifier
from tests.stress.membership import bench_membership
from tests.stress.membership_keys import (
    PATTERNS,
    Truth,
    asked_keys,
    crowded_keys,
    pattern_keys,
)

RESULTS = Path(__file__).parents[2] / "data" / "results"
SPACES = ((16, 32, 64), (30, 7, 11, 5), (1, 700, 3))
KINDS = tuple(VERIFIER_KINDS)


def examined(kind: str, checks: int = 3_000) -> dict[str, ResultRow]:
    """The rows of one structure by pattern."""
    (*_, rows) = bench_membership(checks, [kind], SPACES, ids=500)
    return {row.settings["pattern"]: row for row in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_no_false_accept_and_no_false_reject(kind: str) -> None:
    rows = examined(kind, 60_000)
    assert set(rows) == set(PATTERNS)
    for row in rows.values():
        assert row.verifier == kind
        assert row.metrics["tried"] >= 20_000
        assert row.metrics["kept"] == row.metrics["tried"]
        assert row.metrics["false_accepts"] == row.metrics["false_rejects"] == 0
        assert row.metrics["changes"] > 2_500


def test_every_structure_is_asked_the_same_and_rows_come_as_they_are_done() -> None:
    steps = list(bench_membership(2_000, ["trie", "sorted"], SPACES[:1], ids=100))
    assert [len(rows) for rows in steps] == [1, 2, 3, 4, 5, 6]
    figures = {(row.verifier, row.settings["pattern"]): row.metrics for row in steps[-1]}
    for pattern in PATTERNS:
        assert figures["trie", pattern] == figures["sorted", pattern]
    assert sum(metrics["tried"] for metrics in figures.values()) >= 2_000
    again = [row.metrics for row in list(bench_membership(500, ["trie"], SPACES[:1], 100))[-1]]
    other = [row.metrics for row in list(bench_membership(500, ["trie"], SPACES[:1], 100, 1))[-1]]
    assert again != other


@pytest.mark.data
def test_the_kept_run_asked_for_a_billion_keys() -> None:
    rows = read_results(RESULTS / "reliability-synthetic-verifiers.json")
    assert {(row.verifier, row.settings["pattern"]) for row in rows} == {
        (kind, pattern) for kind in KINDS for pattern in PATTERNS
    }
    assert sum(row.metrics["tried"] for row in rows) >= 10**9
    for row in rows:
        assert row.metrics["kept"] == row.metrics["tried"] > 10**9 // 20
        assert row.metrics["false_accepts"] == row.metrics["false_rejects"] == 0
        assert row.metrics["changes"] > 500_000


# ---- structures that are wrong in one way are caught --------------------------------------------

Contains = Callable[[Verifier, int, Tensor], Tensor]


def wrapped(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]) -> None:
    """Let the bitset's answers pass through `wrong` (verifier, level, keys, answer)."""
    bitset = VERIFIER_KINDS["bitset"]
    original = bitset.prefix_contains

    def prefix_contains(self: Verifier, level: int, keys: Tensor) -> Tensor:
        return wrong(self, level, keys, original(self, level, keys))

    monkeypatch.setattr(bitset, "prefix_contains", prefix_contains)


def test_keys_cut_to_32_bits_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    bitset = VERIFIER_KINDS["bitset"]
    original = bitset.prefix_contains

    def narrow(self: Verifier, level: int, keys: Tensor) -> Tensor:
        return original(self, level, keys.int().long())

    monkeypatch.setattr(bitset, "prefix_contains", narrow)
    rows = examined("bitset")
    assert rows["adversarial"].metrics["false_accepts"] > 0
    assert rows["adversarial"].metrics["false_rejects"] == 0
    assert rows["random"].metrics["kept"] == rows["random"].metrics["tried"]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_one_wrong_level_is_caught(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Verifier, asked: int, keys: Tensor, found: Tensor) -> Tensor:
        return found & (keys % 16 != 3) if asked == level else found

    wrapped(monkeypatch, wrong)
    for row in examined("bitset").values():
        assert row.metrics["false_rejects"] > 0
        assert row.metrics["false_accepts"] == 0
        assert row.metrics["kept"] == row.metrics["tried"] - row.metrics["false_rejects"]


@pytest.mark.parametrize("forgotten", ["add", "remove"])
def test_a_forgotten_change_is_caught(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERIFIER_KINDS["trie"], forgotten, lambda self, keys: None)
    wrong, right = ("false_rejects", "false_accepts")[:: 1 if forgotten == "add" else -1]
    for row in examined("trie").values():
        assert row.metrics[wrong] > 0
        assert row.metrics[right] == 0


@pytest.mark.parametrize("change", ["one lost", "one twice"])
def test_wrong_candidates_are_caught(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trie = VERIFIER_KINDS["trie"]
    original = trie.candidates

    def candidates(self: Verifier, level: int, prefixes: Tensor) -> Candidates:
        found = original(self, level, prefixes)
        assert found.exists is not None
        assert found.index is not None
        if change == "one lost":
            exists = found.exists.clone()
            exists[:, 0] = False
            return Candidates(exists, found.index)
        repeated = [torch.cat([part, part[:, :1]], dim=1) for part in (found.exists, found.index)]
        return Candidates(*repeated)

    monkeypatch.setattr(trie, "candidates", candidates)
    wrong = "false_rejects" if change == "one lost" else "false_accepts"
    for row in examined("trie").values():
        assert row.metrics[wrong] > 0


# ---- the keys, and the truth --------------------------------------------------------------------


def test_the_truth_is_what_python_sets_say() -> None:
    draw = np.random.default_rng(0)
    radices = (4, 3, 5)
    keys = draw.integers(0, 60, 20)
    truth = Truth(radices, keys)
    more, fewer = np.array([3, 59, 3]), keys[:5]
    truth.change(more, fewer)
    ids = (set(keys.tolist()) | {3, 59}) - set(fewer.tolist())
    for level, size in ((1, 4), (2, 12), (3, 60)):
        asked = np.array([*range(-3, 70), 2**32, 2**63 - 1, -(2**63)])
        existing = {key % size for key in ids}
        expected = [key in existing for key in asked.tolist()]
        assert truth.contains(level, asked).tolist() == expected
        assert set(truth.existing(draw, level, 300).tolist()) == existing
    truth.change(more[:0], np.arange(60))
    assert not truth.contains(1, np.arange(4)).any()
    assert len(truth.existing(draw, 1, 5)) == 0


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("radices", SPACES)
def test_keys_are_of_the_space_and_what_is_asked_of_all_kinds(
    pattern: str, radices: tuple[int, ...]
) -> None:
    draw = np.random.default_rng(1)
    keys = pattern_keys(pattern, draw, radices, 400)
    space = int(np.prod(radices))
    assert keys.dtype == np.int64
    assert 0 <= keys.min() <= keys.max() < space
    assert 200 <= len(keys) <= 900
    truth = Truth(radices, keys)
    for level in range(1, len(radices) + 1):
        asked = asked_keys(pattern, draw, truth, level, 800, keys[:10])
        assert 700 <= len(asked) <= 820
        exists = truth.contains(level, asked)
        assert exists.any()
        outside = (asked < 0) | (asked >= truth.sizes[level - 1])
        assert (~exists).any() or truth.levels[level - 1].all()
        assert outside.any() == (pattern == "adversarial") or pattern == "clustered"


def test_clusters_are_runs_of_neighbours() -> None:
    keys = np.unique(pattern_keys("clustered", np.random.default_rng(2), (512, 512, 512), 2_000))
    assert (np.diff(keys) == 1).mean() > 0.9
    apart = np.unique(pattern_keys("random", np.random.default_rng(2), (512, 512, 512), 2_000))
    assert (np.diff(apart) == 1).mean() < 0.01


def test_crowded_keys_make_long_probes() -> None:
    draw = np.random.default_rng(3)
    space = 512**3
    windows = []
    for keys in (crowded_keys(draw, space, 2_000), draw.integers(0, space, 2_000)):
        verifier = make_verifier(
            "hash-table", CatalogueKeys(torch.from_numpy(keys), (512, 512, 512))
        )
        assert isinstance(verifier, HashTableVerifier)
        windows.append(verifier._tables[-1].window)
    assert windows[0] > 2 * windows[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kinds": ["abacus"]}, "kind is 'abacus', but must be one of hash-set, bitset"),
        ({"checks": 0}, "checks and ids are 0 and 100000"),
        ({"ids": 0}, "checks and ids are 1000000000 and 0"),
    ],
)
def test_wrong_numbers_are_named(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        next(bench_membership(**arguments))
