"""Teachers' lists: in the order of the training rows, resumable, and part of the loss."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nezha_lite.model import NezhaModel
from nezha_lite.model.code_losses import code_losses
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import TrainingConfig, teacher_lists, train
from nezha_lite.training.packing import Collator, TrainingRows
from nezha_lite.training.teacher_lists import TeacherLists, make_lists, seldom_repeats
from tests.helpers.builders import tiny_model
from tests.helpers.toys import N_ITEMS, toy_dataset

SEQUENCES = [[0, 1, 2, 3, 4, 5], [], [6, 7], [3, 4, 5, 6]]


class NextTeacher:
    """Recommends the items after the last one: the nearer, the more."""

    name = "next"

    def __init__(self, fails_after: int | None = None, factor: float = 1.0) -> None:
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.fails_after, self.factor = fails_after, factor

    def lists(
        self, users: Sequence[int], histories: Sequence[Sequence[int]], length: int, unseen: bool
    ) -> tuple[Tensor, Tensor]:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise KeyboardInterrupt
        self.asked += zip(users, map(tuple, histories), strict=True)
        last = torch.tensor([history[-1] for history in histories])
        steps = torch.arange(1, length + 1)
        return (last[:, None] + steps) % N_ITEMS, self.factor / steps.expand(len(last), -1)


def test_lists_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = TrainingRows(SEQUENCES, max_items=3, stride=2)
    teacher = NextTeacher()
    lists = make_lists(teacher, rows, tmp_path / "lists.safetensors", length=4, progress=False)
    expected = [
        (user, row.items[:target])
        for user, row in zip(rows.users.tolist(), rows.rows, strict=True)
        for target in row.targets
    ]
    assert teacher.asked == expected
    assert lists.items.shape == (rows.n_targets, 4)
    for number, (_, history) in enumerate(expected):
        assert lists.items[number].tolist() == [(history[-1] + s) % N_ITEMS for s in (1, 2, 3, 4)]
    torch.testing.assert_close(lists.weights.sum(1), torch.ones(rows.n_targets))
    torch.testing.assert_close(lists.weights[0], torch.tensor([12, 6, 4, 3]) / 25)
    torch.testing.assert_close(lists.cut(2).weights[0], torch.tensor([2, 1]) / 3)


def test_a_batch_has_the_lists_of_its_own_targets(tmp_path: Path) -> None:
    ids = SemanticIds.from_codes([[item // 5, item % 5] for item in range(N_ITEMS)])
    rows = TrainingRows(SEQUENCES, max_items=3, stride=2)
    lists = make_lists(NextTeacher(), rows, tmp_path / "lists.safetensors", 3, progress=False)
    model = tiny_model(ids)
    batch = Collator(ids, model.vocabulary, lists=lists)([rows[2], rows[0]])
    last = [row.items[target - 1] for row in (rows[2], rows[0]) for target in row.targets]
    expected = [[(item + step) % N_ITEMS for step in (1, 2, 3)] for item in last]
    assert torch.equal(batch["list_codes"], ids.codes[torch.tensor(expected)])
    assert batch["list_weights"].shape == (len(last), 3)
    alone = Collator(ids, model.vocabulary, lists=lists)([replace(rows[0], first=-1)])
    assert "list_codes" not in alone


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
@torch.no_grad()
def test_the_loss_weighs_the_true_item_and_the_list(tmp_path: Path, weight: float) -> None:
    ids = SemanticIds.from_codes([[item // 5, item % 5] for item in range(N_ITEMS)])
    rows = TrainingRows(SEQUENCES, max_items=3, stride=2)
    lists = make_lists(NextTeacher(), rows, tmp_path / "lists.safetensors", 3, progress=False)
    model = tiny_model(ids, list_weight=weight, next_code_weight=0.0)
    collate = Collator(ids, model.vocabulary, lists=lists)
    whole = collate(rows.rows)
    items = [row.items[target] for row in rows.rows for target in row.targets]

    def loss_of(targets: Sequence[int]) -> Tensor:
        """Mean cross-entropy of one item for each target."""
        batch = Collator(ids, model.vocabulary)(rows.rows)
        return model(**{**batch, "codes": ids.codes[torch.tensor(targets)]})["loss"]

    of_lists = torch.zeros(())
    for number in range(len(items)):  # one list item at a time, by the plain loss
        for column in range(3):
            changed = list(items)
            changed[number] = int(lists.items[number, column])
            difference = (loss_of(changed) - loss_of(items)) * len(items)
            of_lists = of_lists + lists.weights[number, column] * difference / len(items)
    of_lists = loss_of(items) + of_lists
    expected = (1 - weight) * loss_of(items) + weight * of_lists
    torch.testing.assert_close(model(**whole)["loss"], expected, atol=1e-4, rtol=1e-4)


def test_an_interrupted_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_lists, "PART", 4)
    monkeypatch.setattr(teacher_lists, "_BATCH", 2)
    rows = TrainingRows(SEQUENCES, max_items=3, stride=2)
    path = tmp_path / "lists.safetensors"
    with pytest.raises(KeyboardInterrupt):
        make_lists(NextTeacher(fails_after=6), rows, path, 3, progress=False)
    assert not path.exists()
    teacher = NextTeacher()
    resumed = make_lists(teacher, rows, path, 3, progress=False)
    assert len(teacher.asked) == rows.n_targets - 4  # the first part was there
    whole = make_lists(NextTeacher(), rows, tmp_path / "whole.safetensors", 3, progress=False)
    assert torch.equal(resumed.items, whole.items)
    assert torch.equal(resumed.weights, whole.weights)
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, "whole.safetensors"]
    again = NextTeacher()
    assert torch.equal(make_lists(again, rows, path, 3, progress=False).items, whole.items)
    assert not again.asked


def test_other_lists_are_not_taken_for_these(tmp_path: Path) -> None:
    rows, path = TrainingRows(SEQUENCES, max_items=3), tmp_path / "lists.safetensors"
    lists = make_lists(NextTeacher(), rows, path, 3, progress=False)
    with pytest.raises(ValueError, match="teacher file"):
        make_lists(NextTeacher(), rows, path, 2, progress=False)
    with pytest.raises(ValueError, match="teacher's prefixes"):
        lists.check(TrainingRows(SEQUENCES, max_items=2), N_ITEMS)
    with pytest.raises(ValueError, match="a teacher's item is 9, but must be below 8"):
        lists.check(rows, 8)
    with pytest.raises(ValueError, match="list length is 4, but must be 1 to 3"):
        lists.cut(4)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    rows, path = TrainingRows(SEQUENCES, max_items=3), tmp_path / "lists.safetensors"
    lists = make_lists(NextTeacher(), rows, path, 3, progress=False)
    assert json.loads(json.dumps(lists.about)) == TeacherLists.load(path).about
    for content in (b"", path.read_bytes()[:-5]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"lists.safetensors does not hold a teacher's lists"):
            TeacherLists.load(path)
    TeacherLists(lists.items, lists.weights * 2, lists.about).save(path)
    with pytest.raises(ValueError, match="sum of weights"):
        TeacherLists.load(path)
    with pytest.raises(FileNotFoundError):
        TeacherLists.load(tmp_path / "none.safetensors")


def test_weights_that_are_no_numbers_stop_it(tmp_path: Path) -> None:
    rows = TrainingRows(SEQUENCES, max_items=3)
    for factor in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="gave a weight that is no number"):
            make_lists(NextTeacher(factor=factor), rows, tmp_path / "x.safetensors", progress=False)


def test_repeats_are_counted_in_the_history_alone() -> None:
    assert seldom_repeats(TrainingRows([[1, 2, 3, 4]] * 3, max_items=3))
    assert not seldom_repeats(TrainingRows([[1, 2, 1, 2]], max_items=3))
    assert seldom_repeats(TrainingRows([[1, 2, 3, 1]], max_items=2))  # out of the window


@pytest.mark.slow
def test_a_head_learns_what_only_the_teacher_says(tmp_path: Path) -> None:
    # The users step on by one item. The teacher also says what comes two and three items later.
    dataset = toy_dataset()
    ids = SemanticIds.from_codes(
        [[item // 5, item % 5] for item in range(N_ITEMS)], items=dataset.items
    )
    config = TrainingConfig(epochs=60, batch_rows=10, learning_rate=1e-2, seed=1)
    rows = TrainingRows(dataset.train_sequences(), 20, config.window_stride)
    lists = make_lists(NextTeacher(), rows, tmp_path / "lists.safetensors", 3, progress=False)

    def mass(taught: TeacherLists | None, name: str) -> float:
        """What the head gives to the items two and three steps on."""
        model = NezhaModel.from_preset("tiny", ids, list_weight=0.8)
        train(model, ids, dataset, tmp_path / name, config, progress=False, lists=taught)
        split = dataset.split("test")
        with torch.no_grad():
            states = model.draft_states(model.build_prompts(split.histories, ids))
            last = torch.tensor([history[-1] for history in split.histories])
            later = (last[:, None] + torch.tensor([2, 3])) % N_ITEMS
            losses = code_losses(model.head, states, ids.codes[later]).sum(-1)
        return float((-losses).exp().sum(1).mean())

    assert mass(lists, "taught") > 0.25 > 0.1 > mass(None, "alone")
