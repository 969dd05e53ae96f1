"""Training targets per second: packed prefixes against the authors' one prefix a row."""

from __future__ import annotations

import time

import torch
from torch.utils.data import BatchSampler, RandomSampler
from torch.utils.flop_counter import FlopCounterMode

from nezha_lite.bench.roofline import Peaks, measured_peaks
from nezha_lite.bench.timing import time_calls
from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.packing import Collator, LengthGroupedOrder, TrainingBatch, TrainingRows


def bench_training(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    batch_targets: int = 256,
    steps: int = 12,
    warmup: int = 2,
    window_stride: int = 10,
    peaks: Peaks | None = None,
) -> list[ResultRow]:
    """Training targets per second: packed prefixes against one prefix per row.

    The model takes real steps, so its weights are changed afterwards. Without `peaks` the device's
    are measured.

    Recipes, all with the same model and the same number of targets a step, forward, backward and
    optimiser included:
        row-random: the authors' recipe, one prefix a row, random batches padded to the longest;
        row-bucketed: the same rows, batched by similar length;
        packed-stride-1: packed prefixes, the authors' windows exactly;
        packed: packed prefixes, windows that jump by `window_stride` items.

    Returns:
        A row per recipe with targets_per_second, its ratio to row-random, tokens_per_target,
        mflops_per_target (of the matrix products), and share_of_peak: these operations over what
        the device reaches in its best matrix product of the same precision.
    """
    sequences, limit = dataset.train_sequences(), model.config.max_items
    window_stride = min(window_stride, limit)
    collate = Collator(semantic_ids, model.vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    bf16 = model.device.type == "cuda"  # the precision of `training.train`
    peaks = peaks or measured_peaks(model.device, torch.bfloat16 if bf16 else torch.float32)
    model.train()
    recipes = {
        "row-random": (TrainingRows(sequences, limit, 1, packed=False), False),
        "row-bucketed": (TrainingRows(sequences, limit, 1, packed=False), True),
        "packed-stride-1": (TrainingRows(sequences, limit, 1), True),
        "packed": (TrainingRows(sequences, limit, window_stride), True),
    }

    def step(batch: TrainingBatch, update: bool = True) -> None:
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}  # type: ignore[attr-defined]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            loss = model(**inputs)["loss"]
        loss.backward()
        if update:
            optimizer.step()
        optimizer.zero_grad()

    results: list[ResultRow] = []
    for recipe, (rows, bucketed) in recipes.items():
        started = time.perf_counter()
        batches = _batches(rows, batch_targets, warmup + steps, semantic_ids.levels, bucketed)
        made: list[TrainingBatch] = []

        def train(index: int) -> None:
            made.append(collate([rows[row] for row in batches[len(made)]]))  # noqa: B023
            step(made[-1])  # noqa: B023

        seconds = sum(time_calls(train, steps, warmup, model.device)) / 1e3
        targets = sum(len(batch["codes"]) for batch in made[warmup:])
        tokens = sum(batch["input_ids"].numel() for batch in made[warmup:])
        with FlopCounterMode(display=False) as counter:
            for batch in made[warmup:]:
                step(batch, update=False)
        flops, rate = counter.get_total_flops() / targets, targets / seconds
        base = results[0].metrics["targets_per_second"] if results else rate
        results.append(
            ResultRow.measured(
                device=model.device,
                started=started,
                digits=2,
                kind="training",
                dataset=dataset.name,
                model=model.describe(),
                metrics={
                    "targets_per_second": rate,
                    "ratio_to_row_random": rate / base,
                    "tokens_per_target": tokens / targets,
                    "mflops_per_target": flops / 1e6,
                    "share_of_peak": flops * rate / peaks.flops,
                },
                settings={
                    "recipe": recipe,
                    "batch_targets": batch_targets,
                    "steps": steps,
                    "max_items": limit,
                    "window_stride": window_stride if recipe == "packed" else 1,
                    "precision": "bf16 autocast" if bf16 else "fp32",
                },
            )
        )
    return results


def _batches(
    rows: TrainingRows, batch_targets: int, count: int, levels: int, bucketed: bool
) -> list[list[int]]:
    """`count` batches of about `batch_targets` targets, evenly spread over an epoch."""
    batch_rows = max(1, round(batch_targets * len(rows) / rows.n_targets))
    batch_rows = min(batch_rows, len(rows))  # a small data set is one batch
    order = (
        LengthGroupedOrder(rows.n_tokens(levels), batch_rows, seed=0)
        if bucketed
        else RandomSampler(rows, generator=torch.Generator().manual_seed(0))
    )
    batches = list(BatchSampler(order, batch_rows, drop_last=True))
    # Length-grouped batches are ordered in waves: an even stride over the epoch samples them.
    return [batches[index * len(batches) // count] for index in range(count)]
