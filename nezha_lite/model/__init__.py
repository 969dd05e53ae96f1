"""The model: prompts in, a backbone with NEZHA's draft head, logits of codes out."""

from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.draft_head import DraftHead
from nezha_lite.model.loading import load_model
from nezha_lite.model.nezha_model import NezhaModel
from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts

__all__ = [
    "DraftHead",
    "NezhaConfig",
    "NezhaModel",
    "Prompts",
    "Vocabulary",
    "build_prompts",
    "load_model",
]
