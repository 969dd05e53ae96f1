"""Data sets that are JSON, but say what cannot be."""

from pathlib import Path

import pytest

from nezha_lite.datasets import load_folder
from tests.faults.data_folders import parts
from tests.faults.promises import Fault, each, refused, refused_by_command, traced
from tests.helpers.shops import Run

pytestmark = pytest.mark.fault_class("data: JSON that says what cannot be")


def history(name: str, value: str, *says: str) -> Fault:
    """A second user's history is this, as JSON."""
    text = f'{{"ann": [1, 2], "bob": {value}}}'
    return Fault(f"inter: {name}", parts(inter=text), ("shop.inter.json", "user 'bob'", *says))


def described(name: str, value: str, *says: str) -> Fault:
    """A second item's entry is this, as JSON."""
    text = f'{{"1": {{"title": "Mug"}}, "2": {value}}}'
    return Fault(f"item: {name}", parts(item=text), ("shop.item.json", "item '2'", *says))


def named(name: str, value: str, *says: str) -> Fault:
    """A second item's semantic ID is this, as JSON."""
    text = f'{{"1": ["<a_0>", "<b_1>"], "2": {value}, "3": ["<a_0>", "<b_0>"]}}'
    return Fault(f"index: {name}", parts(index=text), ("shop.index.json", "item '2'", *says))


