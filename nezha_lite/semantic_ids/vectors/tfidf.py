"""Item texts to vectors without a language model: TF-IDF with a truncated SVD.

Rows are float32 of unit length, so Euclidean distance ranks pairs as cosine similarity does; a text
without a known word gives a zero row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.checks import check

# Lengths and singular values below this share are rounding noise, which scaling would blow up.
NOISE = 1e-6


class TfidfVectors:
    """Latent semantic vectors that can be fitted on one catalogue and applied to new texts.

    TF-IDF over words and word pairs with sublinear term counts, projected on the `dim` leading
    right singular directions (latent semantic analysis, Deerwester et al. 1990). When the TF-IDF
    matrix has a rank below `dim`, the columns beyond it are zero. A new text is projected as the
    fitted ones were; words it does not share with them count for nothing.

    `seed` feeds the randomised SVD: same texts, dim and seed, same vectors. Raises ValueError if
    `dim` is not positive.
    """

    def __init__(self, dim: int = 64, seed: int = 0) -> None:
        check(dim >= 1, "dim", dim, "a positive number of columns")
        self.dim = dim
        self.seed = seed
        self._terms: list[str] | None = None
        self._idf = np.zeros(0)  # (V,): weight of every term
        self._directions = np.zeros((0, dim))  # (V, dim)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn terms, weights and directions from `texts`; returns self.

        Raises ValueError if `texts` is empty, is no sequence of strings, or holds no word at all.
        """
        self.fit_transform(texts)
        return self

    def fit_transform(self, texts: Sequence[str]) -> Tensor:
        """`fit`, and the vectors of the same texts: float32 (N, dim)."""
        from sklearn.utils.extmath import randomized_svd

        check_texts(texts)
        if not any(has_word(text) for text in texts):
            raise ValueError(
                f"none of the {len(texts)} texts holds a word: nothing to make vectors of"
            )
        vectorizer = _vectorizer()
        matrix = vectorizer.fit_transform(texts)  # sparse (N, V)
        rank = min(self.dim, *matrix.shape)
        # The SVD behind scikit-learn's TruncatedSVD, called directly: TruncatedSVD also divides by
        # the variance, which is zero when all texts are equal. Transposed, the random subspace is
        # one of terms, and a row's projection is exactly its left singular row: what `transform`
        # needs to agree with this.
        left, singular, right = randomized_svd(
            matrix, rank, n_iter=5, transpose=True, random_state=self.seed
        )
        kept = singular > NOISE * singular[0]
        self._terms = vectorizer.get_feature_names_out().tolist()
        self._idf = vectorizer.idf_
        self._directions = np.zeros((matrix.shape[1], self.dim))
        self._directions[:, :rank] = right.T * kept
        projected = np.zeros((len(texts), self.dim))
        projected[:, :rank] = left * np.where(kept, singular, 0.0)
        return _rows_of_texts(projected, texts)

    def transform(self, texts: Sequence[str]) -> Tensor:
        """Vectors of any texts: float32 (M, dim); fitted ones get their row again, to rounding.

        Raises ValueError if `texts` is no sequence of strings, RuntimeError before `fit`.
        """
        if self._terms is None:
            raise RuntimeError("these TfidfVectors know no terms yet: call fit first")
        if not len(texts):
            return torch.zeros(0, self.dim)
        check_texts(texts)
        vectorizer = _vectorizer(vocabulary=self._terms)
        vectorizer.idf_ = self._idf
        return _rows_of_texts(vectorizer.transform(texts) @ self._directions, texts)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was learnt, as tensors and as JSON-ready settings. RuntimeError before `fit`."""
        if self._terms is None:
            raise RuntimeError("these TfidfVectors know no terms yet: call fit first")
        # As bytes: a header of safetensors has a size limit, which many terms would exceed. A term
        # holds no newline.
        terms = np.frombuffer("\n".join(self._terms).encode(), dtype=np.uint8)
        tensors = {
            "terms": torch.from_numpy(terms.copy()),
            "idf": torch.from_numpy(self._idf),
            "directions": torch.from_numpy(self._directions),
        }
        return tensors, {"dim": self.dim, "seed": self.seed}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Self:
        """Rebuild from `state`. ValueError if the parts do not belong together."""
        vectors = cls(**settings)
        terms = bytes(tensors["terms"].numpy()).decode().split("\n")
        idf, directions = tensors["idf"].numpy(), tensors["directions"].numpy()
        if idf.shape != (len(terms),) or directions.shape != (len(terms), vectors.dim):
            raise ValueError(
                f"{len(terms)} terms, idf {idf.shape} and directions {directions.shape} do not "
                f"make TF-IDF vectors of {vectors.dim} columns"
            )
        for name, numbers in (("idf", idf), ("directions", directions)):
            if numbers.dtype != np.float64 or not np.isfinite(numbers).all():
                kind = "NaN or infinite numbers" if numbers.dtype == np.float64 else numbers.dtype
                raise ValueError(f"{name} holds {kind}, but must hold finite float64")
        vectors._terms, vectors._idf, vectors._directions = terms, idf, directions
        return vectors


def has_word(text: str) -> bool:
    """Whether `text` holds a letter or a digit."""
    return any(character.isalnum() for character in text)


def check_texts(texts: Sequence[str]) -> None:
    """ValueError unless `texts` is a sequence of at least one string."""
    if isinstance(texts, str):
        raise ValueError(f"texts is the single string {texts[:40]!r}: a list of strings is needed")
    if not len(texts):
        raise ValueError("texts is empty: at least one text is needed")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{row}] is {text!r}: a string is needed")


def _vectorizer(**settings: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # \w+ rather than the default of two letters or more: "vitamin C" is not "vitamin E".
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+", **settings)


def _rows_of_texts(projected: np.ndarray, texts: Sequence[str]) -> Tensor:
    """`unit_rows`, the same for equal texts: float32 (N, D)."""
    # Rounding tells equal texts apart, by 1e-16, and a quantizer would spend codes on that.
    first = {text: row for row, text in reversed([*enumerate(texts)])}
    return unit_rows(projected)[[first[text] for text in texts]]


def unit_rows(matrix: np.ndarray) -> Tensor:
    """Rows of unit length, or zero where only rounding noise is left: float32 (N, D)."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = np.where(lengths > NOISE, matrix / np.maximum(lengths, NOISE), 0.0)
    return torch.from_numpy(rows).float()
