"""Training: packed prefixes, the joint loss, checkpoints that resume exactly."""

from nezha_lite.training.config import PAPER_RECIPE, TrainingConfig
from nezha_lite.training.train import TrainingRecord, read_training_record, train

__all__ = ["PAPER_RECIPE", "TrainingConfig", "TrainingRecord", "read_training_record", "train"]
