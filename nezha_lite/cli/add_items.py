"""`nezha-lite add-items`: a trained model's catalogue grows, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from nezha_lite.cli.options import (
    NEW_ITEMS_FILE,
    Beam,
    Device,
    Folder,
    new_texts,
    oom_hint,
    options_of,
)
from nezha_lite.datasets import InteractionDataset, Sequences, TableLayout, load_dataset
from nezha_lite.datasets.json_folder import write_texts
from nezha_lite.datasets.own_tables import read_items
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.outside import read_vectors
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer
from nezha_lite.training import TOKENIZER_FOLDER, read_training_record, split_as_trained

_LIST = 10  # items of a list, for the report


@oom_hint("--beam", "--users")
@options_of(
    "layout",
    TableLayout,
    *("item", "title", "brand", "categories", "description", "items_separator", "items_encoding"),
    *("items_header", "items_quote", "category_separator", "drop_bad_rows"),
)
def add_items(
    folder: Folder,
    items: Annotated[Path, typer.Argument(dir_okay=False)],
    layout: dict[str, Any],
    dataset: Annotated[str | None, typer.Argument()] = None,
    tokenizer: Annotated[Path | None, typer.Option(file_okay=False)] = None,
    vectors: Annotated[Path | None, typer.Option(dir_okay=False)] = None,
    names: Annotated[Path | None, typer.Option(dir_okay=False)] = None,
    users: int = 1000,
    beam: Beam = 50,
    device: Device = "auto",
) -> None:
    """Give new items IDs, so that the model in FOLDER recommends them at once.

    No ID of another item changes. Items that FOLDER already has are passed over, so ITEMS may be
    the whole catalogue. The report says how new items collide, and how often they are recommended.

    Args:
        items: table of items, as of `import`
        dataset: data set, for the report; by default the one of this name that it was trained on
        tokenizer: folder that `tokenize` wrote, for a run that does not hold its tokenizer
        vectors: new items' vectors, where IDs were made from own ones: .npy, .safetensors, .parquet
        names: names of the rows of `--vectors`, one a line
        users: test users of the report; 0 takes all
    """
    trained = Recommender.load(folder, device)
    ids, fitted = trained.semantic_ids, _tokenizer(folder, tokenizer)
    texts = read_items(items, TableLayout(**layout))
    known = set(ids.items)
    new = {name: text for name, text in texts.items() if name not in known}
    print(f"{items}: {len(texts):,} items, of which {folder} has {len(texts) - len(new):,}.")
    if not new:
        print("Nothing to add.")
        return
    named = InteractionDataset(
        "the new items", tuple(new), (), Sequences([0], []), tuple(new.values())
    )
    own = read_vectors(vectors, named, names) if vectors else None
    grown = fitted.add(list(new), list(new.values()), own, ids)
    kept = {**new_texts(folder), **new}
    # In this order: texts without IDs change nothing, and the IDs are replaced in one step.
    write_texts(folder / NEW_ITEMS_FILE, kept)
    grown.semantic_ids.save(folder / SEMANTIC_IDS_FILE)
    print(grown.sentence())
    print(f"{folder} now recommends {grown.semantic_ids.n_items:,} items.")
    try:
        data = load_dataset(dataset or read_training_record(folder)["dataset"])
    except FileNotFoundError:
        print("Name the data set after ITEMS to learn how often new items are recommended.")
        return
    everything = tuple(grown.semantic_ids.items)
    if not {*data.items} <= {*everything}:
        print(f"Data set {data.name!r} has items that {folder} does not: no lists are reported.")
        return
    data = split_as_trained(data, folder).over(everything, kept)
    after = Recommender(trained.model, grown.semantic_ids)
    print(_report(data, trained, after, users, beam))


def _tokenizer(folder: Path, other: Path | None) -> ItemTokenizer:
    path = other or folder / TOKENIZER_FOLDER
    if not path.is_dir():
        raise ValueError(
            f"{folder} holds no tokenizer, as its IDs were released, came from a file, or are of "
            "an older version: make them again by `nezha-lite tokenize DATASET IDS` with the "
            "settings of then, and name that folder as --tokenizer, or train again."
        )
    fitted = ItemTokenizer.load(path)
    if other:
        ours, theirs = SemanticIds.load(folder / SEMANTIC_IDS_FILE), fitted.semantic_ids
        first = dict(zip(ours.items, ours.codes.tolist(), strict=True))
        pairs = zip(theirs.items, theirs.codes.tolist(), strict=True)
        if ours.radices != theirs.radices or any(first.get(name) != code for name, code in pairs):
            raise ValueError(
                f"{other} gives other IDs than {folder} was trained with: make them again with the "
                "settings of then."
            )
    return fitted


def _report(
    data: InteractionDataset, before: Recommender, after: Recommender, users: int, beam: int
) -> str:
    """How often the new items are in the test users' lists, and what that does to the old ones."""
    split = data.split("test")
    split = split.sample(users, seed=0) if 0 < users < len(split) else split
    popularity, n_old, hits = data.popularity(), before.semantic_ids.n_items, []
    for trained in (before, after):
        n_items, lists = trained.semantic_ids.n_items, []
        histories = [[item for item in past if item < n_items] for past in split.histories]
        for first in range(0, len(histories), 64):
            batch, counts = histories[first : first + 64], popularity[:n_items]
            for ranked in trained.recommend(batch, _LIST, beam, "prefix", counts):
                lists.append([best.item for best in ranked])
        hits.append(_share(t in row for t, row in zip(split.targets, lists, strict=True)))
    return (
        f"In the lists of {_LIST} of {len(split):,} test users: new items take "
        f"{_share(item >= n_old for row in lists for item in row):.1%} of the entries (before "
        f"0.0%; all items alike would give them {1 - n_old / n_items:.1%}) and are in "
        f"{_share(any(item >= n_old for item in row) for row in lists):.1%} of the lists; "
        f"Recall@{_LIST} {hits[0]:.4f} before, {hits[1]:.4f} after."
    )


def _share(values: Iterable[bool]) -> float:
    counted = list(values)
    return sum(counted) / max(1, len(counted))
