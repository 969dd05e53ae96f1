"""The bench of large backbones, on the smallest one: its rows hold together."""

import pytest
import torch

from nezha_lite.bench.workload import synthetic_ids
from tools import bench_scale
from tools.bench_scale import SLOW, Scale, bench_scales, model_of, tokens_read


def test_tokens_that_the_backbone_reads() -> None:
    # 20 items of 3 codes, BOS and 3 placeholders: 64 tokens.
    assert tokens_read("forward", None, 64, 3) == tokens_read("nezha-eager", 512, 64, 3) == 64
    assert tokens_read("autoregressive-eager", 10, 64, 3) == 61 + 2 * 10
    assert tokens_read(SLOW, 10, 64, 3) == 10 * 61 + 2 * 10


@pytest.mark.slow
def test_what_is_too_slow_is_extrapolated_by_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scale, "SCALES", {"tiny": Scale(generate_tokens=50, repeats=1)})
    ids = synthetic_ids(50, (8, 8, 8))
    (rows,) = bench_scales(["tiny"], (2, 6), ids, history=3)
    cells = {(row.decoder, row.beam): row for row in rows}
    assert {decoder for decoder, _ in cells} == {"forward", *bench_scale.DECODERS}
    assert all(row.metrics["median_ms"] > 0 for row in rows)
    measured, made = cells[SLOW, 2], cells[SLOW, 6]
    assert "extrapolated" not in measured.settings
    assert made.settings["extrapolated"]
    factor = (6 * 10 + 12) / (2 * 10 + 4)
    assert made.metrics["median_ms"] == pytest.approx(measured.metrics["median_ms"] * factor, 0.01)
    nezha = cells["nezha-eager", 6].metrics
    assert nezha["backbone_gflops"] == cells["forward", None].metrics["backbone_gflops"]


@pytest.mark.slow
def test_llamas_shape_has_a_billion_weights() -> None:
    ids = synthetic_ids(5, (4, 4, 4))
    with torch.device("meta"):  # the weights' shapes without their memory
        model = model_of("llama-1b", ids)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(1e9, rel=0.05)
