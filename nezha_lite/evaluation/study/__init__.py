"""Zero sacrifice? The whole study, from data to a results file."""

from nezha_lite.evaluation.study.config import PRESETS, VARIANTS, Identifiers, StudyConfig, Variant
from nezha_lite.evaluation.study.report import Report
from nezha_lite.evaluation.study.scheduler import Status, run_study, status

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Identifiers",
    "Report",
    "Status",
    "StudyConfig",
    "Variant",
    "run_study",
    "status",
]
