"""Item texts to vectors: TF-IDF with a truncated SVD, or any Hugging Face text encoder.

Both give float32 rows of unit length, so Euclidean distance ranks pairs as cosine similarity does;
a text without words gives a zero row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def tfidf_vectors(texts: Sequence[str], dim: int = 64, seed: int = 0) -> Tensor:
    """Latent semantic vectors of `texts`: float32 (N, dim), rows of unit length.

    TF-IDF over words and word pairs with sublinear term counts, projected on the `dim` leading
    singular directions. When the TF-IDF matrix has a rank below `dim`, the columns beyond it are
    zero. A text without words, or with nothing along the directions kept, gives a zero row.
    `seed` feeds the randomised SVD: same texts, dim and seed, same vectors.

    Raises ValueError if `texts` is empty, holds no word at all, or `dim` is not positive.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.utils.extmath import randomized_svd

    _check_texts(texts)
    if dim < 1:
        raise ValueError(f"dim is {dim}: a positive number of columns is needed")
    if not any(character.isalnum() for text in texts for character in text):
        raise ValueError(f"none of the {len(texts)} texts holds a word: nothing to make vectors of")
    # \w+ rather than the default of two letters or more: "vitamin C" is not "vitamin E".
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    matrix = vectorizer.fit_transform(texts)  # sparse (N, words)
    # The SVD behind scikit-learn's TruncatedSVD, called directly: TruncatedSVD also divides by the
    # variance, which is zero when all texts are equal.
    rank = min(dim, *matrix.shape)
    left, singular, _ = randomized_svd(matrix, rank, n_iter=5, random_state=seed)
    # Directions and rows below this are rounding noise, which normalising would blow up.
    noise = 1e-6
    singular = np.where(singular > noise * singular[0], singular, 0.0)
    vectors = np.zeros((len(texts), dim))
    vectors[:, :rank] = left * singular
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.where(lengths > noise, vectors / np.maximum(lengths, noise), 0.0)
    # Rounding tells equal texts apart, by 1e-16, and a quantizer would spend codes on that.
    first = {text: row for row, text in reversed([*enumerate(texts)])}
    vectors = vectors[[first[text] for text in texts]]
    return torch.from_numpy(vectors).float()


def encoder_vectors(
    texts: Sequence[str],
    model: str | Path,
    batch_size: int = 64,
    max_length: int = 64,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Tensor:
    """Mean-pooled vectors of `texts` by a pretrained encoder: float32 (N, D) on the CPU.

    `model` is a Hugging Face name or a local folder, read by `AutoTokenizer` and `AutoModel` in
    fp32, never with code from the model's repository. Of an encoder-decoder (T5) the encoder is
    used. Texts are cut to `max_length` tokens, or to what the model takes if that is fewer; the
    mean is over a text's own tokens, special tokens included, padding left out; rows have unit
    length. A blank text gives a zero row.

    Raises ValueError if `texts` is empty, if `batch_size` or `max_length` is not positive, or if
    `model` cannot be loaded as tokenizer and encoder.
    """
    from tqdm import tqdm
    from transformers import AutoModel, AutoTokenizer

    _check_texts(texts)
    for name, value in (("batch_size", batch_size), ("max_length", max_length)):
        if value < 1:
            raise ValueError(f"{name} is {value}: a positive number is needed")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        encoder = AutoModel.from_pretrained(model, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"model {str(model)!r} cannot be loaded: a Hugging Face name, or a folder with config, "
            f"weights and tokenizer, is needed ({reason})"
        ) from error
    positions = getattr(encoder.config, "max_position_embeddings", None) or max_length
    max_length = min(max_length, positions, tokenizer.model_max_length)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked out, so any token will do
    if encoder.config.is_encoder_decoder:
        encoder = encoder.get_encoder()
    encoder = encoder.to(device).eval()

    # Texts of like length share a batch, so little is padded; blank ones never reach the model.
    order = sorted((n for n, text in enumerate(texts) if text.strip()), key=lambda n: len(texts[n]))
    vectors = torch.zeros(len(texts), encoder.config.hidden_size)  # (N, D)
    with torch.no_grad(), tqdm(total=len(order), unit="text", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            ).to(device)
            hidden = encoder(**batch).last_hidden_state  # (B, T, D)
            mask = batch["attention_mask"].bool().unsqueeze(-1)  # (B, T, 1)
            # Filled, not multiplied: a padding position may hold NaN, and 0 * NaN is NaN.
            pooled = hidden.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)  # (B, D)
            vectors[rows] = F.normalize(pooled, dim=1).cpu()
            bar.update(len(rows))
    return vectors


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise ValueError(f"texts is the single string {texts[:40]!r}: a list of strings is needed")
    if not len(texts):
        raise ValueError("texts is empty: at least one text is needed")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{row}] is {text!r}: a string is needed")
