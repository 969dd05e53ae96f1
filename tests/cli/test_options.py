"""Options that are made of a dataclass's or a function's fields, said once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from nezha_lite.cli.options import command_of, options_of


@dataclass(frozen=True)
class Settings:
    """Made up.

    Attributes:
        beams: beam widths,
            in two lines.
        rate, decay: of learning.
        check: whether to.
    """

    beams: Sequence[int] = (10, 50)
    rate: float = 0.5
    decay: float | None = None
    check: bool = True


def search(mode: Literal["off", "prefix"] = "off", hidden: int = 3) -> None:
    """Made up.

    Args:
        mode: when to check.
        hidden: is no option.
    """


def answer(source: Any, *arguments: str) -> tuple[str, dict[str, Any]]:
    app, seen = typer.Typer(), {}

    @app.command()
    @options_of("settings", source, "rate", "decay", "check", beams="--beam")
    @options_of("searched", search, "mode")
    def command(name: str, settings: dict[str, Any], searched: dict[str, Any]) -> None:
        seen.update({"name": name, **settings, **searched})

    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.output, seen


def test_only_options_that_were_used_arrive() -> None:
    assert answer(Settings, "x")[1] == {"name": "x"}
    used = answer(Settings, "x", "--beam", "3", "--beam", "4", "--rate", "0.5", "--no-check")[1]
    assert used == {"name": "x", "beams": [3, 4], "rate": 0.5, "check": False}
    assert answer(Settings, "x", "--mode", "prefix")[1] == {"name": "x", "mode": "prefix"}
    assert "Invalid value" in answer(Settings, "x", "--mode", "often")[0]


def test_help_and_defaults_are_those_of_the_source() -> None:
    text = " ".join(answer(Settings, "--help")[0].split())
    assert "beam widths, in two lines; repeated [default: 10, 50]" in text
    assert "of learning [default: 0.5]" in text
    assert "when to check [default: off]" in text
    assert "--hidden" not in text
    text = " ".join(answer(Settings(beams=(7,), rate=2.0), "--help")[0].split())
    assert "repeated [default: 7]" in text
    assert "of learning [default: 2.0]" in text


def test_a_field_without_help_is_an_error() -> None:
    with pytest.raises(KeyError, match="mode"):
        options_of("settings", lambda mode="off": None, "mode")


def test_a_docstring_explains_arguments_and_options_and_is_not_shown_itself() -> None:
    app = typer.Typer()

    @command_of(app)
    def command(
        name: str, beam: int = 3, short: Annotated[bool, typer.Option("--short")] = False
    ) -> None:
        """Searches.

        Args:
            name: of the search
            beam: width of the beam,
                in two lines
            short: only a few
        """

    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    text = " ".join(output.split())
    assert "of the search [required]" in text
    assert "width of the beam, in two lines [default: 3]" in text
    assert "only a few" in text
    assert "--no-short" not in text
    assert "Args:" not in text
