"""Figures: functions that return a plotly figure with a static SVG form beside it."""

from nezha_lite.plots.agreement_figures import ranks_figure, shares_figure
from nezha_lite.plots.basic_charts import (
    attention_mask_figure,
    bars_figure,
    id_space_figure,
    lines_figure,
)
from nezha_lite.plots.beam_figures import beam_tree_figure, drafts_figure
from nezha_lite.plots.beam_nodes import DraftCounts, Fate, Node, beam_nodes, draft_counts
from nezha_lite.plots.capacity_figures import responses_figure, servers_figure
from nezha_lite.plots.collision_figures import CollisionPoint, collision_figure, occupancy_figure
from nezha_lite.plots.id_map_figures import Landed, Landing, id_map_figure
from nezha_lite.plots.id_quality_figures import (
    neighbours_figure,
    tokenizers_figure,
)
from nezha_lite.plots.labelled_lines import Line, labelled_lines_figure
from nezha_lite.plots.prefix_agreement import LevelAgreement, compare_prefixes, shared_shares
from nezha_lite.plots.prefix_figures import prefix_zoom_figure, residual_figure
from nezha_lite.plots.race_figures import RaceBar, race_figure
from nezha_lite.plots.speed_figures import (
    latency_figure,
    phases_figure,
    verifiers_figure,
)
from nezha_lite.plots.static_svg import figure_svg, page_svg
from nezha_lite.plots.study_figures import (
    differences_figure,
    hallucination_figure,
    systems_figure,
)
from nezha_lite.plots.study_style import clear, pair_name, system_name
from nezha_lite.plots.style import TEMPLATE, Figure, plot_text
from nezha_lite.plots.tradeoff_figures import (
    TradeoffPoint,
    tradeoff_figure,
    tradeoff_points,
)

__all__ = [
    "TEMPLATE",
    "CollisionPoint",
    "DraftCounts",
    "Fate",
    "Figure",
    "Landed",
    "Landing",
    "LevelAgreement",
    "Line",
    "Node",
    "RaceBar",
    "TradeoffPoint",
    "attention_mask_figure",
    "bars_figure",
    "beam_nodes",
    "beam_tree_figure",
    "clear",
    "collision_figure",
    "compare_prefixes",
    "differences_figure",
    "draft_counts",
    "drafts_figure",
    "figure_svg",
    "hallucination_figure",
    "id_map_figure",
    "id_space_figure",
    "labelled_lines_figure",
    "latency_figure",
    "lines_figure",
    "neighbours_figure",
    "occupancy_figure",
    "page_svg",
    "pair_name",
    "phases_figure",
    "plot_text",
    "prefix_zoom_figure",
    "race_figure",
    "ranks_figure",
    "residual_figure",
    "responses_figure",
    "servers_figure",
    "shared_shares",
    "shares_figure",
    "system_name",
    "systems_figure",
    "tokenizers_figure",
    "tradeoff_figure",
    "tradeoff_points",
    "verifiers_figure",
]
