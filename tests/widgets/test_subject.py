"""Panels about a user: what is not on offer is refused, and nothing is changed by it."""

from typing import Any

import pytest
import traitlets

from nezha_lite.widgets import (
    DecodeExplorer,
    DecoderRace,
    DraftAgainstModel,
    DraftHeadExplorer,
    HallucinationLab,
    MethodExplorer,
    VerifierLab,
)
from tests.helpers.hostile import fresh_model, hostile_dataset, hostile_ids

IDS, DATASET = hostile_ids(), hostile_dataset()
KINDS = (
    DecodeExplorer,
    DecoderRace,
    DraftAgainstModel,
    DraftHeadExplorer,
    HallucinationLab,
    MethodExplorer,
    VerifierLab,
)


def made(kind: type) -> Any:
    return kind(fresh_model(IDS), IDS, DATASET, users=[3, 5])


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_that_is_not_on_offer_is_refused(kind: type) -> None:
    panel = made(kind)
    before = panel.sentences()
    for user in (7, -1, 1000):  # 7 is a user of the data set
        with pytest.raises(traitlets.TraitError, match=f"user is {user}, but must be one of 3, 5"):
            panel.user = user
        assert panel.user == 3
        assert panel.sentences() == before
    panel.user = 5
    assert panel.user == 5


@pytest.mark.parametrize(("kind", "last"), [(DecodeExplorer, 4), (MethodExplorer, 5)])
def test_a_step_beyond_the_list_is_refused(kind: type, last: int) -> None:
    panel = made(kind)
    assert panel.step == panel.last_step == last
    panel.step = 1
    with pytest.raises(traitlets.TraitError, match=f"step is {last + 1}, but must be at most"):
        panel.step = last + 1
    assert panel.step == 1
