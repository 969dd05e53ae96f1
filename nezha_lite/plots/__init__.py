"""Figures: functions that return a plotly figure with a static SVG form beside it."""

from nezha_lite.plots.basic_charts import (
    attention_mask_figure,
    bars_figure,
    id_space_figure,
    lines_figure,
)
from nezha_lite.plots.beam_figures import beam_tree_figure
from nezha_lite.plots.id_quality_figures import neighbours_figure, tokenizers_figure
from nezha_lite.plots.prefix_figures import residual_figure
from nezha_lite.plots.speed_figures import latency_figure, phases_figure, verifiers_figure
from nezha_lite.plots.static_svg import figure_svg
from nezha_lite.plots.study_figures import (
    clear,
    differences_figure,
    hallucination_figure,
    pair_name,
    system_name,
    systems_figure,
)
from nezha_lite.plots.style import Figure
from nezha_lite.plots.timeline_figure import timeline_figure
from nezha_lite.plots.tradeoff_figures import tradeoff_figure

__all__ = [
    "Figure",
    "attention_mask_figure",
    "bars_figure",
    "beam_tree_figure",
    "clear",
    "differences_figure",
    "figure_svg",
    "hallucination_figure",
    "id_space_figure",
    "latency_figure",
    "lines_figure",
    "neighbours_figure",
    "pair_name",
    "phases_figure",
    "residual_figure",
    "system_name",
    "systems_figure",
    "timeline_figure",
    "tokenizers_figure",
    "tradeoff_figure",
    "verifiers_figure",
]
