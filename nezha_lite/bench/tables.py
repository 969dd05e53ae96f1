"""Rows of a bench as a table for people, and as JSON lines for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

from nezha_lite.bench.decoders import forward_ratio
from nezha_lite.common.results import ResultRow

PHASES = ("forward_ms", "head_ms", "verify_ms", "select_ms")
_FIRST = ("batch", "history")
Column = tuple[Callable[[ResultRow], Any], str]  # a row's value, which may be None; its format


def _metric(name: str, style: str) -> Column:
    return lambda row: row.metrics.get(name), style


def _setting(name: str, style: str = "") -> Column:
    return lambda row: row.settings[name], style


_LATENCY_COLUMNS: Mapping[str, Column] = {
    "decoder": (lambda row: row.decoder, ""),
    "verifier": (
        lambda row: ", ".join(filter(None, (row.verifier, row.settings["structure"]))),
        "",
    ),
    "beam": (lambda row: row.beam, ""),
    **{name: _setting(name) for name in _FIRST},
    **{f"{name} ms": _metric(f"{name}_ms", ",.2f") for name in ("median", "p95", "p99")},
    "× forward": (lambda row: forward_ratio(row)[0], ",.2f"),
    "forward": (lambda row: forward_ratio(row)[1], ""),
    "peak MiB": _metric("peak_mib", ",.1f"),
}
_VERIFIER_COLUMNS: Mapping[str, Column] = {
    "structure": (lambda row: row.verifier, ""),
    "items": _setting("items", ","),
    "build s": _metric("build_seconds", ",.2f"),
    "bytes/item": _metric("bytes_per_item", ",.1f"),
    **{
        f"{name} ms": _metric(f"{name}_ms", ",.3f") for name in ("step", "p95", "p99", "candidates")
    },
    "over isin": _metric("ratio_to_isin", ",.1f"),
    "of a decode": _metric("share_of_decode", ".1%"),
    **{f"{name} ms": _metric(f"{name}_ms", ",.2f") for name in ("add", "remove")},
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
        table = _table(block, _LATENCY_COLUMNS)
        parts.append("\n".join([described, table, *_floors(block), *_phases(block)]))
    return "\n\n".join(parts)


def verifier_table(rows: Sequence[ResultRow]) -> str:
    """The rows of `bench_verifiers` as one table."""
    first = rows[0]
    radices = first.settings["radices"]
    return "\n".join(
        [
            f"{_machine(first)}\n",
            f"random IDs of {' × '.join(map(str, radices))} codes",
            _table(rows, _VERIFIER_COLUMNS, left=1),
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


def _table(rows: Sequence[ResultRow], columns: Mapping[str, Column], left: int = 2) -> str:
    """A line for each row; a value that is None or empty is "–"."""
    values = [[(value_of(row), style) for value_of, style in columns.values()] for row in rows]
    lines = [
        ["–" if value in (None, "") else format(value, style) for value, style in line]
        for line in values
    ]
    return aligned(list(columns), lines, left)


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
