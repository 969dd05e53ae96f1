"""The command line: what one runs without a notebook. Thin over the package."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from nezha_lite.cli import add_items, bench, data, evaluate, recommend, teach, tokenize, train
from nezha_lite.cli.options import command_of
from nezha_lite.common.memory import out_of_memory

app = typer.Typer(
    help="Train, evaluate and try generative recommenders with NEZHA's draft head.\n\n"
    "DATASET is sample, beauty, instruments or yelp, or a folder with NAME.inter.json "
    "(data/README.md describes the layout). A first walk:\n\n"
    "nezha-lite data sample\n\n"
    "nezha-lite train sample runs/sample\n\n"
    "nezha-lite recommend runs/sample sample --user 7\n\n"
    "Bad input is answered in one sentence; add --debug for the traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    tokenize.tokenize,
    tokenize.compare,
    train.train,
    teach.teach,
    recommend.recommend,
    add_items.add_items,
    recommend.export,
    evaluate.evaluate,
    evaluate.hallucination,
    evaluate.study,
):
    command_of(app)(command)
command_of(app, "data")(data.show_data)
command_of(app, "import")(data.import_tables)
command_of(app, "map")(data.sid_map)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line."""
    run(app)


def run(app: typer.Typer) -> None:
    """Run an app on sys.argv; bad input is one sentence on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Titles hold characters that Windows' code pages lack.
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        with _messages_on_stderr():
            app([argument for argument in sys.argv[1:] if argument != "--debug"])
    except (ValueError, OSError, MemoryError, ArithmeticError, RuntimeError) as error:
        if debug or not (sentence := _sentence(error)):
            raise
        print(f"nezha-lite: {sentence}", file=sys.stderr)
        sys.exit(2)


def _sentence(error: Exception) -> str:
    """What is said of it; nothing of a defect, which a RuntimeError is unless memory ran out."""
    if isinstance(error, RuntimeError):
        return "Memory ran out." if out_of_memory(error) else ""
    if isinstance(error, MemoryError):
        return str(error) or "Memory ran out."
    return str(error)


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """The package's progress on stderr; its warnings without the line of code that gave them."""
    logger, handler = logging.getLogger("nezha_lite"), logging.StreamHandler()
    previous_level, previous_format = logger.level, warnings.formatwarning
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = previous_format
        logger.setLevel(previous_level)
        logger.removeHandler(handler)
