"""Embeddings of whole IDs: which rows they give, in the prompt and among a prefix's candidates."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.model import NezhaModel
from nezha_lite.model.code_losses import code_losses
from nezha_lite.model.loading import load_model
from nezha_lite.model.prefix_embedding import PrefixEmbedding, catalogue_shape
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import TrainingConfig, train
from tests.helpers.builders import tiny_model
from tests.helpers.toys import toy_dataset

RADICES = (3, 4, 5)


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    code = st.tuples(*(st.integers(0, radix - 1) for radix in RADICES))
    return SemanticIds.from_codes(draw(st.lists(code, min_size=1, max_size=40)), RADICES)


def embedding_of(ids: SemanticIds, level: int, max_rows: int = 1 << 24) -> PrefixEmbedding:
    shape = catalogue_shape(ids)
    sizes = shape["n_prefixes"][level - 1], shape["most_children"][level - 1]
    embedding = PrefixEmbedding(level, RADICES[level - 1], *sizes, width=4, max_rows=max_rows)
    embedding.set_catalogue(ids)
    return embedding


@given(catalogues(), st.integers(1, 3), st.sampled_from([1, 3, 1 << 24]))
def test_rows_and_continuations_are_those_of_the_catalogue(
    ids: SemanticIds, level: int, max_rows: int
) -> None:
    embedding = embedding_of(ids, level, max_rows)
    existing = {tuple(codes) for codes in ids.codes[:, :level].tolist()}
    stride, radix = ids.strides[level - 1], RADICES[level - 1]
    parents = torch.arange(-1, stride)
    rows, codes = embedding.continuations(parents)
    assert rows.shape[1] == max(
        sum(prefix[:-1] == one[:-1] for prefix in existing) for one in existing
    )
    rows_of_prefixes = {}
    for parent, own_rows, own_codes in zip(
        parents.tolist(), rows.tolist(), codes.tolist(), strict=True
    ):
        before = tuple(
            parent // below % size for below, size in zip(ids.strides, RADICES, strict=True)
        )[: level - 1]
        expected = sorted(one[-1] for one in existing if parent >= 0 and one[:-1] == before)
        listed = [code for row, code in zip(own_rows, own_codes, strict=True) if row]
        assert listed == expected
        assert [code for row, code in zip(own_rows, own_codes, strict=True) if not row].count(
            0
        ) == len(own_rows) - len(expected)
        numbers = parent * radix + torch.arange(radix)
        by_number = dict(enumerate(embedding.rows(numbers).tolist()))
        assert {code for code, row in by_number.items() if row} == set(expected)
        for row, code in zip(own_rows, own_codes, strict=True):
            if row:
                assert by_number[code] == row
                rows_of_prefixes[before, code] = row
    shared = len(existing) > max_rows
    assert len(set(rows_of_prefixes.values())) == (max_rows if shared else len(existing))
    assert max(rows_of_prefixes.values()) < embedding.vectors.num_embeddings


def test_many_queries_of_one_parent_get_the_logits_of_each_alone() -> None:
    torch.manual_seed(0)
    ids = SemanticIds.from_codes(torch.randint(0, 3, (30, 3)), RADICES)
    embedding = embedding_of(ids, 3)
    classifier = torch.nn.Linear(4, RADICES[-1])
    parents = torch.randint(-1, 12, (200,))  # some have no continuation, most occur many times
    query = torch.randn(200, 4)
    logits, rows, codes = embedding.continuation_logits(parents, query, classifier)
    for index, parent in enumerate(parents):
        own_rows, own_codes = embedding.continuations(parent)
        assert torch.equal(rows[index], own_rows)
        assert torch.equal(codes[index], own_codes)
        expected = classifier(query[index])[own_codes] + embedding.scores(own_rows, query[index])
        torch.testing.assert_close(logits[index], expected)


# ---- in the model -------------------------------------------------------------------------------


def brute_force_log_probs(model: NezhaModel, ids: SemanticIds, hidden: Tensor) -> dict[int, float]:
    """log p of every ID of one prompt, a sum over levels, by dictionaries."""
    head, totals = model.head, {}
    for key in set(ids.keys.tolist()):
        codes = ids.codes_of(torch.tensor(key)).tolist()
        state, total = hidden[:1], 0.0
        for level, code in enumerate(codes):
            query = hidden[level + 1 : level + 2] + state
            logits = dict(enumerate(head.classifiers[level](query)[0].tolist()))
            candidates = head.candidates_of(level)
            if candidates is not None:
                below = {
                    other[level] for other in ids.codes.tolist() if other[:level] == codes[:level]
                }
                stride, radix = ids.strides[level], ids.radices[level]
                parent = sum(c * s for c, s in zip(codes[:level], ids.strides, strict=False))
                assert parent < stride
                row = {c: int(candidates.rows(torch.tensor(parent * radix + c))) for c in below}
                logits = {
                    c: logits[c]
                    + float(query[0] @ candidates.vectors.weight[row[c]])
                    + float(candidates.biases.weight[row[c], 0])
                    for c in below
                }
            peak = max(logits.values())
            normalizer = peak + math.log(sum(math.exp(x - peak) for x in logits.values()))
            total += logits[code] - normalizer
            if level + 1 < len(codes):
                state = head.advance(level, torch.tensor([code]), state)
        totals[key] = total
    return totals


@pytest.mark.parametrize("n_levels", [1, 2])
@torch.no_grad()
def test_candidate_levels_choose_among_what_exists(n_levels: int) -> None:
    torch.manual_seed(1)
    ids = SemanticIds.from_codes(torch.randint(0, 3, (20, 3)), RADICES)
    model = tiny_model(ids, candidate_embeddings=n_levels)
    states = model.draft_states(model.build_prompts([[0, 1], [2]], ids))
    losses = code_losses(model.head, states, ids.codes.expand(2, -1, -1))
    for row in range(2):
        expected = brute_force_log_probs(model, ids, states[row])
        by_hand = torch.tensor([expected[key] for key in ids.keys.tolist()])
        torch.testing.assert_close(-losses[row].sum(-1), by_hand, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_code_losses_are_the_plain_head_s_cross_entropy() -> None:
    torch.manual_seed(2)
    ids = SemanticIds.from_codes(torch.randint(0, 3, (20, 3)), RADICES)
    model = tiny_model(ids)
    states = model.draft_states(model.build_prompts([[0, 1]] * 20, ids))
    for smoothing in (0.0, 0.1):
        plain = [
            torch.nn.functional.cross_entropy(
                logits, ids.codes[:, level], reduction="none", label_smoothing=smoothing
            )
            for level, logits in enumerate(model.head(states, ids.codes))
        ]
        losses = code_losses(model.head, states, ids.codes[:, None], smoothing)[:, 0]
        torch.testing.assert_close(losses, torch.stack(plain, dim=-1))


@torch.no_grad()
def test_smoothing_spreads_over_the_candidates_alone() -> None:
    ids = SemanticIds.from_codes([[0, 0, 1], [0, 0, 3], [1, 2, 4]], RADICES)
    model = tiny_model(ids, candidate_embeddings=1)
    states = model.draft_states(model.build_prompts([[0], [0]], ids))
    codes = ids.codes[torch.tensor([[0], [2]])]
    sharp = code_losses(model.head, states, ids.codes[torch.tensor([[0, 1], [2, 2]])])[..., -1]
    smooth = code_losses(model.head, states, codes, smoothing=0.2)[..., -1]
    torch.testing.assert_close(smooth[0, 0], 0.8 * sharp[0, 0] + 0.2 * sharp[0].mean())
    torch.testing.assert_close(smooth[1, 0], torch.tensor(0.0))  # one candidate: certain


@torch.no_grad()
def test_memory_is_added_where_a_known_item_ends_and_nowhere_else() -> None:
    known = SemanticIds.from_codes([[0, 1, 2], [1, 1, 1], [2, 3, 4]], RADICES)
    later = SemanticIds.from_codes([*known.codes.tolist(), [0, 1, 3]], RADICES)  # item 3 is new
    model = tiny_model(known, item_memory=True)
    prompts = model.build_prompts([[1, 3, 0], [2]], later)
    added = model.embed(prompts.input_ids) - model.embed(prompts.input_ids, with_memory=False)
    row_of = {
        item: model.memory.rows(torch.tensor(number))
        for item, number in (
            (0, (0 + 1 * 3) * 5 + 2),
            (1, (1 + 1 * 3) * 5 + 1),
            (2, (2 + 3 * 3) * 5 + 4),
        )
    }
    expected = torch.zeros_like(added)
    width = prompts.input_ids.shape[1]
    for row, history in enumerate(([1, 3, 0], [2])):
        for back, item in enumerate(reversed(history)):
            if item != 3:
                position = width - 3 - 1 - 3 * back  # the last code, before three placeholders
                expected[row, position] = model.memory.vectors.weight[row_of[item]]
    assert len({int(row) for row in row_of.values()} | {0}) == 4
    torch.testing.assert_close(added, expected)


def test_packed_rows_and_single_prompts_read_the_same_memory() -> None:
    ids = SemanticIds.from_codes([[0, 1, 2], [1, 1, 1], [2, 3, 4], [0, 0, 0]], RADICES)
    from nezha_lite.training.packing import Collator, TrainingRows

    model = tiny_model(ids, item_memory=True)
    rows = TrainingRows([[0, 1, 2, 3]], max_items=5)
    batch = Collator(ids, model.vocabulary)(rows.rows)
    with torch.no_grad():
        hidden = model.hidden_states(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
        ).last_hidden_state.flatten(0, 1)[batch["draft_slots"]]
        alone = model.draft_states(model.build_prompts([[0], [0, 1], [0, 1, 2]], ids))
    torch.testing.assert_close(hidden, alone, atol=1e-5, rtol=1e-5)


def test_memory_dropout_leaves_out_whole_items_while_training() -> None:
    ids = SemanticIds.from_codes([[0, 1, 2], [1, 1, 1], [2, 3, 4]], RADICES)
    model = tiny_model(ids, item_memory=True, memory_dropout=0.5)
    prompts = model.build_prompts([[0, 1, 2] * 60], ids)
    plain = model.embed(prompts.input_ids, with_memory=False)
    whole = model.embed(prompts.input_ids) - plain
    model.train()
    torch.manual_seed(0)
    some = model.embed(prompts.input_ids) - plain
    ends = whole.abs().amax(-1) > 0
    dropped = ends & (some.abs().amax(-1) == 0)
    assert 0.2 < dropped.sum() / ends.sum() < 0.8
    torch.testing.assert_close(some[ends & ~dropped], whole[ends & ~dropped])


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "llama"])
def test_a_trained_model_with_both_comes_back_from_its_folder(kind: str, tmp_path: Path) -> None:
    dataset = toy_dataset()
    codes = torch.arange(dataset.n_items)
    ids = SemanticIds.from_codes(torch.stack([codes % 5, codes // 5], 1), items=dataset.items)
    model = tiny_model(ids, kind, item_memory=True, candidate_embeddings=True, max_items=4)
    before = model.memory.vectors.weight.clone()
    train(model, ids, dataset, tmp_path, TrainingConfig(epochs=2, batch_rows=8), progress=False)
    assert not torch.equal(model.memory.vectors.weight, before)
    assert model.memory.vectors.weight[0].abs().max() == 0
    again = load_model(tmp_path)
    prompts = model.build_prompts([[0, 1], [2]], ids)
    with torch.no_grad():
        assert torch.equal(again.draft_states(prompts), model.draft_states(prompts))
    assert torch.equal(again.head.candidates[0].numbers, model.head.candidates[0].numbers)


def test_training_on_other_ids_is_refused(tmp_path: Path) -> None:
    dataset = toy_dataset()
    codes = torch.arange(dataset.n_items)
    ids = SemanticIds.from_codes(torch.stack([codes % 5, codes // 5], 1), items=dataset.items)
    other = SemanticIds.from_codes(ids.codes.flip(0) * 0 + ids.codes[:1], ids.radices, ids.items)
    model = tiny_model(ids, item_memory=True)
    with pytest.raises(ValueError, match="embeddings of other IDs"):
        train(model, other, dataset, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"candidate_embeddings": 3}, "candidate_embeddings is 3, but must be at most 2"),
        ({"candidate_embeddings": -1}, "candidate_embeddings is -1"),
        ({"item_memory": 1}, "item_memory is 1, but must be True or False"),
        ({"memory_dropout": 1.0}, "memory_dropout is 1.0"),
        ({"list_weight": 1.5}, "list_weight is 1.5"),
        ({"max_rows": 0}, "max_rows is 0"),
    ],
)
def test_settings_outside_their_range_are_named(settings: dict[str, object], sentence: str) -> None:
    ids = SemanticIds.from_codes([[0, 1, 2], [1, 1, 1]], RADICES)
    with pytest.raises(ValueError, match=sentence):
        NezhaModel.from_preset("tiny", ids, **settings)