INTEGERS = "item IDs are integers or strings"
TOKEN = "must read <a_183>"
FAULTS = [
    history("no list", "null", "the history is None", "must be a list of item IDs"),
    history("an object", '{"1": 5}', "the history is {'1': 5}", "must be a list of item IDs"),
    history("a number", "7", "the history is 7", "must be a list of item IDs"),
    history("a text", '"1, 2"', "the history is '1, 2'", "must be a list of item IDs"),
    history("true", "true", "the history is True", "must be a list of item IDs"),
    history("NaN", "NaN", "the history is nan", "must be a list of item IDs"),
    history("an item that is NaN", "[1, NaN]", "entry 1 is nan", INTEGERS),
    history("an item that is infinite", "[Infinity]", "entry 0 is inf", INTEGERS),
    history("an item beyond all numbers", "[2, 1e999]", "entry 1 is inf", INTEGERS),
    history("an item with a fraction", "[1, 2, 3.0]", "entry 2 is 3.0", INTEGERS),
    history("an item that is null", "[null]", "entry 0 is None", INTEGERS),
    history("an item that is false", "[1, false]", "entry 1 is False", INTEGERS),
    history("an item that is an object", '[{"id": 1}]', "entry 0 is {'id': 1}", INTEGERS),
    history("item and time", "[[1, 1700000000]]", "entry 0 is [1, 1700000000]", INTEGERS),
    history("an item of a thousand parts", f"[{[0] * 1000}]", "entry 0 is [0, 0", INTEGERS),
    described("null", "null", "the entry is None", '{"title": "Mug"}'),
    described("a number", "5", "the entry is 5", '{"title": "Mug"}'),
    described("a text", '"Pot"', "the entry is 'Pot'", '{"title": "Mug"}'),
    described("a list", '["Pot"]', "the entry is ['Pot']", '{"title": "Mug"}'),
    *(
        described(f"{key} {what}", f'{{"{key}": {value}}}', f"{key} is {shown}", "a string")
        for key in ("title", "brand", "description", "categories")
        for what, value, shown in (
            ("a number", "3", "3"),
            ("true", "true", "True"),
            ("infinite", "Infinity", "inf"),
            ("an object", '{"en": "Pot"}', "{'en': 'Pot'}"),
        )
    ),
    described("a title of numbers", '{"title": ["Pot", 3]}', "title is ['Pot', 3]", "strings"),
    described("categories of numbers", '{"categories": ["Tea", 3]}', "categories is 3", "a string"),
    named("null", "null", "the semantic ID is None", '["<a_183>"]'),
    named("a text of a level less", '"<a_1>"', "it must have 2 tokens, as others do"),
    named("another text", '"a lamp"', "the token 'a' must read <a_183>"),
    named("an object", '{"a": 1}', "the semantic ID is {'a': 1}", '["<a_183>"]'),
    named("empty", "[]", "the semantic ID is []", '["<a_183>"]'),
    named("27 levels", f"[{', '.join(['0'] * 27)}]", "the semantic ID is [0, 0", '["<a_183>"]'),
    named("numbers", "[1, 1]", "the token 1", TOKEN),
    named("null in it", '["<a_1>", null]', "the token None", "must read <b_183>"),
    named("the second level first", '["<b_1>", "<a_1>"]', "the token '<b_1>'", TOKEN),
    named("a capital", '["<A_1>", "<b_1>"]', "the token '<A_1>'", TOKEN),
    named("a negative code", '["<a_-1>", "<b_1>"]', "the token '<a_-1>'", TOKEN),
    named("a fraction", '["<a_1.5>", "<b_1>"]', "the token '<a_1.5>'", TOKEN),
    named("no code", '["<a_>", "<b_1>"]', "the token '<a_>'", TOKEN),
    named("no end", '["<a_1", "<b_1>"]', "the token '<a_1'", TOKEN),
    named("a line end behind", '["<a_1>\\n", "<b_1>"]', "the token '<a_1>\\n'", TOKEN),
    named("digits of another script", '["<a_\\u0663>", "<b_1>"]', "the token '<a_٣>'", TOKEN),
    named("a code beyond 32 bits", f'["<a_{2**32}>", "<b_1>"]', f"'<a_{2**32}>'", TOKEN),
    named("a code beyond 64 bits", f'["<a_{2**64}>", "<b_1>"]', f"'<a_{2**64}>'", TOKEN),
    named("5000 digits", f'["<a_{"9" * 5000}>", "<b_1>"]', "the token '<a_999", TOKEN),
    named("a level less", '["<a_1>"]', "it must have 2 tokens, as others do"),
    named("a level more", '["<a_1>", "<b_1>", "<c_1>"]', "it must have 2 tokens"),
    Fault(
        "index: an item without a semantic ID",
        parts(index={"1": ["<a_0>"], "3": ["<a_1>"]}),
        ("shop.index.json", "item '2'", "no semantic ID; add one, or drop the file"),
    ),
    Fault(
        "index: no item at all",
        parts(index={}),
        ("shop.index.json", "item '1'", "no semantic ID; add one, or drop the file"),
    ),
    Fault(
        "no item anywhere",
        parts(inter={}, item={}, index=None),
        ("shop.inter.json", "names no item", "at least one"),
    ),
    Fault(
        "only users without items",
        parts(inter={"ann": [], "bob": []}, item=None, index=None),
        ("shop.inter.json", "names no item", "at least one"),
    ),
]


@each(FAULTS)
def test_what_cannot_be_is_refused(fault: Fault, tmp_path: Path, cli: Run) -> None:
    shop = fault.make(tmp_path)
    refused(lambda: load_folder(shop), fault.says, tmp_path)
    refused_by_command(cli, ("data", shop), fault.says, tmp_path)


def test_an_id_space_beyond_the_keys_names_the_data_set(
    tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every code may be, but together they are more than a 64-bit key can tell apart."""
    wide = [f"<{letter}_{10**8}>" for letter in "abc"]
    shop = parts(index=dict.fromkeys("123", wide))(tmp_path)
    load_folder(shop)  # the data set as such is sound
    says = ("'shop'", "radices", "keys are int64", "fewer levels or smaller codebooks")
    refused_by_command(cli, ("data", shop), says, tmp_path)
    traced(monkeypatch, ("data", shop))
    refused_by_command(cli, ("train", shop, tmp_path / "run"), says, tmp_path)
