"""Autoregressive decoding: the shared prompt, tree attention, and what both must not disturb."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nezha_lite.decoding import VERIFICATIONS, AutoregressiveDecoder, NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.tree_attention import tree_attention
from nezha_lite.training.packing import Collator, TrainingRows
from nezha_lite.verifiers import RequestFilter, TrieVerifier
from tests.decoding.test_decoding import autoregressive_log_probs
from tests.helpers.builders import BACKBONES, catalogue, tiny_model
from tests.helpers.slow_decoding import slow_search

IDS = catalogue(9, seed=2)
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, prompt: Tensor, ancestors: Tensor, scaling: float
) -> Tensor:
    """One token at a time, over the list of the keys that it sees: (B, M, H, d)."""
    output = torch.empty_like(query)
    share = query.shape[1] // key.shape[1]
    length = prompt.shape[1]
    for row in range(query.shape[0]):
        for node in range(query.shape[2]):
            seen = prompt[row].nonzero().flatten().tolist()
            seen += [length + other for other in ancestors[row, node].tolist() if other >= 0]
            for head in range(query.shape[1]):
                keys, values = key[row, head // share, seen], value[row, head // share, seen]
                weights = (keys @ query[row, head, node] * scaling).softmax(0)
                output[row, head, node] = weights @ values
    return output.transpose(1, 2)


@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 2),
    share=st.integers(1, 3),
    length=st.integers(1, 6),
    nodes=st.integers(1, 4),
    depth=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_tree_attention_is_attention_to_the_prompt_and_the_ancestors(
    batch: int, groups: int, share: int, length: int, nodes: int, depth: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    older, width = 5, 4

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    query = random(batch, groups * share, nodes, width)
    key, value = (random(batch, groups, length + older + nodes, width) for _ in range(2))
    prompt = torch.rand(batch, length, generator=draw) < 0.7
    # Ancestors are different nodes; a token of less depth has fewer. Its own number comes last.
    ancestors = torch.rand(batch, nodes, older, generator=draw).argsort(dim=-1)[..., : depth - 1]
    own = torch.arange(older, older + nodes).expand(batch, nodes).unsqueeze(-1)
    ancestors = torch.cat([ancestors, own], dim=-1)
    shallow = torch.rand(ancestors.shape, generator=draw) < 0.3
    ancestors[..., :-1] = ancestors[..., :-1].masked_fill(shallow[..., :-1], -1)

    for scaling in (None, 0.3):
        output, _ = tree_attention(
            nn.Module(), query, key, value, prompt[:, None, None], scaling, ancestors
        )
        expected = dense_attention(query, key, value, prompt, ancestors, scaling or 1 / width**0.5)
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.inference_mode()
def test_float64_scores_against_the_whole_model_without_a_cache(backbone: str) -> None:
    model = tiny_model(IDS, backbone, max_items=4).double()
    prompts = model.build_prompts(HISTORIES, IDS)
    tables = [autoregressive_log_probs(model, history, IDS) for history in HISTORIES]
    for verification in VERIFICATIONS:
        result = AutoregressiveDecoder(model, TrieVerifier(IDS), verification).decode(prompts, 7)
        assert result.scores.dtype == torch.float64
        for row, table in enumerate(tables):
            expected, _ = slow_search(table, IDS, 7, verification)
            keys = [int(IDS.keys_of(torch.tensor(codes))) for codes, _ in expected]
            assert result.keys[row].tolist() == keys + [-1] * (7 - len(keys))
            scores = torch.tensor([score for _, score in expected], dtype=torch.float64)
            torch.testing.assert_close(
                result.scores[row, : len(keys)], scores, rtol=1e-11, atol=1e-11
            )


def watch(model: NezhaModel, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of the backbone: what went in, and its cache afterwards."""
    calls: list[dict[str, Any]] = []
    original = model.hidden_states

    def hidden_states(input_ids: Tensor, **inputs: Any) -> Any:
        output = original(input_ids, **inputs)
        layer = output.past_key_values.layers[0]
        calls.append({"input_ids": input_ids, "cached": tuple(layer.keys.shape), **inputs})
        return output

    monkeypatch.setattr(model, "hidden_states", hidden_states)
    return calls


def test_the_prompt_is_read_once_and_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(IDS, max_items=4)
    prompts = model.build_prompts(HISTORIES, IDS)
    calls = watch(model, monkeypatch)
    result = AutoregressiveDecoder(model, TrieVerifier(IDS)).decode(prompts, 5)
    length = prompts.input_ids.shape[1] - IDS.levels
    tokens = [tuple(call["input_ids"].shape) for call in calls]
    assert tokens[0] == (4, length)
    assert [rows for rows, _ in tokens] == [4] * result.backbone_calls
    read = 0
    for call, (_, width) in zip(calls, tokens, strict=True):
        read += width
        # One row a prompt, holding the prompt once and every beam's own tokens: (B, H_kv, S, d).
        assert call["cached"][0] == 4
        assert call["cached"][2] == read
    assert read <= length + 5 * (IDS.levels - 1)


@pytest.mark.parametrize("padded", [False, True])
def test_only_padding_needs_a_mask_for_the_prompt(
    monkeypatch: pytest.MonkeyPatch, padded: bool
) -> None:
    model = tiny_model(IDS, max_items=4)
    prompts = model.build_prompts(HISTORIES if padded else [[1, 2], [3, 4]], IDS)
    calls = watch(model, monkeypatch)
    AutoregressiveDecoder(model, TrieVerifier(IDS)).decode(prompts, 3)
    assert (calls[0]["attention_mask"] is None) == (not padded)


