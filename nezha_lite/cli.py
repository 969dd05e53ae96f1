"""The command line: what one runs without a notebook. Thin over the package.

The package is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from nezha_lite.datasets import InteractionDataset
    from nezha_lite.recommender import Recommender

app = typer.Typer(
    help="Train, evaluate and try generative recommenders with NEZHA's draft head.\n\n"
    "DATASET is sample, beauty, instruments or yelp, or a folder with NAME.inter.json "
    "(data/README.md describes the layout). A first walk:\n\n"
    "nezha-lite data sample\n\n"
    "nezha-lite train sample runs/sample\n\n"
    "nezha-lite recommend runs/sample sample --user 7",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Ids = Literal["auto", "released", "rq-kmeans", "rq-vae"]
Collisions = Literal["extra-level", "shared"]
DecoderName = Literal["nezha", "autoregressive", "both"]
Verification = Literal["off", "final", "prefix"]

Data = Annotated[str, typer.Argument(help="sample, beauty, instruments, yelp, or a folder")]
Folder = Annotated[Path, typer.Argument(help="folder written by `train`")]
Results = Annotated[Path | None, typer.Option(help="also write the figures to this JSON file")]
Beam = Annotated[int, typer.Option(help="beam width")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps")]
Verified = Annotated[Verification, typer.Option(help="when drafts are checked")]


@app.command()
def data(dataset: Data) -> None:
    """Show what is in a data set; download it first where needed."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.semantic_ids import released_semantic_ids

    found = load_dataset(dataset)
    targets = sum(max(0, len(sequence) - 1) for sequence in found.train_sequences())
    print(
        f"{found.name}: {found.n_users:,} users, {found.n_items:,} items, "
        f"{found.n_interactions:,} interactions, {targets:,} training targets"
    )
    print(f"item texts: {'yes' if found.texts else 'no'}")
    if found.released_codes is None:
        print("released semantic IDs: none; `train` builds some from the texts")
    else:
        ids = released_semantic_ids(found)
        print(
            f"released semantic IDs: radices {ids.radices}, {ids.n_distinct:,} distinct, "
            f"collision rate {ids.collision_rate:.4f}"
        )


