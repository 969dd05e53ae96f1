"""What item memory and candidate embeddings cost in decoding, each beside its own forward pass.

    python tools/bench_id_embeddings.py beauty data/results/latency-beauty-id-embeddings.json

Random weights, which take as long as trained ones; IDs of two and three levels. Run it on an idle
machine. The data set is a name or a folder of `load_dataset`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nezha_lite.bench.decode import DecodeBench, bench_decoding
from nezha_lite.common.results import ResultRow, write_results
from nezha_lite.datasets import load_dataset
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig, default_vectors, named

LEVELS = ((2, 512), (3, 256))
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "item memory": {"item_memory": True},
    "candidate embeddings, last level": {"candidate_embeddings": 1},
    "candidate embeddings, from level 2": {"candidate_embeddings": 2},
    "both": {"item_memory": True, "candidate_embeddings": 1},
}
# Preset → shapes of ID, variants, and what is measured.
CONFIGS = {
    "tiny": (
        LEVELS,
        VARIANTS,
        DecodeBench(decoders=("nezha", "nezha-eager"), beams=(50, 512), phases=False),
    ),
    # Lists per second, by the batch.
    "small": (
        LEVELS[1:],
        ("plain", "both"),
        DecodeBench(
            decoders=("nezha", "autoregressive"),
            beams=(50,),
            batches=(1, 8, 64, 256),
            repeats=30,
            phases=False,
        ),
    ),
}


def main(dataset: str, results: str) -> None:
    """Measure the variants at both shapes of ID; the results are written after every model."""
    torch.set_num_threads(2)
    data, rows = load_dataset(dataset), list[ResultRow]()
    for levels, codes in LEVELS:
        shape = TokenizerConfig(
            levels=levels, codes=codes, vectors=default_vectors(data), collisions="next-best"
        )
        ids = ItemTokenizer(named("rq-kmeans-both", shape)).fit(data).semantic_ids
        for preset, (shapes, variants, config) in CONFIGS.items():
            for name in variants:
                settings = VARIANTS[name]
                if (levels, codes) not in shapes or settings.get("candidate_embeddings") == levels:
                    continue
                model = NezhaModel.from_preset(preset, ids, **settings).eval()
                labels = {"variant": name, "preset": preset, "levels": levels, "codes": codes}
                for row in bench_decoding(model, ids, data, config):
                    rows.append(replace(row, settings={**row.settings, **labels}))
                write_results(Path(results), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
