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
from nezha_lite.plots.static_svg import shortened
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from nezha_lite.widgets.panel import Panel, at_most, one_of
from nezha_lite.widgets.tables import ListRow, Table, item_table, list_rows

LABEL = 260  # pixels of a title in a menu
MILLISECONDS = 2000  # that a step stays while it plays
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

    def label(self, user: int) -> str:
        """A user among others: name, and last item of the history."""
        last = self.dataset.title(self.histories[user][-1])
        return shortened(f"{self.dataset.user_name(user)}: {last}", LABEL)

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

    def controls(self) -> list[widgets.Widget]:
        """A choice among the users of the subject, by name and last item."""
        users = [(self.subject.label(user), user) for user in self.subject.users]
        return [self.menu("user", "User", users)]


class DecodePanel(SubjectPanel):
    """A panel about decoding for one user.

    `result` is the last `DecodeResult`, or None where decoding failed; `problem` then says why, and
    is empty otherwise.
    """

    beam: Any = traitlets.Int(10, min=1, max=64)
    verification = traitlets.Enum(VERIFICATIONS, "prefix")
    result: DecodeResult | None = None
    problem = ""

    def controls(self) -> list[widgets.Widget]:
        """User, beam width and verification."""
        modes = self.buttons("verification", "Verification", VERIFICATIONS, [*MODES.values()])
        return [*super().controls(), self.slider("beam", "Beam width"), modes]

    def decode(self, temperature: float = 1.0) -> DecodeTrace | None:
        """Decode the list of the user; None where that fails."""
        try:
            settings = self.user, self.beam, self.verification, temperature
            self.result, self.problem = self.subject.decode(*settings), ""
        except ValueError as error:
            self.result, self.problem = None, str(error)
            return None
        return self.result.trace

    def item_table(
        self, rows: list[ListRow], shown: list[ListRow], missing: str = "of them name no item"
    ) -> Table:
        """Some rows of a list, under a caption about all of them."""
        filled = f"{len(rows)} of {self.beam} places are filled"
        caption = f"{filled}; {sum(not row.items for row in rows)} {missing}."
        return item_table(shown, self.subject.dataset, caption, self.subject.targets[self.user])

    def blocks(self) -> list[Any]:
        """The state on show without controls, with the beam width in words."""
        sentences, *others = super().blocks()
        return [[f"Beam width {self.beam}.", *sentences], *others]


class StepPanel(DecodePanel):
    """A panel that goes through one decode step by step; `step` is 0 at the prompt."""

    step = traitlets.Int(min=0)

    @property
    def step_names(self) -> list[str]:
        """What is on show at each step."""
        levels = range(1, self.subject.semantic_ids.levels + 1)
        return ["prompt", *(f"level {level}" for level in levels), "list"]

    @property
    def last_step(self) -> int:
        """The step of the finished list."""
        return len(self.step_names) - 1

    @traitlets.default("step")
    def _finished(self) -> int:
        return self.last_step

    @traitlets.validate("step")
    def _a_step(self, proposal: Any) -> int:
        return at_most(proposal, self.last_step)

    def controls(self) -> list[widgets.Widget]:
        """What is decoded; the step as a slider, as a player, and by buttons."""
        steps = [(name, number) for number, name in enumerate(self.step_names)]
        play = widgets.Play(description="Play", max=self.last_step, interval=MILLISECONDS)
        buttons = []
        for text, change in (("Step back", -1), ("Next step", 1)):
            buttons.append(widgets.Button(description=text, layout={"width": "auto"}))
            buttons[-1].on_click(lambda _, change=change: self.move(change))
        player = [self.slider("step", "Step", steps), self.link("step", play), *buttons]
        return [*super().controls(), *player]

    def move(self, steps: int) -> None:
        """Go on by so many steps; the prompt follows the list."""
        self.step = (self.step + steps) % (self.last_step + 1)


def check_same_items(what: str, count: int, semantic_ids: SemanticIds) -> None:
    """ValueError unless something has as many items as the semantic IDs name."""
    rule = f"{semantic_ids.n_items}, as the semantic IDs name"
    check(count == semantic_ids.n_items, f"number of items of the {what}", count, rule)


def verification_sentence(verification: Verification) -> str:
    """What a verification checks, in a sentence."""
    return f"Verification {verification}: {MODES[verification]}."
