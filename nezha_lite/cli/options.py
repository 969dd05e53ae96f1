"""What several commands share: their arguments, and reading what they name.

The package's heavier rooms are imported inside functions, here and in the commands, so that
`--help` does not wait for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from nezha_lite.common.results import ResultRow
    from nezha_lite.datasets import InteractionDataset
    from nezha_lite.decoding.recommender import Recommender
    from nezha_lite.semantic_ids.tokenizer import TokenizerConfig

Verification = Literal["off", "final", "prefix"]
Data = Annotated[str, typer.Argument(help="sample, beauty, instruments, yelp, or a folder")]
Folder = Annotated[Path, typer.Argument(help="folder written by `train`")]
Results = Annotated[
    Path | None, typer.Option(help="also write the figures to this JSON file", dir_okay=False)
]
Beam = Annotated[int, typer.Option(help="beam width")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Verified = Annotated[Verification, typer.Option(help="when drafts are checked")]

# How semantic IDs are built.
Levels = Annotated[int | None, typer.Option(help="levels of IDs that are built; by default 3")]
Codes = Annotated[
    list[int] | None,
    typer.Option(help="codes per level; once for all levels, or repeated for each; by default 64"),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        help="what item vectors are made of: tfidf, encoder, collaborative; repeated to "
        "join them; by default tfidf, or collaborative where there are no texts"
    ),
]
Encoder = Annotated[
    str | None, typer.Option(help="text encoder of `--vectors encoder`: a folder or hub name")
]
Cache = Annotated[
    str | None, typer.Option(help="folder that keeps the encoder's vectors: each text is read once")
]
CollisionWay = Annotated[
    Literal["extra-level", "optimal", "next-best", "shared"] | None,
    typer.Option(help="what becomes of items that would share an ID; by default extra-level"),
]


def tokenizer_config(
    dataset: InteractionDataset,
    levels: int | None,
    codes: Sequence[int] | None,
    vectors: Sequence[str] | None,
    encoder: str | None,
    collisions: str | None,
    seed: int,
    cache: str | None = None,
) -> TokenizerConfig:
    """The options above as one configuration; ValueError names the one that does not fit."""
    from dataclasses import replace

    from nezha_lite.semantic_ids.tokenizer import TokenizerConfig, default_vectors

    levels = 3 if levels is None else levels
    per_level = codes_per_level(levels, codes)
    largest = max(64, dataset.n_items)
    most = max(per_level) if isinstance(per_level, tuple) else per_level
    if most > largest:
        raise ValueError(
            f"codes is {most}, but must be at most {largest} for {dataset.n_items} items."
        )
    made_of = default_vectors(dataset)
    if vectors:
        sources: Any = tuple(vectors)  # checked there
        made_of = replace(made_of, sources=sources, encoder=encoder)
    elif encoder:
        made_of = replace(made_of, sources=("encoder",), encoder=encoder)
    if cache and "encoder" not in made_of.sources:
        raise ValueError(f"--cache is {cache!r}, but there is no encoder whose vectors to keep.")
    made_of = replace(made_of, cache=cache)
    return TokenizerConfig(
        levels=levels,
        codes=per_level,
        vectors=made_of,
        collisions=collisions or "extra-level",  # type: ignore[arg-type]  # typer has checked it
        seed=seed,
    )


def refuse(ids: str, **given: object) -> None:
    """ValueError if an option was given that has no say in IDs of this name or from this place."""
    from nezha_lite.semantic_ids.quantizers import QUANTIZERS

    for option, value in given.items():
        if value is not None and ids not in QUANTIZERS:
            raise ValueError(
                f"--{option} has no say in {ids!r} IDs: leave it out, or name one of "
                f"{', '.join(QUANTIZERS)}."
            )


def codes_per_level(levels: int, codes: Sequence[int] | None) -> int | tuple[int, ...]:
    """What `--codes` asks for: one number for all levels, or one for each."""
    given = tuple(codes or (64,))
    if len(given) not in (1, levels):
        raise ValueError(
            f"--codes is given {len(given)} times, but must be given once, or once for each of "
            f"the {levels} levels."
        )
    return given[0] if len(given) == 1 else given


def load(
    dataset: str, folder: Path, device: str, compile: bool = False
) -> tuple[InteractionDataset, Recommender]:
    """A data set and the model trained on it; ValueError if they are of different catalogues."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.decoding.recommender import Recommender

    found = load_dataset(dataset)
    trained = Recommender.load(folder, device, compile)
    if trained.semantic_ids.items != found.items:
        raise ValueError(
            f"{folder} was trained on another catalogue ({trained.semantic_ids.n_items} items) "
            f"than {found.name!r} ({found.n_items} items): name the data set it was trained on."
        )
    return found, trained


def keep(results: Path | None, rows: Sequence[ResultRow]) -> None:
    """Write the rows where `--results` asks for it."""
    from nezha_lite.common.results import write_results

    if results is not None:
        write_results(results, rows)
        print(f"Written to {results}.")


Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def lower(*options: str) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """Of a command: on a lack of memory, a MemoryError that names these options of it."""
    *others, last = options
    named = f"{', '.join(others)} or {last}" if others else last

    def of_command(command: Callable[Given, Answer]) -> Callable[Given, Answer]:
        @wraps(command)
        def guarded(*arguments: Given.args, **options: Given.kwargs) -> Answer:
            try:
                return command(*arguments, **options)
            except (MemoryError, RuntimeError) as error:
                from nezha_lite.common.memory import out_of_memory

                if not out_of_memory(error):
                    raise
                said = str(error).rstrip(".") if isinstance(error, MemoryError) else ""
                raise MemoryError(f"{said or 'Memory ran out'}; lower {named}.") from error

        return guarded

    return of_command
