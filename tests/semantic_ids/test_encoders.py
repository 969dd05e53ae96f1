"""Encoder vectors: mean pooling against a by-hand computation, and what the cache keeps."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import BertModel, T5Config, T5Model

from nezha_lite.semantic_ids.vectors import encoder as encoders
from nezha_lite.semantic_ids.vectors.encoder import encoder_vectors, model_identity
from tests.helpers.tiny_encoder import WORDS, save_bert, word_tokenizer

MIXED = ["red lipstick", "hair oil shampoo red red oil", "oil", "unknownword", "red " * 30]


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


def test_equal_texts_have_equal_rows_wherever_they_stand(bert: tuple[Path, BertModel]) -> None:
    texts = [*MIXED, "oil red", *MIXED]
    vectors = encoder_vectors(texts, bert[0], batch_size=2, progress=False)
    assert torch.equal(vectors[:5], vectors[6:])


# ---- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reach a model, in the order in which they do."""
    seen: list[str] = []
    encode = encoders._Encoder.encode

    def recording(self: encoders._Encoder, texts: list[str]) -> torch.Tensor:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(encoders._Encoder, "encode", recording)
    return seen


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.safetensors"))


def test_a_text_is_encoded_once_and_new_ones_pay_only_for_themselves(
    bert: tuple[Path, BertModel], tmp_path: Path, encoded: list[str]
) -> None:
    cache = tmp_path / "deep" / "cache"
    plain = encoder_vectors([*MIXED, ""], bert[0], progress=False)
    encoded.clear()
    first = encoder_vectors([*MIXED, ""], bert[0], progress=False, cache=cache)
    assert sorted(encoded) == sorted(MIXED)
    torch.testing.assert_close(first, plain)
    encoded.clear()
    again = encoder_vectors([*reversed(MIXED), "", "oil"], bert[0], progress=False, cache=cache)
    assert encoded == []
    assert torch.equal(again, first[[4, 3, 2, 1, 0, 5, 2]])
    more = encoder_vectors(["oil", "red oil", "hair"], bert[0], progress=False, cache=str(cache))
    assert sorted(encoded) == ["hair", "red oil"]
    assert torch.equal(more[0], first[2])
    (about,) = cache.glob("*/about.json")
    assert json.loads(about.read_text())["max_length"] == 64
    kinds = {path.suffix for path in cache.glob("*/*")}
    assert kinds == {".json", ".safetensors"}  # nothing half-written stays


