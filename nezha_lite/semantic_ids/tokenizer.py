"""From a catalogue to its semantic IDs: item vectors → codes → IDs without collisions."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from torch import Tensor

from nezha_lite.common.files import atomic_write, parse_json
from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids.catalogue import SemanticIds, released_semantic_ids
from nezha_lite.semantic_ids.collisions import Collisions, NewItems, add_items, resolve
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.quantizers import (
    Quantizer,
    RQKMeans,
    load_quantizer,
    make_quantizer,
)
from nezha_lite.semantic_ids.tokenizer_config import (
    TOKENIZERS,
    TokenizerConfig,
    default_vectors,
    named,
)
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig

__all__ = [
    "TOKENIZERS",
    "CollapseWarning",
    "ItemTokenizer",
    "TokenizerConfig",
    "build_semantic_ids",
    "default_vectors",
    "item_vectors",
    "named",
    "tokenize",
]

_FILES = ("tokenizer.json", "quantizer.safetensors", "semantic_ids.safetensors")


class CollapseWarning(UserWarning):
    """Semantic IDs tell fewer items apart than they could; the text says where and what helps."""


class ItemTokenizer:
    """Everything between an item's text and its semantic ID, kept so that new items get theirs.

    Attributes:
        config: how it was asked for.
        vectorizer: items to vectors; fitted by `fit`.
        quantizer: vectors to codes; fitted by `fit`.
        semantic_ids: the catalogue's IDs; `add` extends them.
    """

    def __init__(self, config: TokenizerConfig | None = None) -> None:
        self.config = config or TokenizerConfig()
        self.vectorizer = ItemVectorizer(self.config.vectors)
        self.quantizer = make_quantizer(
            self.config.quantizer, self.config.levels, self.config.codes, self.config.seed
        )
        self._plain_ids: SemanticIds | None = None
        self._semantic_ids: SemanticIds | None = None

    @property
    def plain_ids(self) -> SemanticIds:
        """The IDs of `fit`, before collisions were resolved. RuntimeError before `fit`."""
        if self._plain_ids is None:
            raise RuntimeError("this ItemTokenizer was not fitted here: call fit first")
        return self._plain_ids

    @property
    def semantic_ids(self) -> SemanticIds:
        """The catalogue's IDs. RuntimeError before `fit` or `load`."""
        if self._semantic_ids is None:
            raise RuntimeError("this ItemTokenizer has no semantic IDs yet: call fit or load first")
        return self._semantic_ids

    def fit(self, dataset: InteractionDataset, progress: bool = False) -> Self:
        """Learn vectors and codebooks from the catalogue and name its items.

        Warns:
            CollapseWarning: one for each level or catalogue that collapsed.
        """
        vectors = self.vectorizer.fit_transform(dataset, progress)
        self._plain_ids = _quantize(dataset, self.quantizer, vectors, progress)
        self._semantic_ids = _resolve(
            dataset, self.quantizer, vectors, self._plain_ids, self.config.collisions
        )
        return self

    def add(self, names: Sequence[str], texts: Sequence[ItemText]) -> NewItems:
        """Name items that came after fitting; nothing is refitted and no old ID changes.

        A model trained on the old IDs can recommend the new items at once, as far as their codes
        mean what they say. What was behaviour in the vectors is unknown for them and left neutral.
        """
        if isinstance(names, str) or len(names) != len(texts):
            raise ValueError(
                f"names is {names!r:.80} for {len(texts)} texts: there must be one name for each."
            )
        if wrong := [text for text in texts if not isinstance(text, ItemText)]:
            raise ValueError(f"texts holds {wrong[0]!r:.80}, but must hold `ItemText`s.")
        new = add_items(
            self.semantic_ids,
            self.quantizer,
            self.vectorizer.transform(texts),
            names,
            self.config.collisions,
        )
        self._semantic_ids = new.semantic_ids
        return new

    def save(self, folder: str | Path) -> Path:
        """Write config, vectorizer, quantizer and IDs into `folder`.

        Everything is written beside it first, so that a full disk or an error leaves an earlier
        tokenizer as it was; `tokenizer.json` comes last, so that two are never mixed.
        """
        folder, semantic_ids = Path(folder), self.semantic_ids
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", suffix=".part", dir=folder) as beside:
            config_file, quantizer_file, ids_file = (Path(beside) / name for name in _FILES)
            self.vectorizer.save(Path(beside) / "vectorizer")
            self.quantizer.save(quantizer_file)
            semantic_ids.save(ids_file)
            atomic_write(config_file, json.dumps(asdict(self.config), indent=1) + "\n")
            (folder / _FILES[0]).unlink(missing_ok=True)
            written = [path for path in Path(beside).rglob("*") if path.is_file()]
            for path in sorted(written, key=lambda path: path == config_file):
                target = folder / path.relative_to(beside)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote. FileNotFoundError, or ValueError naming the damaged file."""
        folder = Path(folder)
        for name in _FILES:
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} has no {name}: it was not written by `save`.")
        config_file, quantizer_file, ids_file = (folder / name for name in _FILES)
        try:
            fields = parse_json(config_file.read_text(encoding="utf-8"))
            # A file does not say into which folder others are written.
            vectors = _tuples(fields.pop("vectors")) | {"cache": None}
            fields = _tuples(fields)
            config = TokenizerConfig(vectors=VectorConfig(**vectors), **fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{config_file} is no tokenizer's settings: {error}") from error
        tokenizer = cls(config)
        tokenizer.vectorizer = ItemVectorizer.load(folder / "vectorizer")
        tokenizer.quantizer = load_quantizer(quantizer_file)
        tokenizer._semantic_ids = SemanticIds.load(ids_file)
        made = cls(config).quantizer
        found = tokenizer.quantizer
        radices = tokenizer._semantic_ids.radices[: config.levels]
        if (found.kind, found.config) != (made.kind, made.config) or (
            (tokenizer.vectorizer.config, radices) != (config.vectors, found.radices)
        ):
            raise ValueError(
                f"{folder} mixes files of different tokenizers: save it again, or build it anew."
            )
        return tokenizer


def tokenize(
    dataset: InteractionDataset,
    quantizer: Quantizer | None = None,
    vectors: Tensor | None = None,
    collisions: Collisions = "extra-level",
    progress: bool = False,
) -> SemanticIds:
    """Semantic IDs of a data set from parts at hand; `ItemTokenizer` keeps the parts together.

    Args:
        quantizer: an unfitted quantizer; the default is `RQKMeans` with 3 levels of 64 codes. It is
            fitted in place.
        vectors: (N, D) float32 item vectors; the default is `item_vectors(dataset)`.
        collisions: what becomes of items that share an ID, see `collisions.resolve`.
        progress: show bars while fitting.

    Raises:
        ValueError: if the number of vectors is not the data set's number of items.

    Warns:
        CollapseWarning: one for each level or catalogue that collapsed.
    """
    if vectors is None:
        vectors = item_vectors(dataset)
    if len(vectors) != dataset.n_items:
        raise ValueError(f"vectors has {len(vectors)} rows, but there are {dataset.n_items} items.")
    quantizer = RQKMeans() if quantizer is None else quantizer
    plain = _quantize(dataset, quantizer, vectors, progress)
    return _resolve(dataset, quantizer, vectors, plain, collisions)


def _quantize(
    dataset: InteractionDataset, quantizer: Quantizer, vectors: Tensor, progress: bool
) -> SemanticIds:
    """Fit, encode, and say so if the codes collapsed."""
    codes = quantizer.fit(vectors, progress).encode(vectors)
    plain = SemanticIds.from_codes(codes, quantizer.radices, dataset.items)
    for problem in id_quality(plain, vectors, queries=1).found:
        if problem.kind in ("collapsed", "single-code", "duplicates"):
            warnings.warn(CollapseWarning(problem.sentence), stacklevel=3)
    return plain


def _resolve(
    dataset: InteractionDataset,
    quantizer: Quantizer,
    vectors: Tensor,
    plain: SemanticIds,
    how: Collisions,
) -> SemanticIds:
    # Whoever keeps the better code should be the item that is recommended more often.
    popularity = dataset.popularity() if how == "next-best" else None
    return resolve(plain.codes, quantizer, vectors, how, dataset.items, popularity)


def item_vectors(dataset: InteractionDataset, config: VectorConfig | None = None) -> Tensor:
    """(N, D) float32 vectors of the items: from their texts, or else from who took what."""
    return ItemVectorizer(config or default_vectors(dataset)).fit_transform(dataset)


def build_semantic_ids(
    dataset: InteractionDataset, source: str = "auto", config: TokenizerConfig | None = None
) -> SemanticIds:
    """Semantic IDs by name, as the command line asks for them.

    Args:
        source: "released" takes the data set's own; a name in `TOKENIZERS` builds them; "auto"
            takes released ones where they exist and builds them by RQ-KMeans elsewhere; anything
            else is a file of semantic IDs, or a folder written by `ItemTokenizer.save`.
        config: of IDs that are built (see `named`), and what becomes of released ones' collisions.
    """
    config = config or TokenizerConfig(vectors=default_vectors(dataset))
    if source == "auto":
        source = "released" if dataset.released_codes is not None else "rq-kmeans"
    if source == "released":
        return _released(dataset, config.collisions)
    if source in TOKENIZERS:
        slow = dataset.n_items > 2000  # fewer are done before a bar can be read
        return ItemTokenizer(named(source, config)).fit(dataset, slow).semantic_ids
    return _read(Path(source), dataset)


def _released(dataset: InteractionDataset, collisions: Collisions) -> SemanticIds:
    released = released_semantic_ids(dataset)
    if collisions == "shared":
        return released
    if collisions == "extra-level":
        return released.with_extra_level()
    raise ValueError(
        f"collisions is {collisions!r}, but released IDs came without their codebooks: only "
        "'extra-level' and 'shared' apply to them."
    )


def _read(path: Path, dataset: InteractionDataset) -> SemanticIds:
    if not path.exists():
        raise ValueError(
            f"IDs are asked from {str(path)!r}, but valid are auto, released, "
            f"{', '.join(TOKENIZERS)}, or a file or folder of semantic IDs that exists."
        )
    found = SemanticIds.load(path / _FILES[2] if path.is_dir() else path)
    if found.items != dataset.items:
        raise ValueError(
            f"{path} names {found.n_items} items, but not the {dataset.n_items} of data set "
            f"{dataset.name!r} in their order: build IDs for this data set."
        )
    return found


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, the configurations have no lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
