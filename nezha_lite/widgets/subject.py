"""A model on its catalogue, users to decode for, and the panels that show one user at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, DecodeResult, DecodeTrace, NezhaDecoder, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from nezha_lite.widgets.panel import Panel, one_of, toggle_buttons
from nezha_lite.widgets.tables import ItemList, ListRow, list_rows

NAME_LENGTH = 20
MODES = {
    "off": "nothing is checked, so the list may hold items that do not exist",
    "final": "finished drafts are checked, and those that do not exist leave the list shorter",
    "prefix": "every level is checked, and a prefix that no item has is never followed",
}


class Subject:
    """A model on a catalogue, and users of the test split to decode for.

    Args:
        model: trained for `semantic_ids`.
        semantic_ids: the catalogue.
        dataset: for users and titles; its items are those of `semantic_ids`, row by row.
        users: indices of users; by default some of the test split, always the same.

    Raises:
        ValueError: if the parts do not fit together, or a user has no test item.
    """

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
    ) -> None:
        check_same_items(f"data set {dataset.name!r}", dataset.n_items, semantic_ids)
        split = dataset.split("test")
        rows = {user: row for row, user in enumerate(split.users)}
        if users is None:
            users = split.sample(min(8, len(split)), seed=0).users
        rule = f"one of the {len(split)} users of {dataset.name!r} with three interactions or more"
        for user in users:
            check(user in rows, "user", user, rule)
        check(len(users) > 0, "users", users, f"at least {rule}")
        self.model, self.semantic_ids, self.dataset = model.eval(), semantic_ids, dataset
        self.verifier = SortedVerifier(semantic_ids, model.device)
        self.popularity = dataset.popularity()
        self.users = tuple(users)
        self.histories = {user: split.histories[rows[user]] for user in users}
        self.targets = {user: split.targets[rows[user]] for user in users}

    def prompts(self, *users: int) -> Prompts:
        """One prompt for each user."""
        histories = [self.histories[user] for user in users]
        return self.model.build_prompts(histories, self.semantic_ids)

    def decode(
        self, user: int, beam: int, verification: Verification, temperature: float = 1.0
    ) -> DecodeResult:
        """One user's list, with its trace."""
        decoder = NezhaDecoder(self.model, self.verifier, verification, temperature)
        return decoder.decode(self.prompts(user), beam, trace=True)

    def list_rows(self, result: DecodeResult) -> list[ListRow]:
        """The first prompt's list, best first; items that share an ID by popularity."""
        return list_rows(result, 0, self.semantic_ids, self.popularity)

    def introduction(self, user: int) -> str:
        """A user in a sentence: name, and last item of the history."""
        last = self.dataset.title(self.histories[user][-1])
        return f"User {self.dataset.user_name(user)} last chose {last}."


class SubjectPanel(Panel):
    """A panel about one of the users of a subject.

    Setting `user` to one that is not on offer is a TraitError and changes nothing.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split.
        traits: first values of the panel's traits.
    """

    user = traitlets.Int()

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        **traits: Any,
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        super().__init__(**{"user": self.subject.users[0], **traits})

    @traitlets.validate("user")
    def _on_offer(self, proposal: Any) -> Any:
        return one_of(proposal, self.subject.users)

    def user_control(self) -> widgets.DOMWidget:
        """A choice among the users of the subject."""
        name, users = self.subject.dataset.user_name, self.subject.users
        return self.control("user", "User", [(name(user)[:NAME_LENGTH], user) for user in users])


class DecodePanel(SubjectPanel):
    """A panel about decoding for one user.

    `result` is the last `DecodeResult`, or None where decoding failed; `problem` then says why, and
    is empty otherwise.
    """

    beam: Any = traitlets.Int(10, min=1, max=64)
    verification = traitlets.Enum(VERIFICATIONS, "prefix")
    result: DecodeResult | None = None
    problem = ""

    def decode_controls(self) -> list[widgets.DOMWidget]:
        """User, beam width and verification."""
        verification = self.link("verification", verification_control())
        return [self.user_control(), self.control("beam", "Beam width"), verification]

    def decode(self, temperature: float = 1.0) -> DecodeTrace | None:
        """Decode the list of the user; None where that fails."""
        try:
            settings = self.user, self.beam, self.verification, temperature
            self.result, self.problem = self.subject.decode(*settings), ""
        except ValueError as error:
            self.result, self.problem = None, str(error)
            return None
        return self.result.trace

    def item_list(
        self, rows: list[ListRow], shown: list[ListRow], missing: str = "of them name no item"
    ) -> ItemList:
        """Some rows of a list, under a caption about all of them."""
        filled = f"{len(rows)} of {self.beam} places are filled"
        caption = f"{filled}; {sum(not row.items for row in rows)} {missing}."
        return ItemList(shown, self.subject.dataset, caption, self.subject.targets[self.user])


def check_same_items(what: str, count: int, semantic_ids: SemanticIds) -> None:
    """ValueError unless something has as many items as the semantic IDs name."""
    rule = f"{semantic_ids.n_items}, as the semantic IDs name"
    check(count == semantic_ids.n_items, f"number of items of the {what}", count, rule)


def verification_control() -> widgets.ToggleButtons:
    """off, final or prefix."""
    return toggle_buttons("Verification", VERIFICATIONS, "80px", [*MODES.values()])


def verification_sentence(verification: Verification) -> str:
    """What a verification checks, in a sentence."""
    return f"Verification {verification}: {MODES[verification]}."
