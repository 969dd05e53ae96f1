"""Counts, for each class of faults, how many were tried and how many kept their promise.

    pytest tests/faults --reliability data/results/reliability-faults-kept.json

merges the counts into that file; without the option nothing is written. A test belongs to the
class its mark names, as in `pytestmark = pytest.mark.fault_class("downloads")`. It is one fault,
or as many as its property "tried" says: of faults that are drawn, the first failure ends the test.
"""

from pathlib import Path

import pytest

from tests.helpers.reliability import Counter

_OPTION = "--reliability"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_OPTION, type=Path, help="merge counts of faults into this results file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault_class(name): what kind of fault a test tries")
    file = config.getoption(_OPTION, default=None)
    if file is not None:
        config.pluginmanager.register(Counter(file))
