"""Widgets: one decode, turned by hand. Each shows itself in a cell of its own."""

from nezha_lite.widgets.decode_explorer import DecodeExplorer
from nezha_lite.widgets.verifier_lab import VerifierLab

__all__ = ["DecodeExplorer", "VerifierLab"]
