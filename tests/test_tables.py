"""Tables are made from result files, and the README's are the ones that the files give."""

import dataclasses
from pathlib import Path

import pytest

from nezha_lite.results import ResultRow, provenance, write_results
from nezha_lite.tables import filled_in, markdown_table

ROOT = Path(__file__).parents[1]


def row(**changes: object) -> ResultRow:
    made = ResultRow(
        kind="quality",
        dataset="toy",
        model={"preset": "tiny"},
        decoder="nezha",
        beam=10,
        metrics={"recall@10": 0.25, "median_ms": 1234.5},
        settings={"epochs": 3},
        seconds=1.0,
        **provenance("cpu"),
    )
    return dataclasses.replace(made, **changes)


def test_a_column_is_a_metric_a_field_or_a_setting() -> None:
    table = markdown_table(
        [row(), row(beam=None)], ["decoder", "beam", "recall@10", "median_ms", "epochs"]
    )
    assert table.splitlines() == [
        "| decoder | beam | recall@10 | median_ms | epochs |",
        "| --- | --- | --- | --- | --- |",
        "| nezha | 10 | 0.2500 | 1,234 | 3 |",
        "| nezha | – | 0.2500 | 1,234 | 3 |",
    ]


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(ValueError, match="'recal@10'"):
        markdown_table([row()], ["recal@10"])


def test_a_block_is_remade_and_the_rest_left_alone(tmp_path: Path) -> None:
    write_results(tmp_path / "toy.json", [row()])
    text = "before\n<!-- table toy.json: decoder, recall@10 -->\nstale\n<!-- end table -->\nafter\n"
    made = filled_in(text, tmp_path)
    assert made.startswith("before\n<!-- table toy.json: decoder, recall@10 -->\n| decoder |")
    assert "| nezha | 0.2500 |\n<!-- end table -->\nafter\n" in made
    assert "stale" not in made
    assert filled_in(made, tmp_path) == made


@pytest.mark.parametrize("name", ["README.md", "data/README.md"])
def test_written_tables_are_those_of_the_result_files(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert filled_in(text, ROOT / "data" / "results") == text, (
        f"remake the tables: python -m nezha_lite.tables {name}"
    )
