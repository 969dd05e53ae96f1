"""Benchmarks: decode latency, and training targets per second. Never run inside a test.

Every comparison happens in one process on the same prompts, beams, precision and threads, after a
warm-up, with the device synchronised; median and 95th percentile are reported, and a ratio to the
alternative from the same run. Run them on an otherwise idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler

from nezha_lite.batching import LengthGroupedOrder
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import AutoregressiveDecoder, Decoder, NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.packing import Collator, TrainingRows
from nezha_lite.results import ResultRow, provenance
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier


def time_calls(
    call: Callable[[int], object], repeats: int, warmup: int, device: torch.device
) -> list[float]:
    """Milliseconds of `call(0)` … `call(repeats − 1)`, each synchronised, after a warm-up."""
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but at least one call must be timed.")

    def synchronise() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    for index in range(warmup):
        call(index)
    times = []
    for index in range(repeats):
        synchronise()
        start = time.perf_counter()
        call(index)
        synchronise()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def bench_decoding(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    beams: Sequence[int] = (10, 50, 512),
    repeats: int = 50,
    warmup: int = 5,
) -> list[ResultRow]:
    """Batch-1 latency of the bare forward pass, NEZHA and autoregressive decoding, all constrained.

    Returns:
        A row per decoder and beam with median_ms, p95_ms and ratio_to_forward (of medians).
    """
    split = dataset.split("test")
    split = split.sample(min(repeats, len(split)), seed=0)
    prompts = [model.build_prompts([history], semantic_ids) for history in split.histories]
    verifier = SortedVerifier(semantic_ids, model.device)
    decoders: dict[str, Decoder] = {"nezha": NezhaDecoder(model, verifier)}
    if model.config.next_code_weight > 0:
        decoders["autoregressive"] = AutoregressiveDecoder(model, verifier)
    prompts_used = len(prompts)

    @torch.inference_mode()
    def forward(index: int) -> object:
        return model.draft_states(prompts[index % prompts_used])

    started = time.perf_counter()
    forward_ms = time_calls(forward, repeats, warmup, model.device)
    measured: list[tuple[str, int | None, list[float]]] = [("forward", None, forward_ms)]
    for beam in beams:
        for name, decoder in decoders.items():
            times = time_calls(
                lambda i, d=decoder, b=beam: d.decode(prompts[i % prompts_used], b),  # type: ignore[misc]
                repeats,
                warmup,
                model.device,
            )
            measured.append((name, beam, times))
    floor = float(np.median(forward_ms))
    seconds = round(time.perf_counter() - started, 2)
    return [
        ResultRow(
            kind="latency",
            dataset=dataset.name,
            model=model.describe(),
            decoder=name,
            verifier=None if name == "forward" else "prefix",
            beam=beam,
            metrics={
                "median_ms": round(float(np.median(times)), 3),
                "p95_ms": round(float(np.quantile(times, 0.95)), 3),
                "ratio_to_forward": round(float(np.median(times)) / floor, 3),
            },
            settings={"batch": 1, "repeats": repeats, "warmup": warmup},
            **provenance(model.device),
            seconds=seconds,
        )
        for name, beam, times in measured
    ]


def bench_training(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    batch_targets: int = 256,
    steps: int = 12,
    warmup: int = 2,
    window_stride: int = 10,
) -> list[ResultRow]:
    """Training targets per second: packed prefixes against one prefix per row.

    The model takes real steps, so its weights are changed afterwards.

    Recipes, all with the same model and the same number of targets a step, forward, backward and
    optimiser included:
        row-random: the authors' recipe, one prefix a row, random batches padded to the longest;
        row-bucketed: the same rows, batched by similar length;
        packed-stride-1: packed prefixes, the authors' windows exactly;
        packed: packed prefixes, windows that jump by `window_stride` items.

    Returns:
        A row per recipe with targets_per_second, its ratio to row-random, and tokens_per_target.
    """
    sequences, limit = dataset.train_sequences(), model.config.max_items
    window_stride = min(window_stride, limit)
    levels = semantic_ids.levels
    collate = Collator(semantic_ids, model.vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    bf16 = model.device.type == "cuda"  # the precision of `training.train`
    model.train()
    recipes = {
        "row-random": (TrainingRows(sequences, limit, 1, packed=False), False),
        "row-bucketed": (TrainingRows(sequences, limit, 1, packed=False), True),
        "packed-stride-1": (TrainingRows(sequences, limit, 1), True),
        "packed": (TrainingRows(sequences, limit, window_stride), True),
    }
    measured: dict[str, tuple[float, float, float]] = {}
    for name, (rows, bucketed) in recipes.items():
        batch_rows = max(1, round(batch_targets * len(rows) / rows.n_targets))
        batch_rows = min(batch_rows, len(rows))  # a small data set is one batch
        order = (
            LengthGroupedOrder([row.n_tokens(levels) for row in rows.rows], batch_rows, seed=0)
            if bucketed
            else RandomSampler(rows, generator=torch.Generator().manual_seed(0))
        )
        batches = list(BatchSampler(order, batch_rows, drop_last=True))
        # Length-grouped batches are ordered in waves: an even stride over the epoch samples them.
        chosen = [batches[i * len(batches) // (steps + warmup)] for i in range(steps + warmup)]
        totals = [0, 0]

        def step(index: int) -> None:
            batch = collate([rows[i] for i in chosen[index]])  # noqa: B023
            inputs = {key: value.to(model.device) for key, value in batch.items()}  # type: ignore[attr-defined]
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                loss = model(**inputs)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            totals[0] += len(batch["codes"])  # noqa: B023
            totals[1] += batch["input_ids"].numel()  # noqa: B023

        for index in range(warmup):
            step(index)
        totals[:] = [0, 0]
        times = time_calls(lambda i: step(i + warmup), steps, 0, model.device)
        seconds = sum(times) / 1e3
        measured[name] = (totals[0] / seconds, totals[1] / totals[0], seconds)
    base = measured["row-random"][0]
    return [
        ResultRow(
            kind="training",
            dataset=dataset.name,
            model=model.describe(),
            metrics={
                "targets_per_second": round(rate, 1),
                "ratio_to_row_random": round(rate / base, 2),
                "tokens_per_target": round(tokens, 2),
            },
            settings={
                "recipe": name,
                "batch_targets": batch_targets,
                "steps": steps,
                "max_items": limit,
                "window_stride": window_stride if name == "packed" else 1,
                "precision": "bf16 autocast" if bf16 else "fp32",
            },
            **provenance(model.device),
            seconds=round(seconds, 2),
        )
        for name, (rate, tokens, seconds) in measured.items()
    ]
