"""Badges that open the course in Colab, Kaggle and Binder: `python tools/badges.py OWNER/NAME`.

The publisher decides the address, so the repository has none until this script writes it: one row
under the README's title, and the address in the first cell of every lesson, which clones it there.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+\.git")
ROW = re.compile(r"<!-- badges -->.*?<!-- end badges -->\n\n", re.DOTALL)
FIRST = "notebooks/00_tour.ipynb"


def badges(repository: str) -> str:
    """The row of badges as Markdown."""
    page = f"github.com/{repository}/blob/main/{FIRST}"
    colab, kaggle, binder = (
        f"https://colab.research.google.com/github/{repository}/blob/main/{FIRST}",
        f"https://kaggle.com/kernels/welcome?src=https://{page}",
        f"https://mybinder.org/v2/gh/{repository}/main?labpath={FIRST}",
    )
    marks = (
        f"[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})",
        f"[![Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})",
        f"[![Binder](https://mybinder.org/badge_logo.svg)]({binder})",
    )
    return f"<!-- badges --> {' '.join(marks)} <!-- end badges -->\n\n"


def write_badges(root: Path, repository: str) -> None:
    """Put the badges into the README and the address into every lesson's first code cell."""
    readme = root / "README.md"
    title, _, rest = ROW.sub("", readme.read_text(encoding="utf-8")).partition("\n\n")
    readme.write_text(f"{title}\n\n{badges(repository)}{rest}", encoding="utf-8")
    for path in sorted((root / "notebooks").glob("[0-9][0-9]*.ipynb")):
        text = path.read_text(encoding="utf-8")
        address = f"https://github.com/{repository}.git"
        path.write_text(ADDRESS.sub(address, text), encoding="utf-8")


def main() -> None:
    """Write the badges for one repository."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", help="OWNER/NAME on GitHub")
    repository = parser.parse_args().repository
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        parser.error(f"repository is {repository!r}, but must be OWNER/NAME")
    write_badges(ROOT, repository)


if __name__ == "__main__":
    main()
