"""A trained folder, ready to recommend: model, semantic IDs, verifier and decoder together."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.decoding import CapturedDecoder, Decoder, NezhaDecoder, Verification
from nezha_lite.decoding.beam_search import BeamSearchDecoder
from nezha_lite.decoding.item_lists import ranked_items
from nezha_lite.decoding.programs import Programs
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.verifiers import RequestFilter, Verifier, make_verifier
from nezha_lite.verifiers.request_filter import ItemSets, item_set, keys_without_items, sorted_isin

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel

# What follows a catalogue's changes; a factory makes one.
CatalogueDecoder = BeamSearchDecoder | CapturedDecoder | Programs
DecoderFactory = Callable[["NezhaModel", Verifier, Verification], CatalogueDecoder]


def captured_nezha(
    model: NezhaModel, verifier: Verifier, verification: Verification
) -> CapturedDecoder:
    """The fast path: NEZHA as compiled programs, made in the background for each new shape."""
    return CapturedDecoder(NezhaDecoder(model, verifier, verification))


@dataclass(frozen=True)
class Recommendation:
    """One entry of a list: the item's index and name, and its log-probability."""

    item: int
    name: str
    score: float


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """What exists at one moment.

    It is never changed: a change makes another one, so that a call sees the same catalogue from
    beginning to end.

    Attributes:
        verifier: the IDs that exist.
        removed: (N,) bool, the items that are not in the catalogue.
    """

    verifier: Verifier
    removed: Tensor


