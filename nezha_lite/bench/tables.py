"""Rows of a bench as a table for people, and as JSON lines for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from nezha_lite.common.results import Provenance, ResultRow

PHASES = ("forward_ms", "head_ms", "verify_ms", "select_ms")
_FIRST = ("batch", "history")
_COLUMNS = (
    "decoder",
    "verifier",
    "beam",
    "batch",
    "history",
    "median ms",
    "p95 ms",
    "p99 ms",
    "× forward",
    "peak MiB",
)


def json_lines(rows: Sequence[ResultRow]) -> Iterator[str]:
    """First the device, the versions, the commit and the date; then an object for each row.

    A row's metrics and settings stand side by side: {"decoder", "verifier", "beam", "batch",
    "history", "median_ms", …}.
    """
    row = rows[0]
    about: Provenance = {
        "device": row.device,
        "versions": dict(row.versions),
        "commit": row.commit,
        "date": row.date,
    }
    yield _json({**about, "torch_threads": torch.get_num_threads()})
    for row in rows:
        decoding = {"decoder": row.decoder, "verifier": row.verifier, "beam": row.beam}
        first = {name: row.settings[name] for name in _FIRST if name in row.settings}
        about_data = {"dataset": row.dataset, "model": row.model}
        yield _json({**decoding, **first, **row.metrics, **row.settings, **about_data})


def latency_table(rows: Sequence[ResultRow]) -> str:
    """The rows of `bench_decoding`, a table for each model and catalogue."""

    def model_and_catalogue(row: ResultRow) -> str:
        return _describe(row)

    parts = [f"{rows[0].device} · {_versions(rows[0])}"]
    for described, group in groupby(rows, model_and_catalogue):
        some = list(group)
        parts.append(
            "\n".join([described, aligned(_COLUMNS, [_cells(row) for row in some]), *_below(some)])
        )
    return "\n\n".join(parts)


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


def verifier_table(rows: Sequence[ResultRow]) -> str:
    """The rows of `bench_verifiers` as one table."""
    first = rows[0]
    lines = [
        [
            str(row.verifier),
            f"{row.settings['items']:,}",
            *(
                format(row.metrics[metric], style) if metric in row.metrics else "–"
                for metric, style in _VERIFIER_COLUMNS.values()
            ),
        ]
        for row in rows
    ]
    beam, changed = first.beam, first.settings["changed"]
    radices = " × ".join(map(str, first.settings["radices"]))
    return "\n".join(
        [
            f"{first.device} · {_versions(first)}\n",
            f"random IDs of {radices} codes",
            aligned(("structure", "items", *_VERIFIER_COLUMNS), lines, left=1),
            f"A step checks the {first.settings['radices'][-1]} continuations of {beam} prefixes; "
            f"candidates are what a decoder asks for; {changed:,} IDs are added and removed.",
        ]
    )


def aligned(columns: Sequence[str], lines: Sequence[Sequence[str]], left: int = 2) -> str:
    """Columns under their names: the first `left` to the left, figures to the right."""
    table = [columns, *lines]
    widths = [max(len(line[place]) for line in table) for place in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _cells(row: ResultRow) -> list[str]:
    metrics, settings = row.metrics, row.settings
    checked = ", ".join(filter(None, (row.verifier, settings["structure"])))
    return [
        str(row.decoder),
        checked or "–",
        "–" if row.beam is None else str(row.beam),
        str(settings["batch"]),
        str(settings["history"]),
        *(f"{metrics[name]:,.2f}" for name in ("median_ms", "p95_ms", "p99_ms")),
        f"{metrics['ratio_to_forward']:,.2f}",
        f"{metrics['peak_mib']:,.1f}" if "peak_mib" in metrics else "–",
    ]


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


def _versions(row: ResultRow) -> str:
    names = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    return f"{names} · commit {row.commit[:12]}"


def _below(rows: Sequence[ResultRow]) -> Iterator[str]:
    """The floor of each forward pass, and where eager decoders' time went."""
    for row in rows:
        if row.decoder == "forward":
            settings = row.settings
            yield (
                f"Floor of one forward pass at batch {settings['batch']}, history "
                f"{settings['history']}: {row.metrics['floor_ms']:.3g} ms, by the "
                f"{settings['peak_gflops']:,.0f} GFLOP/s and {settings['peak_gbytes']:,.1f} GB/s "
                "that this device reaches."
            )
    for row in rows:
        if any(phase in row.metrics for phase in PHASES):
            split = ", ".join(
                f"{phase.removesuffix('_ms')} {row.metrics[phase]:.2f}"
                for phase in PHASES
                if phase in row.metrics
            )
            place = f"batch {row.settings['batch']}, history {row.settings['history']}"
            yield f"{row.decoder} at beam {row.beam}, {place}, in ms when marked: {split}"


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
