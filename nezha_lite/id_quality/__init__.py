"""How good are semantic IDs? One report for any `SemanticIds`, whoever made them."""

from nezha_lite.id_quality.code_use import LevelUse
from nezha_lite.id_quality.purity import item_categories
from nezha_lite.id_quality.report import IdQuality, PrefixQuality, id_quality

__all__ = ["IdQuality", "LevelUse", "PrefixQuality", "id_quality", "item_categories"]
