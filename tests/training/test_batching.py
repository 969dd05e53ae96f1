"""The row order: a permutation that seed and epoch decide, and that saves padding."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.training.packing import LengthGroupedOrder, TrainingRows
from tests.helpers.runs import CONFIG, run
from tests.helpers.toys import toy_dataset

pytestmark = pytest.mark.usefixtures("random_state")


def order(seed: int, epoch: int, lengths: list[int]) -> list[int]:
    sampler = LengthGroupedOrder(lengths, 4, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    lengths = torch.randint(3, 60, (450,), generator=torch.Generator().manual_seed(0)).tolist()
    orders = {}
    for seed in (0, 1, 2):
        for epoch in (0, 1, 2):
            torch.manual_seed(1000 * epoch + seed)  # must not matter
            before = torch.get_rng_state()
            orders[seed, epoch] = order(seed, epoch, lengths)
            assert torch.equal(torch.get_rng_state(), before)
            assert sorted(orders[seed, epoch]) == list(range(450))
    assert len({tuple(one) for one in orders.values()}) == 9
    assert order(1, 2, lengths) == orders[1, 2]
    assert len(LengthGroupedOrder(lengths, 4, 0)) == 450


def test_the_order_saves_padding() -> None:
    lengths = torch.randint(3, 60, (400,), generator=torch.Generator().manual_seed(1)).tolist()

    def padding(indices: list[int]) -> int:
        batches = [[lengths[i] for i in indices[at : at + 4]] for at in range(0, 400, 4)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order(0, 0, lengths)) < 0.2 * padding(list(range(400)))


def test_training_uses_another_order_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    original = LengthGroupedOrder.__iter__

    def recorded(self: LengthGroupedOrder) -> Iterator[int]:
        seen.append(list(original(self)))
        return iter(seen[-1])

    monkeypatch.setattr(LengthGroupedOrder, "__iter__", recorded)
    run(tmp_path, replace(CONFIG, epochs=3, seed=5))
    levels, rows = 3, TrainingRows(toy_dataset().train_sequences(), 6, 6)
    lengths = [row.n_tokens(levels) for row in rows.rows]
    expected = []
    for epoch in range(3):
        sampler = LengthGroupedOrder(lengths, CONFIG.batch_rows, 5)
        sampler.set_epoch(epoch)
        expected.append(list(original(sampler)))
    assert seen == expected
    assert expected[0] != expected[1] != expected[2] != expected[0]
