"""Who bought what, in which order, and how the items are described.

A data set is a folder of one to three JSON files, the layout of LETTER (Wang et al., CIKM 2024):

- ``NAME.inter.json``: ``{user: [item, ...]}`` in time order; the one file that must exist,
- ``NAME.item.json``: ``{item: {"title", "brand", "categories", "description"}}``, any key or none,
- ``NAME.index.json``: ``{item: ["<a_183>", "<b_70>", ...]}``, semantic IDs released by someone.
"""

import html
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal, TypeVar

from nezha_lite.downloads import REGISTRY, fetch

DATA_FOLDER = Path(__file__).parents[1] / "data"
Parsed = TypeVar("Parsed")
# What exports write where they know nothing: "Unknown", "brand_2237". As words, these would tie
# unrelated items together.
_PLACEHOLDER = re.compile(
    r"unknown|untitled|unbranded|n/?a|nan|none|null|(title|brand|item|product)[\s_#-]+\d+", re.I
)


@dataclass(frozen=True)
class ItemText:
    """What a shop says about one item, as written in the file; every field may be empty."""

    title: str
    brand: str = ""
    categories: tuple[str, ...] = ()
    description: str = ""

    def sentence(self) -> str:
        """One cleaned line for a text encoder: "title, brand. categories. description"."""
        heading = ", ".join(filter(None, map(plain_text, (self.title, self.brand))))
        path = ", ".join(filter(None, map(plain_text, self.categories)))
        return ". ".join(filter(None, (heading, path, plain_text(self.description))))


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
        """The item's title in clean text, or "item <name>" where the files give none."""
        text = plain_text(self.texts[item].title) if self.texts is not None else ""
        return text or f"item {self.items[item]}"

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


def load_dataset(
    name_or_folder: str | Path, downloads: str | Path | None = None
) -> InteractionDataset:
    """The committed "sample", a real set ("beauty", "instruments", "yelp"), or your own folder.

    A real set is read from ``downloads/<name>/`` (default: the repository's git-ignored
    ``data/downloads``) and is fetched into it only when no ``<name>.inter.json`` is there.
    Raises FileNotFoundError for an unknown name, and what `load_folder` and `fetch` raise.
    """
    name, folder = name_or_folder, Path(name_or_folder)
    if name == "sample":
        folder = DATA_FOLDER / "sample"
        if not folder.is_dir():
            remedy = "clone the repository and install the package from it, 'pip install -e .'"
            raise FileNotFoundError(f"The sample is not at {folder}; {remedy}.")
    elif isinstance(name, str) and name in REGISTRY:
        folder = (DATA_FOLDER / "downloads" if downloads is None else Path(downloads)) / name
        # fetch writes the inter file last, so its presence means a complete download.
        if not (folder.is_dir() and _part_file(folder, name, "inter")):
            fetch(name, folder)
    elif not folder.exists():
        names = ", ".join(["sample", *REGISTRY])
        raise FileNotFoundError(f"'{name}' is neither a folder nor one of the data sets {names}.")
    return load_folder(folder)


