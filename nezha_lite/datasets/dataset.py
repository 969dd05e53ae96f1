"""Users' item sequences, and their leave-one-out splits."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from nezha_lite.datasets.item_text import ItemText, shown_text


@dataclass(frozen=True)
class Split:
    """One leave-one-out evaluation: for each user a history and the item that came next."""

    users: tuple[int, ...]
    histories: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.histories) == len(self.targets):
            raise ValueError("users, histories and targets of a Split must be equally many.")

    def __len__(self) -> int:
        return len(self.users)

    def sample(self, n: int, seed: int) -> "Split":
        """``n`` users drawn without replacement, kept in their order; the same for equal seeds."""
        if not 0 <= n <= len(self):
            raise ValueError(f"n is {n}, but this split can give 0 to {len(self)} users.")
        rows = sorted(random.Random(seed).sample(range(len(self)), n))
        return Split(
            users=tuple(self.users[row] for row in rows),
            histories=tuple(self.histories[row] for row in rows),
            targets=tuple(self.targets[row] for row in rows),
        )


@dataclass(frozen=True)
class InteractionDataset:
    """Users' item sequences in time order; items and users are indices into their names.

    ``items``: N names, the row order of every (N, ...) array in this package.
    ``sequences``: one tuple of item indices per user. ``texts``: N texts, or None without an
    item file. ``released_codes``: N tuples of L codes, or None without an index file.
    Raises ValueError where the parts do not fit together.
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
                place = f"sequences of {self.name!r}, user {user!r}"
                raise ValueError(f"{place}: item {wrong[0]} is outside 0..{self.n_items - 1}.")
        levels = len(self.released_codes[0]) if self.released_codes else 0
        for item, codes in zip(self.items, self.released_codes or (), strict=False):
            if len(codes) != levels or not codes or min(codes) < 0:
                place = f"released_codes of {self.name!r}, item {item!r}"
                raise ValueError(f"{place}: {codes} is not {levels or 1} codes of 0 or more.")

    @property
    def n_items(self) -> int:
        """N, the size of the catalogue."""
        return len(self.items)

    @property
    def n_users(self) -> int:
        """How many users there are, those without items included."""
        return len(self.users)

    @property
    def n_interactions(self) -> int:
        """How many items the sequences hold, repetitions included."""
        return sum(map(len, self.sequences))

    def title(self, item: int) -> str:
        """The item's title for a reader, or "item <name>" where the files give none.

        One short line, without control characters (see `shown_text`); it is still
        text, to be escaped wherever HTML is made of it.
        """
        text = shown_text(self.texts[item].title) if self.texts is not None else ""
        return text or f"item {shown_text(self.items[item]) or item}"

    def user_name(self, user: int) -> str:
        """The user's name for a reader, in the same way."""
        return shown_text(self.users[user]) or f"number {user}"

    def train_sequences(self) -> list[list[int]]:
        """One list per user: all but the last two items, so empty for fewer than three."""
        return [list(sequence[:-2]) for sequence in self.sequences]

    def popularity(self) -> list[int]:
        """How often each of the N items occurs in the training part."""
        counts = Counter(item for sequence in self.train_sequences() for item in sequence)
        return [counts[item] for item in range(self.n_items)]

    def split(self, name: Literal["validation", "test"]) -> Split:
        """Leave-one-out: test asks for the last item, validation for the one before it.

        Users with fewer than three items are in neither split: their history could be empty.
        """
        if name not in ("validation", "test"):
            raise ValueError(f"split is {name!r}; choose 'validation' or 'test'.")
        cut = -2 if name == "validation" else -1
        users = tuple(user for user, items in enumerate(self.sequences) if len(items) >= 3)
        histories = tuple(self.sequences[user][:cut] for user in users)
        return Split(users, histories, targets=tuple(self.sequences[user][cut] for user in users))