class Recommender:
    """NEZHA's whole inference path behind one method.

    Items can be removed and restored at any time, without training anew. Threads may share a
    recommender: every list is of the catalogue at one moment during the call, and simultaneous
    changes all take effect.

    Args:
        model: a trained model; it is put into evaluation mode.
        semantic_ids: the catalogue it was trained for.
        decoder: makes the decoder for a mode of verification, such as the class `NezhaDecoder` or
            `captured_nezha`. It is called once per mode.
        verifier: of the catalogue; made by default.

    Attributes:
        model: the model, in evaluation mode.
        semantic_ids: the catalogue.
    """

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        decoder: DecoderFactory = NezhaDecoder,
        verifier: Verifier | None = None,
    ) -> None:
        self.model = model.eval()
        self.semantic_ids = semantic_ids
        verifier = verifier or make_verifier("auto", semantic_ids, model.device)
        self._now = _Catalogue(verifier, torch.zeros(semantic_ids.n_items, dtype=torch.bool))
        self._changing = threading.Lock()
        self._factory = decoder
        self._making = threading.Lock()
        self._decoders: dict[Verification, tuple[Verifier, CatalogueDecoder]] = {}

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        compile: bool = False,
        semantic_ids: SemanticIds | None = None,
        programs: str | Path | None = None,
    ) -> Recommender:
        """Read what `training.train` wrote.

        Args:
            folder: holds the model and its semantic IDs.
            device: "cpu", "cuda", "cuda:1", "mps" …, or "auto" for the best one of this machine.
            compile: decode by `captured_nezha`: the first lists take longer, later ones are faster.
            semantic_ids: the catalogue of a folder that holds a model alone, such as a checkpoint.
            programs: a file of `nezha-lite export`, to decode by on the CPU. The first list takes
                milliseconds; `model` is then a `Programs`, which can only make prompts.

        Raises:
            FileNotFoundError: if the folder or one of its files is missing.
            ValueError: if a file is damaged, or this machine has no such device.
        """
        folder = Path(folder)
        if programs is not None:
            check(device in ("auto", "cpu"), "device", device, "cpu with programs")
            ids = semantic_ids or SemanticIds.load(folder / SEMANTIC_IDS_FILE)
            exported: Any = Programs(programs, folder, ids)  # all that is needed of a model
            decoder: Any = Programs.decoder
            return cls(exported, ids, decoder, exported.verifier)
        from nezha_lite.model.loading import MODEL_FILES, load_model  # takes seconds

        for name in (*MODEL_FILES, *([SEMANTIC_IDS_FILE] if semantic_ids is None else [])):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} has no {name}: expected a folder written by `nezha-lite train`."
                )
        if semantic_ids is None:
            semantic_ids = SemanticIds.load(folder / SEMANTIC_IDS_FILE)
        target = find_device(device)
        model = load_model(folder)
        model.to(target)  # type: ignore[arg-type]  # transformers wraps the signature
        return cls(model, semantic_ids, captured_nezha if compile else NezhaDecoder)

    @property
    def verifier(self) -> Verifier:
        """The IDs of the current catalogue; a change replaces it by another verifier."""
        return self._now.verifier

    @property
    def removed(self) -> frozenset[int]:
        """The items that are not in the catalogue now."""
        return frozenset(self._now.removed.nonzero().flatten().tolist())

    def remove_items(self, items: Collection[int]) -> None:
        """Recommend these items no more; histories may still hold them.

        An ID that several items share exists until the last of them is removed. Calls in progress
        finish with the catalogue they began with.

        Raises:
            ValueError: for an unknown item; then nothing is changed.
        """
        self._change(items, True)

    def restore_items(self, items: Collection[int]) -> None:
        """Take removed items back; the others stay as they are.

        Raises:
            ValueError: for an unknown item; then nothing is changed.
        """
        self._change(items, False)

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
        and verification "prefix" fills the list whenever enough of the catalogue is left by the
        sets below.

        Args:
            histories: B users' items in time order.
            k: length of the lists.
            beam: beam width.
            verification: when drafts are checked; see `BeamSearchDecoder`.
            popularity: how often each item occurs in training; orders items that share an ID.
            allow: for each history the items that may be recommended (a category, say); None for
                all. A sequence of length 1 serves all histories. Arrays and tensors are fastest.
            deny: for each history the items that must not be (out of stock), in the same form.
            exclude_seen: also deny every history its own items.

        Raises:
            ValueError: for k below 1, an unknown item, sets for another number of histories, or the
                popularity of another number of items.
        """
        check(k >= 1, "k", k, "at least 1")
        if popularity is not None:
            n_items = self.semantic_ids.n_items
            valid = f"{n_items}, the catalogue's number of items"
            check(len(popularity) == n_items, "len(popularity)", len(popularity), valid)
        allowed = self._sets("allow", allow, len(histories))
        denied = self._sets("deny", deny, len(histories))
        if exclude_seen:
            seen = self._sets("history", histories, len(histories))
            denied = [
                torch.cat([items for items in pair if items is not None]).unique()
                for pair in zip(cycle(denied), seen, strict=False)
            ]
        prompts = self.model.build_prompts(histories, self.semantic_ids)
        catalogue = self._now  # one for the whole call
        requests = None
        if any(items is not None for items in (*allowed, *denied)):
            requests = self._filter(catalogue, allowed, denied)
        # A beam wider than the number of IDs would hold padding, and cost memory. Removed items
        # count too: otherwise every size of the catalogue would need a compiled program of its own.
        ids = self.semantic_ids
        widest = ids.n_distinct if verification == "prefix" else ids.space
        result = self._decoder(catalogue, verification).decode(
            prompts, max(1, min(max(beam, k), widest)), requests=requests
        )
        items, slots = ranked_items(result.keys, self.semantic_ids, popularity, catalogue.removed)
        rows = (slots // result.keys.shape[1]).bincount(minlength=len(histories)).tolist()
        scores = result.scores.cpu().flatten()[slots]
        return [
            self._best(k, *row)
            for row in zip(
                items.split(rows), scores.split(rows), cycle(allowed), cycle(denied), strict=False
            )
        ]

    def request_filter(
        self, allow: ItemSets | None = None, deny: ItemSets | None = None
    ) -> RequestFilter:
        """The filter by which `recommend` decodes, for the current catalogue.

        Args:
            allow: as of `recommend`.
            deny: as of `recommend`.

        Raises:
            ValueError: for an unknown item, or sets for different numbers of prompts.
        """
        return self._filter(self._now, allow, deny)

    def _filter(
        self, now: _Catalogue, allow: ItemSets | None, deny: ItemSets | None
    ) -> RequestFilter:
        ids, device = self.semantic_ids, self.model.device
        return RequestFilter.build(ids, now.verifier, allow, deny, device, now.removed)

    def _decoder(self, catalogue: _Catalogue, verification: Verification) -> Decoder:
        """This mode's decoder, for this moment's catalogue."""
        with self._making:  # threads that come together share one, and its compiled programs
            if verification not in self._decoders:
                decoder = self._factory(self.model, catalogue.verifier, verification)
            else:
                verifier, decoder = self._decoders[verification]
                if verifier is not catalogue.verifier:
                    decoder = decoder.with_verifier(catalogue.verifier)
            self._decoders[verification] = catalogue.verifier, decoder
        return decoder

    def _sets(self, name: str, sets: ItemSets | None, n_histories: int) -> list[Tensor | None]:
        """Sorted distinct items for each history; a single row serves all, None is no set."""
        sets = [None] if sets is None else sets
        if len(sets) not in (1, n_histories):
            raise ValueError(
                f"{name} holds sets for {len(sets)} histories, but there are {n_histories}."
            )
        return [
            None if items is None else item_set(self.semantic_ids, items, f"{name} of prompt {row}")
            for row, items in enumerate(sets)
        ]

    def _best(
        self, k: int, items: Tensor, scores: Tensor, allowed: Tensor | None, denied: Tensor | None
    ) -> list[Recommendation]:
        """The first k of a row's items that its sets leave."""
        for members, wanted in ((allowed, True), (denied, False)):
            if members is not None:
                admitted = sorted_isin(members, items) == wanted
                items, scores = items[admitted], scores[admitted]
        return [
            Recommendation(item, self.semantic_ids.items[item], score)
            for item, score in zip(items[:k].tolist(), scores[:k].tolist(), strict=True)
        ]

    def _change(self, items: Collection[int], remove: bool) -> None:
        """Replace the current catalogue by one in which these items are removed, or are not."""
        ids = self.semantic_ids
        changed = item_set(ids, items, "The change")
        with self._changing:
            now = self._now
            removed = now.removed.clone()
            removed[changed] = remove
            with torch.inference_mode(False):  # inside it a copy could never be changed outside
                verifier = copy.deepcopy(now.verifier)
            if remove:
                verifier.remove(keys_without_items(ids, changed, ~removed))
            else:
                verifier.add(ids.keys[changed].unique())
            self._now = _Catalogue(verifier, removed)


def find_device(name: str) -> torch.device:
    """A device by name, "auto" for the best one; ValueError if this machine has none of it."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return best or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    count = max(1, torch.accelerator.device_count())
    types = ("cpu", best.type if best else "cpu")
    if device is None or device.type not in types or (device.index or 0) >= count:
        valid = f"auto, cpu or {best.type}" if best else "auto or cpu"
        raise ValueError(f"device is {name!r}, but this machine has {valid}.")
    return device
