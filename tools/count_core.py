"""The README's table of the core: `python tools/count_core.py README.md` writes it again.

A line counts if it holds a token of code: blank lines, comments and docstrings do not count.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nezha_lite"
CORE = {
    "the data": ("datasets/dataset", "semantic_ids/catalogue"),
    "semantic IDs": ("semantic_ids/quantizers/residual", "semantic_ids/quantizers/rq_kmeans"),
    "the model": (
        "model/prompts",
        "model/draft_head",
        "model/config",
        "model/nezha_model",
        "model/tree_attention",
    ),
    "training": ("training/packing", "training/config", "training/train"),
    "verifiers": ("verifiers/base", "verifiers/hash_set", "verifiers/trie"),
    "decoding": (
        "decoding/base",
        "decoding/trace",
        "decoding/beam_search",
        "decoding/nezha",
        "decoding/prompt_tree",
        "decoding/autoregressive",
    ),
    "evaluation": ("evaluation/metrics",),
}
START, END = "<!-- core -->\n", "<!-- end core -->\n"
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """Lines of a Python file that hold code."""
    text = path.read_text(encoding="utf-8")
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docstrings)


def core_table() -> str:
    """The core's files in reading order, with their lines of code, as Markdown."""
    rows, total = [], 0
    for step, names in CORE.items():
        counts = {name: code_lines(PACKAGE / f"{name}.py") for name in names}
        total += sum(counts.values())
        links = (f"[{name}](nezha_lite/{name}.py) {count}" for name, count in counts.items())
        rows.append(f"| {step} | {', '.join(links)} |\n")
    return f"| step | files, lines of code |\n|---|---|\n{''.join(rows)}| together | {total:,} |\n"


def main() -> None:
    """Write the table between its marks in the named page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", type=Path)
    page: Path = parser.parse_args().page
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text(before + START + core_table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