def test_placeholders_are_no_part_of_the_prompt() -> None:
    model = tiny_model(IDS, max_items=4)
    decoder = AutoregressiveDecoder(model, TrieVerifier(IDS))
    prompts = model.build_prompts(HISTORIES, IDS)
    before = decoder.decode(prompts, 6)
    prompts.input_ids[:, -IDS.levels :] = model.vocabulary.bos
    after = decoder.decode(prompts, 6)
    assert torch.equal(before.keys, after.keys)
    assert torch.equal(before.scores, after.scores)
    bare = decoder.decode(prompts.without_placeholders(), 6)
    assert torch.equal(before.scores, bare.scores)


def test_padding_and_rows_that_fill_up_a_batch_change_nothing() -> None:
    model = tiny_model(IDS, max_items=6).double()
    decoder = AutoregressiveDecoder(model, TrieVerifier(IDS))
    prompts = model.build_prompts([[1, 2], [3, 4]], IDS)
    plain = decoder.decode(prompts, 6)
    wide = decoder.decode(prompts.padded_to(4, 25, model.vocabulary.pad), 6)
    assert torch.equal(plain.keys, wide.keys[:2])
    torch.testing.assert_close(plain.scores, wide.scores[:2], rtol=1e-12, atol=1e-12)
    assert not wide.scores.isnan().any()


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.inference_mode()
@pytest.mark.slow
def test_the_search_is_one_graph_of_static_shapes(backbone: str) -> None:
    # fullgraph=True fails at the first operation that would wait for a tensor's contents.
    torch.compiler.reset()
    model = tiny_model(IDS, backbone, max_items=4)
    verifier = TrieVerifier(IDS)
    decoder = AutoregressiveDecoder(model, verifier)

    def decode(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        like = prompts.__class__(*tensors, levels=prompts.levels, padded=prompts.padded)
        search = decoder.search(like, 5, False, requests)
        result = search.result(decoder.run(like, search))
        return result.keys, result.scores

    compiled = torch.compile(decode, fullgraph=True, dynamic=False, backend="eager")
    for histories, requests in (
        ([[1, 2], [3, 4]], None),
        (HISTORIES, RequestFilter.build(IDS, verifier, deny=[[1, 2]])),
    ):
        prompts = model.build_prompts(histories, IDS)
        keys, scores = compiled(prompts.input_ids, prompts.attention_mask, prompts.position_ids)
        expected = decoder.decode(prompts, 5, requests=requests)
        assert torch.equal(keys, expected.keys)
        torch.testing.assert_close(scores, expected.scores)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_other_pass_and_training_stay_as_they_were(backbone: str) -> None:
    model = tiny_model(IDS, backbone, max_items=4, next_code_weight=0.5)
    prompts = model.build_prompts(HISTORIES, IDS)
    batch = Collator(IDS, model.vocabulary)(TrainingRows([[1, 2, 3, 4, 5]], 4, 1).rows)

    def pass_over() -> list[Tensor]:
        model.zero_grad()
        loss = model(**batch)["loss"]
        loss.backward()
        gradients = [
            weight.grad.clone() for weight in model.parameters() if weight.grad is not None
        ]
        drafts = NezhaDecoder(model, TrieVerifier(IDS)).decode(prompts, 5)
        with torch.no_grad():
            # transformers builds the mask of a two-dimensional one itself.
            hidden = model.backbone(
                prompts.input_ids, attention_mask=prompts.attention_mask
            ).logits[prompts.attention_mask.bool()]
        return [loss.detach(), hidden, drafts.scores, drafts.keys, *gradients]

    before = pass_over()
    AutoregressiveDecoder(model, TrieVerifier(IDS))
    after = pass_over()
    assert len(before) == len(after) > 10
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_saved_model_knows_nothing_of_how_it_was_decoded(tmp_path: Any) -> None:
    model = tiny_model(IDS, max_items=4)
    prompts = model.build_prompts(HISTORIES, IDS)
    expected = AutoregressiveDecoder(model, TrieVerifier(IDS)).decode(prompts, 5)
    model.save_pretrained(tmp_path)
    assert "tree" not in (tmp_path / "config.json").read_text()
    again = NezhaModel.from_pretrained(tmp_path).eval()
    assert torch.equal(
        AutoregressiveDecoder(again, TrieVerifier(IDS)).decode(prompts, 5).keys, expected.keys
    )


def test_bfloat16_keeps_its_log_probabilities_in_float32() -> None:
    model = tiny_model(IDS, max_items=4)
    prompts = model.build_prompts(HISTORIES, IDS)
    exact = AutoregressiveDecoder(model, TrieVerifier(IDS)).decode(prompts, 20)
    rough = AutoregressiveDecoder(model.bfloat16(), TrieVerifier(IDS)).decode(prompts, 20)
    assert rough.scores.dtype == torch.float32
    assert torch.equal(exact.keys.sort().values, rough.keys.sort().values)  # all that exist
    finite = rough.scores.isfinite()
    assert (exact.scores[finite] - rough.scores[finite]).abs().max() < 0.5


def test_a_backbone_that_never_learnt_next_codes_is_refused() -> None:
    model = tiny_model(IDS, next_code_weight=0.0)
    with pytest.raises(ValueError, match="next_code_weight is 0: this model's backbone was not"):
        AutoregressiveDecoder(model, TrieVerifier(IDS))
