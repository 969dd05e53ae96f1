"""How the benches answer: figures on stdout, all else on stderr, a file where one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from nezha_lite.cli.options import keep, load, tokenizer_config

if TYPE_CHECKING:
    from nezha_lite.common.results import ResultRow


def keep_rows(results: Path | None, rows: Sequence[ResultRow], json: bool) -> None:
    """As `keep`; with JSON on stdout, nothing else goes there."""
    with redirect_stdout(sys.stderr if json else sys.stdout):
        keep(results, rows)


def show(
    rows: Sequence[ResultRow], table: Callable[[Sequence[ResultRow]], str], json: bool
) -> None:
    """Print rows as a table for people, or as JSON lines; MemoryError if nothing fitted."""
    from nezha_lite.bench.tables import json_lines

    if not rows:
        raise MemoryError("Nothing was measured: all of it was left out.")
    print("\n".join(json_lines(rows)) if json else table(rows))


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """So many CPU threads, and as many as before afterwards."""
    import torch

    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, but must be at least 1.")
    kept = torch.get_num_threads()
    torch.set_num_threads(threads or kept)
    try:
        yield
    finally:
        torch.set_num_threads(kept)


if TYPE_CHECKING:
    import torch

    from nezha_lite.bench import DecodeBench
    from nezha_lite.datasets import InteractionDataset
    from nezha_lite.model import NezhaModel
    from nezha_lite.semantic_ids import SemanticIds


def catalogues(
    folder: Path | None,
    preset: str | None,
    dataset: str | None,
    levels: Sequence[int] | None,
    codes: int | None,
    items: int | None,
    device: torch.device,
    seed: int,
) -> Iterator[tuple[InteractionDataset | None, SemanticIds, NezhaModel | None]]:
    """Data set, IDs and trained model of each catalogue; None where there is none.

    ValueError names an option that has no say in what another one brings along.
    """
    from nezha_lite.bench.workload import synthetic_ids
    from nezha_lite.datasets import load_dataset
    from nezha_lite.decoding.recommender import Recommender

    if folder is not None:
        _refuse("the trained --model", preset=preset, levels=levels, codes=codes, items=items)
        if dataset is None:
            found, trained = None, Recommender.load(folder, str(device))
        else:
            found, trained = load(dataset, folder, str(device))
        yield found, trained.semantic_ids, trained.model
    elif dataset is not None:
        _refuse("the catalogue of a --dataset", items=items)
        found = load_dataset(dataset)
        if found.released_codes is not None:
            _refuse("the released IDs of a --dataset", levels=levels, codes=codes)
        for count in levels or (None,):
            yield found, _ids_of(found, count, codes, seed), None
    else:
        per_level, n_items = 256 if codes is None else codes, 12_000 if items is None else items
        for count in levels or (4,):
            if count < 1 or per_level < 1:
                what, value = ("levels", count) if count < 1 else ("codes", per_level)
                raise ValueError(f"{what} is {value}, but must be at least 1.")
            yield None, synthetic_ids(n_items, (per_level,) * count, seed), None


def random_model(
    preset: str | None, semantic_ids: SemanticIds, asked: DecodeBench, seed: int
) -> NezhaModel:
    """Random weights of a preset, by default `small`, for the longest prompts asked for."""
    from nezha_lite.model import NezhaModel

    longest = max(asked.items_per_prompt(semantic_ids.levels))
    model = NezhaModel.from_preset(preset or "small", semantic_ids, seed=seed, max_items=longest)
    return model.eval()


def _ids_of(
    dataset: InteractionDataset, levels: int | None, codes: int | None, seed: int
) -> SemanticIds:
    """Released IDs as they are, items that share one included; else IDs that `train` would make."""
    from nezha_lite.semantic_ids.tokenizer import build_semantic_ids

    shared = "shared" if dataset.released_codes is not None else None
    per_level = None if codes is None else [codes]
    config = tokenizer_config(dataset, levels, per_level, None, None, shared, seed)
    return build_semantic_ids(dataset, "auto", config)


def _refuse(brought_by: str, **given: object) -> None:
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"--{option} has no say in {brought_by}: leave one of them out.")
