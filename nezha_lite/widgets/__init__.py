"""Widgets: one thing turned by hand. Each shows itself in a cell of its own."""

from nezha_lite.widgets.capacity_planner import CapacityPlanner
from nezha_lite.widgets.codebook_explorer import CodebookExplorer
from nezha_lite.widgets.collision_simulator import CollisionSimulator
from nezha_lite.widgets.decode_explorer import DecodeExplorer
from nezha_lite.widgets.decoder_race import DecoderRace
from nezha_lite.widgets.draft_head_explorer import DraftHeadExplorer
from nezha_lite.widgets.draft_vs_model import DraftAgainstModel
from nezha_lite.widgets.hallucination_lab import HallucinationLab
from nezha_lite.widgets.method_explorer import MethodExplorer
from nezha_lite.widgets.tradeoff_explorer import TradeoffExplorer
from nezha_lite.widgets.verifier_lab import VerifierLab

__all__ = [
    "CapacityPlanner",
    "CodebookExplorer",
    "CollisionSimulator",
    "DecodeExplorer",
    "DecoderRace",
    "DraftAgainstModel",
    "DraftHeadExplorer",
    "HallucinationLab",
    "MethodExplorer",
    "TradeoffExplorer",
    "VerifierLab",
]