def load_folder(folder: str | Path) -> InteractionDataset:
    """Read a folder in the layout above; NAME is the folder's, or that of its only inter file.

    The catalogue is every item that a file names: in numeric order if all names are decimal
    integers, else alphabetically. Raises FileNotFoundError, NotADirectoryError for a file, and
    ValueError for malformed content.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; give a folder with NAME.inter.json.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give its folder, with NAME.inter.json.")
    name = folder.resolve().name
    inter_file = _part_file(folder, name, "inter")
    if inter_file is None:
        found = list(folder.glob("*.inter.json"))
        if len(found) != 1:
            has = f"it has {len(found)} files *.inter.json"
            raise FileNotFoundError(f"{folder} must hold {name}.inter.json; {has}.")
        inter_file = found[0]
        name = inter_file.name.removesuffix(".inter.json")
    item_file, index_file = (_part_file(folder, name, part) for part in ("item", "index"))

    histories = _read(inter_file, "user", _history)
    texts = _read(item_file, "item", _item_text) if item_file else None
    codes = _read(index_file, "item", _codes) if index_file else None
    catalogue = {item for history in histories.values() for item in history}
    catalogue.update(texts or (), codes or ())
    if not catalogue:
        raise ValueError(f"{inter_file} names no item; a data set needs at least one.")
    numbered = all(re.fullmatch("[0-9]{1,4000}", item) for item in catalogue)
    items = sorted(sorted(catalogue), key=int if numbered else None)
    if codes is not None:
        place = f"{index_file}, item "
        if lacking := [item for item in items if item not in codes]:
            raise ValueError(f"{place}{lacking[0]!r}: no semantic ID; add one, or drop the file.")
        levels = len(codes[items[0]])
        if uneven := [item for item in items if len(codes[item]) != levels]:
            raise ValueError(f"{place}{uneven[0]!r}: it must have {levels} tokens, as others do.")
    row = {item: index for index, item in enumerate(items)}
    return InteractionDataset(
        name=name,
        items=tuple(items),
        users=tuple(histories),
        sequences=tuple(tuple(row[item] for item in history) for history in histories.values()),
        texts=None if texts is None else tuple(texts.get(item, ItemText("")) for item in items),
        released_codes=None if codes is None else tuple(codes[item] for item in items),
    )


def plain_text(text: str) -> str:
    """One line without HTML entities, escaped once or twice; "" for a placeholder."""
    line = " ".join(html.unescape(html.unescape(text)).split())
    return "" if _PLACEHOLDER.fullmatch(line) else line


def _part_file(folder: Path, name: str, part: str) -> Path | None:
    """NAME.part.json in any capitalisation (LETTER's files are "Beauty.inter.json")."""
    wanted = f"{name}.{part}.json"
    found = [path for path in folder.iterdir() if path.name.casefold() == wanted.casefold()]
    return min(found, key=lambda path: (path.name != wanted, path.name), default=None)


def _read(path: Path, noun: str, parse: Callable[[Any], Parsed]) -> dict[str, Parsed]:
    """The file's one object with every value parsed; errors name the file and the place."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        key, times = Counter(key for key, _ in pairs).most_common(1)[0] if pairs else ("", 0)
        if times > 1:  # json would keep the last one and so drop a user's history
            raise ValueError(f"the key {key!r} occurs {times} times in one object")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # the first names line and column, or the byte
        raise ValueError(f"{path} must be a JSON object in UTF-8, but {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object with one entry per {noun}.")
    parsed = {}
    for key, value in content.items():
        try:
            parsed[key] = parse(value)
        except ValueError as error:
            raise ValueError(f"{path}, {noun} {key!r}: {error}.") from None
    return parsed


def _history(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"the history is {value!r:.40}; it must be a list of item IDs")
    for place, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise ValueError(f"entry {place} is {item!r:.40}; item IDs are integers or strings")
    return tuple(map(str, value))


def _item_text(value: Any) -> ItemText:
    if not isinstance(value, dict):
        raise ValueError(f'the entry is {value!r:.40}; write an object such as {{"title": "Mug"}}')
    path = value.get("categories")
    if not isinstance(path, list):
        path = [name.strip() for name in _words("categories", path).split(",")]
    categories = tuple(filter(None, (_words("categories", name) for name in path)))
    words = {key: _words(key, value.get(key)) for key in ("title", "brand", "description")}
    return ItemText(categories=categories, **words)


def _words(key: str, value: Any) -> str:
    # Exports made with pandas write a missing text as NaN, others as null.
    if value is None or value != value:
        return ""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{key} is {value!r:.40}; it must be a string or a list of strings")
    return " ".join(parts)


def _codes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= len(ascii_lowercase):
        raise ValueError(f'the semantic ID is {value!r:.40}; write a list such as ["<a_183>"]')
    codes = []
    for letter, token in zip(ascii_lowercase, value, strict=False):
        match = re.fullmatch(f"<{letter}_([0-9]+)>", token) if isinstance(token, str) else None
        if match is None:
            raise ValueError(f"the token {token!r:.40} must read <{letter}_183>, with any code")
        codes.append(int(match[1]))
    return tuple(codes)
