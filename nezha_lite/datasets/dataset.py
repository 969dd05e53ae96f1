"""Users' item sequences, and their splits: leave-one-out, or at a moment in time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np

from nezha_lite.common.checks import check
from nezha_lite.datasets.item_text import ItemText, shown_text
from nezha_lite.datasets.own_tables import OwnTables
from nezha_lite.datasets.sequences import Integers, Sequences, offsets_of
from nezha_lite.datasets.table_layout import TableLayout
from nezha_lite.datasets.time_split import TimeSplit


@dataclass(frozen=True)
class Split:
    """One evaluation: for each user a history and the item that came next.

    Attributes:
        users: indices of the users, increasing.
        histories: for each of them the items before the target, the earliest first.
        targets: for each of them the item to be predicted.
        left_out: how many users are in no row, though they have items in this part of the data,
            because they would have no history (see `InteractionDataset.split`).

    Raises:
        ValueError: if the first three differ in length.
    """

    users: tuple[int, ...]
    histories: Sequence[tuple[int, ...]]
    targets: tuple[int, ...]
    left_out: int = field(default=0, compare=False, repr=False)

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
            left_out=self.left_out,
        )


@dataclass(frozen=True)
class InteractionDataset:
    """Users' item sequences in time order; items and users are indices into their names.

    Attributes:
        name: of the data set.
        items: N names, the row order of every (N, ...) array in this package.
        users: their names.
        sequences: item indices of each user; Python sequences become `Sequences`.
        texts: N texts, or None without an item file.
        released_codes: N tuples of L codes, or None without an index file.
        times: when each item of `sequences` was taken, in nanoseconds since 1970 (UTC); or None.
        time_split: where `train_sequences` and `split` cut; None leaves one item out instead.

    Raises:
        ValueError: if the parts do not fit together, or a time split has no times.

    >>> dataset = InteractionDataset("toy", ("mug", "pot", "pan"), ("ann",), ((0, 2, 1),))
    >>> dataset.n_items, dataset.n_users, dataset.n_interactions
    (3, 1, 3)
    >>> dataset.train_sequences()
    Sequences([(0,)])
    >>> dataset.split("test")
    Split(users=(0,), histories=Sequences([(0, 2)]), targets=(1,))
    """

    name: str
    items: tuple[str, ...]
    users: tuple[str, ...]
    sequences: Sequences
    texts: tuple[ItemText, ...] | None = None
    released_codes: tuple[tuple[int, ...], ...] | None = None
    times: Sequences | None = None
    time_split: TimeSplit | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", Sequences.of(self.sequences))
        if not self.items:
            raise self._wrong("items", " is empty; a catalogue needs at least one.")
        for label, names in (("items", self.items), ("users", self.users)):
            if len(set(names)) != len(names):
                raise self._wrong(label, " names one twice; names are unique.")
        for label, rows, length in (
            ("sequences", self.sequences, self.n_users),
            ("texts", self.texts, self.n_items),
            ("released_codes", self.released_codes, self.n_items),
        ):
            if rows is not None and len(rows) != length:
                raise self._wrong(label, f" has {len(rows)} rows, not {length}.")
        values = self.sequences.values
        if len(wrong := np.flatnonzero((values < 0) | (values >= self.n_items))):
            what = f": item {values[wrong[0]]} is outside 0..{self.n_items - 1}."
            raise self._wrong("sequences", what, wrong[0])
        levels = len(self.released_codes[0]) if self.released_codes else 0
        for item, codes in zip(self.items, self.released_codes or (), strict=False):
            if len(codes) != levels or not codes or min(codes) < 0:
                what = f"{codes} is not {levels or 1} codes of 0 or more."
                raise self._wrong("released_codes", f", item {item!r}: {what}")
        if self.times is not None:
            object.__setattr__(self, "times", Sequences.of(self.times))
            self._check_times(self.times)
        elif self.time_split is not None:
            self._needed_times()

    def _check_times(self, times: Sequences) -> None:
        if not np.array_equal(times.offsets, self.sequences.offsets):
            raise self._wrong("times", " are not one for each item of the sequences.")
        backwards = (np.diff(times.values) < 0) & (np.diff(times.rows) == 0)
        if len(wrong := np.flatnonzero(backwards)):
            raise self._wrong("times", ": they fall, but a sequence is in order of time.", wrong[0])

    def _wrong(self, part: str, what: str, position: int | None = None) -> ValueError:
        """What is wrong with a part, for the user whose interaction has this position in it."""
        of = f"{part} of {self.name!r}"
        if position is not None:
            user = int(np.searchsorted(self.sequences.offsets, position, "right")) - 1
            of += f", user {self.users[user]!r}"
        return ValueError(of + what)

    def _needed_times(self) -> Integers:
        """(I,) int64, in nanoseconds."""
        if self.times is None:
            raise ValueError(
                f"Data set {self.name!r} has no times, which a temporal split needs: its table had "
                "no column of times, or was imported before they were kept. Import a table that "
                "has one, with --time COLUMN unless it is called 'time'."
            )
        return self.times.values

    @classmethod
    def from_frame(
        cls,
        interactions: Any,
        items: Any = None,
        layout: TableLayout | None = None,
        name: str = "frame",
        **columns: Any,
    ) -> InteractionDataset:
        """Read a data set from data frames of pandas, polars or pyarrow.

        Args:
            interactions: columns user, item and time; see `nezha_lite.datasets.read_tables`.
            items: columns item and one or more of title, brand, categories, description.
            layout: what your columns are called.
            name: of the data set.
            columns: fields of `TableLayout`, such as `user="customer"`.

        Raises:
            TypeError: for what is no frame, and for a field that `TableLayout` does not have.
            ValueError: naming row, column and value of the first error.

        >>> import polars
        >>> frame = polars.DataFrame({"who": ["ann", "ann"], "item": ["pot", "mug"], "day": [2, 1]})
        >>> InteractionDataset.from_frame(frame, user="who", time="day").items
        ('mug', 'pot')
        """
        layout = replace(layout or TableLayout(), **columns)
        return cls(name=name, **OwnTables(interactions, items, layout).fields())

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
        return len(self.sequences.values)

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

    def over(self, items: Sequence[str], new_texts: Mapping[str, ItemText]) -> Self:
        """The same interactions over a catalogue that has grown.

        Args:
            items: N names, in this order; all of this data set's are among them.
            new_texts: texts of the others.
        """
        position = {name: row for row, name in enumerate(items)}
        rows = np.array([position[name] for name in self.items])
        texts = {**new_texts, **dict(zip(self.items, self.texts or (), strict=False))}
        return replace(
            self,
            items=tuple(items),
            sequences=Sequences(self.sequences.offsets, rows[self.sequences.values]),
            texts=tuple(texts.get(name, ItemText("")) for name in items) if texts else None,
            released_codes=None,
        )

    def by_time(self, test_from: str | float) -> Self:
        """The same data, split at a moment for all users; see `TimeSplit.of` and `split`.

        Raises:
            ValueError: without times, and what `TimeSplit.of` raises.
        """
        return replace(self, time_split=TimeSplit.of(self._needed_times(), test_from))

    @property
    def split_method(self) -> str:
        """How the data is split, for reports: "leave-one-out", or "temporal" with both dates."""
        return "leave-one-out" if self.time_split is None else str(self.time_split)

    def _positions(self, moment: int) -> Integers:
        """(U,) int64: where each user's items from `moment` on begin in `sequences.values`."""
        earlier = offsets_of(self._needed_times() < moment)
        starts, ends = self.sequences.offsets[:-1], self.sequences.offsets[1:]
        return starts + earlier[ends] - earlier[starts]

    def train_sequences(self) -> Sequences:
        """Each user's items but the last two, or with a time split those before its validation."""
        starts, ends = self.sequences.offsets[:-1], self.sequences.offsets[1:]
        if self.time_split is None:
            return self.sequences.spans(starts, np.maximum(starts, ends - 2))
        return self.sequences.spans(starts, self._positions(self.time_split.validation_from))

    def popularity(self) -> list[int]:
        """How often each of the N items occurs in the training part."""
        counts: list[int] = np.bincount(
            self.train_sequences().values, minlength=self.n_items
        ).tolist()
        return counts

    def split(self, name: Literal["validation", "test"]) -> Split:
        """One target for each user.

        Leave-one-out: the target of "test" is the last item, of "validation" the one before it.
        Users with fewer than three items are left out of both: their history could be empty.

        With a time split: the target is the user's first item of the validation or the test
        period, and the history all items before that period, in "test" those of the validation
        period, too. The first is taken because the model then knows all that the user did before
        it, and nothing that happened later. Users whose first item ever it is are left out.
        """
        check(name in ("validation", "test"), "split", name, "'validation' or 'test'")
        starts, ends = self.sequences.offsets[:-1], self.sequences.offsets[1:]
        if self.time_split is None:
            targets = ends - (2 if name == "validation" else 1)
            asked, with_history = ends > starts, ends - starts >= 3
        else:
            period = self.time_split
            targets = self._positions(getattr(period, f"{name}_from"))
            period_ends = ends if name == "test" else self._positions(period.test_from)
            asked, with_history = targets < period_ends, targets > starts
        users = np.flatnonzero(asked & with_history)
        return Split(
            tuple(users.tolist()),
            self.sequences.spans(starts[users], targets[users]),
            tuple(self.sequences.values[targets[users]].tolist()),
            int((asked & ~with_history).sum()),
        )
