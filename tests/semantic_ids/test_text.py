"""Text vectors: TF-IDF geometry and edges, and applying what was fitted to new texts."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors, has_word

TITLES = [
    "red matte lipstick long lasting",
    "red glossy lipstick long lasting",
    "argan oil shampoo for dry hair",
    "coconut oil shampoo for dry hair",
    "nail polish set",
    "hair brush",
    "shampoo",
]


def tfidf_vectors(texts: list[str], dim: int = 64, seed: int = 0) -> torch.Tensor:
    return TfidfVectors(dim, seed).fit_transform(texts)


def test_similar_titles_are_closer_than_dissimilar_ones() -> None:
    vectors = tfidf_vectors(TITLES, dim=5)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.5 > similarity[0, 2] + 0.4
    assert similarity[2, 3] > similarity[2, 5] > similarity[2, 4]


def test_tfidf_rows_have_unit_length_and_are_float32() -> None:
    vectors = tfidf_vectors(TITLES, dim=7)
    assert vectors.shape == (7, 7)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(7))


def test_with_full_rank_the_projection_keeps_tfidf_cosines() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    matrix = vectorizer.fit_transform(TITLES).toarray()
    vectors = tfidf_vectors(TITLES, dim=64)
    torch.testing.assert_close(
        vectors @ vectors.T, torch.tensor(matrix @ matrix.T).float(), atol=1e-5, rtol=0
    )


def test_tfidf_is_deterministic_and_leaves_global_random_state_alone() -> None:
    many = [f"{a} {b} {c}" for a in TITLES for b in TITLES for c in TITLES]
    before = torch.get_rng_state()
    first = tfidf_vectors(many, dim=8, seed=3)
    assert torch.equal(first, tfidf_vectors(many, dim=8, seed=3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("texts", [["same words"] * 9, ["one two"], ["a b", "c d"] * 3, TITLES * 3])
def test_columns_beyond_the_rank_are_zero(texts: list[str]) -> None:
    vectors = tfidf_vectors(texts, dim=12)
    rank = len(set(texts))
    assert vectors.shape == (len(texts), 12)
    assert vectors[:, :rank].norm(dim=1) == pytest.approx(1.0)
    assert not vectors[:, rank:].any()


def test_a_text_without_words_gives_a_zero_row() -> None:
    vectors = tfidf_vectors(["red lipstick", "", "  ", "!?", "blue lipstick"], dim=4)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 0, 0, 0, 1])


def test_single_letters_count_as_words() -> None:
    vectors = tfidf_vectors(["vitamin c", "vitamin e"], dim=2)
    assert vectors[0] @ vectors[1] < 0.9


@pytest.mark.parametrize(
    ("texts", "dim", "message"),
    [
        ([], 4, "texts is empty"),
        (["", " - "], 4, "none of the 2 texts holds a word"),
        (["word"], 0, "dim is 0"),
        ("one string", 4, "single string 'one string'"),
        (["fine", None], 4, r"texts\[1\] is None"),
    ],
)
def test_tfidf_says_what_is_wrong(texts: list[str], dim: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tfidf_vectors(texts, dim=dim)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=6), st.integers(1, 8))
def test_any_text_gives_unit_or_zero_rows_or_one_clear_error(texts: list[str], dim: int) -> None:
    if not any(character.isalnum() for character in "".join(texts)):
        with pytest.raises(ValueError, match="holds a word"):
            tfidf_vectors(texts, dim=dim)
        return
    vectors = tfidf_vectors(texts, dim=dim)
    assert vectors.shape == (len(texts), dim)
    for length in vectors.norm(dim=1).tolist():
        assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0


@pytest.mark.slow
def test_importing_text_and_quantizers_needs_no_sklearn() -> None:
    # None in sys.modules makes every "import sklearn" fail.
    modules = "nezha_lite.semantic_ids.vectors.tfidf, nezha_lite.semantic_ids.quantizers"
    program = f"import sys; sys.modules['sklearn'] = None; import {modules}"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


# ---- fitted once, applied later ------------------------------------------------------------------

ELEMENTS = ["red", "blue", "matte", "lipstick", "argan", "oil", "hair", "brush", "nail", "polish"]
sentences = st.lists(st.sampled_from(ELEMENTS), max_size=5).map(" ".join)


@given(st.lists(sentences, min_size=2, max_size=30), st.integers(1, 12), st.integers(0, 3))
@pytest.mark.slow
def test_a_fitted_text_gets_its_row_again(texts: list[str], dim: int, seed: int) -> None:
    if not any(texts):
        return
    fitted = TfidfVectors(dim, seed)
    rows = fitted.fit_transform(texts)
    assert torch.equal(rows, tfidf_vectors(texts, dim, seed))
    torch.testing.assert_close(fitted.transform(texts), rows, atol=1e-6, rtol=0)
    alone = torch.cat([fitted.transform([text]) for text in texts])
    torch.testing.assert_close(alone, rows, atol=1e-6, rtol=0)


def test_a_fitted_text_gets_its_row_again_with_many_texts_of_few_words() -> None:
    # More rows than terms: there a randomised SVD of the matrix itself does not project rows onto
    # exactly where its left singular vectors put them.
    words = [f"w{number}" for number in range(40)]
    texts = [f"{words[n * 7 % 40]} {words[n * n % 40]}" for n in range(2000)]
    fitted = TfidfVectors(dim=8)
    rows = fitted.fit_transform(texts)
    torch.testing.assert_close(fitted.transform(texts), rows, atol=1e-6, rtol=0)


def test_a_new_text_lies_beside_those_that_share_its_words() -> None:
    fitted = TfidfVectors(dim=7).fit(TITLES)
    new = fitted.transform(["argan shampoo", "matte lipstick", "garden spade", "", "!?"])
    assert new.dtype == torch.float32
    likeness = new @ fitted.transform(TITLES).T
    assert likeness[0].argmax() in (2, 6)
    assert likeness[1].argmax() == 0
    assert new.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 0, 0])
    assert fitted.transform([]).shape == (0, 7)


def test_what_was_fitted_is_rebuilt_exactly_from_its_state() -> None:
    fitted = TfidfVectors(dim=5, seed=2).fit([*TITLES, "crème brûlée 日本"])
    loaded = TfidfVectors.from_state(*fitted.state())
    new = ["crème shampoo", "red hair", "日本"]
    assert torch.equal(loaded.transform(new), fitted.transform(new))
    assert (loaded.dim, loaded.seed) == (5, 2)


def test_before_fitting_there_is_nothing_to_apply_or_save() -> None:
    for use in (lambda: TfidfVectors().transform(["a"]), lambda: TfidfVectors().state()):
        with pytest.raises(RuntimeError, match="call fit first"):
            use()


def test_parts_that_do_not_belong_together_are_refused() -> None:
    tensors, settings = TfidfVectors(dim=3).fit(TITLES).state()
    tensors["idf"] = tensors["idf"][1:]
    with pytest.raises(ValueError, match="do not make TF-IDF vectors of 3 columns"):
        TfidfVectors.from_state(tensors, settings)


@pytest.mark.parametrize(
    ("text", "expected"), [("a", True), ("7", True), ("日", True), ("_!?", False)]
)
def test_a_word_holds_a_letter_or_a_digit(text: str, expected: bool) -> None:
    assert has_word(text) is expected
