"""What a decode did, in sentences: step by step, and draft by draft."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.plots import Fate, Node
from nezha_lite.plots.beam_figures import percent
from nezha_lite.semantic_ids import SemanticIds

SHOWN_TITLES = 3


def step_sentence(result: DecodeResult, nodes: Sequence[Node], step: int, levels: int) -> str:
    """What a step shows, in plain text.

    Args:
        result: the whole decode.
        nodes: its drafts, from `beam_nodes`.
        step: 0 after the prompt was read, l after level l, L + 1 when the list is ready.
        levels: L.
    """
    if step == 0:
        return "The backbone has read the prompt, once. No code is drafted yet."
    if step <= levels:
        return _level_sentence(nodes, step)
    lost = [_count(nodes, level, Fate.REJECTED) for level in range(1, levels + 1)]
    places = ", ".join(f"level {n}: {count}" for n, count in enumerate(lost, 1) if count)
    return f"Backbone calls: {result.backbone_calls}. Hallucinations rejected: {sum(lost)}" + (
        f" ({places})." if places else "."
    )


def why(
    node: Node, nodes: Sequence[Node], semantic_ids: SemanticIds, dataset: InteractionDataset
) -> str:
    """Why a draft lived or fell, in plain text.

    Args:
        node: the draft.
        nodes: all of its decode, for the score that it had to reach.
        semantic_ids: the catalogue.
        dataset: for the titles of what begins with these codes.
    """
    codes = torch.tensor(node.codes)
    items = (semantic_ids.codes[:, : node.level] == codes).all(dim=1).nonzero()[:, 0]
    titles = "; ".join(dataset.title(int(item)) for item in items[:SHOWN_TITLES])
    noun = "item begins" if len(items) == 1 else "items begin"
    text = f"Draft {'-'.join(map(str, node.codes))}: {node.fate.value}"
    if node.fate is Fate.PRUNED:
        kept = [
            other.log_prob for other in nodes if other.level == node.level and other.position >= 0
        ]
        text += f" ({min(kept):.2f})" if kept else ""
    text += f". Probability {percent(node.log_prob)} (log-probability {node.log_prob:.2f}). "
    text += f"{len(items)} {noun} with these codes"
    return text + (f": {titles}{'; …' if len(items) > SHOWN_TITLES else ''}." if titles else ".")


def _level_sentence(nodes: Sequence[Node], level: int) -> str:
    counts = {fate: _count(nodes, level, fate) for fate in Fate}
    kept, unchecked = counts[Fate.KEPT], counts[Fate.UNCHECKED]
    return (
        f"Level {level}: {kept + unchecked} drafts kept"
        + (f", {unchecked} of them although no item has such a prefix" if unchecked else "")
        + f"; {counts[Fate.REJECTED]} rejected because no item has such a prefix."
    )


def _count(nodes: Sequence[Node], level: int, fate: Fate) -> int:
    return sum(node.level == level and node.fate is fate for node in nodes)
