"""Zero sacrifice? The whole study, from data to a results file."""

from nezha_lite.study.plan import PRESETS, VARIANTS, Identifiers, StudyConfig, Variant
from nezha_lite.study.report import Report
from nezha_lite.study.run import Status, run_study, status

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
