"""The settings of a training, and the authors' own."""

from __future__ import annotations

from dataclasses import dataclass

from nezha_lite.common.checks import check, check_counts

# Of a rate or a multiplier: AdamW multiplies three of them, and float32 can hold the product.
MAX_LEARNING_RATE = 1e9


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults suit a model from scratch; `PAPER_RECIPE` is the authors'.

    >>> TrainingConfig(epochs=3).learning_rate
    0.002
    >>> TrainingConfig(warmup=1.0)
    Traceback (most recent call last):
    ValueError: warmup is 1.0, but must be in [0, 1).

    Attributes:
        epochs: passes over all training targets.
        batch_rows: rows per step and process; a packed row is about one user.
        learning_rate: peak rate of AdamW, for the backbone and the head's classifiers.
        embedding_lr: multiplier for the head's code embeddings.
        transition_lr: multiplier for the head's transitions.
        weight_decay: AdamW's, on matrices but not on biases and norms.
        id_weight_decay: AdamW's, on the embeddings of whole IDs (`PrefixEmbedding`).
        warmup: share of all steps in which the rate rises; afterwards it falls as a cosine.
        window_stride: how far the history window of a long user jumps (see `packing`).
        packed: packed prefixes, or one prefix per row.
        grouped: batch rows of similar length together, which saves padding.
        seed: of dropout and row order.
        bf16: bfloat16 autocast; None means "on GPUs that have it".
        checkpoints: write one after every epoch, so that the run can be resumed; two are kept.
        validate: compute the loss on the validation split after every epoch; not with a score.
        patience: with a score (see `train`), how many epochs it may fail to rise before training
            stops; None trains all epochs, and still keeps the best one's weights.

    Raises:
        ValueError: for a setting outside its range.
    """

    epochs: int = 20
    batch_rows: int = 64
    learning_rate: float = 2e-3
    embedding_lr: float = 1.0
    transition_lr: float = 1.0
    weight_decay: float = 0.05
    id_weight_decay: float = 0.05
    warmup: float = 0.05
    window_stride: int = 10
    packed: bool = True
    grouped: bool = True
    seed: int = 0
    bf16: bool | None = None
    checkpoints: bool = True
    validate: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, "epochs", "batch_rows", "window_stride")
        for name in ("learning_rate", "embedding_lr", "transition_lr"):
            check_rate(name, getattr(self, name))
        for name in ("weight_decay", "id_weight_decay"):
            check_rate(name, getattr(self, name), zero=True)
        check(0 <= self.warmup < 1, "warmup", self.warmup, "in [0, 1)")
        check(self.patience is None or self.patience >= 1, "patience", self.patience, "at least 1")


def check_rate(name: str, rate: float, zero: bool = False) -> None:
    """Raise ValueError unless a rate or a multiplier is above 0 (or is 0) and not too large."""
    valid = 0 < rate <= MAX_LEARNING_RATE or (zero and rate == 0)  # False for NaN
    least = "at least 0" if zero else "above 0"
    check(valid, name, rate, f"{least} and at most {MAX_LEARNING_RATE:g}")


# The authors' released settings, for a pretrained backbone.
PAPER_RECIPE = TrainingConfig(
    learning_rate=1e-5, embedding_lr=100.0, transition_lr=10.0, window_stride=1
)