def test_with_everything_kept_no_model_is_loaded(
    bert: tuple[Path, BertModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoder_vectors(MIXED, bert[0], progress=False, cache=tmp_path)
    monkeypatch.setattr(encoders, "_Encoder", None)
    assert torch.equal(encoder_vectors(MIXED, bert[0], progress=False, cache=tmp_path), first)


def test_the_key_is_the_models_content_not_its_place(
    bert: tuple[Path, BertModel], tmp_path: Path, encoded: list[str]
) -> None:
    cache, moved, other = (tmp_path / name for name in ("cache", "moved", "other"))
    encoder_vectors(MIXED, bert[0], progress=False, cache=cache)
    shutil.copytree(bert[0], moved)
    (moved / "README.md").write_text("moved")
    encoded.clear()
    encoder_vectors(MIXED, moved, progress=False, cache=cache)
    assert encoded == []
    save_bert(other, seed=1)
    assert model_identity(other) != model_identity(moved) == model_identity(bert[0])
    encoder_vectors(["oil"], other, progress=False, cache=cache)
    encoder_vectors(["oil"], moved, max_length=4, progress=False, cache=cache)
    assert encoded == ["oil", "oil"]
    assert len(list(cache.iterdir())) == 3
    weights = other / "model.safetensors"
    before, content = model_identity(other), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_identity(other) != before


def test_a_hub_name_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    # A download as the hub's client leaves it: one folder per commit, and what "main" stands for.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        save_bert(repository / "snapshots" / commit, seed=seed)
        (repository / "refs" / "main").write_text(commit)
        assert model_identity("some/encoder") == f"some/encoder@{commit}"
        encoder_vectors(["oil"], "some/encoder", progress=False, cache=tmp_path / "cache")
        encoder_vectors(["oil"], "some/encoder", progress=False, cache=tmp_path / "cache")
    assert encoded == ["oil", "oil"]
    assert model_identity("no/such-encoder") == "no/such-encoder"


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit"])
def test_a_damaged_file_is_replaced_with_one_warning(
    bert: tuple[Path, BertModel], tmp_path: Path, encoded: list[str], damage: str
) -> None:
    first = encoder_vectors(MIXED, bert[0], progress=False, cache=tmp_path)
    (shard,) = shards(tmp_path)
    content = bytearray(shard.read_bytes())
    content[-2] ^= 16
    shard.write_bytes({"truncated": content[:-9], "empty": b"", "one bit": content}[damage])
    encoded.clear()
    with pytest.warns(UserWarning, match="is damaged .* computed again") as caught:
        repaired = encoder_vectors(MIXED, bert[0], progress=False, cache=tmp_path)
    assert len(caught) == 1
    assert str(shard) in str(caught[0].message)
    assert sorted(encoded) == sorted(MIXED)
    torch.testing.assert_close(repaired, first)
    encoded.clear()
    encoder_vectors(MIXED, bert[0], progress=False, cache=tmp_path)
    assert encoded == []


def test_a_foreign_file_with_an_honest_name_is_damaged_too(
    bert: tuple[Path, BertModel], tmp_path: Path
) -> None:
    encoder_vectors(["oil"], bert[0], progress=False, cache=tmp_path)
    (shard,) = shards(tmp_path)
    content = b"no safetensors"
    (shard.parent / f"{encoders._name(content)}.safetensors").write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        encoder_vectors(["oil"], bert[0], progress=False, cache=tmp_path)
    assert shards(tmp_path) == [shard]


def test_an_interrupted_run_keeps_what_it_finished(
    bert: tuple[Path, BertModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "_TEXTS_AT_ONCE", 2)
    encode = encoders._Encoder.encode
    done: list[str] = []

    def stopping(self: encoders._Encoder, texts: list[str]) -> torch.Tensor:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(encoders._Encoder, "encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        encoder_vectors(MIXED, bert[0], batch_size=1, progress=False, cache=tmp_path)
    assert len(shards(tmp_path)) == 2
    done.clear()
    vectors = encoder_vectors(MIXED, bert[0], batch_size=1, progress=False, cache=tmp_path)
    assert len(done) == 1
    torch.testing.assert_close(vectors, encoder_vectors(MIXED, bert[0], progress=False))


def test_several_writers_at_once_leave_every_file_whole(tmp_path: Path) -> None:
    turns = [[f"text {turn}-{n}" for n in range(20)] for turn in range(25)]

    def write_and_read(_: int) -> None:
        cache = encoders._VectorCache(tmp_path, {"model": "one"})
        for turn, texts in enumerate(turns):
            cache.write(texts, torch.full((20, 8), float(turn)))
            assert len(cache.read(texts)) == 20  # a damaged file would warn, which is an error

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write_and_read, range(8)))
    everything = [text for texts in turns for text in texts]
    found = encoders._VectorCache(tmp_path, {"model": "one"}).read(everything)
    assert [int(found[text][0]) for text in everything] == [n // 20 for n in range(500)]
    assert len(shards(tmp_path)) == 25
    assert not list(tmp_path.glob("*/.*"))


def test_a_cache_that_cannot_be_written_is_named(
    bert: tuple[Path, BertModel], tmp_path: Path, encoded: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cache is '.*file', but must be a folder"):
        encoder_vectors(["oil"], bert[0], progress=False, cache=tmp_path / "file")
    assert encoded == []  # said before the work, not after it
