"""Ranking by item scores against sorting."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nezha_lite.datasets import Split
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.baselines import evaluate_scorer
from nezha_lite.evaluation.baselines import scorer as scorer_module


class Table:
    """Scores as written down; a history is the number of its row."""

    def __init__(self, rows: Sequence[Sequence[float]], dtype: torch.dtype = torch.float32) -> None:
        self.rows = torch.tensor(rows, dtype=dtype)
        self.batches: list[int] = []

    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        self.batches.append(len(histories))
        return self.rows[[history[0] for history in histories]]


def split_of(targets: Sequence[int]) -> Split:
    users = tuple(range(len(targets)))
    return Split(users, tuple((user,) for user in users), tuple(targets))


# Few values, so that most scores tie; zeros of both signs are one value.
values = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1.0, 1.0, math.inf])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    n_items, users = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    row = st.lists(values, min_size=n_items, max_size=n_items)
    rows = draw(st.lists(row, min_size=users, max_size=users))
    targets = draw(st.lists(st.integers(0, n_items - 1), min_size=users, max_size=users))
    return rows, targets


@given(table=tables(), length=st.integers(1, 40), batch_size=st.integers(1, 6))
@settings(max_examples=150)
def test_ranks_and_lists_are_those_of_sorting(
    table: tuple[list[list[float]], list[int]], length: int, batch_size: int
) -> None:
    rows, targets = table
    length = min(length, len(rows[0]))
    scorer = Table(rows)
    found = evaluate_scorer(scorer, split_of(targets), length, batch_size)
    assert sum(scorer.batches) == len(targets)
    assert max(scorer.batches) <= batch_size
    assert found.beam == length
    for user, (row, target) in enumerate(zip(rows, targets, strict=True)):
        ranking = sorted(range(len(row)), key=lambda item, row=row: (-row[item], item))[:length]
        assert found.lists[user] == ranking
        place = ranking.index(target) if target in ranking else NOT_FOUND
        assert found.ranks[user] == found.sid_ranks[user] == place


def test_rows_that_are_ranked_apart_are_ranked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(torch.randint(0, 5, (7, 30), generator=torch.manual_seed(0)).tolist())
    targets = split_of([0, 4, 8, 12, 16, 20, 24])
    together = evaluate_scorer(table, targets, 6)
    monkeypatch.setattr(scorer_module, "_SCORES_AT_ONCE", 70)  # two users
    apart = evaluate_scorer(table, targets, 6)
    assert apart.lists == together.lists
    assert apart.ranks.tolist() == together.ranks.tolist()


class Allocations(TorchDispatchMode):
    """The bytes of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        results = func(*args, **(kwargs or {}))
        inputs = {tensor.data_ptr() for tensor in tree_leaves(args) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and tensor.data_ptr() not in inputs:
                self.sizes.append(tensor.nbytes)
        return results


def test_ranking_allocates_little_beside_the_scores() -> None:
    users, n_items = 200, 100_000
    table = Table([[0.0]])
    table.rows = torch.randperm(users * n_items, generator=torch.manual_seed(0))
    table.rows = table.rows.view(users, n_items).float()
    with Allocations() as allocations:
        found = evaluate_scorer(table, split_of(range(users)), 10)
    assert found.lists[:3] == table.rows[:3].topk(10).indices.tolist()
    *others, batch = sorted(allocations.sizes)
    assert batch == table.rows.nbytes, "the scorer's own"
    assert max(others) <= batch / 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_scores_of_any_precision(dtype: torch.dtype) -> None:
    found = evaluate_scorer(Table([[1, 3, 2], [5, 5, 6]], dtype), split_of([2, 1]), 2)
    assert found.lists == [[1, 2], [2, 0]]
    assert found.ranks.tolist() == [1, NOT_FOUND]


def test_metrics_of_lists_that_are_always_full() -> None:
    found = evaluate_scorer(Table([[3, 2, 1], [3, 2, 1], [3, 2, 1]]), split_of([0, 1, 2]), 2)
    figures = found.metrics([1, 2])
    assert figures["recall@1"] == pytest.approx(1 / 3)
    assert figures["recall@2"] == pytest.approx(2 / 3)
    assert figures["ndcg@2"] == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert figures["valid"] == figures["filled"] == 1.0


def test_a_constant_scorer_gains_nothing_from_its_targets() -> None:
    found = evaluate_scorer(Table([[0.0] * 10] * 10), split_of(range(10)), 10)
    assert found.ranks.tolist() == list(range(10))


@pytest.mark.parametrize("length", [0, -1, 4])
def test_a_length_outside_the_catalogue_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"length is {length}, but must be between 1 and 3"):
        evaluate_scorer(Table([[1, 2, 3]]), split_of([0]), length)


def test_nan_is_refused_by_the_scorer_s_name() -> None:
    with pytest.raises(ValueError, match="Table scored an item NaN"):
        evaluate_scorer(Table([[1, math.nan, 3]]), split_of([0]), 2)


def test_no_users_are_refused() -> None:
    with pytest.raises(ValueError, match="no users to evaluate"):
        evaluate_scorer(Table([[1.0]]), split_of([]), 1)
