"""Teachers for list distillation: baselines, a blend of them, and the model's own backbone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import AutoregressiveDecoder
from nezha_lite.decoding.item_lists import ranked_items
from nezha_lite.evaluation.baselines.item_knn import ItemKnn, ItemKnnConfig
from nezha_lite.evaluation.baselines.sasrec import (
    RECORD_FILE,
    SasRec,
    SasRecConfig,
    load_sasrec,
    train_sasrec,
)
from nezha_lite.evaluation.baselines.scorer import ItemScorer
from nezha_lite.evaluation.run_folders import read_object
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.teacher_lists import Teacher
from nezha_lite.verifiers import TrieVerifier


class ScoringTeacher(Teacher):
    """A teacher that scores the whole catalogue: a subclass implements `scores`."""

    @abstractmethod
    def scores(self, users: Sequence[int], histories: Sequence[Sequence[int]]) -> Tensor:
        """(B, N) float of at least 0; higher is better, and 0 is not recommended."""

    def lists(
        self, users: Sequence[int], histories: Sequence[Sequence[int]], length: int, unseen: bool
    ) -> tuple[Tensor, Tensor]:
        """See `Teacher.lists`."""
        scores = self.scores(users, histories)
        n_items = scores.shape[1]
        check(1 <= length <= n_items, "list length", length, f"1 to {n_items}, the catalogue")
        if unseen:
            for row, history in zip(scores, histories, strict=True):
                row[list(set(history))] = 0
        best = scores.topk(length, dim=1)
        return best.indices, best.values


@dataclass(frozen=True, eq=False)
class SoftmaxTeacher(ScoringTeacher):
    """The probabilities of a model whose scores are logits, such as `SasRec`."""

    model: ItemScorer
    name: str

    def scores(self, users: Sequence[int], histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ScoringTeacher.scores`."""
        return self.model.scores(histories).float().softmax(dim=-1).cpu()


class ItemKnnTeacher(ScoringTeacher):
    """Item-kNN that does not know the user it teaches.

    A user's own pairs would give the next item away, so users are dealt into folds, and each fold
    is taught by the pairs of the others.

    Args:
        sequences: the users' training items in time order.
        n_items: N.
        config: of item-kNN.
        folds: at least 2.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        n_items: int,
        config: ItemKnnConfig | None = None,
        folds: int = 10,
    ) -> None:
        check(folds >= 2, "folds", folds, "at least 2")
        self.folds = folds
        self.name = f"item-knn({config or ItemKnnConfig()}, folds={folds})"
        self.models = [
            ItemKnn(
                [() if user % folds == fold else items for user, items in enumerate(sequences)],
                n_items,
                config,
            )
            for fold in range(folds)
        ]

    def scores(self, users: Sequence[int], histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ScoringTeacher.scores`."""
        scores = torch.empty(len(users), self.models[0].n_items)
        fold_of = [user % self.folds for user in users]
        for fold in set(fold_of):
            rows = [row for row, own in enumerate(fold_of) if own == fold]
            scores[rows] = self.models[fold].scores([histories[row] for row in rows])
        return scores


class BlendTeacher(ScoringTeacher):
    """The weighted sum of other teachers' scores."""

    def __init__(self, parts: Sequence[tuple[float, ScoringTeacher]]) -> None:
        self.parts = tuple(parts)
        self.name = " + ".join(f"{weight:g} × {teacher.name}" for weight, teacher in parts)

    def scores(self, users: Sequence[int], histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ScoringTeacher.scores`."""
        return torch.stack(
            [weight * teacher.scores(users, histories) for weight, teacher in self.parts]
        ).sum(dim=0)


class BackboneTeacher(Teacher):
    """A model's own backbone, decoded code by code: what its head should agree with.

    Args:
        model: trained with a next-code loss.
        semantic_ids: its catalogue.
    """

    def __init__(self, model: NezhaModel, semantic_ids: SemanticIds, name: str) -> None:
        self.model, self.semantic_ids, self.name = model, semantic_ids, name
        self.decoder = AutoregressiveDecoder(model, TrieVerifier(semantic_ids, model.device))

    def lists(
        self, users: Sequence[int], histories: Sequence[Sequence[int]], length: int, unseen: bool
    ) -> tuple[Tensor, Tensor]:
        """See `Teacher.lists`."""
        prompts = self.model.build_prompts(histories, self.semantic_ids)
        longest = max(map(len, histories)) if unseen else 0
        result = self.decoder.decode(prompts, length + longest)
        items, slots = ranked_items(result.keys, self.semantic_ids)
        listed = torch.zeros(len(histories), length, dtype=torch.int64)
        weights = torch.zeros(len(histories), length)
        scores = result.scores.float().exp().cpu()
        n_listed = [0] * len(histories)
        beam = scores.shape[1]
        for item, slot in zip(items.tolist(), slots.tolist(), strict=True):
            row, beam_slot = divmod(slot, beam)
            column = n_listed[row]
            if column < length and not (unseen and item in histories[row]):
                listed[row, column] = item
                weights[row, column] = scores[row, beam_slot]
                n_listed[row] += 1
        return listed, weights


# The weight of item-kNN's scores beside SASRec's probabilities: the best of four on validation
# users of Beauty in a trial.
KNN_WEIGHT = 0.3
TEACHERS = ("sasrec", "item-knn", "blend")


def make_teacher(
    name: str,
    dataset: InteractionDataset,
    folder: str | Path,
    config: SasRecConfig | None = None,
    knn: ItemKnnConfig | None = None,
    progress: bool = False,
) -> ScoringTeacher:
    """A teacher by name, fitted on the training part alone.

    Args:
        name: one of `TEACHERS`; "blend" is SASRec's probabilities + 0.3 × item-kNN's scores.
        dataset: the data set.
        folder: of SASRec, which is trained there if it is missing.
        config: SASRec's, for a new one.
        knn: item-kNN's.
        progress: show bars.

    Raises:
        ValueError: for another name, or as `train_sasrec`.
    """
    check(name in TEACHERS, "teacher", name, f"one of {', '.join(TEACHERS)}")
    parts: list[tuple[float, ScoringTeacher]] = []
    if name != "item-knn":
        if not Path(folder, RECORD_FILE).is_file():
            train_sasrec(dataset, folder, config, progress)
        sasrec = load_sasrec(dataset, folder)
        about = (
            f"sasrec({sasrec.n_items} items, {read_object(Path(folder, RECORD_FILE))['config']})"
        )
        parts.append((1.0, SoftmaxTeacher(sasrec, about)))
    if name != "sasrec":
        taught = ItemKnnTeacher(dataset.train_sequences(), dataset.n_items, knn)
        parts.append((KNN_WEIGHT if parts else 1.0, taught))
    return parts[0][1] if len(parts) == 1 else BlendTeacher(parts)


@dataclass(frozen=True, eq=False)
class Blend:
    """SASRec's probabilities + 0.3 × item-kNN's scores, as a recommender of its own."""

    sasrec: SasRec
    knn: ItemKnn

    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ItemScorer`."""
        probabilities = self.sasrec.scores(histories).softmax(dim=-1).cpu()
        return probabilities + KNN_WEIGHT * self.knn.scores(histories)
