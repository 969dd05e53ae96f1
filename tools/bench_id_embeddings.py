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


def main(dataset: str, results: str) -> None:
    """Measure all variants at both shapes of ID."""
    torch.set_num_threads(1)
    data, rows = load_dataset(dataset), list[ResultRow]()
    for levels, codes in LEVELS:
        shape = TokenizerConfig(
            levels=levels, codes=codes, vectors=default_vectors(data), collisions="next-best"
        )
        ids = ItemTokenizer(named("rq-kmeans-both", shape)).fit(data).semantic_ids
        for name, settings in VARIANTS.items():
            if settings.get("candidate_embeddings", 0) >= levels:
                continue
            model = NezhaModel.from_preset("tiny", ids, **settings).eval()
            config = DecodeBench(decoders=("nezha", "nezha-eager"), phases=False)
            for row in bench_decoding(model, ids, data, config):
                labels = {"variant": name, "levels": levels, "codes": codes}
                rows.append(replace(row, settings={**row.settings, **labels}))
    write_results(Path(results), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
