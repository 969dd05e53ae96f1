"""The head's beam search and the model's, on the same weights and users, and where they agree."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    DecodeResult,
    DecodeTrace,
    NezhaDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.decoding.item_lists import NOT_FOUND, item_lists
from nezha_lite.plots.prefix_agreement import LevelAgreement, compare_prefixes, shared_shares
from nezha_lite.widgets.panel import Subject

PLACES = 10  # of the lists that are compared


@dataclass(frozen=True, eq=False)
class UserAgreement:
    """Where both searches agree for one user.

    Attributes:
        levels: their prefixes, level by level.
        shares: of the prefixes that the model kept at each level, the share that the head kept.
        accepted: likewise what a speculative draft foresaw, after every level but the last.
        speculative_calls: how often the speculative decoder called the backbone.
        autoregressive_calls: how often the autoregressive one did.
        head_items: NEZHA's list, best first; NOT_FOUND for an ID without item.
        model_items: the autoregressive decoder's.
    """

    levels: list[LevelAgreement]
    shares: list[float]
    accepted: list[float]
    speculative_calls: int
    autoregressive_calls: int
    head_items: list[int]
    model_items: list[int]

    @property
    def shared_items(self) -> int:
        """How many items the first places of both lists have in common."""
        return len({*self.head_items[:PLACES]} & {*self.model_items[:PLACES]} - {NOT_FOUND})

    @property
    def same_first(self) -> bool:
        """Whether both lists begin with the same item."""
        first = self.head_items[:1]
        return first == self.model_items[:1] and first != [NOT_FOUND]


class TwoSearches:
    """`NezhaDecoder` and `AutoregressiveDecoder` for all users of a subject at once.

    Args:
        subject: the model, its catalogue, and the users.
        beam: K.
        verification: of both searches and of the speculative decoder.

    Raises:
        ValueError: if one of the two cannot decode this model.
    """

    def __init__(self, subject: Subject, beam: int, verification: Verification) -> None:
        self.subject, self.beam = subject, beam
        model, parts = subject.model, (subject.verifier, verification)
        self.speculative = SpeculativeDecoder(model, *parts)
        histories = [subject.histories[user] for user in subject.users]
        prompts = model.build_prompts(histories, subject.semantic_ids)
        self.head = NezhaDecoder(model, *parts).decode(prompts, beam, trace=True)
        self.model = AutoregressiveDecoder(model, *parts).decode(prompts, beam, trace=True)
        self.shares: Tensor = shared_shares(_trace(self.head), _trace(self.model))  # (users, L)

    @property
    def mean_shares(self) -> list[float]:
        """Per level, the mean over the users of the share that the head kept."""
        return [float(share) for share in self.shares.mean(dim=0)]

    def of(self, user: int) -> UserAgreement:
        """One user's part of it, and what it saves a speculative decoder."""
        subject, row = self.subject, self.subject.users.index(user)
        # On its own: a batch takes as many passes as its hardest prompt.
        prompts = subject.model.build_prompts([subject.histories[user]], subject.semantic_ids)
        speculative = self.speculative.decode(prompts, self.beam)
        assert speculative.accepted is not None  # by this decoder always
        head, model = (
            item_lists(result.keys[row : row + 1], subject.semantic_ids, subject.popularity)[0]
            for result in (self.head, self.model)
        )
        return UserAgreement(
            compare_prefixes(_trace(self.head), _trace(self.model), row),
            self.shares[row].tolist(),
            speculative.accepted[0].tolist(),
            speculative.backbone_calls,
            self.model.backbone_calls,
            head,
            model,
        )


def _trace(result: DecodeResult) -> DecodeTrace:
    assert result.trace is not None  # asked for
    return result.trace
