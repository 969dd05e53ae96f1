"""Do two ways of decoding give the same lists? Counted prompt by prompt, on real prompts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import torch

from nezha_lite.bench.decoders import make_contestant
from nezha_lite.common.results import ResultRow, provenance
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

    Up to ties: the scores agree place by place, and so do those of every ID that both hold; an ID
    that only one holds is tied with the last place, where it may as well have been left out.
    """
    answers = []
    for keys, scores, other_keys, other_scores in zip(
        one.keys.tolist(),
        one.scores.tolist(),
        other.keys.tolist(),
        other.scores.tolist(),
        strict=True,
    ):
        identical = keys == other_keys
        known, other_known = (
            {key: score for key, score in zip(*pair, strict=True) if key >= 0}
            for pair in ((keys, scores), (other_keys, other_scores))
        )
        tied = identical or (
            len(known) == len(other_known)
            and all(
                abs(score - another) <= tie
                for score, another in zip(known.values(), other_known.values(), strict=True)
            )
            and all(
                abs(known[key] - other_known[key]) <= tie for key in known if key in other_known
            )
            and all(
                score - min(held.values()) <= tie
                for held, others in ((known, other_known), (other_known, known))
                for key, score in held.items()
                if key not in others
            )
        )
        answers.append((identical, tied))
    return answers


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

    Returns:
        A row per path and beam; metrics: `identical` and `identical_up_to_ties`, shares of the
        prompts, and `widest_gap`, the largest difference between scores at the same place.

    Raises:
        ValueError: for an unknown path, no users, or more users than there are.
    """
    for path in paths:
        if path not in PAIRS:
            raise ValueError(f"path is {path!r}, but must be one of {', '.join(PAIRS)}.")
    if users < 1:
        raise ValueError(f"users is {users}, but must be at least 1.")
    split = dataset.split("test").sample(users, seed=0)
    verifier = make_verifier("auto", semantic_ids, model.device)
    prompts = [
        model.build_prompts(split.histories[first : first + batch], semantic_ids)
        for first in range(0, users, batch)
    ]
    for beam in beams:
        for path in paths:
            reference = PAIRS[path]
            log.info(f"{path} against {reference} at beam {beam}.")
            started = time.perf_counter()
            one, other = (
                make_contestant(name, model, verifier, "prefix", compile)
                for name in (path, reference)
            )
            answers, widest = [], 0.0
            for some in prompts:
                found, expected = one.decode(some, beam), other.decode(some, beam)
                assert found is not None
                assert expected is not None
                answers += same_lists(found, expected)
                held = torch.isfinite(expected.scores) & torch.isfinite(found.scores)
                gap = (found.scores - expected.scores)[held].abs()
                widest = max(widest, float(gap.max()) if gap.numel() else 0.0)
            yield ResultRow(
                kind="quality",
                dataset=dataset.name,
                model=model.describe(),
                decoder=path,
                verifier="prefix",
                beam=beam,
                metrics={
                    "identical": round(sum(first for first, _ in answers) / users, 5),
                    "identical_up_to_ties": round(sum(second for _, second in answers) / users, 5),
                    "widest_gap": float(f"{widest:.2g}"),
                },
                settings={
                    "reference": reference,
                    "users": users,
                    "batch": batch,
                    "tie": TIE,
                    "precision": str(model.dtype).removeprefix("torch."),
                },
                **provenance(model.device),
                seconds=round(time.perf_counter() - started, 1),
            )
