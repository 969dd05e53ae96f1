"""From a catalogue to its semantic IDs: item vectors → codes → IDs without collisions."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, get_args

from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.common.files import atomic_write, damage_named, parse_json
from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids.catalogue import SemanticIds, released_semantic_ids
from nezha_lite.semantic_ids.collisions import Collisions, NewItems, add_items, resolve
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE, without_lists
from nezha_lite.semantic_ids.outside import load_ids
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.quantizers import (
    QUANTIZERS,
    Quantizer,
    RQKMeans,
    load_quantizer,
    make_quantizer,
)
from nezha_lite.semantic_ids.quantizers.base import Vectors, check_vectors
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig
from nezha_lite.semantic_ids.vectors.signal import text_weakness
from nezha_lite.semantic_ids.vectors.tfidf import item_sentences

_FILES = ("tokenizer.json", "quantizer.safetensors", SEMANTIC_IDS_FILE)


class CollapseWarning(UserWarning):
    """Semantic IDs tell fewer items apart than they could; the text says where and what helps."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How to make semantic IDs.

    Attributes:
        quantizer: one of `quantizers.QUANTIZERS`.
        levels: L, before an extra level is added.
        codes: codes per level, one number for all or one per level.
        vectors: what the items' vectors are made of.
        collisions: how items that share an ID are handled, see `collisions.resolve`. In
            "next-best" the most popular item keeps a code; an "extra-level" numbers in catalogue
            order, so that IDs stay the same while the interactions grow.
        seed: of the quantizer.

    Raises:
        ValueError: naming the field that is out of range.
    """

    quantizer: str = "rq-kmeans"
    levels: int = 3
    codes: int | tuple[int, ...] = 64
    vectors: VectorConfig = field(default_factory=VectorConfig)
    collisions: Collisions = "extra-level"
    seed: int = 0

    def __post_init__(self) -> None:
        ways = get_args(Collisions)
        check(self.collisions in ways, "collisions", self.collisions, f"one of {ways}")
        self.new_quantizer()  # checks the rest

    def new_quantizer(self) -> Quantizer:
        """The quantizer, unfitted."""
        return make_quantizer(self.quantizer, self.levels, self.codes, self.seed)


_BEHAVIOUR = VectorConfig(sources=("collaborative",))
# Behaviour counts four times as much as texts, because it is what a recommender predicts.
_BOTH = VectorConfig(sources=("tfidf", "collaborative"), weights=(1.0, 4.0))
TOKENIZERS: dict[str, TokenizerConfig] = {
    **{quantizer: TokenizerConfig(quantizer) for quantizer in QUANTIZERS},
    "rq-kmeans-both": TokenizerConfig("rq-kmeans", vectors=_BOTH),
    "rq-vae-both": TokenizerConfig("rq-vae", vectors=_BOTH),
    "rq-kmeans-behaviour": TokenizerConfig("rq-kmeans", vectors=_BEHAVIOUR),
}
"""By name: the quantizer and, where it is not the texts alone, what its vectors are made of."""


def named(name: str, shape: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer of this name with everything else as in `shape`.

    The name decides the quantizer, and the vectors if it says more than a quantizer's name.

    Raises:
        ValueError: if there is no tokenizer of that name.
    """
    check(name in TOKENIZERS, "tokenizer", name, f"one of {sorted(TOKENIZERS)}")
    preset = TOKENIZERS[name]
    vectors = shape.vectors if name in QUANTIZERS else preset.vectors
    return replace(shape, quantizer=preset.quantizer, vectors=vectors)


def default_vectors(dataset: InteractionDataset) -> VectorConfig:
    """TF-IDF where the texts hold words; otherwise users' behaviour."""
    words = any(item_sentences(dataset.texts or ()))
    return VectorConfig(sources=("tfidf",) if words else ("collaborative",))


