"""Measured figures, users' lists and run folders on disk: damaged, or saying what cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nezha_lite.common.results import ResultRow, provenance, read_results, write_results
from nezha_lite.evaluation import Evaluation
from nezha_lite.evaluation.hallucination import epochs_trained
from nezha_lite.evaluation.run_folders import ASKED_FILE, claim, load_lists, save_lists
from tests.faults.promises import Fault, each, refused
from tests.faults.stored_files import DAMAGE, changed

pytestmark = pytest.mark.fault_class("data: figures, lists and run folders")

FILE = "quality-toy-figures.json"
NOT_JSON: dict[str, str | bytes] = {
    "empty": b"",
    "cut": '{"kind": "qual',
    "nested deep": "[" * 99_999,
    "a key twice": '{"kind": "quality", "kind": "latency"}',
    "UTF-16": "{}".encode("utf-16"),
    "Latin-1": b'{"\xe9": 1}',
    "NUL bytes": bytes(50),
    "a number of 5000 digits": "9" * 5000,
    "half a character": r'{"kind": "\ud800"}',
}


def written(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def row(**fields: Any) -> Callable[[Path], object]:
    """A row of figures in which these fields are other ones; ... takes one away."""

    def make(folder: Path) -> None:
        good = ResultRow(
            kind="quality",
            dataset="toy",
            model={},
            metrics={"recall@10": 0.5},
            seconds=1.0,
            **provenance("cpu"),
        )
        write_results(folder / FILE, [good, good])
        content = json.loads((folder / FILE).read_text())
        for name, value in fields.items():
            content["rows"][1][name] = value
            if value is ...:
                del content["rows"][1][name]
        (folder / FILE).write_text(json.dumps(content))

    return make


@each(
    [
        *(Fault(name, written(FILE, text), ("is not JSON",)) for name, text in NOT_JSON.items()),
        *(
            Fault(f"rows are {rows}", written(FILE, f'{{"rows": {rows}}}'), says)
            for rows, says in (
                ("null", ("at least one row",)),
                ("[]", ("at least one row",)),
                ("[null]", ("row 1", "an object")),
                ('["kind"]', ("row 1", "an object")),
            )
        ),
        *(
            Fault(f"{name}: {value!r}", row(**{name: value}), ("row 2", name))
            for name, value in (
                ("kind", "speed"),
                ("kind", None),
                ("kind", ["quality"]),
                ("dataset", ""),
                ("dataset", 5),
                ("model", "small"),
                ("model", ...),
                ("decoder", 5),
                ("verifier", ["prefix"]),
                ("beam", 0),
                ("beam", "10"),
                ("beam", 2.5),
                ("metrics", {}),
                ("metrics", [0.5]),
                ("metrics", "recall@10"),
                ("metrics", {"recall@10": float("nan")}),
                ("metrics", {"recall@10": float("inf")}),
                ("metrics", {"recall@10": "0.5"}),
                ("metrics", {"recall@10": True}),
                ("std", [0.1]),
                ("std", {"ndcg@10": 0.1}),
                ("std", {"recall@10": float("nan")}),
                ("per_seed", {"recall@10": 0.5}),
                ("per_seed", {"recall@10": [0.5, 0.5]}),
                ("seeds", 3),
                ("seeds", None),
                ("settings", ["users"]),
                ("device", None),
                ("versions", "5.23"),
                ("commit", 5),
                ("date", "yesterday"),
                ("date", 2026),
                ("seconds", "1"),
                ("seconds", float("nan")),
                ("speed", 1),
            )
        ),
    ]
)
def test_bad_figures_are_refused(fault: Fault, tmp_path: Path) -> None:
    fault.make(tmp_path)
    refused(lambda: read_results(tmp_path / FILE), (FILE, *fault.says), tmp_path)


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
    def put(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        found = change(tensors.pop(name))
        if found is not None:
            tensors[name] = found

    return lambda path: changed(path, put)


def said(name: str, text: str | None) -> Callable[[Path], object]:
    def put(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        del metadata[name]
        if text is not None:
            metadata[name] = text

    return lambda path: changed(path, put)


@each(
    [
        *(Fault(name, damage, ()) for name, damage in DAMAGE.items()),
        Fault("no ranks", tensor("ranks", lambda t: None), ("ranks",)),
        Fault("a rank less", tensor("ranks", lambda t: t[1:]), ("ranks",)),
        Fault("ranks that are NaN", tensor("ranks", lambda t: t * float("nan")), ("ranks",)),
        Fault("ranks in two dimensions", tensor("ranks", lambda t: t[None]), ("ranks",)),
        Fault("a list less", tensor("lists", lambda t: t[1:]), ("lists",)),
        Fault("lists in one dimension", tensor("lists", lambda t: t[:, 0]), ("lists",)),
        Fault("a negative length", tensor("lengths", lambda t: t - 9), ("lengths",)),
        Fault("lengths beyond the lists", tensor("lengths", lambda t: t + 9), ("lengths",)),
        Fault("no beam", said("beam", None), ("beam",)),
        Fault("a beam of text", said("beam", "wide"), ("wide",)),
        Fault("no account", said("about", None), ("about",)),
        Fault("an account nested deep", said("about", "[" * 99_999), ("too deeply",)),
        Fault("an account that is a list", said("about", "[]"), ("about",)),
    ]
)
def test_bad_lists_are_refused(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / "lists.safetensors"
    counts = np.array([2, 1, 0])
    save_lists(path, Evaluation(counts, counts, [[1, 2], [3], []], counts, counts, 10), {"a": 1})
    fault.make(path)
    refused(lambda: load_lists(path), (path.name, "delete it", *fault.says), tmp_path)


@each(
    [
        Fault(name, written("asked.json", text), ())
        for name, text in {**NOT_JSON, "a list": "[1]", "nothing": "{}"}.items()
    ]
)
def test_bad_run_folders_are_refused(fault: Fault, tmp_path: Path) -> None:
    fault.make(tmp_path)
    says = (ASKED_FILE, "delete its folder")
    refused(lambda: claim(tmp_path, {"seed": 1}), says, tmp_path)


@each(
    [
        Fault(name, written("trainer_state.json", text), ())
        for name, text in {
            **NOT_JSON,
            "no epoch": '{"step": 3}',
            "an epoch of text": '{"epoch": "2"}',
            "an epoch that is true": '{"epoch": true}',
        }.items()
    ]
)
def test_bad_trainer_states_are_refused(fault: Fault, tmp_path: Path) -> None:
    fault.make(tmp_path)
    refused(lambda: epochs_trained(tmp_path), ("trainer_state.json",), tmp_path)
