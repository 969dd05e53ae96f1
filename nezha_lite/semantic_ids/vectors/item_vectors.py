"""Item vectors from texts, from behaviour, or from both side by side; for new items too."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from nezha_lite.common.checks import Checked, Count, CountOrZero, check
from nezha_lite.common.files import damage_named, parse_json, read_tensors, write_tensors
from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids.files import without_lists
from nezha_lite.semantic_ids.quantizers.base import Vectors, check_vectors
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from nezha_lite.semantic_ids.vectors.encoder import encoder_vectors, model_identity
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors, item_sentences, unit_rows

Source = Literal["tfidf", "encoder", "collaborative", "own"]
_FILE = "vectors.safetensors"


@dataclass(frozen=True)
class VectorConfig(Checked):
    """The sources of item vectors and their settings.

    Attributes:
        sources: one block of columns each, in this order; "own" are vectors that are given.
        dim: columns of "tfidf" and of "collaborative"; an encoder has its own width.
        weights: one per source, by default equal; only their ratios count. A block's weight is its
            share in the cosine of two items.
        encoder: for "encoder", a Hugging Face name or a local folder.
        max_length: tokens that the encoder reads of a text.
        seed: of the randomised SVDs.
        cache: folder that stores the encoder's vectors, see `encoder_vectors`; None stores nothing.

    Raises:
        ValueError: naming the field that is out of range.
    """

    sources: tuple[Source, ...] = ("tfidf",)
    dim: Count = 64
    weights: tuple[float, ...] | None = None
    encoder: str | None = None
    max_length: Count = 64
    seed: CountOrZero = 0
    cache: str | None = None

    def __post_init__(self) -> None:
        names = get_args(Source)
        valid = f"a tuple of some of {names}, each at most once"
        check(
            isinstance(self.sources, tuple) and bool(self.sources), "sources", self.sources, valid
        )
        distinct = {*self.sources} & {*names}
        check(len(distinct) == len(self.sources), "sources", self.sources, valid)
        super().__post_init__()
        positive = all(isinstance(w, int | float) and w > 0 for w in self._ratios)
        valid = f"one positive number for each of {self.sources}"
        fits = positive and len(self._ratios) == len(self.sources)
        check(fits and math.isfinite(sum(self._ratios)), "weights", self.weights, valid)
        if ("encoder" in self.sources) != bool(self.encoder):
            raise ValueError(
                f"encoder is {self.encoder!r} and sources is {self.sources!r}: a Hugging Face name "
                "or a folder goes with the source 'encoder', and with no other"
            )

    @property
    def _ratios(self) -> tuple[float, ...]:
        return (1.0,) * len(self.sources) if self.weights is None else self.weights

    @property
    def scales(self) -> tuple[float, ...]:
        """The factor of each block's unit rows: the square root of its share."""
        return tuple(math.sqrt(weight / sum(self._ratios)) for weight in self._ratios)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The config of which JSON holds `fields`, without `cache`.

        A file must not decide into which folder others are written.
        """
        return cls(**(without_lists(fields) | {"cache": None}))


class ItemVectorizer:
    """Vectors of a catalogue's items, and later of items that it did not have.

    Every source gives a block of columns whose rows have unit length, scaled by the square root of
    its weight's share; the blocks stand side by side. So the dot product of two items is the
    weighted mean of their cosines. Where a source has no information on an item its block is zero,
    which is equally far from every unit vector: a text without words, and in "collaborative" an
    item without interactions in the training part, as every new item is.
    """

    def __init__(self, config: VectorConfig | None = None) -> None:
        self.config = config or VectorConfig()
        self._widths: tuple[int, ...] = ()  # columns of each block; empty before `fit_transform`
        self._tfidf: TfidfVectors | None = None
        self._identity = ""  # of the encoder at fitting

    def fit_transform(
        self, dataset: InteractionDataset, progress: bool = False, own: Vectors | None = None
    ) -> Tensor:
        """Learn from the catalogue; the items' vectors in catalogue order: float32 (N, D).

        Only texts and `dataset.train_sequences()` are read, never what is held out for evaluation.

        Args:
            own: (N, D) for the source "own"; taken as they are if that is the only source.

        Raises:
            ValueError: if a source has nothing to learn from: no texts, no word in them, or no
                training sequence of two items.
        """
        config, sentences = self.config, item_sentences(dataset.texts or ())
        if from_texts := [one for one in config.sources if one in ("tfidf", "encoder")]:
            if dataset.texts is None:
                raise ValueError(
                    f"data set {dataset.name!r} has no item texts for "
                    f"{config.encoder or from_texts[0]}: add an item file, or take the source "
                    "'collaborative' alone"
                )
            if not any(sentences):
                raise ValueError(
                    f"none of the {len(sentences)} items of {dataset.name!r} has a word in its text"
                )
        blocks = []
        for source in config.sources:
            if source == "collaborative":
                sequences = dataset.train_sequences()
                block = collaborative_vectors(
                    sequences, dataset.n_items, config.dim, seed=config.seed
                )
            elif source == "own":
                block = self._own(own, dataset.n_items)
            elif source == "tfidf":
                self._tfidf = TfidfVectors(config.dim, config.seed)
                block = self._tfidf.fit_transform(sentences)
            else:
                self._identity = model_identity(str(config.encoder))
                block = self._encode(sentences, progress)
            blocks.append(block)
        self._widths = tuple(block.shape[1] for block in blocks)
        return self._join(blocks)

    def transform(
        self, texts: Sequence[ItemText], progress: bool = False, own: Vectors | None = None
    ) -> Tensor:
        """Vectors of new items from their texts: float32 (M, D); nothing is refitted.

        `own` are the new items' vectors (M, D) for the source "own". An item of the catalogue gets
        its own text blocks again, to rounding, but no behaviour.

        Raises:
            ValueError: if the only source is "collaborative", which has no information on new
                items, or if the encoder is another one than at `fit_transform`.
            RuntimeError: before `fit_transform` or `load`.
        """
        self._check_fitted()
        if self.config.sources == ("collaborative",):
            raise ValueError(
                "sources is ('collaborative',), but the new items have no interactions yet: only "
                "vectors with 'tfidf' or 'encoder' can place them"
            )
        sentences = item_sentences(texts)
        blocks = []
        for source, width in zip(self.config.sources, self._widths, strict=True):
            if source == "own":
                block = self._own(own, len(sentences), width)
            elif source == "collaborative" or not any(sentences):
                block = torch.zeros(len(sentences), width)
            elif source == "tfidf":
                assert self._tfidf is not None
                block = self._tfidf.transform(sentences)
            else:
                if model_identity(str(self.config.encoder)) != self._identity:
                    raise ValueError(
                        f"encoder {self.config.encoder!r} is not the one at fitting: its new "
                        "vectors would mean something else; restore it, or fit again"
                    )
                block = self._encode(sentences, progress)
            blocks.append(block)
        return self._join(blocks)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted state into `folder`, one safetensors file replaced in one step.

        An encoder is stored by its name or path, not by its weights. RuntimeError before fitting.
        """
        self._check_fitted()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors, settings = self._tfidf.state() if self._tfidf else ({}, None)
        header = {
            "config": asdict(self.config),
            "widths": self._widths,
            "encoder_identity": self._identity,
            "tfidf": settings,
        }
        write_tensors(folder / _FILE, tensors, {"item_vectors": json.dumps(header)})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, without the cache; see `VectorConfig.from_json`.

        Raises FileNotFoundError, or ValueError naming file and reason.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {_FILE}: it was not written by `save`")
        with damage_named(path, "does not hold an item vectorizer"):
            tensors, metadata = read_tensors(path)
            header = parse_json(metadata["item_vectors"])
            vectorizer = cls(VectorConfig.from_json(header["config"]))
            vectorizer._widths = _read_widths(header["widths"], vectorizer.config)
            vectorizer._identity = str(header["encoder_identity"])
            if "tfidf" in vectorizer.config.sources:
                vectorizer._tfidf = TfidfVectors.from_state(tensors, header["tfidf"])
        return vectorizer

    def _check_fitted(self) -> None:
        if not self._widths:
            raise RuntimeError(
                "this ItemVectorizer is not fitted yet: call fit_transform or load first"
            )

    def _own(self, own: Vectors | None, n_items: int, width: int | None = None) -> Tensor:
        if own is None:
            raise ValueError("sources names 'own' vectors, but none are given for these items")
        vectors = check_vectors(own, width)
        check(len(vectors) == n_items, "The number of own vectors", len(vectors), f"{n_items}")
        return vectors if self.config.sources == ("own",) else unit_rows(vectors.numpy())

    def _encode(self, sentences: list[str], progress: bool) -> Tensor:
        config = self.config
        return encoder_vectors(
            sentences,
            str(config.encoder),
            max_length=config.max_length,
            progress=progress,
            cache=config.cache,
        )

    def _join(self, blocks: list[Tensor]) -> Tensor:
        scaled = [block * scale for block, scale in zip(blocks, self.config.scales, strict=True)]
        return torch.cat(scaled, dim=1)


def _read_widths(widths: Any, config: VectorConfig) -> tuple[int, ...]:
    """Columns of each block; an encoder's and own ones are not given by the config."""
    fits = isinstance(widths, list) and len(widths) == len(config.sources)
    fits = fits and all(
        type(width) is int and width > 0 and (source in ("encoder", "own") or width == config.dim)
        for source, width in zip(config.sources, widths, strict=True)
    )
    check(fits, "widths", widths, f"whole numbers that fit {config.sources}")
    return tuple(widths)
