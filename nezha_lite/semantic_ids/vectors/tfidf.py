"""Item texts, their defects, and their vectors without a language model: TF-IDF, truncated SVD.

Rows are float32 of unit length, so Euclidean distance ranks pairs as cosine similarity does; a text
without a known term gives a zero row.

Terms are words where words work. A text without spaces is one word, which no other text has; where
words fail in a quarter of the different texts, terms are characters and pairs of them. Words fail
in a text when a fifth of its letters are of scripts written without spaces (Chinese, Japanese,
Thai, Lao, Khmer, Burmese), or when it shares no word with another text.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self, get_args
from unicodedata import category

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset, ItemText, plain_text

Terms = Literal["words", "characters"]
UNSPACED_LETTERS = 0.2  # of a text's letters; above it, the text is of a script without spaces
WORDS_FAIL = 0.25  # of the different texts; above it, terms are characters
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_PAIR_WEIGHT = 0.25  # of a pair of characters: a pair across two words is rarer than either word
# Lengths and singular values below this share are rounding noise, which scaling would blow up.
NOISE = 1e-6


def item_sentences(texts: Sequence[ItemText]) -> list[str]:
    """One cleaned sentence per item; "" where no word is left, which gives a zero vector."""
    sentences = [text.sentence() for text in texts]
    return [sentence if has_word(sentence) else "" for sentence in sentences]


def has_word(text: str) -> bool:
    """Whether `text` holds a letter or a digit."""
    return any(character.isalnum() for character in text)


def failing_words(texts: Sequence[str]) -> tuple[int, int, int]:
    """In how many texts words fail, of the different ones that have a word.

    Returns:
        Texts of scripts without spaces; others that share no word with another; all.
    """
    different = [text.lower() for text in dict.fromkeys(texts) if has_word(text)]
    unspaced = [len(_UNSPACED.findall(text)) for text in different]
    words = [{*re.findall(r"\w+", text)} for text in different]
    counts = Counter(word for row in words for word in row)
    is_unspaced = [
        number >= UNSPACED_LETTERS * sum(map(str.isalnum, text)) and number > 0
        for number, text in zip(unspaced, different, strict=True)
    ]
    isolated = sum(
        not skip and len(different) > 1 and all(counts[word] == 1 for word in row)
        for skip, row in zip(is_unspaced, words, strict=True)
    )
    return sum(is_unspaced), isolated, len(different)


def best_terms(texts: Sequence[str]) -> tuple[Terms, str]:
    """What tells these texts apart, words or, where they fail, characters; and why, for people."""
    unspaced, isolated, different = failing_words(texts)
    terms: Terms = "characters" if unspaced + isolated > WORDS_FAIL * different else "words"
    return terms, (
        f"Text vectors are made of {terms} and pairs of them: of {different:,} different texts, "
        f"{unspaced:,} are of scripts without spaces, {isolated:,} others share no word with any."
    )


class TextReport(dict[str, int]):
    """How many items of a catalogue have which defect in their text, by the defect's name.

    `items` is the size of the catalogue. A title, a brand or the categories are missing where the
    field is empty; a placeholder is what an export writes for an unknown value, such as "title_495"
    or "Unknown", and is left out of the sentence. Titles with entities are those in which HTML
    entities were resolved; those escaped twice needed it twice ("&amp;#39;"). A duplicate sentence
    is one that an earlier item has, so that their text vectors are equal. Items without words have
    a text vector of zero.
    """

    def __str__(self) -> str:
        """One line of all counts above zero."""
        (_, items), *counts = self.items()
        parts = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts if count]
        return f"{items:,} items: {', '.join(parts) or 'nothing missing, nothing repeated'}"


def text_report(dataset: InteractionDataset) -> TextReport:
    """Count what is missing, escaped or repeated in the item texts of `dataset`.

    A data set without an item file has all its texts missing.
    """
    texts = dataset.texts or (ItemText(""),) * dataset.n_items
    titles = [text.title for text in texts]
    brands = [text.brand for text in texts]
    once = [html.unescape(title) for title in titles]
    sentences = [sentence for sentence in item_sentences(texts) if sentence]
    return TextReport(
        items=len(texts),
        missing_titles=sum(not title.strip() for title in titles),
        placeholder_titles=sum(map(_is_placeholder, titles)),
        missing_brands=sum(not brand.strip() for brand in brands),
        placeholder_brands=sum(map(_is_placeholder, brands)),
        missing_categories=sum(not any(map(plain_text, text.categories)) for text in texts),
        titles_with_entities=sum(a != b for a, b in zip(titles, once, strict=True)),
        titles_escaped_twice=sum(title != html.unescape(title) for title in once),
        duplicate_sentences=len(sentences) - len(set(sentences)),
        without_words=len(texts) - len(sentences),
    )


def _is_placeholder(text: str) -> bool:
    return bool(text.strip()) and not plain_text(text)


class TfidfVectors:
    """Latent semantic vectors that can be fitted on one catalogue and applied to new texts.

    TF-IDF over words and word pairs with sublinear term counts, projected on the `dim` leading
    right singular directions (latent semantic analysis, Deerwester et al. 1990). When the TF-IDF
    matrix has a rank below `dim`, the columns beyond it are zero. A new text is projected as the
    fitted ones were; words it does not share with them count for nothing.

    Single characters are common, so those that most texts have say little: with the terms
    "characters" the idf is squared, and nearly zero for a term of every text.

    `seed` feeds the randomised SVD: same texts, dim and seed, same vectors. `terms` None lets `fit`
    take the `best_terms`. Raises ValueError if `dim` is not positive, or `terms` unknown.
    """

    def __init__(self, dim: int = 64, seed: int = 0, terms: Terms | None = None) -> None:
        check(dim >= 1, "dim", dim, "a positive number of columns")
        check(terms in (None, *get_args(Terms)), "terms", terms, f"one of {get_args(Terms)}")
        self.dim = dim
        self.seed = seed
        self.terms = terms
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
        if not any(map(has_word, texts)):
            raise ValueError(
                f"none of the {len(texts)} texts holds a word: nothing to make vectors of"
            )
        self.terms = self.terms or best_terms(texts)[0]
        vectorizer = _vectorizer(self.terms)
        matrix = vectorizer.fit_transform(texts)  # sparse (N, V)
        if self.terms == "characters":
            lengths = np.array(list(map(len, vectorizer.get_feature_names_out())))
            rarity = np.maximum(vectorizer.idf_ - 1, NOISE)  # scikit-learn's begins at 1
            vectorizer.idf_ = rarity**2 * _PAIR_WEIGHT ** (lengths - 1)
            matrix = vectorizer.transform(texts)
        rank = min(self.dim, *matrix.shape)
        # The SVD behind scikit-learn's TruncatedSVD, called directly: TruncatedSVD also divides by
        # the variance, which is zero when all texts are equal. Transposed, the random subspace is
        # one of terms, and a row's projection is exactly its left singular row: what `transform`
        # needs to agree with this.
        left, singular, right = randomized_svd(
            matrix, rank, n_iter=5, transpose=True, random_state=self.seed
        )
        significant = singular > NOISE * singular[0]
        self._terms = vectorizer.get_feature_names_out().tolist()
        self._idf = vectorizer.idf_
        self._directions = np.zeros((matrix.shape[1], self.dim))
        self._directions[:, :rank] = right.T * significant
        projected = np.zeros((len(texts), self.dim))
        projected[:, :rank] = left * np.where(significant, singular, 0.0)
        return _rows_of_texts(projected, texts)

    def transform(self, texts: Sequence[str]) -> Tensor:
        """Vectors of any texts: float32 (M, dim); fitted ones get their row again, to rounding.

        Raises ValueError if `texts` is no sequence of strings, RuntimeError before `fit`.
        """
        terms = self._fitted_terms()
        if not len(texts):
            return torch.zeros(0, self.dim)
        check_texts(texts)
        assert self.terms is not None
        vectorizer = _vectorizer(self.terms, vocabulary=terms)
        vectorizer.idf_ = self._idf
        return _rows_of_texts(vectorizer.transform(texts) @ self._directions, texts)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The fitted arrays, and JSON-ready settings. RuntimeError before `fit`."""
        # As bytes: a header of safetensors has a size limit, which many terms would exceed. A term
        # holds no newline.
        terms = bytearray("\n".join(self._fitted_terms()).encode())
        tensors = {
            "terms": torch.frombuffer(terms, dtype=torch.uint8),
            "idf": torch.from_numpy(self._idf),
            "directions": torch.from_numpy(self._directions),
        }
        return tensors, {"dim": self.dim, "seed": self.seed, "terms": self.terms}

    def _fitted_terms(self) -> list[str]:
        if self._terms is None:
            raise RuntimeError("these TfidfVectors have no terms yet: call fit first")
        return self._terms

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Self:
        """Rebuild from `state`. ValueError if the parts do not belong together."""
        vectors = cls(**{"terms": "words", **settings})  # files written before had no other
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


def check_texts(texts: Sequence[str]) -> None:
    """ValueError unless `texts` is a sequence of at least one string."""
    if isinstance(texts, str):
        raise ValueError(f"texts is the single string {texts[:40]!r}: a list of strings is needed")
    if not len(texts):
        raise ValueError("texts is empty: at least one text is needed")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{row}] is {text!r}: a string is needed")


def _vectorizer(terms: Terms, **settings: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if terms == "characters":
        settings |= {"analyzer": "char_wb", "preprocessor": _letters}
    else:
        # \w+ rather than the default of two letters or more: "vitamin C" is not "vitamin E".
        settings["token_pattern"] = r"\w+"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **settings)


def _letters(text: str) -> str:
    """Letters with their marks and digits in lower case, blanks for all others."""
    return "".join(one if category(one)[0] in "LMN" else " " for one in text.lower())


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
