"""The physical floor of one forward pass: its arithmetic and its memory traffic, over the peaks.

    floor = max(FLOPs / peak FLOP/s,  bytes / peak bytes/s)          (the roofline model)

Nothing that computes the same numbers on the same device is faster, save where a cache holds what
is counted here as read from memory: a model of a few megabytes on a CPU.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, PreTrainedConfig, Qwen3Config

from nezha_lite.bench.timing import time_calls
from nezha_lite.model.config import PRESETS


@dataclass(frozen=True)
class Peaks:
    """What a device can do at best, and who says so.

    Attributes:
        name: of the device.
        flops: floating-point operations a second in dense matrix products.
        bandwidth: bytes a second to and from memory.
        source: "measured", or where the figures were published.
    """

    name: str
    flops: float
    bandwidth: float
    source: str


H100_SXM = Peaks(
    "NVIDIA H100 SXM", 989e12, 3.35e12, "NVIDIA's data sheet: dense bfloat16, HBM3; not measured"
)


@dataclass(frozen=True)
class Cost:
    """What a forward pass has to do, at least: floating-point operations, and bytes moved."""

    flops: float
    bytes: float

    def floor_ms(self, peaks: Peaks) -> float:
        """Milliseconds that these peaks allow."""
        return 1e3 * max(self.flops / peaks.flops, self.bytes / peaks.bandwidth)


def forward_cost(
    backbone: PreTrainedConfig, batch: int, tokens: int, dtype: torch.dtype = torch.float32
) -> Cost:
    """The cost of one causal pass over `batch` prompts of `tokens` tokens, without output layer.

    From the configuration alone: the model is built without memory, on PyTorch's meta device.

    FLOPs are the matrix products', a product and a sum each; of attention's, the half that a causal
    mask leaves. Bytes are the weights, each read once, of embeddings only the rows that can be
    touched; and per layer the hidden states, keys and values, written once and read once. What a
    fused kernel keeps on the chip is not counted.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(copy.deepcopy(backbone), attn_implementation="eager").eval()
        input_ids = torch.zeros(batch, tokens, dtype=torch.int64)
        mask = torch.zeros(1, 1, tokens, tokens)  # backbones take four dimensions as they are
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(input_ids=input_ids, attention_mask=mask, use_cache=False)
    flops = float(counter.get_total_flops())
    # Layers multiply by two-dimensional weights; batched products are attention's.
    batched = counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0)
    flops -= batched * (tokens - 1) / (2 * tokens)

    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    unread = sum(
        max(0, table.num_embeddings - batch * tokens) * table.embedding_dim for table in embeddings
    )
    weights = sum(parameter.numel() for parameter in model.parameters()) - unread
    heads = getattr(backbone, "num_key_value_heads", None) or backbone.num_attention_heads
    head_width = getattr(backbone, "head_dim", None)
    head_width = head_width or backbone.hidden_size // backbone.num_attention_heads
    per_token = backbone.num_hidden_layers * (backbone.hidden_size + 2 * heads * head_width)
    return Cost(flops, float(dtype.itemsize * (weights + 2 * batch * tokens * per_token)))


def estimated_forward_ms(
    preset: str, batch: int, tokens: int, peaks: Peaks, dtype: torch.dtype = torch.bfloat16
) -> float:
    """On paper: the floor of a preset's forward pass on a device of these peaks, in ms.

    An estimate, not a measurement: real passes reach a part of it.
    """
    return forward_cost(Qwen3Config(**PRESETS[preset]), batch, tokens, dtype).floor_ms(peaks)


def measured_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """What this device reaches here and now: its best square matrix product, and a large copy."""
    on_cpu = device.type == "cpu"
    draw = torch.Generator(device).manual_seed(0)
    best = 0.0
    for size in (256, 512, 1024) if on_cpu else (2048, 4096, 8192):
        # Not zeros or ones: a GPU draws less power on them, and runs faster than on real numbers.
        left, right = (
            torch.randn(size, size, generator=draw, dtype=dtype, device=device) for _ in range(2)
        )
        times = time_calls(lambda _, a=left, b=right: a @ b, 20, 2, device, seconds=0.2)  # type: ignore[misc]
        best = max(best, 2 * size**3 / (min(times) / 1e3))
    elements = (1 << 26) if on_cpu else (1 << 28)  # far more bytes than caches hold
    source = torch.ones(elements, dtype=torch.float32, device=device)
    copy = torch.empty_like(source)
    times = time_calls(lambda _: copy.copy_(source), 10, 1, device, seconds=0.3)
    return Peaks(str(device), best, 2 * source.nbytes / (min(times) / 1e3), "measured")