@app.command()
def train(
    dataset: Data,
    output: Annotated[Path, typer.Argument(help="folder for the model; must not hold a run yet")],
    preset: Annotated[str, typer.Option(help="backbone: tiny, small or qwen3-0.6b")] = "tiny",
    backbone: Annotated[
        str | None, typer.Option(help="pretrained backbone instead: a folder or a hub name")
    ] = None,
    ids: Annotated[Ids, typer.Option(help="auto: released ones where they exist")] = "auto",
    levels: Annotated[int, typer.Option(help="levels of IDs that are built")] = 3,
    codes: Annotated[int, typer.Option(help="codes per level of IDs that are built")] = 64,
    collisions: Annotated[
        Collisions, typer.Option(help="one more level, or expanded when recommending")
    ] = "extra-level",
    epochs: Annotated[int, typer.Option(help="passes over the data")] = 16,
    batch_rows: Annotated[int, typer.Option(help="rows (about users) a step")] = 64,
    learning_rate: Annotated[float, typer.Option(help="peak rate of AdamW")] = 2e-3,
    embedding_lr: Annotated[float, typer.Option(help="× for the head's embeddings")] = 1.0,
    transition_lr: Annotated[float, typer.Option(help="× for the head's transitions")] = 1.0,
    dropout: Annotated[float, typer.Option(help="embeddings, residuals and head")] = 0.1,
    next_code_weight: Annotated[
        float, typer.Option(help="weight of the autoregressive loss; 0 is the paper's recipe")
    ] = 1.0,
    max_items: Annotated[int, typer.Option(help="longest history, in items")] = 20,
    seed: Annotated[int, typer.Option(help="of weights, order and dropout")] = 0,
    resume: Annotated[bool, typer.Option(help="go on from the newest checkpoint")] = False,
) -> None:
    """Train a model with its draft head."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.model import NezhaModel
    from nezha_lite.tokenize import build_semantic_ids
    from nezha_lite.training import TrainingConfig
    from nezha_lite.training import train as train_model

    found = load_dataset(dataset)
    semantic_ids = build_semantic_ids(found, ids, levels, codes, collisions, seed)
    settings = {"dropout": dropout, "next_code_weight": next_code_weight, "max_items": max_items}
    model = (
        NezhaModel.from_backbone(backbone, semantic_ids, seed=seed, **settings)
        if backbone
        else NezhaModel.from_preset(preset, semantic_ids, seed=seed, **settings)
    )
    config = TrainingConfig(
        epochs=epochs,
        batch_rows=batch_rows,
        learning_rate=learning_rate,
        embedding_lr=embedding_lr,
        transition_lr=transition_lr,
        seed=seed,
    )
    print(f"{found.name}: {found.n_users:,} users, semantic IDs of radices {semantic_ids.radices}")
    record = train_model(model, semantic_ids, found, output, config, resume)
    print(f"Trained in {record['seconds']:.0f} s; model, semantic IDs and log are in {output}.")


@app.command()
def evaluate(
    folder: Folder,
    dataset: Data,
    beam: Beam = 20,
    decoder: DecoderName = "nezha",
    verification: Verified = "prefix",
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="which held-out items")
    ] = "test",
    users: Annotated[int, typer.Option(help="a random sample of users; 0 takes all")] = 0,
    results: Results = None,
    device: Device = "cpu",
) -> None:
    """Item-level Recall and NDCG over the whole catalogue, beside the most popular items."""
    from nezha_lite import decoding, evaluation
    from nezha_lite.results import ResultRow, provenance, write_results
    from nezha_lite.training import read_training_record

    found, trained = _load(dataset, folder, device)
    held_out = found.split(split)
    held_out = held_out.sample(users, seed=0) if users else held_out
    popularity = evaluation.training_popularity(found)
    record = read_training_record(folder)
    settings = {
        "split": split,
        "users": len(held_out.targets),
        **{name: record[name] for name in ("config", "seconds", "cpu_seconds")},
    }
    rows = []
    for name, kind in (
        ("nezha", decoding.NezhaDecoder),
        ("autoregressive", decoding.AutoregressiveDecoder),
        ("popularity", None),
    ):
        if kind is not None and decoder not in (name, "both"):
            continue
        started = time.perf_counter()
        measured = (
            evaluation.evaluate(
                kind(trained.model, trained.verifier, verification),
                trained.model,
                trained.semantic_ids,
                held_out,
                beam,
                popularity,
                progress=True,
            )
            if kind
            else evaluation.evaluate_popularity(found, held_out, max(10, beam))
        )
        figures = {key: round(value, 5) for key, value in measured.metrics().items()}
        print(f"{name:15s}" + "  ".join(f"{key} {value:.4f}" for key, value in figures.items()))
        rows.append(
            ResultRow(
                kind="quality",
                dataset=found.name,
                model=trained.model.describe(),
                decoder=name,
                verifier=verification if kind else None,
                beam=beam if kind else None,
                metrics=figures,
                seeds=[record["config"]["seed"]],
                settings=settings,
                **provenance(trained.model.device),
                seconds=round(time.perf_counter() - started, 1),
            )
        )
    if results is not None:
        write_results(results, rows)
        print(f"Written to {results}.")


@app.command()
def recommend(
    folder: Folder,
    dataset: Data,
    user: Annotated[str | None, typer.Option(help="a user of the data set, by name")] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="or a history: item names, oldest first, repeated")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="length of the list")] = 10,
    beam: Beam = 50,
    verification: Verified = "prefix",
    device: Device = "cpu",
) -> None:
    """Recommend items, with their titles, to a user or after a history."""
    if (user is None) == (item is None):
        raise ValueError("Name either a --user or the --item names of a history, and not both.")
    found, trained = _load(dataset, folder, device)
    history = (
        found.sequences[_number(user, found.users, "User", found.name)]
        if user is not None
        else [_number(name, found.items, "Item", found.name) for name in item or ()]
    )
    print("History, oldest first:")
    for known in history[-trained.model.config.max_items :]:
        print(f"      {found.title(known)}")
    print("Recommended:")
    (ranked,) = trained.recommend([history], k, beam, verification)
    for place, best in enumerate(ranked, start=1):
        print(f"  {place:2d}. {found.title(best.item)}  (item {best.name}, {best.score:.2f})")


@app.command()
def bench(
    what: Annotated[
        Literal["decode", "train"],
        typer.Argument(help="decode: latency; train: targets per second"),
    ],
    folder: Folder,
    dataset: Data,
    beams: Annotated[list[int] | None, typer.Option("--beam", help="beam widths, repeated")] = None,
    repeats: Annotated[int, typer.Option(help="timed calls or training steps")] = 50,
    results: Results = None,
    device: Device = "cpu",
) -> None:
    """Time decoding or training, on a machine with nothing else to do."""
    from nezha_lite.bench import bench_decoding, bench_training
    from nezha_lite.results import write_results

    found, trained = _load(dataset, folder, device)
    rows = (
        bench_decoding(trained.model, trained.semantic_ids, found, beams or [10, 50, 512], repeats)
        if what == "decode"
        else bench_training(trained.model, trained.semantic_ids, found, steps=repeats)
    )
    for row in rows:
        name = row.decoder or row.settings["recipe"]
        figures = "  ".join(f"{key} {value:,}" for key, value in row.metrics.items())
        print(f"{name:16s}{f'beam {row.beam}' if row.beam else '':10s}{figures}")
    if results is not None:
        write_results(results, rows)
        print(f"Written to {results}.")


def _load(dataset: str, folder: Path, device: str) -> tuple[InteractionDataset, Recommender]:
    from nezha_lite.datasets import load_dataset
    from nezha_lite.recommender import Recommender

    found = load_dataset(dataset)
    trained = Recommender.load(folder, device)
    if trained.semantic_ids.items != found.items:
        raise ValueError(
            f"{folder} was trained on another catalogue ({trained.semantic_ids.n_items} items) "
            f"than {found.name!r} ({found.n_items} items): name the data set it was trained on."
        )
    return found, trained


def _number(name: str, names: tuple[str, ...], what: str, dataset: str) -> int:
    if name not in names:
        raise ValueError(
            f"{what} {name!r} is not in data set {dataset!r}, which names them like {names[0]!r}."
        )
    return names.index(name)


def main() -> None:
    """Run the command line; bad input is one sentence on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    try:
        app([argument for argument in sys.argv[1:] if argument != "--debug"])
    except (ValueError, OSError) as error:
        if debug:
            raise
        print(f"nezha-lite: {error}", file=sys.stderr)
        sys.exit(2)
