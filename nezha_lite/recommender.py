"""A trained folder, ready to recommend: model, semantic IDs, verifier and decoder together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from nezha_lite.decoding import NezhaDecoder, Verification
from nezha_lite.evaluation import NOT_FOUND, item_lists
from nezha_lite.model import NezhaModel
from nezha_lite.progress import without_progress_bar
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import SEMANTIC_IDS_FILE
from nezha_lite.verifiers import SortedVerifier

MODEL_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Recommendation:
    """One place of a list: the item's index and name, and its log-probability."""

    item: int
    name: str
    score: float


class Recommender:
    """NEZHA's whole inference path behind one method.

    Attributes:
        model: the trained model, in eval mode.
        semantic_ids: the catalogue it was trained for.
        verifier: membership of that catalogue.
    """

    def __init__(self, model: NezhaModel, semantic_ids: SemanticIds) -> None:
        self.model = model.eval()
        self.semantic_ids = semantic_ids
        self.verifier = SortedVerifier(semantic_ids, model.device)

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
        place = _device(device)
        try:
            with without_progress_bar():
                model: NezhaModel = NezhaModel.from_pretrained(folder)
        except SafetensorError as error:
            raise ValueError(f"{Path(folder) / MODEL_FILES[1]} is damaged: {error}") from error
        model.to(place)  # type: ignore[arg-type]  # transformers wraps the signature
        return cls(model, semantic_ids)

    def recommend(
        self,
        histories: Sequence[Sequence[int]],
        k: int = 10,
        beam: int = 50,
        verification: Verification = "prefix",
        popularity: Sequence[int] | None = None,
    ) -> list[list[Recommendation]]:
        """The best k existing items for each history of item indices, best first.

        Fewer than k are returned where the beam holds fewer existing items: `beam` is raised to k,
        and verification "prefix" fills the list whenever the catalogue can.
        """
        if k < 1:
            raise ValueError(f"k is {k}, but must be at least 1.")
        decoder = NezhaDecoder(self.model, self.verifier, verification)
        prompts = self.model.build_prompts(histories, self.semantic_ids)
        result = decoder.decode(prompts, max(beam, k))
        lists = []
        for keys, scores in zip(result.keys.cpu(), result.scores.tolist(), strict=True):
            ranked: list[Recommendation] = []
            for key, score in zip(keys, scores, strict=True):
                if len(ranked) >= k:
                    break
                (items,) = item_lists(key.view(1, 1), self.semantic_ids, popularity)
                ranked.extend(
                    Recommendation(item, self.semantic_ids.items[item], score)
                    for item in items
                    if item != NOT_FOUND
                )
            lists.append(ranked[:k])
        return lists


def _check_files(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: expected a folder written by `nezha-lite train`."
            )


def _device(name: str) -> torch.device:
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return best or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", best.type if best else "cpu"):
        valid = f"auto, cpu or {best.type}" if best else "auto or cpu"
        raise ValueError(f"device is {name!r}, but this machine has {valid}.")
    return device
