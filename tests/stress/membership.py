"""Verifiers against the definition of membership, key by key, while IDs come and go."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys, Verifier, make_verifier
from tests.stress.membership_keys import PATTERNS, Truth, asked_keys, pattern_keys

log = logging.getLogger("nezha_lite")
SPACES = ((512, 512, 512), (300, 500, 700), (2, 70_000, 1, 900))
ROUNDS = 12  # changes of the catalogue while it is asked
AT_ONCE = 2**18  # keys of one question
BEAMS = 64  # prefixes whose continuations are asked for together


@dataclass
class _Tally:
    """Of one structure and one pattern of keys."""

    tried: int = 0
    false_accepts: int = 0
    false_rejects: int = 0
    changes: int = 0
    seconds: float = 0.0

    def judge(self, found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> None:
        self.tried += found.size
        self.false_accepts += int((found & ~expected).sum())
        self.false_rejects += int((~found & expected).sum())


def bench_membership(
    checks: int = 10**9,
    kinds: Sequence[str] = tuple(VERIFIER_KINDS),
    spaces: Sequence[Sequence[int]] = SPACES,
    ids: int = 100_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[list[ResultRow]]:
    """Ask every structure what exists, and compare with one boolean for every ID there could be.

    All structures get the same questions: random, clustered and adversarial keys in equal shares
    (`membership_keys`). Half of them are of finished IDs, a quarter of shorter prefixes, and a
    quarter are continuations that `candidates` offers or leaves out. Between rounds of questions a
    tenth of the IDs leave and as many others come.

    Args:
        checks: how many in all; each structure, pattern and space gets an equal share, or slightly
            more.
        kinds: names in `VERIFIER_KINDS`.
        spaces: radices; each space takes a byte for every ID that could be written.
        ids: how many exist at first.

    Returns:
        After every structure, the rows so far: one for each structure and pattern. Metrics: `tried`
        answers, those `kept` right, `false_accepts`, `false_rejects`, and `changes`, the IDs added
        and removed.

    Raises:
        ValueError: for an unknown kind, or numbers below 1.
    """
    for kind in kinds:
        if kind not in VERIFIER_KINDS:
            names = ", ".join(VERIFIER_KINDS)
            raise ValueError(f"kind is {kind!r}, but must be one of {names}.")
    if checks < 1 or ids < 1:
        raise ValueError(f"checks and ids are {checks} and {ids}, but must be at least 1.")
    share = math.ceil(checks / (len(kinds) * len(PATTERNS) * len(spaces)))
    tallies = {(kind, pattern): _Tally() for kind in kinds for pattern in PATTERNS}
    for radices in spaces:
        for pattern in PATTERNS:
            for kind in kinds:
                tally = tallies[kind, pattern]
                started = time.perf_counter()
                _examine(tally, kind, pattern, radices, share, ids, seed, torch.device(device))
                tally.seconds += time.perf_counter() - started
                wrong = tally.false_accepts + tally.false_rejects
                log.info(
                    f"{kind}, {pattern} keys of {radices}: {tally.tried:,} tried, {wrong:,} wrong."
                )
                made_by = provenance(device)
                yield [
                    _row(*name, done, spaces, ids, seed, made_by)
                    for name, done in tallies.items()
                    if done.tried
                ]


def _examine(
    tally: _Tally,
    kind: str,
    pattern: str,
    radices: Sequence[int],
    share: int,
    ids: int,
    seed: int,
    device: torch.device,
) -> None:
    """Ask a new structure `share` questions or slightly more."""
    draw = np.random.default_rng(seed)
    keys = pattern_keys(pattern, draw, radices, ids)
    truth = Truth(radices, keys)
    verifier = make_verifier(kind, CatalogueKeys(torch.from_numpy(keys), tuple(radices)), device)
    changed = keys
    until = tally.tried + share
    for left in range(ROUNDS, 0, -1):
        end = tally.tried + math.ceil((until - tally.tried) / left)
        while tally.tried < end:
            size = min(AT_ONCE, end - tally.tried)
            for level in range(1, len(radices) + 1):
                part = size // 2 if level == len(radices) else size // (4 * len(radices))
                some = asked_keys(pattern, draw, truth, level, max(8, part), changed)
                asked = torch.from_numpy(some).to(device)
                found = (
                    verifier.contains(asked)
                    if level == len(radices)
                    else verifier.prefix_contains(level, asked)
                )
                tally.judge(found.cpu().numpy(), truth.contains(level, some))
                _ask_candidates(tally, verifier, truth, level, max(8, part // 4), draw)
        more = pattern_keys(pattern, draw, radices, max(1, ids // 10))
        fewer = draw.permutation(np.flatnonzero(truth.ids))[: len(more)]
        verifier.add(torch.from_numpy(more))
        verifier.remove(torch.from_numpy(fewer))
        truth.change(more, fewer)
        tally.changes += len(more) + len(fewer)
        changed = np.concatenate([more, fewer])


def _ask_candidates(
    tally: _Tally,
    verifier: Verifier,
    truth: Truth,
    level: int,
    checks: int,
    draw: np.random.Generator,
) -> None:
    """The continuations of some prefixes, existing ones, others and dead ones, all different."""
    radix = truth.radices[level - 1]
    stride = 1 if level == 1 else truth.sizes[level - 2]
    beams = min(BEAMS, max(1, checks // radix))
    anywhere = draw.integers(0, stride, beams)
    some = anywhere[:0] if level == 1 else truth.existing(draw, level - 1, beams)
    prefixes = np.unique(np.concatenate([some, anywhere]))
    prefixes = draw.permutation(prefixes)[:beams]
    if level > 1:
        prefixes = np.concatenate([prefixes, [-1, stride]])  # a dead beam, and no prefix
    offered = verifier.candidates(level, torch.from_numpy(prefixes).unsqueeze(0))
    assert offered.exists is not None  # a verifier always knows
    exists = offered.exists[0].cpu().numpy()
    found = np.zeros(len(prefixes) * radix, dtype=np.bool_)
    numbers = np.arange(len(found)) if offered.index is None else offered.index[0].cpu().numpy()
    found[numbers[exists]] = True
    continuations = prefixes[:, None] + np.arange(radix) * stride  # (K, C)
    expected = truth.contains(level, continuations)
    expected[(prefixes < 0) | (prefixes >= stride)] = False
    tally.judge(found, expected.ravel())
    # Each once: one offered twice would be in two beams.
    tally.false_accepts += int(exists.sum()) - int(found.sum())


def _row(
    kind: str,
    pattern: str,
    tally: _Tally,
    spaces: Sequence[Sequence[int]],
    ids: int,
    seed: int,
    made_by: dict[str, Any],
) -> ResultRow:
    return ResultRow(
        kind="reliability",
        dataset="synthetic",
        model={},
        verifier=kind,
        metrics={
            "tried": tally.tried,
            "kept": tally.tried - tally.false_accepts - tally.false_rejects,
            "false_accepts": tally.false_accepts,
            "false_rejects": tally.false_rejects,
            "changes": tally.changes,
        },
        settings={
            "fault_class": f"verifiers: {pattern} keys, {kind}",
            "pattern": pattern,
            "spaces": [list(radices) for radices in spaces],
            "ids": ids,
            "rounds": ROUNDS,
            "seed": seed,
        },
        **made_by,
        seconds=round(tally.seconds, 1),
    )
