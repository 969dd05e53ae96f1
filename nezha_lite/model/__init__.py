"""The model: prompts in, a backbone with NEZHA's draft head, logits of codes out.

`NezhaConfig`, `NezhaModel` and `load_model` are imported at their first use, because they need
transformers, whose import takes seconds. Exported programs (`decoding.programs`) do without.
"""

from typing import TYPE_CHECKING

from nezha_lite.common.lazy import lazy_names
from nezha_lite.model.draft_head import DraftHead
from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts

if TYPE_CHECKING:
    from nezha_lite.model.config import NezhaConfig
    from nezha_lite.model.loading import load_model
    from nezha_lite.model.nezha_model import NezhaModel

__all__ = [
    "DraftHead",
    "NezhaConfig",
    "NezhaModel",
    "Prompts",
    "Vocabulary",
    "build_prompts",
    "load_model",
]

__getattr__ = lazy_names(
    __name__, NezhaConfig="config", NezhaModel="nezha_model", load_model="loading"
)
