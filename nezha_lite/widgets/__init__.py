"""Widgets: one thing turned by hand. Each shows itself in a cell of its own."""

from nezha_lite.widgets.codebook_explorer import CodebookExplorer
from nezha_lite.widgets.collision_simulator import CollisionSimulator
from nezha_lite.widgets.decode_explorer import DecodeExplorer
from nezha_lite.widgets.verifier_lab import VerifierLab

__all__ = ["CodebookExplorer", "CollisionSimulator", "DecodeExplorer", "VerifierLab"]
