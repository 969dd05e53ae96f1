"""The floor of a forward pass against sums done by hand, and the peak memory of known calls."""

import copy
import os

import pytest
import torch
from transformers import GPT2Config, PreTrainedConfig, Qwen3Config

from nezha_lite.bench.roofline import (
    H100_SXM,
    Cost,
    Peaks,
    estimated_forward_ms,
    forward_cost,
    measured_peaks,
)
from nezha_lite.bench.timing import peak_bytes
from nezha_lite.model.config import PRESETS

# Width 8, 2 layers, 4 heads of 4 over 2 key-value heads, 10 in between.
TINY = Qwen3Config(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    intermediate_size=10,
    vocab_size=50,
)
PER_LAYER = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 10  # q, k and v, o, and the MLP's three
NORMS = 2 * 8 + 2 * 4  # two of the width, and those of queries and keys


def by_hand(batch: int, tokens: int) -> tuple[int, int]:
    """FLOPs and elements moved of TINY."""
    linear = 2 * batch * tokens * 2 * PER_LAYER
    # Token t sees t + 1 tokens: each costs a product of 4 in the scores, and 4 in the sum.
    seen = batch * tokens * (tokens + 1) // 2
    attention = 2 * 4 * seen * 2 * (4 + 4)
    weights = 2 * (PER_LAYER + NORMS) + 8
    rows = min(50, batch * tokens) * 8
    moved = 2 * batch * tokens * 2 * (8 + 2 * 8)
    return linear + attention, weights + rows + moved


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 7), (3, 7), (2, 40)])
def test_a_forward_pass_costs_what_one_counts_by_hand(batch: int, tokens: int) -> None:
    flops, elements = by_hand(batch, tokens)
    assert forward_cost(TINY, batch, tokens) == Cost(flops, 4 * elements)
    assert forward_cost(TINY, batch, tokens, torch.bfloat16) == Cost(flops, 2 * elements)


def test_neither_vocabulary_nor_its_output_layer_costs_anything() -> None:
    wide = copy.deepcopy(TINY)
    wide.vocab_size = 100_000
    assert forward_cost(wide, 1, 7) == forward_cost(TINY, 1, 7)


@pytest.mark.parametrize(
    "config", [TINY, GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=64)]
)
def test_other_backbones_are_counted_and_left_as_they_are(config: PreTrainedConfig) -> None:
    before = copy.deepcopy(config).to_dict()
    attention = config._attn_implementation
    one, two = forward_cost(config, 1, 10), forward_cost(config, 2, 10)
    assert two.flops == 2 * one.flops > 0
    assert one.bytes < two.bytes < 2 * one.bytes  # the weights are read once
    assert config.to_dict() == before
    assert config._attn_implementation == attention


def test_the_slower_of_the_two_decides() -> None:
    peaks = Peaks("toy", flops=2e9, bandwidth=1e9, source="made up")
    assert Cost(flops=4e6, bytes=1e6).floor_ms(peaks) == 2.0
    assert Cost(flops=1e6, bytes=3e6).floor_ms(peaks) == 3.0


@pytest.mark.slow
def test_estimates_grow_with_the_model() -> None:
    presets = [name for name in PRESETS if name.startswith("qwen3")]
    assert presets == ["qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b"]
    estimates = [estimated_forward_ms(name, 1, 65, H100_SXM) for name in presets]
    assert estimates == sorted(estimates)
    # Few tokens: reading 8 B less its embeddings, in two bytes each, is what takes long.
    assert estimates[-1] == pytest.approx(1e3 * 2 * 6.95e9 / 3.35e12, rel=0.02)
    assert "not measured" in H100_SXM.source


@pytest.mark.parametrize(
    ("preset", "billions"),
    [("qwen3-0.6b", 0.44), ("qwen3-1.7b", 1.4), ("qwen3-4b", 3.6), ("qwen3-8b", 6.95)],
)
def test_presets_have_the_published_models_parameters(preset: str, billions: float) -> None:
    """Those that are no embeddings, as the models' pages give them."""
    cost = forward_cost(Qwen3Config(**PRESETS[preset]), 1, 1, torch.int8)
    assert cost.bytes / 1e9 == pytest.approx(billions, rel=0.02)


def test_measured_peaks_are_numbers_of_this_device() -> None:
    peaks = measured_peaks(torch.device("cpu"), torch.float32)
    assert (peaks.name, peaks.source) == ("cpu", "measured")
    assert 1e8 < peaks.flops < 1e15
    assert 1e7 < peaks.bandwidth < 1e14


def test_peak_memory_is_what_is_held_at_once() -> None:
    cpu, mib = torch.device("cpu"), 1 << 18  # float32

    def call() -> None:
        first = torch.zeros(4 * mib)
        second = first + 1  # 8 MiB at once
        del first
        third = torch.zeros(3 * mib)  # 7
        del second, third

    assert peak_bytes(call, cpu) == pytest.approx(8 << 20, rel=0.001)
    kept = torch.zeros(4 * mib)
    assert peak_bytes(lambda: kept.mul_(2), cpu) < 1024
    assert peak_bytes(lambda: None, torch.device("meta")) is None


def test_an_error_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError):
        peak_bytes(fail, torch.device("cpu"))
    os.write(2, b"still there")
    assert "still there" in capfd.readouterr().err
