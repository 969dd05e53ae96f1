"""From items to vectors: texts, behaviour, or both side by side, for old items and new ones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor

from nezha_lite.common.files import atomic_write, parse_json
from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from nezha_lite.semantic_ids.vectors.encoder import encoder_vectors, model_identity
from nezha_lite.semantic_ids.vectors.item_texts import item_sentences
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors

Source = Literal["tfidf", "encoder", "collaborative"]
_FILE = "vectors.safetensors"


@dataclass(frozen=True)
class VectorConfig:
    """What items' vectors are made of.

    Attributes:
        sources: one block of columns each, in this order.
        dim: columns of "tfidf" and of "collaborative"; an encoder has its own width.
        weights: one per source, by default equal; only their ratios count. A block's weight is its
            share in the cosine of two items.
        encoder: for "encoder", a Hugging Face name or a local folder.
        max_length: tokens that the encoder reads of a text.
        seed: of the randomised SVDs.
        cache: folder that keeps the encoder's vectors, see `encoder_vectors`; None keeps nothing.

    Raises:
        ValueError: naming the field that is out of range.
    """

    sources: tuple[Source, ...] = ("tfidf",)
    dim: int = 64
    weights: tuple[float, ...] | None = None
    encoder: str | None = None
    max_length: int = 64
    seed: int = 0
    cache: str | None = None

    def __post_init__(self) -> None:
        known = get_args(Source)
        if not isinstance(self.sources, tuple) or not self.sources:
            raise ValueError(f"sources is {self.sources!r}, but must be a tuple of some of {known}")
        for source in self.sources:
            if source not in known or self.sources.count(source) > 1:
                raise ValueError(
                    f"sources is {self.sources!r}, but must name each of {known} at most once"
                )
        for name, value, low in (
            ("dim", self.dim, 1),
            ("max_length", self.max_length, 1),
            ("seed", self.seed, 0),
        ):
            if type(value) is not int or value < low:
                raise ValueError(f"{name} is {value!r}: an integer >= {low} is needed")
        weights = (1.0,) * len(self.sources) if self.weights is None else self.weights
        if (
            len(weights) != len(self.sources)
            or not all(isinstance(w, int | float) and 0 < w < math.inf for w in weights)
            or (math.isinf(sum(weights)))
        ):
            raise ValueError(
                f"weights is {self.weights!r}, but must be one positive number for each of "
                f"{self.sources}"
            )
        if ("encoder" in self.sources) != bool(self.encoder):
            raise ValueError(
                f"encoder is {self.encoder!r} and sources is {self.sources!r}: a Hugging Face name "
                "or a folder goes with the source 'encoder', and with no other"
            )

    @property
    def scales(self) -> tuple[float, ...]:
        """What each block's unit rows are multiplied by: the square root of its share."""
        weights = self.weights or (1.0,) * len(self.sources)
        return tuple(math.sqrt(weight / sum(weights)) for weight in weights)


