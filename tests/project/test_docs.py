"""The pages: links lead somewhere, tables are those of the result files, the README stays short."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from nezha_lite.common.results import read_results
from tools.tables import filled_in

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_to_a_file_and_a_heading_of_it() -> None:
    links = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
            if target.startswith("https://"):
                continue
            links += 1
            name, _, anchor = unquote(target).partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"
            if anchor:
                assert anchor in anchors(text(path)), f"{page.relative_to(ROOT)} links to {target}"
    assert links > 30


@pytest.mark.data
def test_the_tables_are_those_of_the_result_files() -> None:
    tables = 0
    for page in PAGES:
        tables += text(page).count("<!-- table ")
        assert filled_in(text(page), ROOT / "data" / "results") == text(page), (
            f"make the tables again: python tools/tables.py {page.relative_to(ROOT)}"
        )
    assert tables >= 20


@pytest.mark.data
def test_every_result_file_is_shown_or_read_somewhere() -> None:
    readers = [*PAGES, *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("tests/**/*.py")]
    shown = "".join(map(text, readers))
    for path in (ROOT / "data" / "results").glob("*.json"):
        assert path.name in shown, f"no page, notebook or test reads {path.name}"


def test_the_readme_is_short_and_lists_the_core_with_its_line_counts() -> None:
    from tools.count_core import core_table

    readme = text(ROOT / "README.md")
    assert len(readme.splitlines()) <= 200
    assert core_table() in readme, "make it again: python tools/count_core.py README.md"


def test_code_in_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = 0
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", text(page), flags=re.M | re.S):
            blocks += 1
            imports = re.findall(r"^from .+$", block, flags=re.M)
            exec("\n".join(imports), {})  # every name imports from where the page says
    assert blocks >= 3


def test_the_citation_file_names_paper_and_version() -> None:
    citation = yaml.safe_load(text(ROOT / "CITATION.cff"))
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2511.18793"
    assert f'version = "{citation["version"]}"' in text(ROOT / "pyproject.toml")


@pytest.mark.data
def test_the_answer_times_of_the_widgets_are_the_measured_ones() -> None:
    page = " ".join(text(ROOT / "docs" / "results" / "speed.md").split())
    said = re.search(
        r"answer within (\d+) to (\d+) ms \(the medians of (\d+) sliders .*? press (\d+) ms\)", page
    )
    assert said
    rows = read_results(ROOT / "data" / "results" / "latency-sample-widgets.json")
    medians = [row.metrics["median_ms"] for row in rows]
    slowest = max(row.metrics["max_ms"] for row in rows)
    measured = (min(medians), max(medians), len(rows), slowest)
    assert [int(number) for number in said.groups()] == [round(value) for value in measured]


@pytest.mark.data
def test_the_readme_s_speedups_are_the_measured_ones() -> None:
    readme = " ".join(text(ROOT / "README.md").split())
    said = re.search(r"NEZHA is ([\d.]+) times .*? eager NEZHA is (\d+) times", readme)
    assert said
    median = {
        row.decoder: row.metrics["median_ms"]
        for row in read_results(ROOT / "data" / "results" / "latency-beauty-decoders.json")
        if (row.verifier, row.beam) == ("prefix", 512)
    }
    compiled = median["autoregressive"] / median["nezha"]
    eager = median["generate-constrained"] / median["nezha-eager"]
    assert (float(said[1]), int(said[2])) == (round(compiled, 1), round(eager))
