"""Write the sample's files, and the figures of the best possible ranking into data/README.md.

`python tools/make_sample.py --out data/sample` writes the same bytes on every machine;
`--report` measures the rankings and updates the table of the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from nezha_lite.common.files import atomic_write
from nezha_lite.datasets import DATA_FOLDER
from nezha_lite.datasets.synthetic_shop import Shop, build_shop, reference_figures

START = "<!-- figures: python tools/make_sample.py --report -->\n"
END = "<!-- end of figures -->"


def write_sample(folder: Path, shop: Shop) -> None:
    """Write `sample.inter.json` and `sample.item.json`, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "sample.inter.json", _object(shop.dataset.sequences))
    atomic_write(folder / "sample.item.json", _object(map(vars, shop.dataset.texts or ())))


def _object(rows: Iterable[object]) -> str:
    """JSON with one entry a line; users and items are named by their index."""
    lines = (f'"{index}": {json.dumps(row)}' for index, row in enumerate(rows))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def report_table(figures: dict[str, tuple[float, float]]) -> str:
    """Recall@10 and NDCG@10 of each ranking as a Markdown table."""
    rows = (f"| {name} | {hits:.4f} | {ndcg:.4f} |\n" for name, (hits, ndcg) in figures.items())
    return "| ranking | Recall@10 | NDCG@10 |\n|---|---|---|\n" + "".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the options name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to write the sample's files to")
    parser.add_argument("--report", action="store_true", help="print the figures; update the page")
    parser.add_argument("--page", type=Path, default=DATA_FOLDER / "README.md", help="which page")
    options = parser.parse_args(arguments)
    if options.out is None and not options.report:
        parser.error("nothing to do: give --out FOLDER, --report, or both")
    if options.out is not None:
        write_sample(options.out, build_shop())
    if options.report:
        before, start, rest = options.page.read_text(encoding="utf-8").partition(START)
        _, end, after = rest.partition(END)
        if not end:
            parser.error(f"{options.page} lacks the marks {START.strip()} and {END}")
        table = report_table(reference_figures(build_shop()))
        atomic_write(options.page, f"{before}{start}\n{table}\n{end}{after}")
        print(table, end="")


if __name__ == "__main__":
    main()
