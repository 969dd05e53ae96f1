"""Text vectors: TF-IDF geometry and edges; mean pooling against a by-hand computation."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5Model

from nezha_lite.text import encoder_vectors, tfidf_vectors

TITLES = [
    "red matte lipstick long lasting",
    "red glossy lipstick long lasting",
    "argan oil shampoo for dry hair",
    "coconut oil shampoo for dry hair",
    "nail polish set",
    "hair brush",
    "shampoo",
]


# ---- TF-IDF -------------------------------------------------------------------------------------


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


def test_importing_text_and_quantizers_needs_no_sklearn() -> None:
    # None in sys.modules makes every "import sklearn" fail.
    program = (
        "import sys; sys.modules['sklearn'] = None; import nezha_lite.text, nezha_lite.quantizers"
    )
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


# ---- encoder ------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "lipstick", "hair", "oil", "shampoo"]
MIXED = ["red lipstick", "hair oil shampoo red red oil", "oil", "unknownword", "red " * 30]


def word_tokenizer(pad: bool = True) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        eos_token="[SEP]",
        pad_token="[PAD]" if pad else None,
    )


def save_bert(folder: Path, pad: bool = True) -> BertModel:
    config = BertConfig(
        vocab_size=9,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config).eval()
    model.save_pretrained(folder)
    word_tokenizer(pad).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BertModel]:
    folder = tmp_path_factory.mktemp("bert")
    return folder, save_bert(folder)


@torch.no_grad()
def pooled_by_hand(model: BertModel, text: str, max_length: int) -> torch.Tensor:
    known = [WORDS.index(w) if w in WORDS else 1 for w in text.split()]
    ids = torch.tensor([[2, *known[: max_length - 2], 3]])
    hidden = model(input_ids=ids).last_hidden_state[0]  # (T, D)
    mean = sum(hidden) / len(hidden)
    return mean / mean.norm()


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_encoder_vectors_are_the_mean_over_each_texts_own_tokens(
    bert: tuple[Path, BertModel], batch_size: int
) -> None:
    folder, model = bert
    vectors = encoder_vectors(MIXED, folder, batch_size, max_length=12, progress=False)
    expected = torch.stack([pooled_by_hand(model, text, 12) for text in MIXED])
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # the comparison can fail


def test_a_blank_text_gives_a_zero_row_and_changes_no_other(bert: tuple[Path, BertModel]) -> None:
    folder, _ = bert
    vectors = encoder_vectors(["oil", "", "  ", "red"], str(folder), progress=False)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 0, 0, 1], abs=1e-5)
    torch.testing.assert_close(
        vectors[[0, 3]], encoder_vectors(["oil", "red"], folder, progress=False)
    )
    assert not encoder_vectors(["", " "], folder, progress=False).any()


def test_texts_longer_than_the_model_takes_are_cut(bert: tuple[Path, BertModel]) -> None:
    folder, model = bert
    long = "hair " * 20 + "red " * 30
    vectors = encoder_vectors([long], folder, max_length=64, progress=False)
    torch.testing.assert_close(vectors[0], pooled_by_hand(model, long, 40), atol=1e-5, rtol=0)


def test_a_tokenizer_without_padding_token_gives_the_same_vectors(
    bert: tuple[Path, BertModel], tmp_path: Path
) -> None:
    save_bert(tmp_path, pad=False)
    torch.testing.assert_close(
        encoder_vectors(MIXED, tmp_path, max_length=12, progress=False),
        encoder_vectors(MIXED, bert[0], max_length=12, progress=False),
    )


def test_of_an_encoder_decoder_the_encoder_is_used(tmp_path: Path) -> None:
    config = T5Config(
        vocab_size=9,
        d_model=8,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    model = T5Model(config).eval()
    model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with torch.no_grad():
        hidden = model.encoder(input_ids=torch.tensor([[2, 7, 3]])).last_hidden_state[0]
    expected = hidden.mean(0) / hidden.mean(0).norm()
    vectors = encoder_vectors(["oil", "red hair oil"], tmp_path, progress=False)
    torch.testing.assert_close(vectors[0], expected, atol=1e-5, rtol=0)


def test_vectors_can_be_trained_on_and_the_bar_can_be_shown(
    bert: tuple[Path, BertModel], capfd: pytest.CaptureFixture[str]
) -> None:
    vectors = encoder_vectors(MIXED, bert[0], max_length=12, progress=True)
    assert "5/5" in capfd.readouterr().err
    weight = torch.ones(16, requires_grad=True)
    (vectors @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, vectors.sum(0))


def test_encoder_says_what_is_wrong(bert: tuple[Path, BertModel], tmp_path: Path) -> None:
    folder, _ = bert
    with pytest.raises(ValueError, match="cannot be loaded: a Hugging Face name, or a folder"):
        encoder_vectors(["oil"], tmp_path, progress=False)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded: a Hugging Face name, or a folder"):
        encoder_vectors(["oil"], tmp_path, progress=False)
    with pytest.raises(ValueError, match="max_length is 0"):
        encoder_vectors(["oil"], folder, max_length=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        encoder_vectors(["oil"], folder, batch_size=0)
    with pytest.raises(ValueError, match="texts is empty"):
        encoder_vectors([], folder)
