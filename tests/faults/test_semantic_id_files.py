"""Files of semantic IDs that are damaged, or say what cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.semantic_ids import SemanticIds
from tests.faults.promises import Fault, each, refused, refused_by_command
from tests.faults.stored_files import DAMAGE, changed
from tests.helpers.shops import Run
from tests.helpers.toys import toy_ids

pytestmark = pytest.mark.fault_class("data: files of semantic IDs")

NAME = "semantic_ids.safetensors"
WHAT = "does not hold valid semantic IDs"


def damaged(damage: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = toy_ids().save(folder / NAME)
        damage(path)
        return path

    return make


def codes(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Path]:
    def put(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        tensors["codes"] = change(tensors["codes"])

    return damaged(lambda path: changed(path, put))


def heading(**fields: Any) -> Callable[[Path], Path]:
    """Metadata with these fields, as JSON; None takes a field away."""

    def put(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        for name, value in fields.items():
            del metadata[name]
            if value is not None:
                metadata[name] = value if isinstance(value, str) else json.dumps(value)

    return damaged(lambda path: changed(path, put))


def with_code(code: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def put(found: torch.Tensor) -> torch.Tensor:
        found[3, 1] = code
        return found

    return put


ITEMS = [f"i{item}" for item in range(20)]
FAULTS = [
    *(Fault(name, damaged(damage), (NAME, WHAT)) for name, damage in DAMAGE.items()),
    Fault("a code above its codebook", codes(with_code(5)), ("Item 'i3'", "code 5", "0 to 4")),
    Fault("a code far above", codes(with_code(2**62)), ("Item 'i3'", f"code {2**62}", "0 to 4")),
    Fault("a negative code", codes(with_code(-1)), ("Item 'i3'", "code -1", "0 to 4")),
    Fault("codes that are NaN", codes(lambda c: c * float("nan")), ("whole numbers",)),
    Fault("infinite codes", codes(lambda c: c / 0.0), ("whole numbers",)),
    Fault("codes with fractions", codes(lambda c: c.bfloat16()), ("whole numbers",)),
    Fault("complex codes", codes(lambda c: c.to(torch.complex64)), ("whole numbers",)),
    Fault("codes that are true or false", codes(lambda c: c > 0), ("whole numbers",)),
    Fault("no items", codes(lambda c: c[:0]), ("(0, 3)", "at least one item")),
    Fault("no levels", codes(lambda c: c[:, :0]), ("(20, 0)", "one level")),
    Fault("one dimension", codes(lambda c: c[:, 0]), ("(20,)", "(items, levels)")),
    Fault("three dimensions", codes(lambda c: c[None]), ("(1, 20, 3)", "(items, levels)")),
    Fault("an item less", codes(lambda c: c[1:]), ("names 20 items", "19 rows")),
    Fault("a level less", codes(lambda c: c[:, 1:]), ("each of the 2 levels",)),
    Fault("no radices", heading(radices=None), (WHAT, "radices")),
    Fault("radices cut off", heading(radices="[2, 5"), (WHAT, "line 1 column 6")),
    Fault("radices nested deep", heading(radices="[" * 99_999), (WHAT, "too deeply")),
    Fault("a radix of 0", heading(radices=[2, 0, 4]), ("(2, 0, 4)", "positive")),
    Fault("a negative radix", heading(radices=[2, -5, 4]), ("(2, -5, 4)", "positive")),
    Fault("a radix with a fraction", heading(radices=[2, 5.5, 4]), ("5.5", "whole number")),
    Fault("a radix that is true", heading(radices=[2, 5, True]), ("True", "whole number")),
    Fault("a radix that is text", heading(radices=[2, "5", 4]), ("'5'", "whole number")),
    Fault("radices that are a number", heading(radices=5), ("radices is 5", "a list")),
    Fault("more IDs than keys", heading(radices=[2**40] * 3), ("int64", "fewer levels")),
    Fault("a radix beyond 64 bits", heading(radices=[2, 2**70, 4]), ("int64", "fewer levels")),
    Fault("no names", heading(items=None), (WHAT, "items")),
    Fault("a name twice", heading(items=["i1", "i1", *ITEMS[2:]]), ("items names 'i1' 2 times",)),
    Fault("names that are one text", heading(items='"' + "x" * 20 + '"'), ("items is", "a list")),
    Fault("a name that is a number", heading(items=[7, *ITEMS[1:]]), ("7", "must be text")),
    Fault("a name that is null", heading(items=[None, *ITEMS[1:]]), ("None", "must be text")),
    Fault("names of another catalogue", heading(items=ITEMS[:5]), ("names 5 items", "20 rows")),
    Fault("half a character", heading(items=r'["\ud800"]'), (r"\ud800", "half a character")),
]


@each(FAULTS)
def test_bad_semantic_ids_are_refused(fault: Fault, tmp_path: Path, shop: Path, cli: Run) -> None:
    path = fault.make(tmp_path)
    says = (NAME, WHAT, *fault.says)
    refused(lambda: SemanticIds.load(path), says, tmp_path)
    command = ("map", tmp_path, shop, "--out", tmp_path / "map.csv")
    refused_by_command(cli, command, says, tmp_path)


JSON = {"radices": [2, 2], "items": ["a", "b"], "codes": [[0, 1], [1, 0]]}


@each(
    [
        Fault(name, lambda folder, text=text: (folder / "ids.json").write_text(text), says)
        for name, text, says in (
            ("nested deep", "[" * 99_999, ("too deeply",)),
            ("a key twice", '{"codes": [[0]], "codes": [[1]]}', ("'codes' occurs 2 times",)),
            ("a code that is true", json.dumps(JSON | {"codes": [[0, 1], [True, 0]]}), ("True",)),
            ("a code that is text", json.dumps(JSON | {"codes": [[0, 1], ["1", 0]]}), ("'1'",)),
            ("a number as row", json.dumps(JSON | {"codes": [[0, 1], 5]}), ("5",)),
            ("a name twice", json.dumps(JSON | {"items": ["a", "a"]}), ("'a' 2 times",)),
            ("an object", json.dumps(JSON | {"items": {"a": 1, "b": 2}}), ("items is {'a': 1",)),
            ("a number of 5000 digits", f'{{"radices": {"9" * 5000}}}', ("4,300 digits",)),
        )
    ]
)
def test_bad_json_of_semantic_ids_is_refused(
    fault: Fault, tmp_path: Path, shop: Path, cli: Run
) -> None:
    fault.make(tmp_path)
    says = ("ids.json", WHAT, *fault.says)
    refused(lambda: SemanticIds.load(tmp_path / "ids.json"), says, tmp_path)
    command = ("train", shop, tmp_path / "run", "--ids", tmp_path / "ids.json")
    refused_by_command(cli, command, says, tmp_path)