class ItemTokenizer:
    """All steps from an item's text to its semantic ID, stored so that new items get IDs too.

    Attributes:
        config: the settings.
        vectorizer: items to vectors; fitted by `fit`.
        quantizer: vectors to codes; fitted by `fit`.
        semantic_ids: the catalogue's IDs; `add` extends them.
    """

    def __init__(self, config: TokenizerConfig | None = None) -> None:
        self.config = config or TokenizerConfig()
        self.vectorizer = ItemVectorizer(self.config.vectors)
        self.quantizer = self.config.new_quantizer()
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

    def fit(
        self, dataset: InteractionDataset, progress: bool = False, vectors: Vectors | None = None
    ) -> Self:
        """Learn vectors and codebooks from the catalogue and give its items IDs.

        `vectors` (N, D) are for the source "own" of item vectors.

        Warns:
            CollapseWarning: one for each level or catalogue that collapsed, and for texts that tell
                next to nothing.
        """
        rows = self.vectorizer.fit_transform(dataset, progress, vectors)
        from_texts = self.config.vectors.sources == ("tfidf",)
        if from_texts and (sentence := text_weakness(dataset, rows)):
            warnings.warn(CollapseWarning(sentence), stacklevel=2)
        self._plain_ids, self._semantic_ids = _identify(
            dataset, self.quantizer, rows, self.config.collisions, progress
        )
        return self

    def add(
        self,
        names: Sequence[str],
        texts: Sequence[ItemText],
        vectors: Vectors | None = None,
        semantic_ids: SemanticIds | None = None,
    ) -> NewItems:
        """Give IDs to items that came after fitting; nothing is refitted and no old ID changes.

        A model trained on the old IDs can recommend the new items at once, as well as their codes
        describe them. Their behaviour is unknown, and its part of their vectors is zero.

        Args:
            names: M names.
            texts: M texts.
            vectors: (M, D), for the source "own" of item vectors.
            semantic_ids: the catalogue to extend; default: the tokenizer's own.

        Raises ValueError unless there is one name for each `ItemText`.
        """
        if isinstance(names, str) or len(names) != len(texts):
            raise ValueError(
                f"names is {names!r:.80} for {len(texts)} texts: there must be one name for each."
            )
        if wrong := [text for text in texts if not isinstance(text, ItemText)]:
            raise ValueError(f"texts holds {wrong[0]!r:.80}, but must hold `ItemText`s.")
        new = add_items(
            semantic_ids or self.semantic_ids,
            self.quantizer,
            self.vectorizer.transform(texts, own=vectors),
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
        with damage_named(config_file, "is no tokenizer's settings"):
            fields = parse_json(config_file.read_text(encoding="utf-8"))
            vectors = VectorConfig.from_json(fields.pop("vectors"))
            config = TokenizerConfig(vectors=vectors, **without_lists(fields))
        tokenizer = cls(config)
        expected = tokenizer.quantizer
        tokenizer.vectorizer = ItemVectorizer.load(folder / "vectorizer")
        tokenizer.quantizer = quantizer = load_quantizer(quantizer_file)
        tokenizer._semantic_ids = ids = SemanticIds.load(ids_file)
        if (quantizer.kind, quantizer.config) != (expected.kind, expected.config) or (
            (tokenizer.vectorizer.config, ids.radices[: config.levels])
            != (config.vectors, quantizer.radices)
        ):
            raise ValueError(
                f"{folder} mixes files of different tokenizers: save it again, or build it anew."
            )
        return tokenizer


def tokenize(
    dataset: InteractionDataset,
    quantizer: Quantizer | None = None,
    vectors: Vectors | None = None,
    collisions: Collisions = "extra-level",
    progress: bool = False,
) -> SemanticIds:
    """Semantic IDs of a data set from given parts; `ItemTokenizer` stores the parts together.

    Args:
        quantizer: an unfitted quantizer; the default is `RQKMeans` with 3 levels of 64 codes. It is
            fitted in place.
        vectors: (N, D) item vectors, as a tensor, an array or lists; the default is
            `item_vectors(dataset)`.
        collisions: how items that share an ID are handled, see `collisions.resolve`.
        progress: show bars while fitting.

    Raises:
        ValueError: if the number of vectors is not the data set's number of items.

    Warns:
        CollapseWarning: one for each level or catalogue that collapsed.
    """
    vectors = item_vectors(dataset) if vectors is None else check_vectors(vectors)
    if len(vectors) != dataset.n_items:
        raise ValueError(f"vectors has {len(vectors)} rows, but there are {dataset.n_items} items.")
    quantizer = RQKMeans() if quantizer is None else quantizer
    return _identify(dataset, quantizer, vectors, collisions, progress)[1]


def _identify(
    dataset: InteractionDataset,
    quantizer: Quantizer,
    vectors: Tensor,
    collisions: Collisions,
    progress: bool,
) -> tuple[SemanticIds, SemanticIds]:
    """Fit, encode, and warn if the codes collapsed: the IDs before and after resolving."""
    codes = quantizer.fit(vectors, progress).encode(vectors)
    plain = SemanticIds.from_codes(codes, quantizer.radices, dataset.items)
    for problem in id_quality(plain, vectors, queries=1).issues:
        if problem.kind in ("collapsed", "single-code", "duplicates"):
            warnings.warn(CollapseWarning(problem.sentence), stacklevel=3)
    # The item that keeps the better code should be the one that is recommended more often.
    popularity = dataset.popularity() if collisions == "next-best" else None
    return plain, resolve(codes, quantizer, vectors, collisions, dataset.items, popularity)


def item_vectors(dataset: InteractionDataset, config: VectorConfig | None = None) -> Tensor:
    """(N, D) float32 vectors of the items: from their texts, or else from users' behaviour."""
    return ItemVectorizer(config or default_vectors(dataset)).fit_transform(dataset)


def build_semantic_ids(
    dataset: InteractionDataset, source: str = "auto", config: TokenizerConfig | None = None
) -> SemanticIds:
    """The IDs of `ids_and_tokenizer` alone."""
    return ids_and_tokenizer(dataset, source, config)[0]


def ids_and_tokenizer(
    dataset: InteractionDataset,
    source: str = "auto",
    config: TokenizerConfig | None = None,
    vectors: Vectors | None = None,
    names: str | Path | None = None,
    radices: Sequence[int] | None = None,
) -> tuple[SemanticIds, ItemTokenizer | None]:
    """Semantic IDs by name, as on the command line, and the tokenizer that can name new items.

    Args:
        source: "released" takes the data set's own; a name in `TOKENIZERS` builds them; "auto"
            takes released ones where they exist and builds them by RQ-KMeans elsewhere; anything
            else is a folder written by `ItemTokenizer.save`, or a file, see `outside.load_ids`.
        config: of IDs that are built (see `named`), and how released IDs' collisions are handled.
        vectors: (N, D), for the source "own" of item vectors.
        names, radices: of a file, see `outside.load_ids`.

    Returns:
        The IDs. The tokenizer; None where the IDs are released or from a file.
    """
    config = config or TokenizerConfig(vectors=default_vectors(dataset))
    if source == "auto":
        source = "released" if dataset.released_codes is not None else "rq-kmeans"
    if source == "released":
        return _released(dataset, config.collisions), None
    if source in TOKENIZERS:
        slow = dataset.n_items > 2000  # fewer are done before a bar can be read
        tokenizer = ItemTokenizer(named(source, config)).fit(dataset, slow, vectors)
        return tokenizer.semantic_ids, tokenizer
    path = Path(source)
    if not path.exists():
        raise ValueError(
            f"IDs are asked from {str(path)!r}, but valid are auto, released, "
            f"{', '.join(TOKENIZERS)}, or a file or folder of semantic IDs that exists."
        )
    kept = ItemTokenizer.load(path) if (path / _FILES[0]).is_file() else None
    return load_ids(path, dataset, names, radices), kept


def _released(dataset: InteractionDataset, collisions: Collisions) -> SemanticIds:
    released = released_semantic_ids(dataset)
    if collisions not in ("shared", "extra-level"):
        raise ValueError(
            f"collisions is {collisions!r}, but released IDs came without their codebooks: only "
            "'extra-level' and 'shared' apply to them."
        )
    return released if collisions == "shared" else released.with_extra_level()
