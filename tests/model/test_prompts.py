"""Prompts token by token; the vocabulary's layout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts, check_same_space
from nezha_lite.semantic_ids import SemanticIds

IDS = SemanticIds.from_codes([[0, 0, 0], [1, 2, 1], [2, 3, 0]], (3, 4, 2))


def build(histories: list[list[int]], max_items: int = 20, offset: int = 0) -> Prompts:
    return build_prompts(histories, IDS, Vocabulary(IDS.radices, offset), max_items)


# ---- vocabulary ---------------------------------------------------------------------------------


def test_layout_by_hand() -> None:
    vocabulary = Vocabulary((3, 4, 2))
    assert (vocabulary.pad, vocabulary.bos, vocabulary.placeholders) == (0, 1, (2, 3, 4))
    assert vocabulary.level_offsets == (5, 8, 12)
    assert vocabulary.size == 14
    assert vocabulary.tokens_of(torch.tensor([[1, 2, 1]])).tolist() == [[6, 10, 13]]


@given(
    radices=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    offset=st.integers(0, 200_000),
)
@settings(max_examples=50)
def test_tokens_fill_the_range_after_the_offset_and_never_overlap(
    radices: list[int], offset: int
) -> None:
    vocabulary = Vocabulary(tuple(radices), offset)
    tokens = [vocabulary.pad, vocabulary.bos, *vocabulary.placeholders]
    for level, radix in enumerate(radices):
        codes = torch.zeros(radix, len(radices), dtype=torch.int64)
        codes[:, level] = torch.arange(radix)
        tokens += vocabulary.tokens_of(codes)[:, level].tolist()
    assert sorted(tokens) == list(range(offset, vocabulary.size))


# ---- prompts ------------------------------------------------------------------------------------


def test_prompts_by_hand() -> None:
    prompts = build([[1, 2], [], [0]])
    assert prompts.input_ids.tolist() == [
        # BOS, item 1, item 2, SP_1 … SP_3
        [1, 6, 10, 13, 7, 11, 12, 2, 3, 4],
        [0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        [0, 0, 0, 1, 5, 8, 12, 2, 3, 4],
    ]
    assert prompts.attention_mask.tolist() == [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert prompts.position_ids.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
        [0, 0, 0, 0, 1, 2, 3, 4, 5, 6],
    ]
    assert prompts.levels == 3
    assert len(prompts) == 3
    for tensor in (prompts.input_ids, prompts.attention_mask, prompts.position_ids):
        assert tensor.dtype == torch.int64


def test_offset_moves_every_token() -> None:
    moved, plain = build([[1], []], offset=100), build([[1], []])
    assert torch.equal(moved.input_ids, plain.input_ids + 100)
    assert torch.equal(moved.attention_mask, plain.attention_mask)


def test_without_placeholders_ends_at_the_history() -> None:
    prompts = build([[1], []])
    history = prompts.without_placeholders()
    assert history.input_ids.tolist() == [[1, 6, 10, 13], [0, 0, 0, 1]]
    assert history.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert history.position_ids.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert history.levels == 0
    assert prompts.input_ids.shape == (2, 7), "the prompts themselves stay whole"


def test_all_histories_empty() -> None:
    assert build([[], []]).input_ids.tolist() == [[1, 2, 3, 4]] * 2


def test_an_endless_history_is_cut_to_its_last_items() -> None:
    history = [0] * 9_997 + [1, 2, 1]
    prompts = build([history], max_items=4)
    assert torch.equal(prompts.input_ids, build([[0, 1, 2, 1]]).input_ids)
    assert build([history], max_items=10_000).input_ids.shape == (1, 1 + 30_000 + 3)


def test_an_unknown_item_is_named_even_beside_good_ones() -> None:
    for item in (3, -1):
        with pytest.raises(ValueError, match=rf"History 1 holds item {item}, .* 0 to 2"):
            build([[0], [1, item]])
    assert build([[3, 0]], max_items=1).input_ids.shape == (1, 7), "what is not read may be odd"


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="histories is empty"):
        build([])


def test_ids_of_another_space_are_refused() -> None:
    vocabulary = Vocabulary((3, 4))
    with pytest.raises(ValueError, match=r"radices \(3, 4, 2\), .* built for \(3, 4\)"):
        build_prompts([[0]], IDS, vocabulary, 20)
    with pytest.raises(ValueError, match="radices"):
        check_same_space(IDS, Vocabulary((3, 2, 4)))
    check_same_space(IDS, Vocabulary((3, 4, 2), offset=7))


def test_padded_to_a_larger_shape() -> None:
    prompts = build([[1], [0, 2]])
    larger = prompts.padded_to(4, 12, pad=0)
    assert larger.input_ids.shape == (4, 12)
    assert torch.equal(larger.input_ids[:2, 2:], prompts.input_ids)
    assert torch.equal(larger.position_ids[:2, 2:], prompts.position_ids)
    assert larger.attention_mask.sum(dim=1).tolist() == [7, 10, 0, 0]
    assert larger.padded
    assert prompts.padded_to(2, 10, pad=0) is prompts
    for rows, width in ((1, 10), (2, 9)):
        with pytest.raises(
            ValueError, match=rf"shape \(2, 10\) do not fit into \({rows}, {width}\)"
        ):
            prompts.padded_to(rows, width, pad=0)


def test_what_a_token_sees() -> None:
    assert build([[0, 1], [2, 1]]).visible() is None, "without padding the backbone needs no mask"
    prompts = build([[1], [0, 2]])
    seen = prompts.visible()
    assert seen is not None
    assert seen.shape == (2, 1, 10, 10)
    for row, mask in enumerate(prompts.attention_mask.tolist()):
        for query in range(10):
            for key in range(10):
                expected = key == query or (key < query and mask[key] == 1)
                assert bool(seen[row, 0, query, key]) == expected


def test_padding_is_known_without_asking_the_device() -> None:
    assert build([[1], [0, 2]]).padded
    for prompts in (build([[1], [2]]), build([[], []])):
        assert not prompts.padded
        assert not prompts.to("cpu").padded
        assert not prompts.without_placeholders().padded
