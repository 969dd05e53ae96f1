"""What nbval leaves out when it compares a notebook's stored outputs with fresh ones."""

import pytest

# Figures carry random ids and floats of the machine's maths library. The first state of a widget is
# compared through its text and its SVG: stored outputs hold no live widget, but its picture once
# more as HTML. Standard error holds progress bars and their times; test_notebooks.py refuses stored
# warnings.
NOT_COMPARED = (
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.plotly.v1+json",
    "image/png",
    "text/html",
    "stderr",
)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # Only nbval's collector has the attribute; naming its class would import nbval in every run.
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
