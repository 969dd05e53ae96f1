"""Tables are made from result files."""

import dataclasses
from pathlib import Path

import pytest

from nezha_lite.common.results import ResultRow, provenance, write_results
from tools.tables import filled_in, markdown_table


def row(**changes: object) -> ResultRow:
    made = ResultRow(
        kind="quality",
        dataset="toy",
        model={"preset": "tiny"},
        decoder="nezha",
        beam=10,
        metrics={"recall@10": 0.25, "median_ms": 1234.5},
        settings={"epochs": 3, "run": {"share": 0.5}},
        seconds=1.0,
        **provenance("cpu"),
    )
    return dataclasses.replace(made, **changes)


def test_a_column_is_a_metric_a_field_or_a_setting() -> None:
    columns = ["decoder", "beam", "recall@10", "median_ms", "epochs", "run.share", "preset"]
    table = markdown_table([row(), row(beam=None)], columns)
    assert table.splitlines() == [
        "| decoder | beam | recall@10 | median_ms | epochs | run.share | preset |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| nezha | 10 | 0.2500 | 1,234 | 3 | 0.5 | tiny |",
        "| nezha | – | 0.2500 | 1,234 | 3 | 0.5 | tiny |",
    ]


def test_several_seeds_show_their_spread() -> None:
    measured = row(
        metrics={"recall@10": 0.25, "valid": 1.0},
        std={"recall@10": 0.0123, "valid": 0.0},
        per_seed={"recall@10": [0.24, 0.26]},
        seeds=[0, 1],
    )
    table = markdown_table([measured], ["recall@10", "valid"])
    assert table.splitlines()[2] == "| 0.2500 ± 0.0123 | 1 |"


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


def test_a_condition_chooses_rows(tmp_path: Path) -> None:
    write_results(tmp_path / "toy.json", [row(verifier="off"), row(verifier="prefix", beam=7)])
    text = "<!-- table toy.json where verifier=prefix: verifier, beam -->\n<!-- end table -->\n"
    assert filled_in(text, tmp_path).splitlines()[3:] == ["| prefix | 7 |", "<!-- end table -->"]


def test_several_conditions_must_all_hold(tmp_path: Path) -> None:
    rows = [row(verifier=kind, beam=beam) for kind in ("off", "prefix") for beam in (7, 10)]
    write_results(tmp_path / "toy.json", rows)
    mark = "<!-- table toy.json where verifier=prefix, beam=7: verifier, beam -->"
    text = f"{mark}\n<!-- end table -->\n"
    assert filled_in(text, tmp_path).splitlines()[3:] == ["| prefix | 7 |", "<!-- end table -->"]


def test_a_forgotten_mark_is_refused(tmp_path: Path) -> None:
    write_results(tmp_path / "toy.json", [row()])
    text = "<!-- table toy.json: decoder -->\nno end\n"
    with pytest.raises(ValueError, match="mark"):
        filled_in(text, tmp_path)
