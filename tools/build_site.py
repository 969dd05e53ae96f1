"""The course as a website: `python tools/build_site.py [--repository https://github.com/OWNER/NAME]`.

Notebooks and pages are copied to build/site-source with links that fit the site, and Sphinx makes
build/site of them. Nothing is executed: the pages show the stored outputs. Without an address of
the repository, files that are not pages are named without a link.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from notebooks.run import PICTURE, image

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
HOME = "README.md"  # the site's index
PAGES = (HOME, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "data/README.md", "docs/**/*.md")
NOTEBOOKS = ("notebooks/[0-9][0-9]*.ipynb", "notebooks/solutions/*.ipynb")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^)\s>]+)>?\)")
CONTENTS = """
```{{toctree}}
:hidden:
:caption: {caption}

{entries}
```
"""


def pages() -> list[Path]:
    """All files that become a page, relative to the repository."""
    found = [path for pattern in (*PAGES, *NOTEBOOKS) for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT) for path in found]


def stage(target: Path, repository: str = "") -> None:
    """Write every page below `target`, the home page as index.md with the table of contents."""
    shutil.rmtree(target, ignore_errors=True)
    known = set(pages())
    for page in known:
        text = (ROOT / page).read_text(encoding="utf-8")
        place = target / site_path(page)
        place.parent.mkdir(parents=True, exist_ok=True)

        def rewritten(text: str, page: Path = page) -> str:
            return with_site_links(text, page, known, repository)

        written = notebook(text, rewritten) if page.suffix == ".ipynb" else rewritten(text)
        place.write_text(written, encoding="utf-8")
    with (target / "index.md").open("a", encoding="utf-8") as index:
        index.writelines(contents())
    picture = Path("docs/method_explorer.gif")
    shutil.copy(ROOT / picture, target / picture)


def site_path(page: Path) -> Path:
    """Where a page lies on the site."""
    return Path("index.md") if page == Path(HOME) else page


def notebook(text: str, rewritten: Callable[[str], str]) -> str:
    """A notebook with the site's links, and figures as images with their captions as texts."""
    content = json.loads(text)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = rewritten("".join(cell["source"]))
        if cell["id"] == "hosted":  # a page cannot run it, and Sphinx cannot colour its shell lines
            cell["metadata"]["tags"] = ["remove-cell"]
        for output in cell.get("outputs", ()):
            as_image(output.get("data", {}))
    return json.dumps(content, ensure_ascii=False)


def as_image(data: dict[str, Any]) -> None:
    """Keep of a figure or widget what a page without scripts shows: its picture and its words."""
    if PICTURE in data:
        svg, words = ("".join(data[kind]) for kind in (PICTURE, "text/plain"))
        data.clear()
        data.update({"text/html": image(svg, words), "text/plain": words})


def with_site_links(text: str, page: Path, known: set[Path], repository: str) -> str:
    """The text with every relative link leading to a page of the site or to the repository."""

    def link(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        words = with_site_links(words, page, known, repository)  # an image may be a link
        name, _, fragment = unquote(target).partition("#")
        anchor = f"#{slug(fragment)}" if fragment else ""
        if not name:
            return f"{image}[{words}]({anchor})"
        goal = (ROOT / page).parent.joinpath(name).resolve().relative_to(ROOT)
        if goal in known:
            depth = len(site_path(page).parents) - 1
            return f"[{words}]({'../' * depth}{site_path(goal).as_posix()}{anchor})"
        if image:
            return match[0]
        return f"[{words}]({repository}/blob/main/{goal.as_posix()})" if repository else words

    return "".join(part if code else LINK.sub(link, part) for code, part in code_and_text(text))


def code_and_text(text: str) -> Iterator[tuple[bool, str]]:
    """The text in parts: code, which is left as it is, and all other text."""
    end = 0
    for code in re.finditer(r"^```.*?^```|`[^`\n]+`", text, flags=re.DOTALL | re.MULTILINE):
        yield False, text[end : code.start()]
        yield True, code[0]
        end = code.end()
    yield False, text[end:]


def slug(fragment: str) -> str:
    """An anchor as GitHub and the site make it, from one as JupyterLab makes it."""
    return re.sub(r"[^\w-]", "", fragment.lower())


def contents() -> Iterator[str]:
    """The table of contents; lessons have the short names of the README's table."""
    names = dict(
        re.findall(r"\[(.+?)\]\(notebooks/(\w+)\.ipynb\)", (ROOT / HOME).read_text("utf-8"))
    )
    short = {name: words for words, name in names.items()}
    groups: dict[str, list[str]] = {}
    for page in pages():
        place = page.with_suffix("").as_posix()
        if page == Path(HOME):
            continue
        if page.parent == Path("notebooks"):
            groups.setdefault("The course", []).append(f"{short[page.stem]} <{place}>")
        elif page.suffix == ".ipynb":
            groups.setdefault("Solutions", []).append(f"{short[page.stem]} <{place}>")
        elif page.parent == Path("docs/results"):
            groups.setdefault("Results", []).append(place)
        else:
            groups.setdefault("Reference", []).append(place)
    for caption in ("The course", "Solutions", "Results", "Reference"):
        yield CONTENTS.format(caption=caption, entries="\n".join(groups[caption]))


def main() -> int:
    """Build the site; warnings are errors."""
    from sphinx.cmd.build import main as sphinx_build

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default="", help="for links to files that are no pages")
    repository = parser.parse_args().repository.rstrip("/")
    stage(SOURCE, repository)
    shutil.rmtree(SITE, ignore_errors=True)
    options = ["-c", str(ROOT / "docs"), "-W", "--keep-going", "-q", "-j", "2"]
    options += ["-D", f"html_theme_options.repository_url={repository}"] if repository else []
    failed = sphinx_build([*options, str(SOURCE), str(SITE)])
    print(f"{SITE.relative_to(ROOT)}/index.html" if not failed else "The site was not built.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
