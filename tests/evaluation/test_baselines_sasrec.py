"""SASRec: what it sees, what it trains on, that it learns, stops, and goes on."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation import Evaluation, ndcg_at
from nezha_lite.evaluation.baselines import (
    SasRec,
    SasRecConfig,
    evaluate_scorer,
    sasrec,
    train_sasrec,
)
from nezha_lite.evaluation.baselines.sasrec import _arguments, _collate, _rows
from tests.helpers.toys import N_ITEMS, toy_dataset

pytestmark = pytest.mark.usefixtures("random_state")

N = 7
SMALL = SasRecConfig(width=8, layers=2, heads=2, max_items=5, batch_users=16, epochs=4)
HISTORIES = [[3, 1, 4, 1], [6], [0, 5], [2, 2, 2, 2, 2]]


def model_of(config: SasRecConfig = SMALL, n_items: int = N) -> SasRec:
    """Weights large enough that every item matters, in double precision."""
    model = SasRec(n_items, config).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def loss_of(model: SasRec, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return model(**_collate(rows, model.n_items))["loss"]


# ---- what it sees --------------------------------------------------------------------------------


def test_padding_changes_no_score() -> None:
    model = model_of()
    together = model.scores(HISTORIES)
    assert together.shape == (4, N)  # padding is no item
    for row, history in zip(together, HISTORIES, strict=True):
        torch.testing.assert_close(row[None], model.scores([history]))
        with torch.no_grad():
            model.transformer.wte.weight[N] += 1.0
        torch.testing.assert_close(row[None], model.scores([history]))
    torch.testing.assert_close(together, model.scores(HISTORIES))


def test_the_loss_is_that_of_one_prefix_at_a_time() -> None:
    """Of padded rows in one pass: nothing but earlier items is seen, and every target counts."""
    model = model_of()
    rows = [[3, 1, 4, 1, 5, 6], [2, 0], [6, 6, 1]]
    losses = []
    for row in rows:
        for target in range(1, len(row)):
            scores = model.scores([row[:target]])[0]
            losses.append(float(scores.exp().sum().log() - scores[row[target]]))
    loss = loss_of(model, rows).detach()
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-6)


@pytest.mark.parametrize("changed", [1, 3])
def test_later_items_are_not_seen_and_earlier_ones_are(changed: int) -> None:
    model = model_of()
    row = torch.tensor([[3, 1, 4, 0, 5]])
    other = row.clone()
    other[0, changed] = 6
    with torch.no_grad():
        one, two = model._hidden(row)[0], model._hidden(other)[0]
    assert torch.equal(one[:changed], two[:changed])
    assert ((one - two)[changed:].abs().amax(dim=1) > 1e-3).all()


def test_only_the_last_items_of_a_long_history_count() -> None:
    model = model_of()
    long = [[1, 2, 3, 4, 5, 6, 0, 1]]
    assert torch.equal(model.scores(long), model.scores([long[0][-5:]]))
    assert not torch.allclose(model.scores(long), model.scores([long[0][-4:]]))


def test_inputs_and_outputs_share_their_embeddings() -> None:
    model = model_of()
    # One table of items, one of places; two blocks of four matrices; no other matrix.
    assert len([p for p in model.parameters() if p.ndim > 1]) == 2 + 2 * 4
    before = model.scores([[0, 1]])
    fifth = model.scores([[5]])
    with torch.no_grad():
        model.transformer.wte.weight[5] += torch.randn(
            8, generator=torch.Generator().manual_seed(2)
        ).double()
    after = model.scores([[0, 1]])
    assert (before != after)[0].nonzero().flatten().tolist() == [5]  # as an output
    assert not torch.allclose(model.scores([[5]])[0, 0], fifth[0, 0])  # as an input


def test_padding_learns_nothing_and_every_item_does() -> None:
    model = model_of()
    loss_of(model, [[3, 1, 4], [2, 0]]).backward()
    gradient = model.transformer.wte.weight.grad
    assert not gradient[N].any()
    assert (gradient[:N].abs().amax(dim=1) > 0).all()  # the softmax is over all of them


def test_scores_are_without_dropout_and_leave_the_mode() -> None:
    model = SasRec(N, SMALL)
    for training in (True, False):
        model.train(training)
        scores = model.scores(HISTORIES)
        assert model.training is training
        assert not scores.requires_grad
        assert torch.equal(scores, model.scores(HISTORIES))
    model.train()
    assert not torch.equal(loss_of(model, HISTORIES), loss_of(model, HISTORIES))


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="A history is empty"):
        model_of().scores([[1], []])


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (SasRec(N, replace(SMALL, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.transformer.wte.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# ---- what it trains on ---------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), max_items=st.integers(1, 9))
def test_every_target_is_trained_exactly_once(lengths: list[int], max_items: int) -> None:
    sequences = [[100 * user + place for place in range(n)] for user, n in enumerate(lengths)]
    if max(lengths) < 2:
        with pytest.raises(ValueError, match="nothing to predict"):
            _rows(sequences, max_items)
        return
    rows, _ = _rows(sequences, max_items)
    batch = _collate([rows[index] for index in range(len(rows))], pad=-1)
    targets = Counter(batch["labels"][batch["labels"] != -100].tolist())
    assert targets == Counter(item for sequence in sequences for item in sequence[1:])
    assert batch["items"].shape == batch["labels"].shape
    assert batch["items"].shape[1] <= max_items
    assert ((batch["items"] == -1) == (batch["labels"] == -100)).all()
    # Items count up within a user: what stands over a target is the item before it.
    seen = batch["labels"] != -100
    assert (batch["items"][seen] + 1 == batch["labels"][seen]).all()


def test_the_newest_targets_have_the_longest_histories() -> None:
    assert _rows([range(8)], 3)[0] == [[4, 5, 6, 7], [1, 2, 3, 4], [0, 1]]


def test_one_batch_is_learnt_by_heart() -> None:
    config = replace(SMALL, width=16, dropout=0.0)
    model = SasRec(N, config)
    rows = [[(first + step) % N for step in range(6)] for first in range(N)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, rows)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 * math.log(N)
    assert model.scores([[item] for item in range(N)]).argmax(dim=1).tolist() == [
        (item + 1) % N for item in range(N)
    ]


# ---- the rate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 40, 49, 300])
def test_the_warm_up_is_one_epoch_of_steps(epochs: int, tmp_path: Path) -> None:
    arguments = _arguments(replace(SMALL, epochs=epochs), tmp_path, progress=False)
    for steps in (*range(1, 2000), 50_000, 123_457):
        assert arguments.get_warmup_steps(epochs * steps) == steps


WHOLE = replace(SMALL, max_items=8, layers=1)  # a row per user


# ---- training ------------------------------------------------------------------------------------


def fit(
    output: Path, config: SasRecConfig = SMALL, dataset: InteractionDataset | None = None
) -> tuple[SasRec, dict]:
    return train_sasrec(dataset or toy_dataset(), output, config)


def log_of(output: Path, step: int, name: str) -> list[float]:
    path = output / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json"
    return [entry[name] for entry in json.loads(path.read_text())["log_history"] if name in entry]


def same_weights(one: SasRec, other: SasRec) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.slow
def test_it_learns_a_walk_and_tells_what_it_did(tmp_path: Path) -> None:
    config = replace(SMALL, width=16, dropout=0.0, epochs=20, learning_rate=2e-2)
    model, record = fit(tmp_path, config)
    assert not model.training
    assert record == json.loads((tmp_path / "sasrec.json").read_text())
    assert SasRecConfig(**record["config"]) == config
    assert record["parameters"] == sum(p.numel() for p in SasRec(N_ITEMS, config).parameters())
    assert record["resumed"] is False
    assert record["seconds"] > 0
    history = record["validation_ndcg@10"]
    assert record["best_epoch"] == 1 + history.index(max(history))
    assert max(history) > 0.9
    validation = toy_dataset().split("validation")
    ranks = evaluate_scorer(model, validation, 10).ranks
    assert ndcg_at(ranks, 10).mean() == pytest.approx(max(history), abs=1e-5)
    assert evaluate_scorer(model, toy_dataset().split("test"), 1).metrics([1])["recall@1"] > 0.8


def test_the_rate_rises_for_an_epoch_and_stays(tmp_path: Path) -> None:
    # 30 rows are 2 steps an epoch; the rate of each epoch's last step is logged.
    fit(tmp_path, replace(WHOLE, learning_rate=1e-3))
    rates = log_of(tmp_path, 8, "learning_rate")
    assert rates == pytest.approx([0.5e-3, 1e-3, 1e-3, 1e-3])


class Interruption(Exception):
    """Stands for a kill."""


def scripted(
    monkeypatch: pytest.MonkeyPatch, ranks: Sequence[int], stop_at: int | None = None
) -> list[int]:
    """Let the target be at these ranks, epoch after epoch; returns where the epochs are counted."""
    calls: list[int] = []

    def evaluate(scorer: SasRec, split: object, length: int) -> Evaluation:
        calls.append(1)
        if len(calls) == stop_at:
            raise Interruption
        found = evaluate_scorer(scorer, toy_dataset().split("validation"), length)
        return replace(found, ranks=found.ranks * 0 + ranks[len(calls) - 1])

    monkeypatch.setattr(sasrec, "evaluate_scorer", evaluate)
    return calls


RANKS = [3, 1, 2, 1, 0]  # with a patience of 2 the last is never reached


@pytest.mark.parametrize("stop_at", [1, 3, 4])
@pytest.mark.slow
def test_an_interrupted_run_ends_where_it_would_have(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(WHOLE, epochs=5, patience=2)
    calls = scripted(monkeypatch, RANKS)
    whole, record = fit(tmp_path / "whole", config)
    assert len(calls) == 4
    assert record["best_epoch"] == 2
    scripted(monkeypatch, RANKS, stop_at)
    with pytest.raises(Interruption):
        fit(tmp_path / "run", config)
    calls = scripted(monkeypatch, RANKS[stop_at - 1 :])
    torch.manual_seed(5)
    again, resumed = fit(tmp_path / "run", config)
    assert len(calls) == 4 - stop_at + 1
    assert resumed["resumed"] is (stop_at > 1)
    assert same_weights(again, whole)
    for name in ("best_epoch", "validation_ndcg@10", "config", "parameters"):
        assert resumed[name] == record[name]


def test_resuming_a_finished_run_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(WHOLE, patience=1)
    scripted(monkeypatch, [2, 1, 3])
    model, record = fit(tmp_path, config)
    assert record["best_epoch"] == 2
    calls = scripted(monkeypatch, [])
    again, resumed = fit(tmp_path, config)
    assert calls == []
    assert same_weights(again, model)
    assert resumed["validation_ndcg@10"] == record["validation_ndcg@10"]


@pytest.mark.slow
def test_seed_decides_the_run_and_what_happened_before_does_not(tmp_path: Path) -> None:
    config = replace(WHOLE, epochs=1)
    torch.manual_seed(1)
    one, _ = fit(tmp_path / "one", config)
    torch.manual_seed(2)
    same, _ = fit(tmp_path / "same", config)
    other, _ = fit(tmp_path / "other", replace(config, seed=1))
    assert same_weights(one, same)
    assert not same_weights(one, other)


def test_a_catalogue_of_fewer_than_ten_items(tmp_path: Path) -> None:
    dataset = InteractionDataset(
        name="few",
        items=("a", "b", "c"),
        users=("u", "v"),
        sequences=((0, 1, 2, 0), (1, 2, 0, 1)),
    )
    _, record = fit(tmp_path, replace(SMALL, epochs=1), dataset)
    assert 0.5 <= record["validation_ndcg@10"][0] <= 1  # the worst of three places is worth 0.5


COUNTS = [name for name, value in asdict(SMALL).items() if type(value) is int and name != "seed"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in COUNTS),
        ("width", 7),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
    ],
)
def test_config_errors_name_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, but must"):
        SasRecConfig(**{field: value})
