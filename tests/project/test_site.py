"""The website's pages before Sphinx reads them, and the badges: `make site` itself is no test,
because Sphinx is not installed beside the course."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.stored_notebooks import LESSONS, ROOT, code_cells, load, output_texts
from tools import badges, build_site


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    build_site.stage(target)
    return target


def markdown(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", markdown(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {build_site.slug(one.strip().replace(" ", "-")) for one in headings}


def test_every_link_of_a_page_leads_to_a_page_and_a_heading_of_it(staged: Path) -> None:
    links = 0
    for page in [*staged.rglob("*.md"), *staged.rglob("*.ipynb")]:
        parts = build_site.code_and_text(markdown(page))
        text = "".join(part for is_code, part in parts if not is_code)
        for match in build_site.LINK.finditer(text):
            target = match[3]
            if re.match(r"[a-z]+:", target):
                continue
            links += 1
            name, _, fragment = target.partition("#")
            goal = page.parent / name if name else page
            assert goal.is_file(), f"{page.relative_to(staged)} links to {target}"
            if fragment:
                assert fragment in anchors(goal), f"{page.relative_to(staged)} links to {target}"
    assert links > 100


def test_every_lesson_solution_and_page_is_in_the_table_of_contents(staged: Path) -> None:
    index = (staged / "index.md").read_text(encoding="utf-8")
    pages = [*staged.rglob("*.md"), *staged.rglob("*.ipynb")]
    assert len(pages) > 25
    for page in pages:
        place = page.relative_to(staged).with_suffix("").as_posix()
        assert place == "index" or re.search(rf"(^|<){place}(>|$)", index, re.M), place


def test_figures_are_images_with_words(staged: Path) -> None:
    images = 0
    for lesson in LESSONS:
        for cell in code_cells(load(staged / "notebooks" / lesson.name)):
            kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
            assert not {"image/svg+xml", "application/vnd.plotly.v1+json"} & kinds
            for tag in re.findall("<img[^>]*>", "".join(output_texts(cell))):
                images += 1
                assert re.search(r'alt="[^"]+"', tag)
    assert images > 20


def test_a_file_that_is_no_page_is_a_link_into_the_repository_or_none() -> None:
    page, known = Path("docs/data.md"), {Path("README.md"), Path("docs/cli.md")}
    text = "[a](../LICENSE) [b](cli.md#Train-it!) [c](../README.md) `[d](x)` [e](https://e.org)"

    def links(repository: str) -> str:
        return build_site.with_site_links(text, page, known, repository)

    assert links("") == (
        "a [b](../docs/cli.md#train-it) [c](../index.md) `[d](x)` [e](https://e.org)"
    )
    assert "[a](https://h.org/o/n/blob/main/LICENSE)" in links("https://h.org/o/n")


def test_the_workflow_builds_what_make_builds() -> None:
    text = (ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["publish"]["steps"]
    assert any(step.get("run", "").startswith("make site ") for step in steps)
    assert any(step.get("with", {}).get("path") == "build/site" for step in steps)


def test_badges_are_written_once_for_each_address(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copy(LESSONS[0], tmp_path / "notebooks")
    before = (tmp_path / "README.md").read_text(encoding="utf-8")
    for repository in ("someone/else", "owner/some.name"):
        badges.write_badges(tmp_path, repository)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "someone/else" not in readme
    assert readme.count("owner/some.name/") == 3
    assert badges.ROW.sub("", readme) == before
    assert readme.startswith("# ")
    assert len(readme.splitlines()) <= 200
