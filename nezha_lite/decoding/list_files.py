"""Every user's list in one file, written part by part, so that a run that was killed goes on.

The parts lie in the folder OUT.parts until the file is whole. Each holds a fixed number of users
and is written in one step, so that no list is missing or there twice. Several processes
(`torchrun`), on one machine or on several that share the folder, divide the parts among them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from nezha_lite.common.checks import check, check_counts
from nezha_lite.common.files import atomic_write, damage_named, read_json
from nezha_lite.common.memory import free_memory
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import Verification
from nezha_lite.decoding.recommender import Recommendation, Recommender
from nezha_lite.verifiers.request_filter import item_set

_WRITERS: dict[str, Any] = {
    ".csv": pl.LazyFrame.sink_csv,
    ".jsonl": pl.LazyFrame.sink_ndjson,
    ".parquet": pl.LazyFrame.sink_parquet,
}
USERS_A_PART = 1024
SCHEMA: dict[str, Any] = {
    "user": pl.String,
    "rank": pl.Int32,
    "item": pl.String,
    "score": pl.Float32,
    "title": pl.String,
    "reason": pl.String,
}
GONE = "no allowed item is in the catalogue"
DENIED = "every item that is left is denied"
SEEN = "every item that is left has been seen"
NO_DRAFT = "no draft is an item that is left; raise the beam, or verify prefixes"


@dataclass(frozen=True)
class ListOptions:
    """What the lists hold; all as in `Recommender.recommend`, but one set serves all users.

    Attributes:
        k: length of the lists.
        beam: beam width.
        verification: when drafts are checked.
        allow: the items that may be recommended; None for all.
        deny: the items that must not be.
        exclude_seen: nothing that is in the user's history.

    Raises:
        ValueError: for k or beam below 1.
    """

    k: int = 10
    beam: int = 50
    verification: Verification = "prefix"
    allow: Sequence[int] | None = None
    deny: Sequence[int] = ()
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "k", "beam")


@dataclass(frozen=True)
class ListReport:
    """What a file of lists holds: users, rows of their lists, and empty lists by reason."""

    users: int
    rows: int
    empty: Mapping[str, int]


def processes(device: torch.device) -> PartialState:
    """This process among those that `torchrun` started; without it the only one.

    The others may take long for their parts, so it waits for them without a limit.
    """
    return PartialState(cpu=device.type == "cpu", timeout=timedelta(days=30))


def batch_size(trained: Recommender, beam: int) -> int:
    """How many users are decoded together: as many as a quarter of the free memory holds.

    A user counts 4 · (T · (16 D + T) + 10 · K · C) bytes: T tokens of the longest prompt, hidden
    size D, beam K, C codes. It is a power of two, and at most 256 on a CPU, for its caches.
    """
    model, device = trained.model, trained.model.device
    tokens = 1 + model.head.levels * (model.config.max_items + 1)
    width = model.backbone.config.get_text_config().hidden_size
    size = 4 * (tokens * (16 * width + tokens) + 10 * beam * max(model.head.radices))
    most, free = 256 if device.type == "cpu" else USERS_A_PART, free_memory(device)
    if free is not None:
        most = min(most, free // (4 * size * processes(device).num_processes))
    return 1 << (max(most, 1).bit_length() - 1)


def write_lists(
    trained: Recommender,
    dataset: InteractionDataset,
    out: str | Path,
    options: ListOptions | None = None,
    users: Sequence[int] | None = None,
    users_a_part: int = USERS_A_PART,
    progress: bool = False,
) -> ListReport | None:
    """Write the lists that `Recommender.recommend` gives for the users' whole sequences.

    The columns are user, rank (from 1), item, score, title, reason. A user whose list is empty has
    one row, which holds the reason. A call that was stopped goes on when it is made again.

    Args:
        trained: the model and its catalogue, the one of the data set.
        dataset: whose sequences and titles.
        out: file to write, as Parquet, CSV or JSON lines by the end of its name.
        options: what the lists hold.
        users: different users, in the order of the file; by default all.
        users_a_part: how many lists a process loses at most when it is stopped.
        progress: show a bar with users per second, that of the first process.

    Returns:
        What the file holds; None in all processes but the first.

    Raises:
        ValueError: for another kind of file, one that exists, no users, an unknown item, or parts
            that were begun with other settings, naming one that differs.
        OSError: if it cannot be written; the parts stay.
    """
    out, options = Path(out), options or ListOptions()
    users = range(dataset.n_users) if users is None else users
    check(out.suffix in _WRITERS, "out", str(out), f"a name that ends in {', '.join(_WRITERS)}")
    check(len(users) > 0, "users", [*users], "at least one user")
    folder, state = out.with_name(f"{out.name}.parts"), processes(trained.model.device)
    if out.exists() and not folder.exists():
        raise ValueError(f"{out} exists already: delete it, or name another file.")
    lists = UserLists(trained, dataset, options)
    if state.is_main_process:
        _begin(folder, lists.settings(users) | {"users in a part": users_a_part})
    state.wait_for_everyone()
    chunks = [users[start : start + users_a_part] for start in range(0, len(users), users_a_part)]
    parts = {folder / f"part-{row:07d}.parquet": chunk for row, chunk in enumerate(chunks)}
    own = [*parts][state.process_index :: state.num_processes]
    missing = [path for path in own if not path.exists()]
    total, left = (sum(len(parts[path]) for path in paths) for paths in (own, missing))
    hidden = not (progress and state.is_main_process)
    with tqdm(total=total, initial=total - left, unit=" users", disable=hidden) as bar:
        for path in missing:
            content = BytesIO()
            lists.table(parts[path]).write_parquet(content)
            atomic_write(path, content.getvalue())
            bar.update(len(parts[path]))
    state.wait_for_everyone()
    report = _join([*parts], out, len(users)) if state.is_main_process else None
    state.destroy_process_group()
    return report


class UserLists:
    """Lists for many histories, and why one is empty.

    Args:
        trained: the model and its catalogue, the one of the data set.
        dataset: whose users and titles, and whose popularity orders items that share an ID.
        options: what the lists hold.

    Raises:
        ValueError: for an unknown item.
    """

    def __init__(
        self, trained: Recommender, dataset: InteractionDataset, options: ListOptions
    ) -> None:
        self.trained, self.dataset, self.options = trained, dataset, options
        ids = trained.semantic_ids
        self.allow = None if options.allow is None else item_set(ids, options.allow, "allow")
        self.deny = item_set(ids, options.deny, "deny")
        self.removed = item_set(ids, trained.removed, "removed")
        self.popularity, self.title = dataset.popularity(), cache(dataset.title)
        self.batch = batch_size(trained, max(options.beam, options.k))

    def settings(self, users: Sequence[int]) -> dict[str, Any]:
        """All that the lists depend on; long values as their number and a digest."""
        ids, data, state = self.trained.semantic_ids, self.dataset, self.trained.model.state_dict()
        sets = {"allowed": self.allow, "denied": self.deny, "removed": self.removed}
        weights = (one.detach().cpu().flatten().view(torch.uint8).numpy() for one in state.values())
        scalars = ("k", "beam", "verification", "exclude_seen")
        return {
            **{name.replace("_", "-"): getattr(self.options, name) for name in scalars},
            **{
                f"{name} items": "all" if items is None else _digest(items.tolist())
                for name, items in sets.items()
            },
            "users": _digest([data.users[user] for user in users]),
            "histories": _digest(data.sequences, data.sequences.offsets, data.sequences.values),
            "model": _digest(ids.items, ids.keys.tolist(), ids.items, *weights),
        }

    def table(self, users: Sequence[int]) -> pl.DataFrame:
        """The rows of these users, in the columns of `write_lists`."""
        rows: list[tuple[Any, ...]] = []
        histories = [self.dataset.sequences[user] for user in users]
        for user, history, ranked in zip(users, histories, self.ranked(histories), strict=True):
            name = self.dataset.users[user]
            if not ranked:
                rows.append((name, None, None, None, None, self.why_empty(history)))
            for rank, best in enumerate(ranked, start=1):
                rows.append((name, rank, best.name, best.score, self.title(best.item), None))
        return pl.DataFrame(rows, SCHEMA, orient="row")

    def ranked(self, histories: Sequence[Sequence[int]]) -> list[list[Recommendation]]:
        """The list of each history, best first, decoded in batches of similar lengths."""
        longest, options = self.trained.model.config.max_items, self.options
        lengths = [(min(len(history), longest), len(history)) for history in histories]
        order = sorted(range(len(histories)), key=lengths.__getitem__)  # little padding
        ranked: list[list[Recommendation]] = [[] for _ in histories]
        for first in range(0, len(order), self.batch):
            rows = order[first : first + self.batch]
            # A last batch that is smaller would need a compiled program of its own.
            filled = rows + rows[:1] * (self.batch - len(rows) if len(order) > self.batch else 0)
            lists = self.trained.recommend(
                [histories[row] for row in filled],
                options.k,
                options.beam,
                options.verification,
                self.popularity,
                allow=None if self.allow is None else [self.allow],
                deny=[self.deny] if len(self.deny) else None,
                exclude_seen=options.exclude_seen,
            )
            for row, best in zip(rows, lists, strict=False):
                ranked[row] = best
        return ranked

    def why_empty(self, history: Sequence[int]) -> str:
        """Why the list of this history is empty: what had been left out when nothing was left."""
        left = torch.full((self.dataset.n_items,), self.allow is None)
        left[[] if self.allow is None else self.allow] = True
        seen = torch.tensor(history if self.options.exclude_seen else [], dtype=torch.int64)
        for items, reason in ((self.removed, GONE), (self.deny, DENIED), (seen, SEEN)):
            left[items] = False
            if not left.any():
                return reason
        return NO_DRAFT


def _digest(values: Sequence[Any], *contents: Any) -> str:
    """How many values there are, and a digest of them, or of other contents in their place."""
    digest = hashlib.sha256()
    for content in contents or (values,):
        text = "\n".join(map(str, content)) if isinstance(content, list | tuple) else None
        digest.update(content if text is None else text.encode())
    return f"{len(values):,} ({digest.hexdigest()[:8]})"


def _begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings beside the parts, or compare them with those of the parts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if not path.exists():
        atomic_write(path, json.dumps(settings, indent=1))
    with damage_named(path, f"is damaged (delete {folder} to begin anew)"):
        before = dict(read_json(path))
    for name, value in settings.items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder} was begun with {name} {before.get(name)}, which now is {value}: use the "
                "settings of before to finish it, or delete it to begin anew."
            )


def _join(paths: Sequence[Path], out: Path, users: int) -> ListReport:
    """Make one file of the parts, and delete them."""
    folder = paths[0].parent
    whole = folder / f"whole{out.suffix}"
    with damage_named(folder, "holds parts that could not be joined"):
        rows = pl.scan_parquet([*paths])
        counts = dict(rows.group_by("reason").len().collect().iter_rows())
        _WRITERS[out.suffix](rows, whole)
    os.replace(whole, out)
    for path in paths:  # before the settings, without which they could be taken for others'
        path.unlink()
    shutil.rmtree(folder)
    return ListReport(users, counts.pop(None, 0), counts)
