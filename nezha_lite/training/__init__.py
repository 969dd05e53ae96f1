"""Training: packed prefixes, the joint loss, checkpoints that resume exactly."""

from nezha_lite.training.config import PAPER_RECIPE, TrainingConfig
from nezha_lite.training.record import TrainingRecord, read_training_record, split_as_trained
from nezha_lite.training.train import TOKENIZER_FOLDER, train

__all__ = [
    "PAPER_RECIPE",
    "TOKENIZER_FOLDER",
    "TrainingConfig",
    "TrainingRecord",
    "read_training_record",
    "split_as_trained",
    "train",
]
