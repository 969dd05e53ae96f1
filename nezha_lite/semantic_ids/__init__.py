"""Semantic IDs: the catalogue (`SemanticIds`) and everything that makes one.

`SemanticIds` holds which items exist and the codes of each. `tokenizer.ItemTokenizer` makes them:
item vectors (`vectors`) → codes (`quantizers`) → distinct IDs (`collisions`); `quality` reports on
them.
"""

from nezha_lite.semantic_ids.catalogue import SemanticIds, radix_strides, released_semantic_ids

__all__ = ["SemanticIds", "radix_strides", "released_semantic_ids"]
