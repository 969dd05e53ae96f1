"""The settings of a training, and the authors' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from nezha_lite.common.checks import BelowOne, Checked, Count, Valid

# Of a rate or a multiplier: AdamW multiplies three of them, and float32 can hold the product.
MAX_RATE = 1e9
Rate = Annotated[
    float, Valid(lambda rate: 0 < rate <= MAX_RATE, f"above 0 and at most {MAX_RATE:g}")
]
RateOrZero = Annotated[
    float, Valid(lambda rate: 0 <= rate <= MAX_RATE, f"at least 0 and at most {MAX_RATE:g}")
]


@dataclass(frozen=True)
class TrainingConfig(Checked):
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

    epochs: Count = 20
    batch_rows: Count = 64
    learning_rate: Rate = 2e-3
    embedding_lr: Rate = 1.0
    transition_lr: Rate = 1.0
    weight_decay: RateOrZero = 0.05
    id_weight_decay: RateOrZero = 0.05
    warmup: BelowOne = 0.05
    window_stride: Count = 10
    packed: bool = True
    grouped: bool = True
    seed: int = 0
    bf16: bool | None = None
    checkpoints: bool = True
    validate: bool = False
    patience: Annotated[int | None, Valid(lambda n: n is None or n >= 1, "at least 1")] = None


# The authors' released settings, for a pretrained backbone.
PAPER_RECIPE = TrainingConfig(
    learning_rate=1e-5, embedding_lr=100.0, transition_lr=10.0, window_stride=1
)
