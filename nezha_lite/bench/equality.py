"""Do two ways of decoding give the same lists? Counted prompt by prompt, on real prompts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import torch

from nezha_lite.bench.decoders import make_decoder
from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import make_verifier

log = logging.getLogger("nezha_lite")

TIE = 1e-5  # scores closer than this are tied between two paths; see `DecodeResult`
# Each path, and the one whose lists it must give.
PAIRS = {
    "nezha": "nezha-eager",
    "autoregressive": "autoregressive-eager",
    "speculative": "autoregressive-eager",
    "generate-constrained": "autoregressive-eager",
}


def same_lists(one: DecodeResult, other: DecodeResult, tie: float = TIE) -> list[tuple[bool, bool]]:
    """For every prompt, whether both lists are identical, and whether they are so up to ties.

    Up to ties: the scores agree rank by rank, and so do those of every ID that both lists hold; an
    ID that only one holds is tied with the last rank, where it may as well have been left out.
    """
    columns = (one.keys, one.scores, other.keys, other.scores)
    answers = []
    for row in zip(*(column.tolist() for column in columns), strict=True):
        keys, scores, other_keys, other_scores = row
        ours, theirs = (
            {key: score for key, score in zip(*pair, strict=True) if key >= 0}
            for pair in ((keys, scores), (other_keys, other_scores))
        )
        identical = keys == other_keys
        answers.append((identical, identical or _tied(ours, theirs, tie)))
    return answers


def _tied(ours: dict[int, float], theirs: dict[int, float], tie: float) -> bool:
    """Whether two lists, scores by key in falling order, are the same up to ties."""
    if len(ours) != len(theirs):
        return False
    pairs = list(zip(ours.values(), theirs.values(), strict=True))
    pairs += [(ours[key], theirs[key]) for key in ours if key in theirs]
    for scores, others in ((ours, theirs), (theirs, ours)):
        pairs += [(scores[key], min(scores.values())) for key in scores if key not in others]
    return all(abs(score - other) <= tie for score, other in pairs)


@torch.inference_mode()
def bench_equality(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    paths: Sequence[str] = tuple(PAIRS),
    beams: Sequence[int] = (10, 50),
    users: int = 1000,
    batch: int = 32,
    compile: bool | None = None,
) -> Iterator[ResultRow]:
    """Decode test users by each path of `PAIRS` and by the path it must equal, prefix verified.

    Args:
        model: in eval mode.
        semantic_ids: the catalogue.
        dataset: whose test users are decoded.
        paths: nezha, autoregressive, speculative, generate-constrained.
        beams: beam widths K.
        users: how many test users, sampled at random.
        batch: prompts decoded together.
        compile: compile captured decoders; by default wherever a compiler is found.

    Returns:
        A row per path and beam; metrics: `identical` and `identical_up_to_ties`, shares of the
        prompts, and `widest_gap`, the largest difference between scores of the same rank.

    Raises:
        ValueError: for an unknown path, no users, or more users than there are.
    """
    for path in paths:
        check(path in PAIRS, "path", path, f"one of {', '.join(PAIRS)}")
    check(users >= 1, "users", users, "at least 1")
    split = dataset.split("test").sample(users, seed=0)
    verifier = make_verifier("auto", semantic_ids, model.device)
    prompts = [
        model.build_prompts(split.histories[first : first + batch], semantic_ids)
        for first in range(0, users, batch)
    ]
    for beam, path in ((beam, path) for beam in beams for path in paths):
        log.info(f"{path} against {PAIRS[path]} at beam {beam}.")
        started = time.perf_counter()
        tested, reference = (
            make_decoder(name, model, verifier, "prefix", compile) for name in (path, PAIRS[path])
        )
        answers, widest = [], 0.0
        for batch_prompts in prompts:
            result, expected = (one.decode(batch_prompts, beam) for one in (tested, reference))
            assert result is not None
            assert expected is not None
            answers += same_lists(result, expected)
            finite = torch.isfinite(expected.scores) & torch.isfinite(result.scores)
            gaps = (result.scores - expected.scores)[finite].abs()
            widest = max([widest, *gaps.tolist()])
        identical, up_to_ties = (sum(column) / users for column in zip(*answers, strict=True))
        yield ResultRow.measured(
            device=model.device,
            started=started,
            digits=12,
            kind="quality",
            dataset=dataset.name,
            model=model.describe(),
            decoder=path,
            verifier="prefix",
            beam=beam,
            metrics={
                "identical": round(identical, 5),
                "identical_up_to_ties": round(up_to_ties, 5),
                "widest_gap": float(f"{widest:.2g}"),
            },
            settings={
                "reference": PAIRS[path],
                "users": users,
                "batch": batch,
                "tie": TIE,
                "precision": str(model.dtype).removeprefix("torch."),
            },
        )