class ItemVectorizer:
    """Vectors of a catalogue's items, and later of items that it did not have.

    Every source gives a block of columns whose rows have unit length, scaled by the square root of
    its weight's share; the blocks stand side by side. So the dot product of two items is the
    weighted mean of their cosines. Where a source knows nothing of an item its block is zero, which
    is equally far from every unit vector: a text without words, and in "collaborative" an item that
    nobody took in the training part, as every new item is.
    """

    def __init__(self, config: VectorConfig | None = None) -> None:
        self.config = config or VectorConfig()
        self._widths: tuple[int, ...] | None = None  # columns of each block
        self._tfidf: TfidfVectors | None = None
        self._identity = ""  # of the encoder that was fitted with

    def fit(self, dataset: InteractionDataset, progress: bool = False) -> Self:
        """Learn from the catalogue's texts and its training sequences; returns self."""
        self.fit_transform(dataset, progress)
        return self

    def fit_transform(self, dataset: InteractionDataset, progress: bool = False) -> Tensor:
        """`fit`, and the items' vectors in catalogue order: float32 (N, D).

        Only `dataset.train_sequences()` is looked at, never what is held out for evaluation.

        Raises:
            ValueError: if a source has nothing to learn from: no texts, no word in them, or no
                training sequence of two items.
        """
        config = self.config
        texts = dataset.texts
        if texts is None and (lacking := [s for s in config.sources if s != "collaborative"]):
            raise ValueError(
                f"data set {dataset.name!r} has no item texts for {config.encoder or lacking[0]}: "
                "add an item file, or take the source 'collaborative' alone"
            )
        sentences = item_sentences(texts or ())
        blocks = []
        for source in config.sources:
            if source == "collaborative":
                sequences = dataset.train_sequences()
                block = collaborative_vectors(
                    sequences, dataset.n_items, config.dim, seed=config.seed
                )
            elif not any(sentences):
                raise ValueError(
                    f"none of the {len(sentences)} items of {dataset.name!r} has a word in its text"
                )
            elif source == "tfidf":
                self._tfidf = TfidfVectors(config.dim, config.seed)
                block = self._tfidf.fit_transform(sentences)
            else:
                self._identity = model_identity(str(config.encoder))
                block = self._encode(sentences, progress)
            blocks.append(block)
        self._widths = tuple(block.shape[1] for block in blocks)
        return self._join(blocks)

    def transform(self, texts: Sequence[ItemText], progress: bool = False) -> Tensor:
        """Vectors of new items from their texts: float32 (M, D); nothing is refitted.

        An item of the catalogue gets its own text blocks again, to rounding, but no behaviour.

        Raises:
            ValueError: if the only source is "collaborative", which says nothing about items that
                nobody took yet, or if the encoder is another one than at `fit`.
            RuntimeError: before `fit` or `load`.
        """
        if self._widths is None:
            raise RuntimeError("this ItemVectorizer is not fitted yet: call fit or load first")
        if self.config.sources == ("collaborative",):
            raise ValueError(
                "sources is ('collaborative',), but nobody took the new items yet: only vectors "
                "with 'tfidf' or 'encoder' can place them"
            )
        sentences = item_sentences(texts)
        blocks = []
        for source, width in zip(self.config.sources, self._widths, strict=True):
            if source == "collaborative" or not any(sentences):
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
        """Write what was learnt into `folder`, one safetensors file replaced in one step.

        An encoder is stored by its name or path, not by its weights.
        """
        if self._widths is None:
            raise RuntimeError("this ItemVectorizer is not fitted yet: call fit or load first")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors, settings = self._tfidf.state() if self._tfidf else ({}, None)
        header = {
            "config": asdict(self.config),
            "widths": self._widths,
            "encoder_identity": self._identity,
            "tfidf": settings,
        }
        metadata = {"item_vectors": json.dumps(header)}
        atomic_write(folder / _FILE, to_safetensors_bytes(tensors, metadata))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, but for the cache, which is not taken from a file.

        Raises FileNotFoundError, or ValueError naming file and reason.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {_FILE}: it was not written by `save`")
        try:
            with safe_open(path, framework="pt") as file:
                header = parse_json((file.metadata() or {})["item_vectors"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            fields: dict[str, Any] = header["config"]
            lists = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
            # JSON has no tuples; and a file does not say into which folder others are written.
            config = VectorConfig(**(fields | lists | {"cache": None}))
            vectorizer = cls(config)
            vectorizer._widths = _read_widths(header["widths"], config)
            vectorizer._identity = str(header["encoder_identity"])
            if "tfidf" in config.sources:
                vectorizer._tfidf = TfidfVectors.from_state(tensors, header["tfidf"])
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold an item vectorizer: {error}") from error
        return vectorizer

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
    """Columns of each block; only an encoder's are not known beforehand."""
    known = [None if source == "encoder" else config.dim for source in config.sources]
    if (
        not isinstance(widths, list)
        or len(widths) != len(known)
        or not all(type(width) is int and width > 0 for width in widths)
        or any(width not in (None, found) for width, found in zip(known, widths, strict=True))
    ):
        raise ValueError(f"widths is {widths!r:.40}, but must fit {config.sources}")
    return tuple(widths)
