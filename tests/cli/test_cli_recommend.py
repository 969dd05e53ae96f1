"""`nezha-lite recommend`: what one list may hold."""

import re
from pathlib import Path

from nezha_lite.datasets import load_folder
from tests.helpers.shops import Run
from tests.helpers.toys import COLOURS, N_ITEMS, THINGS


def recommended(out: str) -> list[int]:
    return [int(name) for name in re.findall(r"\(item i(\d+),", out.split("Recommended:")[1])]


def test_what_is_excluded_makes_room_for_others(trained: Path, shop: Path, cli: Run) -> None:
    ask = ("recommend", trained, shop, "--user", "u3", "-k", "5", "--beam", str(N_ITEMS))
    ranking = recommended(cli(*ask[:5], "-k", str(N_ITEMS)).out)
    assert sorted(ranking) == list(range(N_ITEMS))
    dataset = load_folder(shop)
    seen = [int(dataset.items[item][1:]) for item in dataset.sequences[dataset.users.index("u3")]]
    unseen = [item for item in ranking if item not in seen]
    assert recommended(cli(*ask, "--exclude-seen").out) == unseen[:5]

    first, second = ranking[:2]
    denied = cli(*ask, "--deny", f"i{first}", "--deny", f"i{second}")
    assert recommended(denied.out) == ranking[2:7]

    mug = THINGS.index("mug") * len(COLOURS)
    mugs = [item for item in ranking if mug <= item < mug + len(COLOURS)]
    assert recommended(cli(*ask, "--category", "mug").out) == mugs
    some = [item for item in mugs if item != mugs[0] and item not in seen]
    together = cli(*ask, "--category", "mug", "--exclude-seen", "--deny", f"i{mugs[0]}")
    assert recommended(together.out) == some


def test_what_nobody_knows_is_one_sentence(trained: Path, shop: Path, cli: Run) -> None:
    ask = ("recommend", trained, shop, "--user", "u3")
    for option, words in (
        ("--deny", "Item 'nothing' is not in data set 'shop', which names them like 'i0'."),
        (
            "--category",
            "Category 'nothing' is not in data set 'shop', whose most frequent ones are 'home', ",
        ),
    ):
        answer = cli(*ask, option, "nothing")
        assert answer.status == 2
        assert answer.err.startswith(f"nezha-lite: {words}")
        assert answer.err.count("\n") == 1
