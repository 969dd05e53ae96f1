"""Teachers: what they score, what they must not know, and the order of their lists."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nezha_lite.decoding import ExactDecoder
from nezha_lite.evaluation.baselines import ItemKnn, ItemKnnConfig
from nezha_lite.evaluation.baselines.teachers import (
    BackboneTeacher,
    BlendTeacher,
    ItemKnnTeacher,
    SoftmaxTeacher,
)
from nezha_lite.semantic_ids import SemanticIds
from tests.helpers.builders import tiny_model

N = 12


class Logits:
    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        rows = torch.stack([torch.arange(N) * 0.1 + sum(history) for history in histories])
        return rows.double()


def test_a_softmax_teacher_lists_the_likeliest_unseen_items() -> None:
    teacher = SoftmaxTeacher(Logits(), "logits")
    items, weights = teacher.lists([0, 1], [[11, 9], [3]], 3, unseen=True)
    assert items.tolist() == [[10, 8, 7], [11, 10, 9]]
    expected = (torch.arange(N) * 0.1).softmax(0)
    torch.testing.assert_close(weights[1], expected[[11, 10, 9]])
    assert teacher.lists([0], [[11, 9]], 3, unseen=False)[0].tolist() == [[11, 10, 9]]
    with pytest.raises(ValueError, match="list length is 13, but must be 1 to 12"):
        teacher.lists([0], [[1]], 13, unseen=True)


def test_item_knn_does_not_know_the_pairs_of_the_user_it_teaches() -> None:
    # User 3 alone took 7 after 1; user 0 and others took 2 after 1.
    sequences = [[1, 2, 3], [1, 2, 4], [0, 1, 2], [1, 7, 8], [5, 6], [3, 4, 5]]
    config = ItemKnnConfig(shrinkage=0.0)
    teacher = ItemKnnTeacher(sequences, N, config, folds=3)
    assert float(ItemKnn(sequences, N, config).scores([[1]])[0, 7]) > 0
    scores = teacher.scores([3, 1, 3], [[1], [1], [1]])
    assert float(scores[0, 7]) == 0
    assert float(scores[1, 7]) > 0
    for row, user in enumerate([3, 1, 3]):
        others = [[] if other % 3 == user % 3 else items for other, items in enumerate(sequences)]
        torch.testing.assert_close(scores[row], ItemKnn(others, N, config).scores([[1]])[0])
    with pytest.raises(ValueError, match="folds is 1"):
        ItemKnnTeacher(sequences, N, folds=1)


def test_a_blend_is_the_weighted_sum() -> None:
    logits = SoftmaxTeacher(Logits(), "logits")
    knn = ItemKnnTeacher([[1, 2, 3], [1, 2, 4], [0, 1, 2]], N, folds=2)
    blend = BlendTeacher([(1.0, logits), (0.25, knn)])
    expected = logits.scores([0], [[1]]) + 0.25 * knn.scores([0], [[1]])
    torch.testing.assert_close(blend.scores([0], [[1]]), expected)
    assert "0.25 × item-knn" in blend.name


@pytest.mark.parametrize("unseen", [True, False])
def test_the_backbone_teaches_its_exact_lists(unseen: bool) -> None:
    # Items 0 and 1 share an ID.
    codes = [[0, 0], [0, 0], *([item // 4, item % 4] for item in range(2, N))]
    ids = SemanticIds.from_codes(codes, (3, 4))
    model = tiny_model(ids)
    histories = [[0, 5, 9], [3]]
    items, weights = BackboneTeacher(model, ids, "own").lists([0, 1], histories, 6, unseen)
    prompts = model.build_prompts(histories, ids)
    exact = ExactDecoder(model, ids, "backbone").decode(prompts, N)
    for row, history in enumerate(histories):
        expected, probabilities = [], []
        for key, score in zip(exact.keys[row].tolist(), exact.scores[row].tolist(), strict=True):
            for item in ids.items_of(key):
                if not (unseen and item in history):
                    expected.append(item)
                    probabilities.append(score)
        assert items[row].tolist() == expected[:6]
        torch.testing.assert_close(weights[row].log(), torch.tensor(probabilities[:6]))
