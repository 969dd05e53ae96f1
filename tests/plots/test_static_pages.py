"""The stored notebooks as pages without a kernel: GitHub's view, and nbconvert's HTML."""

import base64
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.helpers.for_each import for_each
from tests.helpers.stored_notebooks import FOLDER, NOTEBOOKS

PLOTLY = "application/vnd.plotly.v1+json"
LIVE = ("HTML(", "VBox(", "FigureWidget(")  # how a widget without words of its own would print


def widget_outputs(path: Path) -> list[dict[str, Any]]:
    """The MIME bundles of the stored widgets: a picture that is no plotly figure."""
    notebook = nbformat.read(path, as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    bundles = [out.get("data", {}) for out in outputs]
    return [data for data in bundles if "image/svg+xml" in data and PLOTLY not in data]


WITH_WIDGETS = [path for path in NOTEBOOKS if widget_outputs(path)]
every_page = for_each({path.relative_to(FOLDER).as_posix(): (path,) for path in WITH_WIDGETS})


def test_most_lessons_have_a_widget() -> None:
    lessons = {path.name[:2] for path in WITH_WIDGETS if path.parent == FOLDER}
    assert {"00", "01", "02", "03", "04", "05", "06", "09", "10"} <= lessons


@every_page
def test_every_widget_has_a_picture_and_words(path: Path) -> None:
    for data in widget_outputs(path):
        assert data["image/svg+xml"].startswith("<svg")
        words = data["text/plain"]
        assert len(words) > 40
        assert not words.startswith(LIVE)


@every_page
def test_a_notebook_that_is_not_trusted_shows_the_same_picture(path: Path) -> None:
    for data in widget_outputs(path):
        image = ElementTree.fromstring(data["text/html"].replace('">', '"/>'))
        encoded = image.attrib["src"].removeprefix("data:image/svg+xml;base64,")
        assert base64.b64decode(encoded).decode("utf-8") == data["image/svg+xml"]
        assert image.attrib["alt"] == data["text/plain"]


@pytest.mark.slow
@every_page
def test_html_made_by_nbconvert_shows_the_pictures(path: Path) -> None:
    page, _ = HTMLExporter().from_filename(str(path))
    shown = [
        base64.b64decode(picture).decode("utf-8")
        for picture in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    ]
    for data in widget_outputs(path):
        assert data["image/svg+xml"].strip() in [picture.strip() for picture in shown]
