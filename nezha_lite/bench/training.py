"""Training targets per second: packed prefixes against the authors' one prefix a row."""

from __future__ import annotations

import torch
from torch.utils.data import BatchSampler, RandomSampler

from nezha_lite.bench.timing import time_calls
from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.packing import Collator, LengthGroupedOrder, TrainingRows


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
