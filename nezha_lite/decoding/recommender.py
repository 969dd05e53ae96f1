"""A trained folder, ready to recommend: model, semantic IDs, verifier and decoder together."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nezha_lite.decoding import NezhaDecoder, Verification
from nezha_lite.decoding.item_lists import NOT_FOUND, item_lists
from nezha_lite.model import NezhaModel
from nezha_lite.model.loading import MODEL_FILES, load_model
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.verifiers import RequestFilter, Verifier, make_verifier
from nezha_lite.verifiers.request_filter import ItemSets


@dataclass(frozen=True)
class Recommendation:
    """One place of a list: the item's index and name, and its log-probability."""

    item: int
    name: str
    score: float


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """What exists at one moment.

    Nothing here is ever changed: a change makes another one, so that a call that has begun sees
    the same catalogue to its end.

    Attributes:
        verifier: the IDs that exist.
        removed: the items that are gone.
        outlived: those of them whose ID still exists, because another item carries it too.
    """

    verifier: Verifier
    removed: frozenset[int] = frozenset()
    outlived: frozenset[int] = frozenset()


class Recommender:
    """NEZHA's whole inference path behind one method.

    The catalogue lives: items can be removed and restored at any time, without training anew.
    Threads may share a recommender: every list is of the catalogue as it was at one moment during
    the call, and changes made at once are all made.

    Attributes:
        model: the trained model, in eval mode.
        semantic_ids: the catalogue it was trained for.
    """

    def __init__(self, model: NezhaModel, semantic_ids: SemanticIds) -> None:
        self.model = model.eval()
        self.semantic_ids = semantic_ids
        self._now = _Catalogue(make_verifier("auto", semantic_ids, model.device))
        self._changing = threading.Lock()

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Recommender:
        """Read what `training.train` wrote.

        Args:
            device: "cpu", "cuda", "cuda:1", "mps" …, or "auto" for the best that is there.

        Raises:
            FileNotFoundError: if the folder or one of its files is missing.
            ValueError: if a file is damaged, or there is no such device here.
        """
        _check_files(Path(folder), *MODEL_FILES, SEMANTIC_IDS_FILE)
        return cls.of(folder, SemanticIds.load(Path(folder) / SEMANTIC_IDS_FILE), device)

    @classmethod
    def of(cls, folder: str | Path, semantic_ids: SemanticIds, device: str = "cpu") -> Recommender:
        """Read a model alone, such as a run's checkpoint, for semantic IDs at hand; see `load`."""
        _check_files(Path(folder), *MODEL_FILES)
        place = find_device(device)
        model = load_model(folder)
        model.to(place)  # type: ignore[arg-type]  # transformers wraps the signature
        return cls(model, semantic_ids)

    @property
    def verifier(self) -> Verifier:
        """Membership of the catalogue as it is now; a change replaces it by another one."""
        return self._now.verifier

    @property
    def removed(self) -> frozenset[int]:
        """The items that are out of the catalogue now."""
        return self._now.removed

    def remove_items(self, items: Collection[int]) -> None:
        """Recommend these items no more; in histories they still make sense.

        An ID that several items share exists until the last of them is removed. Calls that run
        meanwhile finish with the catalogue they began with.

        Raises:
            ValueError: for an unknown item; nothing is changed then.
        """
        known = self.semantic_ids.known_items(items, "The change")
        with self._changing:
            self._now = self._changed(self._now.removed.union(known))

    def restore_items(self, items: Collection[int]) -> None:
        """Take removed items back; the others stay as they are.

        Raises:
            ValueError: for an unknown item; nothing is changed then.
        """
        known = self.semantic_ids.known_items(items, "The change")
        with self._changing:
            self._now = self._changed(self._now.removed.difference(known))

    def recommend(
        self,
        histories: Sequence[Sequence[int]],
        k: int = 10,
        beam: int = 50,
        verification: Verification = "prefix",
        popularity: Sequence[int] | None = None,
        allow: ItemSets | None = None,
        deny: ItemSets | None = None,
        exclude_seen: bool = False,
    ) -> list[list[Recommendation]]:
        """The best k existing items for each history of item indices, best first.

        Fewer than k are returned where the beam holds fewer existing items: `beam` is raised to k,
        and verification "prefix" fills the list whenever the catalogue can, whatever the sets below
        leave of it.

        Args:
            histories: B users' items in time order.
            k: length of the lists.
            beam: beam width.
            verification: when drafts are checked; see `BeamSearchDecoder`.
            popularity: how often each item occurs in training; orders items that share an ID.
            allow: for each history the items that may be recommended (a category, say); None for
                all. A sequence of length 1 serves all histories.
            deny: for each history the items that must not be (out of stock), laid out alike.
            exclude_seen: also deny every history its own items.

        Raises:
            ValueError: for k below 1, an unknown item, sets for another number of histories, or the
                popularity of another number of items.
        """
        if k < 1:
            raise ValueError(f"k is {k}, but must be at least 1.")
        if popularity is not None and len(popularity) != self.semantic_ids.n_items:
            raise ValueError(
                f"popularity is of {len(popularity)} items, but the catalogue has "
                f"{self.semantic_ids.n_items}."
            )
        allowed = None if allow is None else self._sets("allow", allow, histories)
        denied = self._sets("deny", [None] if deny is None else deny, histories)
        if exclude_seen:
            seen = self._sets("history", histories, histories)
            denied = [
                (row or frozenset()) | (own or frozenset())
                for row, own in zip(_spread(denied, histories), seen, strict=True)
            ]
        prompts = self.model.build_prompts(histories, self.semantic_ids)
        catalogue = self._now  # one for the whole call
        requests = None
        if allowed is not None or any(denied):
            requests = self._filter(catalogue, allowed, denied)
        decoder = NezhaDecoder(self.model, catalogue.verifier, verification)
        # More places than there are IDs would stay empty, and cost memory.
        most = catalogue.verifier.n_ids if verification == "prefix" else self.semantic_ids.space
        result = decoder.decode(prompts, max(1, min(max(beam, k), most)), requests=requests)
        lists = []
        for keys, scores, wanted, refused in zip(
            result.keys.cpu(),
            result.scores.tolist(),
            _spread(allowed or [None], histories),
            _spread(denied, histories),
            strict=True,
        ):
            gone = catalogue.removed | (refused or frozenset())
            ranked: list[Recommendation] = []
            for key, score in zip(keys, scores, strict=True):
                if len(ranked) >= k or key < 0:  # empty places come last
                    break
                (items,) = item_lists(key.view(1, 1), self.semantic_ids, popularity, gone)
                ranked.extend(
                    Recommendation(item, self.semantic_ids.items[item], score)
                    for item in items
                    if item != NOT_FOUND and (wanted is None or item in wanted)
                )
            lists.append(ranked[:k])
        return lists

    def _sets(
        self, name: str, sets: ItemSets, histories: Sequence[Sequence[int]]
    ) -> list[frozenset[int] | None]:
        """One set for each history, or a single one for all."""
        if len(sets) not in (1, len(histories)):
            raise ValueError(
                f"{name} holds sets for {len(sets)} histories, but there are {len(histories)}."
            )
        known = self.semantic_ids.known_items
        return [
            None if items is None else frozenset(known(items, f"{name} of prompt {row}"))
            for row, items in enumerate(sets)
        ]

    def request_filter(
        self, allow: ItemSets | None = None, deny: ItemSets | None = None
    ) -> RequestFilter:
        """What `recommend` lets a decoder follow, for the catalogue as it is now.

        Args:
            allow: as of `recommend`.
            deny: as of `recommend`.

        Raises:
            ValueError: for an unknown item, or sets for different numbers of prompts.
        """
        return self._filter(self._now, allow, [None] if deny is None else deny)

    def _filter(
        self, catalogue: _Catalogue, allow: ItemSets | None, deny: ItemSets
    ) -> RequestFilter:
        # A shared ID that outlived an item must not be kept for that item's sake.
        without = [catalogue.outlived.union(row or ()) for row in deny]
        return RequestFilter.build(
            self.semantic_ids, catalogue.verifier, allow, without, self.model.device
        )

    def _changed(self, removed: frozenset[int]) -> _Catalogue:
        """The catalogue without just these items, made from the one that is now."""
        ids, now = self.semantic_ids, self._now
        changed = torch.tensor(sorted(removed ^ now.removed), dtype=torch.int64)
        sharing = {key: ids.items_of(key) for key in ids.keys[changed].tolist()}
        dead = {key for key, items in sharing.items() if removed.issuperset(items)}
        alive = sharing.keys() - dead
        with torch.inference_mode(False):  # inside it a copy could never be changed outside
            verifier = copy.deepcopy(now.verifier)
        verifier.remove(torch.tensor(sorted(dead), dtype=torch.int64))
        verifier.add(torch.tensor(sorted(alive), dtype=torch.int64))
        outlived = now.outlived.difference(item for items in sharing.values() for item in items)
        return _Catalogue(
            verifier,
            removed,
            outlived.union(item for key in alive for item in sharing[key] if item in removed),
        )


def _spread(
    sets: list[frozenset[int] | None], histories: Sequence[Sequence[int]]
) -> list[frozenset[int] | None]:
    """One set for each history."""
    return sets * len(histories) if len(sets) == 1 else sets


def _check_files(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: expected a folder written by `nezha-lite train`."
            )


def find_device(name: str) -> torch.device:
    """A device by name, "auto" for the best one here; ValueError if there is none of that name."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return best or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    here = max(1, torch.accelerator.device_count())
    types = ("cpu", best.type if best else "cpu")
    if device is None or device.type not in types or (device.index or 0) >= here:
        valid = f"auto, cpu or {best.type}" if best else "auto or cpu"
        raise ValueError(f"device is {name!r}, but this machine has {valid}.")
    return device
