"""Rows of a bench as a table for people, and as JSON lines for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from nezha_lite.bench.decoders import forward_ratio
from nezha_lite.common.results import ResultRow

PHASES = ("forward_ms", "head_ms", "verify_ms", "select_ms")
_FIRST = ("batch", "history")
_COLUMNS = (
    "decoder",
    "verifier",
    "beam",
    *_FIRST,
    *("median ms", "p95 ms", "p99 ms", "× forward", "forward", "peak MiB"),
)
_VERIFIER_COLUMNS = {
    "build s": ("build_seconds", ",.2f"),
    "bytes/item": ("bytes_per_item", ",.1f"),
    "step ms": ("step_ms", ",.3f"),
    "p95 ms": ("p95_ms", ",.3f"),
    "p99 ms": ("p99_ms", ",.3f"),
    "candidates ms": ("candidates_ms", ",.3f"),
    "over isin": ("ratio_to_isin", ",.1f"),
    "of a decode": ("share_of_decode", ".1%"),
    "add ms": ("add_ms", ",.2f"),
    "remove ms": ("remove_ms", ",.2f"),
}


def json_lines(rows: Sequence[ResultRow]) -> Iterator[str]:
    """First the device, the versions, the commit and the date; then an object for each row.

    A row's metrics and settings stand side by side: {"decoder", "verifier", "beam", "batch",
    "history", "median_ms", …}.
    """
    about = {name: getattr(rows[0], name) for name in ("device", "versions", "commit", "date")}
    yield _json({**about, "torch_threads": torch.get_num_threads()})
    for row in rows:
        decoding = {"decoder": row.decoder, "verifier": row.verifier, "beam": row.beam}
        first = {name: row.settings[name] for name in _FIRST if name in row.settings}
        data = {"dataset": row.dataset, "model": row.model}
        yield _json({**decoding, **first, **row.metrics, **row.settings, **data})


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def latency_table(rows: Sequence[ResultRow]) -> str:
    """The rows of `bench_decoding`, a table for each model and catalogue.

    "× forward" is the median over the forward pass of the same kind, which "forward" names:
    captured for captured decoders, eager for the others.
    """
    parts = [_machine(rows[0])]
    for described, group in groupby(rows, _describe):
        block = list(group)
        table = aligned(_COLUMNS, [_latency_cells(row) for row in block])
        parts.append("\n".join([described, table, *_floors(block), *_phases(block)]))
    return "\n\n".join(parts)


def verifier_table(rows: Sequence[ResultRow]) -> str:
    """The rows of `bench_verifiers` as one table."""
    first = rows[0]
    lines = [
        [
            str(row.verifier),
            f"{row.settings['items']:,}",
            *(_cell(row, metric, style) for metric, style in _VERIFIER_COLUMNS.values()),
        ]
        for row in rows
    ]
    radices = first.settings["radices"]
    return "\n".join(
        [
            f"{_machine(first)}\n",
            f"random IDs of {' × '.join(map(str, radices))} codes",
            aligned(("structure", "items", *_VERIFIER_COLUMNS), lines, left=1),
            f"A step checks the {radices[-1]} continuations of {first.beam} prefixes; candidates "
            f"are what a decoder asks for; {first.settings['changed']:,} IDs come and go.",
        ]
    )


def listed(rows: Sequence[ResultRow], name: Callable[[ResultRow], str]) -> str:
    """A line for each row: its name, then all its metrics but those of single levels."""
    lines = []
    for row in rows:
        metrics = "  ".join(f"{key} {row.metrics[key]:,}" for key in row.metrics if "@" not in key)
        lines.append(f"{name(row):25s} {metrics}")
    return "\n".join(lines)


def aligned(columns: Sequence[str], lines: Sequence[Sequence[str]], left: int = 2) -> str:
    """Cells under their columns' names: the first `left` columns left-aligned, the others right."""
    table = [columns, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _machine(row: ResultRow) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    return f"{row.device} · {versions} · commit {row.commit[:12]}"


def _describe(row: ResultRow) -> str:
    model, settings = row.model, row.settings
    codes = settings["codes"]
    shape = f"{settings['levels']} × {codes}" if isinstance(codes, int) else str(tuple(codes))
    return (
        f"{model['preset'] or model['backbone']}: width {model['hidden_size']}, "
        f"{model['layers']} layers, {model['parameters']:,} parameters, {settings['precision']}; "
        f"{row.dataset}: {settings['items']:,} items, IDs of {shape} codes; "
        f"prompts: {settings['prompts']}"
    )


def _latency_cells(row: ResultRow) -> list[str]:
    checked = ", ".join(filter(None, (row.verifier, row.settings["structure"])))
    ratio, forward = forward_ratio(row)
    return [
        str(row.decoder),
        checked or "–",
        "–" if row.beam is None else str(row.beam),
        *(str(row.settings[name]) for name in _FIRST),
        *(_cell(row, name, ",.2f") for name in ("median_ms", "p95_ms", "p99_ms")),
        "–" if ratio is None else f"{ratio:,.2f}",
        forward,
        _cell(row, "peak_mib", ",.1f"),
    ]


def _cell(row: ResultRow, metric: str, style: str) -> str:
    return format(row.metrics[metric], style) if metric in row.metrics else "–"


def _floors(rows: Sequence[ResultRow]) -> Iterator[str]:
    """The roofline of each forward pass."""
    for row in rows:
        if row.decoder == "forward":
            settings = row.settings
            yield (
                f"Floor of one forward pass at batch {settings['batch']}, history "
                f"{settings['history']}: {row.metrics['floor_ms']:.3g} ms, by the "
                f"{settings['peak_gflops']:,.0f} GFLOP/s and {settings['peak_gbytes']:,.1f} GB/s "
                "that this device reaches."
            )


def _phases(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Where eager decoders' time went."""
    for row in rows:
        if split := [name for name in PHASES if name in row.metrics]:
            shares = ", ".join(
                f"{name.removesuffix('_ms')} {row.metrics[name]:.2f}" for name in split
            )
            where = f"batch {row.settings['batch']}, history {row.settings['history']}"
            yield f"{row.decoder} at beam {row.beam}, {where}, in ms when marked: {shares}"
