"""Users' item sequences, and their leave-one-out splits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from nezha_lite.common.checks import check
from nezha_lite.datasets.item_text import ItemText, shown_text


@dataclass(frozen=True)
class Split:
    """One leave-one-out evaluation: for each user a history and the item that came next.

    Attributes:
        users: indices of the users, increasing.
        histories: for each of them the items before the target, the earliest first.
        targets: for each of them the item to be predicted.

    Raises:
        ValueError: if the three differ in length.
    """

    users: tuple[int, ...]
    histories: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.histories) == len(self.targets):
            raise ValueError("users, histories and targets of a Split must be equally many.")

    def __len__(self) -> int:
        return len(self.users)

    def sample(self, n: int, seed: int) -> Split:
        """Draw `n` users without replacement; they keep their order, equal seeds draw the same.

        >>> split = Split(users=(0, 1, 2), histories=((5,), (6,), (7,)), targets=(6, 7, 5))
        >>> split.sample(2, seed=0).users
        (1, 2)
        """
        check(0 <= n <= len(self), "n", n, f"0 to {len(self)}, the users of the split")
        rows = sorted(random.Random(seed).sample(range(len(self)), n))
        return Split(
            users=tuple(self.users[row] for row in rows),
            histories=tuple(self.histories[row] for row in rows),
            targets=tuple(self.targets[row] for row in rows),
        )


@dataclass(frozen=True)
class InteractionDataset:
    """Users' item sequences in time order; items and users are indices into their names.

    Attributes:
        name: of the data set.
        items: N names, the row order of every (N, ...) array in this package.
        users: their names.
        sequences: one tuple of item indices per user.
        texts: N texts, or None without an item file.
        released_codes: N tuples of L codes, or None without an index file.

    Raises:
        ValueError: if the parts do not fit together.

    >>> dataset = InteractionDataset("toy", ("mug", "pot", "pan"), ("ann",), ((0, 2, 1),))
    >>> dataset.n_items, dataset.n_users, dataset.n_interactions
    (3, 1, 3)
    >>> dataset.train_sequences()
    [[0]]
    >>> dataset.split("test")
    Split(users=(0,), histories=((0, 2),), targets=(1,))
    """

    name: str
    items: tuple[str, ...]
    users: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...]
    texts: tuple[ItemText, ...] | None = None
    released_codes: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError(f"items of {self.name!r} is empty; a catalogue needs at least one.")
        for field, names in (("items", self.items), ("users", self.users)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} of {self.name!r} names one twice; names are unique.")
        for field, rows, length in (
            ("sequences", self.sequences, self.n_users),
            ("texts", self.texts, self.n_items),
            ("released_codes", self.released_codes, self.n_items),
        ):
            if rows is not None and len(rows) != length:
                raise ValueError(f"{field} of {self.name!r} has {len(rows)} rows, not {length}.")
        for user, sequence in zip(self.users, self.sequences, strict=True):
            if wrong := [item for item in sequence if not 0 <= item < self.n_items]:
                where = f"sequences of {self.name!r}, user {user!r}"
                raise ValueError(f"{where}: item {wrong[0]} is outside 0..{self.n_items - 1}.")
        levels = len(self.released_codes[0]) if self.released_codes else 0
        for item, codes in zip(self.items, self.released_codes or (), strict=False):
            if len(codes) != levels or not codes or min(codes) < 0:
                where = f"released_codes of {self.name!r}, item {item!r}"
                raise ValueError(f"{where}: {codes} is not {levels or 1} codes of 0 or more.")

    @property
    def n_items(self) -> int:
        """N, the size of the catalogue."""
        return len(self.items)

    @property
    def n_users(self) -> int:
        """How many users there are, including those without items."""
        return len(self.users)

    @property
    def n_interactions(self) -> int:
        """How many items the sequences hold, including repetitions."""
        return sum(map(len, self.sequences))

    def title(self, item: int) -> str:
        """The item's title for a reader, or "item <name>" if it has none.

        One short line without control characters (see `shown_text`). It is text: escape it before
        it becomes part of HTML.
        """
        text = shown_text(self.texts[item].title) if self.texts is not None else ""
        return text or f"item {shown_text(self.items[item]) or item}"

    def user_name(self, user: int) -> str:
        """The user's name for a reader, as `title` does."""
        return shown_text(self.users[user]) or f"number {user}"

    def train_sequences(self) -> list[list[int]]:
        """One list per user: all items but the last two; empty for fewer than three items."""
        return [list(sequence[:-2]) for sequence in self.sequences]

    def popularity(self) -> list[int]:
        """How often each of the N items occurs in the training part."""
        counts = Counter(item for sequence in self.train_sequences() for item in sequence)
        return [counts[item] for item in range(self.n_items)]

    def split(self, name: Literal["validation", "test"]) -> Split:
        """Leave-one-out: the target of "test" is the last item, of "validation" the one before it.

        Users with fewer than three items are in neither split: their history could be empty.
        """
        check(name in ("validation", "test"), "split", name, "'validation' or 'test'")
        cut = -2 if name == "validation" else -1
        users = tuple(user for user, items in enumerate(self.sequences) if len(items) >= 3)
        histories = tuple(self.sequences[user][:cut] for user in users)
        return Split(users, histories, targets=tuple(self.sequences[user][cut] for user in users))
