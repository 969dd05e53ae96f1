"""Item vectors by a pretrained text encoder, with a cache on disk."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors_bytes
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor
from tqdm import tqdm

from nezha_lite.common.checks import check
from nezha_lite.common.files import atomic_write
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.semantic_ids.vectors.tfidf import check_texts

_POOLING = "mean over tokens, unit length; version 1"  # part of the cache's key
_MODEL_FILES = {".json", ".txt", ".model", ".safetensors", ".bin"}  # not README and pictures
_TEXTS_AT_ONCE = 4096  # a cache file each: an interrupted run loses at most the last of them


def encoder_vectors(
    texts: Sequence[str],
    model: str | Path,
    batch_size: int = 64,
    max_length: int = 64,
    device: str | torch.device = "cpu",
    progress: bool = True,
    cache: str | Path | None = None,
) -> Tensor:
    """Mean-pooled vectors of `texts` by a pretrained encoder: float32 (N, D) on the CPU.

    `model` is a Hugging Face name or a local folder, read by `AutoTokenizer` and `AutoModel` in
    fp32, never with code from the model's repository. Of an encoder-decoder (T5) the encoder is
    used. Texts are cut to `max_length` tokens, or to what the model takes if that is fewer; the
    mean is over a text's own tokens, special tokens included, padding left out; rows have unit
    length, equal texts equal rows. A blank text gives a zero row.

    `cache` is a folder that stores vectors by the content of model and text, so a text is encoded
    once, wherever the model lies; None stores nothing. Several processes
    may share it. A damaged file in it is removed with a warning, and its vectors computed again.

    Raises ValueError if `texts` is empty, if `batch_size` or `max_length` is not positive, if
    `model` cannot be loaded as tokenizer and encoder, or if `cache` cannot be written.
    """
    check_texts(texts)
    check(batch_size >= 1, "batch_size", batch_size, "a positive number")
    check(max_length >= 1, "max_length", max_length, "a positive number")
    # Texts of like length share a batch, so little is padded; blank ones never reach the model.
    distinct = sorted(dict.fromkeys(text for text in texts if text.strip()), key=len)
    stored = None
    if cache is not None:
        model_key = {"model": model_identity(model), "max_length": max_length, "pooling": _POOLING}
        stored = _VectorCache(cache, model_key)
    encoded = stored.read(distinct) if stored else {}
    missing = [text for text in distinct if text not in encoded]
    if missing or not encoded:
        encoder = _Encoder(model, max_length, device)
        blank = torch.zeros(encoder.width)
        with tqdm(total=len(missing), unit="text", disable=not progress) as bar:
            for part in _chunks(missing, _TEXTS_AT_ONCE):
                rows = []
                for batch in _chunks(part, batch_size):
                    rows.append(encoder.encode(batch))
                    bar.update(len(batch))
                vectors = torch.cat(rows)  # (texts, D)
                if stored:
                    stored.write(part, vectors)
                encoded.update(zip(part, vectors, strict=True))
    else:
        blank = torch.zeros_like(encoded[distinct[0]])
    return torch.stack([encoded.get(text, blank) for text in texts])


def _chunks(texts: list[str], size: int) -> list[list[str]]:
    return [texts[first : first + size] for first in range(0, len(texts), size)]


def model_identity(model: str | Path) -> str:
    """What distinguishes this encoder from every other one, for the keys of a cache.

    A hash over a local folder's files, wherever it lies; a Hugging Face name with the commit it
    stands for, or the bare name where no commit is at hand.
    """
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = Path(model)
    if not folder.is_dir():
        try:
            commit = extract_commit_hash(cached_file(str(model), "config.json"), None)
        except (OSError, ValueError):
            commit = None
        return f"{model}@{commit}" if commit else str(model)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _MODEL_FILES:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


class _Encoder:
    """Tokenizer and model, ready to encode. ValueError if they cannot be loaded."""

    def __init__(self, model: str | Path, max_length: int, device: str | torch.device) -> None:
        from transformers import AutoModel, AutoTokenizer

        try:
            with without_progress_bar():
                tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
                encoder = AutoModel.from_pretrained(
                    model, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
                )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"model {str(model)!r} cannot be loaded: a Hugging Face name, or a folder with "
                f"config, weights and tokenizer, is needed ({reason})"
            ) from error
        positions = getattr(encoder.config, "max_position_embeddings", None) or max_length
        self.max_length = min(max_length, positions, tokenizer.model_max_length)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token  # masked out, so any token will do
        if encoder.config.is_encoder_decoder:
            encoder = encoder.get_encoder()
        self.tokenizer = tokenizer
        self.encoder = encoder.to(device).eval()
        self.device = device
        self.width: int = encoder.config.hidden_size

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """One batch: (B, D) on the CPU, rows of unit length."""
        settings = {"padding": True, "truncation": True, "max_length": self.max_length}
        batch = self.tokenizer(texts, **settings, return_tensors="pt").to(self.device)
        hidden = self.encoder(**batch).last_hidden_state  # (B, T, D)
        mask = batch["attention_mask"].bool().unsqueeze(-1)  # (B, T, 1)
        # Filled, not multiplied: a padding position may hold NaN, and 0 * NaN is NaN.
        pooled = hidden.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)  # (B, D)
        return F.normalize(pooled, dim=1).cpu()


class _VectorCache:
    """Vectors of one encoder in a folder, in files that are added and never changed.

    A file is named by the hash of its bytes, so damage is always noticed, and writers never
    overwrite each other's files.
    """

    def __init__(self, root: str | Path, model_key: dict[str, Any]) -> None:
        about = json.dumps(model_key, indent=1, sort_keys=True).encode()
        self.root = root
        self.folder = Path(root) / _name(about)
        self._add("about.json", about)

    def read(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """The stored vectors (D,) of those `texts` that have one."""
        text_of = {_text_key(text): text for text in texts}
        stored: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                content = path.read_bytes()
                if _name(content) != path.stem:
                    raise ValueError("its content is not what its name says")
                tensors = from_safetensors_bytes(content)
                for key, vector in zip(tensors["texts"].numpy(), tensors["vectors"], strict=True):
                    if text := text_of.get(key.tobytes()):
                        stored[text] = vector
            except FileNotFoundError:
                pass  # another process removed it as damaged
            except (KeyError, ValueError, SafetensorError) as error:
                warnings.warn(
                    f"cache file {path} is damaged ({error}): it is removed, and its vectors are "
                    "computed again",
                    stacklevel=3,
                )
                path.unlink(missing_ok=True)
        return stored

    def write(self, texts: list[str], vectors: Tensor) -> None:
        """Add the `vectors` (n, D) of `texts` as one file."""
        keys = torch.frombuffer(bytearray(b"".join(map(_text_key, texts))), dtype=torch.uint8)
        content = to_safetensors_bytes({"texts": keys.view(-1, 32), "vectors": vectors})
        self._add(f"{_name(content)}.safetensors", content)

    def _add(self, name: str, content: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / name).exists():
                atomic_write(self.folder / name, content)
        except OSError as error:
            raise ValueError(
                f"cache is {str(self.root)!r}, but must be a folder that can be written "
                f"({error.strerror})"
            ) from error


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _text_key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
