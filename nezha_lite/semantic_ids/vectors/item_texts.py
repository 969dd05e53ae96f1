"""A catalogue's texts before they become vectors: sentences, gaps and repetitions."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nezha_lite.datasets import InteractionDataset, ItemText, plain_text
from nezha_lite.semantic_ids.vectors.tfidf import has_word


def item_sentences(texts: Sequence[ItemText]) -> list[str]:
    """One cleaned sentence per item; "" where no word is left, which gives a zero vector."""
    sentences = [text.sentence() for text in texts]
    return [sentence if has_word(sentence) else "" for sentence in sentences]


@dataclass(frozen=True)
class TextReport:
    """How many items of a catalogue have which trouble with their text.

    Attributes:
        items: N, the size of the catalogue.
        missing_titles, missing_brands, missing_categories: the field is empty.
        placeholder_titles, placeholder_brands: it holds only what an export writes where it knows
            nothing, such as "title_495" or "Unknown"; left out of the sentence.
        titles_with_entities: titles in which HTML entities were resolved,
        titles_escaped_twice: and those of them that needed it twice ("&amp;#39;").
        duplicate_sentences: items whose sentence an earlier item has: vectors of text cannot tell
            them apart.
        without_words: items whose sentence holds no word: their text vector is zero.
    """

    items: int
    missing_titles: int
    placeholder_titles: int
    missing_brands: int
    placeholder_brands: int
    missing_categories: int
    titles_with_entities: int
    titles_escaped_twice: int
    duplicate_sentences: int
    without_words: int

    def as_dict(self) -> dict[str, int]:
        """All counts by name, JSON-ready."""
        return asdict(self)

    def __str__(self) -> str:
        """One line that names what was found and leaves out what was not."""
        counts = {name: count for name, count in self.as_dict().items() if name != "items"}
        found = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count]
        return f"{self.items:,} items: {', '.join(found) or 'nothing missing, nothing repeated'}"


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
