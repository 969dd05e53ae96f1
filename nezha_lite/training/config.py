"""How a model is trained: the settings, and the authors' own."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 1e9  # of a rate or a multiplier: float32 holds the product of three, as AdamW makes it


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults suit a model from scratch; `PAPER_RECIPE` is the authors'.

    Attributes:
        epochs: passes over all training targets.
        batch_rows: rows per step and process; a packed row is about one user.
        learning_rate: peak rate of AdamW, for the backbone and the head's classifiers.
        embedding_lr: multiplier for the head's code embeddings.
        transition_lr: multiplier for the head's transitions.
        weight_decay: AdamW's, on matrices but not on biases and norms.
        warmup: share of all steps in which the rate rises; afterwards it falls as a cosine.
        window_stride: how far the history window of a long user jumps (see `packing`).
        packed: packed prefixes, or one prefix per row.
        grouped: batch rows of similar length together, which saves padding.
        seed: of dropout and row order.
        bf16: bfloat16 autocast; None means "on GPUs that have it".
        checkpoints: write one after every epoch, so that the run can be resumed; two are kept.
        validate: compute the loss on the validation split after every epoch; not with a score.
        patience: with a score to watch (see `train`), how many epochs it may fail to rise before
            training stops; None goes through all epochs, and still keeps the best one's weights.
    """

    epochs: int = 20
    batch_rows: int = 64
    learning_rate: float = 2e-3
    embedding_lr: float = 1.0
    transition_lr: float = 1.0
    weight_decay: float = 0.05
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
        positive = ("epochs", "batch_rows", "learning_rate", "embedding_lr", "transition_lr")
        for name in (*positive, "window_stride"):
            if not 0 < getattr(self, name) <= MOST:  # nan fails every comparison
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but must be above 0 and at most {MOST:g}."
                )
        if not 0 <= self.weight_decay <= MOST:
            raise ValueError(
                f"weight_decay is {self.weight_decay}, but must be from 0 to {MOST:g}."
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}, but must be in [0, 1).")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}, but must be at least 1, or None.")


# The authors' released settings, for a pretrained backbone.
PAPER_RECIPE = TrainingConfig(
    learning_rate=1e-5, embedding_lr=100.0, transition_lr=10.0, window_stride=1
)
