"""Names and styles of systems and data sets in figures and tables of the quality study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nezha_lite.common.results import ResultRow
from nezha_lite.evaluation.statistics import holm
from nezha_lite.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from nezha_lite.plots.traces import SeriesStyle

NAMES: Mapping[str, str] = {
    "popularity": "popularity",
    "item-knn": "item-kNN",
    "sasrec": "SASRec, full CE",
    "nezha": "NEZHA",
    "nezha, autoregressive": "NEZHA's backbone",
    "nezha, off": "NEZHA, unchecked",
    "nezha, final": "NEZHA, checked at the end",
    "nezha, parallel-heads": "NEZHA, transition skipped",
    "backbone-only": "backbone alone",
    "head-only": "draft loss alone",
    "no-placeholders": "no placeholders",
    "no-transition": "no transition",
    "three-levels": "3-level NEZHA",
    "three-levels, autoregressive": "3-level NEZHA's backbone",
    "three-levels, off": "3-level NEZHA, unchecked",
    "three-levels, parallel-heads": "3-level NEZHA, transition skipped",
}
"""What the systems of a study are called in figures and tables."""
DATASETS = {
    "beauty": SeriesStyle("Beauty", BLUE),
    "toys": SeriesStyle("Toys", VERMILLION, symbol="diamond"),
}
KINDS = {
    "no codes": SeriesStyle("no codes", GREY, symbol="square"),
    "head": SeriesStyle("by the head", BLUE, symbol="circle"),
    "backbone": SeriesStyle("code by code", VERMILLION, symbol="diamond"),
    "published": SeriesStyle("published", BLACK, symbol="triangle-up-open"),
}
QUANTITIES = {
    "beam": ("beam width", 1),
    "epoch": ("epochs of training", 1),
    "removed": ("items taken out of the catalogue after training (%)", 100),
}
LINES = (
    SeriesStyle("", BLUE),
    SeriesStyle("", VERMILLION, "dash", "square"),
    SeriesStyle("", GREEN, "dot", "diamond"),
    SeriesStyle("", PURPLE, "dashdot", "triangle-up"),
    SeriesStyle("", ORANGE, "longdash", "triangle-down"),
    SeriesStyle("", GREY, "longdashdot", "x"),
)


def system_name(label: str) -> str:
    """The display name of a system; its own label if it has none."""
    return NAMES.get(label, label)


def pair_name(row: ResultRow) -> str:
    """The display name of a comparison, such as "NEZHA − no placeholders"."""
    one, other = row.settings["system"], row.settings["against"]
    return f"{system_name(one)} − {system_name(other)}"


def clear(row: ResultRow, metric: str, family: Sequence[ResultRow] = ()) -> int:
    """1 or -1 if a comparison says that there is a gain or a loss, and 0 if it may be chance.

    Its interval over runs and users must leave out 0, and its p be below 0.05 (`corrected_p`).
    """
    low, high = (row.metrics[f"{metric}_{name}"] for name in ("low", "high"))
    return (int(low > 0) - int(high < 0)) * (corrected_p(row, metric, family) < 0.05)


def corrected_p(row: ResultRow, metric: str, family: Sequence[ResultRow] = ()) -> float:
    """A comparison's p after Holm's correction over the rows shown together, `family`."""
    rows = family or [row]
    return holm([other.metrics[f"{metric}_p"] for other in rows])[rows.index(row)]


def measure(metric: str) -> str:
    """The display name of a metric: "Recall@10" for "recall@10"."""
    name, _, cut = metric.partition("@")
    return f"{ {'recall': 'Recall', 'ndcg': 'NDCG'}.get(name, name) }@{cut}"
