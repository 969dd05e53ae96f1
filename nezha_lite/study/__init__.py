"""Zero sacrifice? The whole study, from data to a results file."""

from nezha_lite.study.plan import VARIANTS, Identifiers, StudyConfig, Variant
from nezha_lite.study.run import Status, run_study, status

__all__ = ["VARIANTS", "Identifiers", "Status", "StudyConfig", "Variant", "run_study", "status"]
