"""Packed prefixes against one prefix at a time: rows, mask, positions, loss and gradients."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.datasets import Split
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Vocabulary, build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.packing import (
    Collator,
    TrainingRow,
    TrainingRows,
    evaluation_rows,
    window_start,
)
from tests.helpers.builders import BACKBONES, catalogue, tiny_model

IDS = catalogue(12, seed=1)


def pairs(rows: Sequence[TrainingRow]) -> Counter[tuple[tuple[int, ...], int]]:
    """(history, target) of every target of every row, as the mask lets the model see them."""
    return Counter(
        (row.items[:target], row.items[target]) for row in rows for target in row.targets
    )


def rows_of(
    sequence: Sequence[int], max_items: int, stride: int, packed: bool = True
) -> list[TrainingRow]:
    """The rows of one user among others; another one is there so that there is a row at all."""
    rows = TrainingRows([[0], sequence, [0, 1]], max_items, stride, packed)
    assert rows.users.tolist() == [1] * (len(rows) - 1) + [2]
    tokens = [(rows.n_tokens(3, holders), holders) for holders in (True, False)]
    for lengths, holders in tokens:
        assert lengths == [row.n_tokens(3, holders) for row in rows.rows]
    return rows.rows[:-1]


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int]:
    """max_items and a stride it allows."""
    max_items = draw(st.integers(1, 20))
    return max_items, draw(st.integers(1, max_items))


# ---- rows ---------------------------------------------------------------------------------------


@given(target=st.integers(1, 80), window=windows())
def test_the_window_is_the_first_multiple_of_the_stride_that_fits(
    target: int, window: tuple[int, int]
) -> None:
    max_items, stride = window
    start = 0
    while target - start > max_items:
        start += stride
    assert window_start(target, max_items, stride) == start
    history = target - start
    assert history == target if target <= max_items else max_items - stride < history <= max_items


# Items 0, 1, 2 … show their own position; a repeating sequence checks that multiplicity counts.
@given(length=st.integers(0, 60), period=st.sampled_from([2, 100]), window=windows())
@settings(max_examples=300)
def test_every_prefix_is_trained_exactly_once(
    length: int, period: int, window: tuple[int, int]
) -> None:
    max_items, stride = window
    sequence = [position % period for position in range(length)]
    expected: Counter[tuple[tuple[int, ...], int]] = Counter()
    for target in range(1, length):
        start = 0
        while target - start > max_items:
            start += stride
        expected[tuple(sequence[start:target]), sequence[target]] += 1
    packed = rows_of(sequence, max_items, stride)
    single = rows_of(sequence, max_items, stride, packed=False)
    assert pairs(packed) == expected
    assert pairs(single) == expected
    assert all(len(row.targets) == 1 and len(row.items) == row.targets[0] + 1 for row in single)
    assert all(row.targets and row.items[row.targets[-1] + 1 :] == () for row in packed)
    assert all(len(row.items) <= max_items + 1 for row in packed)


@given(length=st.integers(2, 60), window=windows())
@settings(max_examples=100)
def test_one_packed_row_per_window_start(length: int, window: tuple[int, int]) -> None:
    starts = {window_start(target, *window) for target in range(1, length)}
    rows = rows_of(range(length), *window)
    assert [row.items[0] for row in rows] == sorted(starts)


@given(length=st.integers(2, 60), max_items=st.integers(1, 20))
@settings(max_examples=100)
def test_stride_one_always_shows_the_last_items(length: int, max_items: int) -> None:
    expected = Counter((tuple(range(target))[-max_items:], target) for target in range(1, length))
    assert pairs(rows_of(range(length), max_items, 1)) == expected


def test_a_short_user_is_one_row() -> None:
    assert rows_of([7, 8, 9], 20, 20) == [TrainingRow((7, 8, 9), (1, 2))]


def test_rows_of_all_users_in_order() -> None:
    sequences = [[1], [], [2, 3, 4], [5, 6]]
    packed = TrainingRows(sequences, max_items=5)
    assert packed.rows == [TrainingRow((2, 3, 4), (1, 2)), TrainingRow((5, 6), (1,))]
    assert (len(packed), packed.n_targets, packed[1]) == (2, 3, packed.rows[1])
    single = TrainingRows(sequences, max_items=5, packed=False)
    assert (len(single), single.n_targets) == (3, 3)
    assert pairs(single.rows) == pairs(packed.rows)


@pytest.mark.parametrize(
    ("max_items", "stride", "message"),
    [
        (0, 1, "max_items is 0"),
        (3, 0, "stride is 0, but must be between 1 and 3"),
        (3, 4, "stride is 4, but must be between 1 and 3"),
    ],
)
def test_wrong_windows_are_named(max_items: int, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingRows([[0, 1]], max_items, stride)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to predict"):
        TrainingRows([[1], []], max_items=3)


def test_an_evaluation_split_gives_a_row_per_user() -> None:
    split = Split(users=(0, 3, 4), histories=((1, 2, 3), (4,), ()), targets=(5, 6, 7))
    rows = evaluation_rows(split, max_items=2)
    assert rows == [
        TrainingRow((2, 3, 5), (2,)),
        TrainingRow((4, 6), (1,)),
        TrainingRow((7,), (0,)),
    ]


# ---- layout -------------------------------------------------------------------------------------


@st.composite
def training_rows(draw: st.DrawFn) -> list[TrainingRow]:
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        items = draw(st.lists(st.integers(0, 11), min_size=1, max_size=5))
        targets = draw(st.sets(st.integers(0, len(items) - 1), min_size=1))
        rows.append(TrainingRow(tuple(items), tuple(sorted(targets))))
    return rows


def tokens_of(row: TrainingRow, levels: int) -> list[tuple[str, int, int]]:
    """Token by token (part, number, position); a block is numbered by its target."""
    history = [("history", index, index) for index in range(len(row.items) * levels)]
    blocks = [
        ("block", target, target * levels + place)
        for target in row.targets
        for place in range(1, levels + 1)
    ]
    return history + blocks


@given(rows=training_rows())
@settings(max_examples=40)
def test_mask_against_a_slow_triple_loop(rows: list[TrainingRow]) -> None:
    mask = Collator(IDS, Vocabulary(IDS.radices))(rows)["attention_mask"]
    assert mask.dtype == torch.bool
    levels, width = IDS.levels, mask.shape[-1]
    assert mask.shape == (len(rows), 1, width, width)
    assert width == max(row.n_tokens(levels) for row in rows)
    for index, row in enumerate(rows):
        tokens = tokens_of(row, levels)
        assert len(tokens) == row.n_tokens(levels)
        for query in range(width):
            for key in range(width):
                if query >= len(tokens) or key >= len(tokens):
                    visible = query == key
                else:
                    (query_part, query_number, query_at) = tokens[query]
                    (key_part, key_number, key_at) = tokens[key]
                    if key_part == "history" and query_part == "history":
                        visible = key_at <= query_at
                    elif key_part == "history":  # BOS and the items before the block's target
                        visible = key_number <= query_number * levels
                    else:
                        visible = (
                            query_part == "block"
                            and key_number == query_number
                            and key_at <= query_at
                        )
                assert bool(mask[index, 0, query, key]) == visible, (index, query, key)


@given(rows=training_rows(), offset=st.sampled_from([0, 10]))
@settings(max_examples=40)
def test_a_target_reads_the_tokens_and_positions_of_inference(
    rows: list[TrainingRow], offset: int
) -> None:
    vocabulary = Vocabulary(IDS.radices, offset)
    batch = Collator(IDS, vocabulary)(rows)
    levels = IDS.levels
    tokens, positions = batch["input_ids"].flatten(), batch["position_ids"].flatten()
    mask = batch["attention_mask"].squeeze(1).flatten(0, 1)  # (B·T, T)
    assert batch["draft_slots"].shape == (sum(len(row.targets) for row in rows), levels + 1)
    width = batch["input_ids"].shape[1]
    place = 0
    for index, row in enumerate(rows):
        for target in row.targets:
            prompt = build_prompts([row.items[:target]], IDS, vocabulary, 20)
            slots = batch["draft_slots"][place]
            # The last placeholder sees the whole prompt and nothing else, in order of position.
            seen = mask[slots[-1]].nonzero().flatten() + index * width
            assert tokens[seen].tolist() == prompt.input_ids[0].tolist()
            assert positions[seen].tolist() == prompt.position_ids[0].tolist()
            assert seen[-levels - 1 :].tolist() == slots.tolist()
            # The next-code slots hold what an autoregressive decoder has read when it predicts.
            codes = IDS.codes[row.items[target]]
            assert batch["codes"][place].tolist() == codes.tolist()
            history = [*prompt.input_ids[0, :-levels].tolist(), *vocabulary.tokens_of(codes)]
            for level, slot in enumerate(batch["next_code_slots"][place].tolist()):
                read = mask[slot].nonzero().flatten() + index * width
                assert tokens[read].tolist() == history[: len(history) - levels + level]
                assert positions[read].tolist() == list(range(len(read)))
            place += 1
        padding = batch["input_ids"][index, row.n_tokens(levels) :]
        assert (padding == vocabulary.pad).all()


@given(rows=training_rows(), offset=st.sampled_from([0, 10]))
@settings(max_examples=40)
def test_without_placeholders_rows_are_the_history_read_causally(
    rows: list[TrainingRow], offset: int
) -> None:
    vocabulary, levels = Vocabulary(IDS.radices, offset), IDS.levels
    whole, batch = Collator(IDS, vocabulary)(rows), Collator(IDS, vocabulary, False)(rows)
    width = max(len(row.items) for row in rows) * levels
    assert batch["input_ids"].shape == (len(rows), width)
    assert torch.equal(batch["codes"], whole["codes"])
    place = 0
    for index, row in enumerate(rows):
        length = row.n_tokens(levels, placeholders=False)
        history = [token for item in row.items for token in vocabulary.tokens_of(IDS.codes[item])]
        padding = [vocabulary.pad] * (width - length)
        assert batch["input_ids"][index].tolist() == [vocabulary.bos, *history[:-1], *padding]
        assert batch["position_ids"][index, :length].tolist() == list(range(length))
        mask = torch.eye(width, dtype=torch.bool)
        mask[:length, :length] = torch.ones(length, length).tril().bool()
        assert torch.equal(batch["attention_mask"][index, 0], mask)
        for target in row.targets:
            last = index * width + target * levels
            assert batch["draft_slots"][place].tolist() == [last] * (levels + 1)
            assert batch["next_code_slots"][place].tolist() == list(range(last, last + levels))
            place += 1


def test_collator_refuses_ids_of_another_space() -> None:
    with pytest.raises(ValueError, match="radices"):
        Collator(IDS, Vocabulary((3, 4)))


# ---- loss and gradients -------------------------------------------------------------------------


def loss_of_one(model: NezhaModel, history: Sequence[int], target: int) -> Tensor:
    """The joint loss of one (history, target), from plain causal passes and no batch."""
    vocabulary, codes = model.vocabulary, IDS.codes[target]
    prompt = build_prompts([history], IDS, vocabulary, 1_000).input_ids  # (1, T)
    hidden = model.backbone.base_model(prompt).last_hidden_state[0, -IDS.levels - 1 :]
    state = hidden[0]
    losses = []
    for level in range(IDS.levels):
        seen = hidden[level + 1] if model.config.placeholders else 0
        logits = model.head.classifiers[level](seen + state)
        losses.append(F.cross_entropy(logits, codes[level]))
        if level + 1 < IDS.levels:
            state = model.head.advance(level, codes[None, level], state[None])[0]
    loss = model.config.draft_weight * torch.stack(losses).mean()
    if model.config.next_code_weight:
        tokens = vocabulary.tokens_of(codes)
        read = torch.cat([prompt[:, : -IDS.levels], tokens[None, :-1]], dim=1)
        logits = model.backbone(read).logits[0, -IDS.levels :]
        loss = loss + model.config.next_code_weight * F.cross_entropy(logits, tokens)
    return loss


def loss_in_batches(
    model: NezhaModel, rows: Sequence[TrainingRow], batch_size: int, placeholders: bool = True
) -> Tensor:
    """Mean over all targets, batch by batch, each weighted by its number of targets."""
    collate = Collator(IDS, model.vocabulary, placeholders)
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        total = total + model(**collate(part))["loss"] * sum(len(row.targets) for row in part)
    return total / sum(len(row.targets) for row in rows)


def gradients(model: NezhaModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


SEQUENCES = ([3, 1, 4, 1, 5, 9, 2, 6], [11, 0], [7, 8, 10, 7], [2])  # longer than the limit, too


SETTINGS: dict[str, dict[str, object]] = {
    "joint": {},
    "head-only": {"next_code_weight": 0.0},
    "backbone-only": {"draft_weight": 0.0},
    "no-placeholders": {"placeholders": False, "draft_weight": 0.5},
    "h_0-alone": {"placeholders": False, "next_code_weight": 0.0, "transition": "gru"},
}


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", BACKBONES)
def test_loss_and_gradients_are_those_of_one_prefix_at_a_time(
    kind: str, name: str, stride: int
) -> None:
    model = tiny_model(IDS, kind, layers=1, **SETTINGS[name]).double()
    assert model.reads_placeholders is (name in ("joint", "head-only"))
    packed = TrainingRows(SEQUENCES, max_items=3, stride=stride)
    single = TrainingRows(SEQUENCES, max_items=3, stride=stride, packed=False)
    assert len(packed) < len(single)
    assert packed.n_targets == single.n_targets == 11

    alone = torch.stack(
        [loss_of_one(model, row.items[:-1], row.items[-1]) for row in single.rows]
    ).mean()
    expected = gradients(model, alone)
    # Placeholder blocks that the model does not read may be present or absent.
    runs = [(packed, 100, True), (packed, 2, model.reads_placeholders), (single, 100, True)]
    for rows, batch_size, placeholders in [*runs, (packed, 100, model.reads_placeholders)]:
        loss = loss_in_batches(model, rows.rows, batch_size, placeholders)
        torch.testing.assert_close(loss, alone, rtol=1e-6, atol=1e-6)
        for part, gradient in gradients(model, loss).items():
            torch.testing.assert_close(
                gradient, expected[part], rtol=1e-5, atol=1e-6, msg=lambda m, n=part: f"{n}: {m}"
            )
    trained = [float(expected[part].abs().max()) for part in expected if part.startswith("head.")]
    assert max(trained) == 0 if name == "backbone-only" else min(trained) > 1e-4


@pytest.mark.parametrize("kind", BACKBONES)
def test_placeholders_of_a_packed_row_are_those_of_the_prompt(kind: str) -> None:
    model = tiny_model(IDS, kind).double()
    rows = [TrainingRow((3, 1, 4, 1, 5), (1, 2, 4)), TrainingRow((7,), (0,))]
    batch = Collator(IDS, model.vocabulary)(rows)
    output = model.hidden_states(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        use_cache=False,
    )
    packed = output.last_hidden_state.flatten(0, 1)[batch["draft_slots"]]
    histories = [[3], [3, 1], [3, 1, 4, 1], []]
    together = model.draft_states(model.build_prompts(histories, IDS))
    torch.testing.assert_close(packed, together, rtol=1e-5, atol=1e-6)
    for index, history in enumerate(histories):
        alone = model.draft_states(model.build_prompts([history], IDS))
        torch.testing.assert_close(packed[index], alone[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(packed[0], packed[1], atol=0.01), "histories must matter"


def test_an_evaluation_row_trains_the_prompt_of_inference() -> None:
    model = tiny_model(IDS, next_code_weight=1.0).double()
    split = Split(users=(0, 1, 2), histories=((3, 1, 4, 1), (5,), ()), targets=(9, 2, 6))
    rows = evaluation_rows(split, max_items=3)
    expected = [
        loss_of_one(model, history[-3:], target)
        for history, target in zip(split.histories, split.targets, strict=True)
    ]
    loss = loss_in_batches(model, rows, batch_size=3)
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-6, atol=1e-6)


def one_level() -> SemanticIds:
    return SemanticIds.from_codes([[0], [2], [1]], (3,))


def test_one_level_needs_no_history_code() -> None:
    ids = one_level()
    batch = Collator(ids, Vocabulary(ids.radices))([TrainingRow((0, 1, 2), (1, 2))])
    # BOS item0 item1 | SP | SP
    assert batch["input_ids"].tolist() == [[1, 3, 5, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 2, 3]]
    assert batch["draft_slots"].tolist() == [[1, 3], [2, 4]]
    assert batch["next_code_slots"].tolist() == [[1], [2]]
