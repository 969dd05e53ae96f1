"""Verifiers for catalogues beyond the measured sizes: memory by formula, time by a power law.

Every row that is made here has `"extrapolated": True` in its settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nezha_lite.bench.workload import check_fits
from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers.hash_table import LOAD
from nezha_lite.verifiers.sorted_ops import key_type, smallest_type, with_room
from nezha_lite.verifiers.trie import DIRECT

FITTED = 3  # of the largest measured sizes: small ones are another regime, inside the caches
TIMES = ("build_seconds", "step_ms", "candidates_ms", "ranked_ms", "add_ms", "remove_ms")


def extrapolate(
    rows: Sequence[ResultRow], sizes: Sequence[int], radices: Sequence[int] | None = None
) -> list[ResultRow]:
    """Rows of `bench_verifiers` → rows for other sizes, structure by structure.

    Args:
        rows: measured, at least two sizes of each structure.
        sizes: of catalogues, in distinct IDs.
        radices: of an ID space that holds them; None: as measured. Times stay those of the
            measured space.

    Returns:
        A row per size and structure, of the metrics bytes_per_item and gib (`expected_bytes`; for a
        structure without formula the largest measured catalogue's bytes an ID), and times and
        shares by power laws through the largest measured sizes. No structure becomes faster as its
        catalogue grows, so a negative exponent counts as 0.

    Raises:
        ValueError: for a structure measured at one size only, rows of several ID spaces, or a size
            that the space cannot hold.
    """
    spaces = {tuple(row.settings["radices"]) for row in rows}
    check(len(spaces) == 1, "number of ID spaces in rows", len(spaces), "1")
    radices = tuple(radices) if radices is not None else spaces.pop()
    check_fits("size", max(sizes), radices)
    by_kind: dict[str, list[ResultRow]] = {}
    for row in sorted(rows, key=lambda row: row.settings["items"]):
        by_kind.setdefault(str(row.verifier), []).append(row)
    return [_row(measured, size, radices) for size in sizes for measured in by_kind.values()]


def expected_bytes(kind: str, items: int, radices: Sequence[int]) -> float | None:
    """Memory of a structure over `items` distinct random IDs, up to a few KiB.

    None for a structure without formula.
    """
    total, parents, parent_space = 0.0, 1, 1
    for level, (stride, radix) in enumerate(zip(radix_strides(radices), radices, strict=True), 1):
        size = stride * radix
        n = _expected_prefixes(items, size, math.prod(radices))
        capacity = min(with_room(int(n)), size)  # of structures that can grow
        # All levels but the last one keep a number of continuations beside each key.
        entry = key_type(size).itemsize + 4 * (level < len(radices))
        start = smallest_type(capacity).itemsize
        searched = (parents + 2) * (key_type(parent_space).itemsize + start)
        direct = (parent_space + 3) * start
        bytes_of_level = {
            "isin": 8 * n,
            "sorted": capacity * entry,
            "bitset": (stride + 1) * -(-radix // 8),
            "hash-table": entry * 2 ** max(3, math.ceil(math.log2(n / LOAD))),
            "trie": (direct if direct <= DIRECT * searched else searched)
            + capacity * smallest_type(radix - 1).itemsize,
        }
        if kind not in bytes_of_level:
            return None
        total += bytes_of_level[kind]
        parents, parent_space = capacity, size
    return total


def _expected_prefixes(items: int, prefixes: int, space: int) -> float:
    """How many of the prefixes of one level have an ID below them, on average."""
    below = space // prefixes
    if items == space or below == 1:
        return float(min(items, prefixes))
    return -prefixes * math.expm1(below * math.log1p(-items / space))


def _row(measured: Sequence[ResultRow], size: int, radices: tuple[int, ...]) -> ResultRow:
    largest, used = measured[-1], measured[-FITTED:]
    kind = str(largest.verifier)
    items = [row.settings["items"] for row in used]
    if len(set(items)) < 2:
        raise ValueError(f"{kind} was measured at one size, but a law needs at least two.")
    expected = expected_bytes(kind, size, radices)
    if expected is None:
        expected = largest.metrics["bytes_per_item"] * size
    metrics = {"bytes_per_item": round(expected / size, 3), "gib": round(expected / 2**30, 4)}
    exponents = {}
    for name in TIMES:
        if any(name not in row.metrics for row in used):
            continue
        times = np.log([max(row.metrics[name], 1e-4) for row in used])
        slope = max(0.0, float(np.polyfit(np.log(items), times, 1)[0]))
        start = float(np.mean(times - slope * np.log(items)))
        exponents[name] = round(slope, 3)
        metrics[name] = round(math.exp(start + slope * math.log(size)), 4)
    if "decode_ms" in largest.metrics:
        metrics["decode_ms"] = largest.metrics["decode_ms"]
        metrics["share_of_decode"] = round(metrics["candidates_ms"] / metrics["decode_ms"], 4)
    settings = {
        **largest.settings,
        "items": size,
        "radices": list(radices),
        "extrapolated": True,
        "measured_items": items,
        "measured_radices": largest.settings["radices"],
        "exponents": exponents,
    }
    return replace(largest, metrics=metrics, settings=settings, seconds=0.0)
