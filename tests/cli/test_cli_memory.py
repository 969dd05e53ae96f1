"""A lack of memory on the command line: one sentence that says what to lower, and nothing lost."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer.main

import nezha_lite.evaluation.study
from nezha_lite.cli import app
from nezha_lite.common.results import ResultRow, read_results
from nezha_lite.decoding.beam_search import BeamSearch
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from tests.helpers.runs import python
from tests.helpers.shops import SMALL, Run
from tests.helpers.studies import CONFIG

pytestmark = pytest.mark.timeout(300)

LACKS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee docs."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 16000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
}


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("lack", LACKS)
def test_training_says_what_to_lower(
    lack: str, shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NezhaModel, "forward", failing(LACKS[lack]))
    answer = cli("train", shop, tmp_path / "run", *SMALL)
    assert answer.status == 2
    assert answer.err.splitlines()[-1] == (
        "nezha-lite: Memory ran out; lower --batch-rows or --max-items."
    )
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("lack", LACKS)
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate",),
        ("hallucination",),
        ("recommend", "--user", "u0"),
        ("bench", "equal", "--users", 5, "--no-compile"),
    ],
    ids=lambda command: command[0],
)
def test_decoding_says_what_to_lower(
    command: tuple[object, ...],
    lack: str,
    trained: Path,
    shop: Path,
    cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NezhaModel, "hidden_states", failing(LACKS[lack]))
    words = [word for word in command if str(word).isalpha() and word != "u0"]
    options = command[len(words) :]
    answer = cli(*words, trained, shop, *options)
    assert answer.status == 2
    assert answer.err.splitlines()[-1] == "nezha-lite: Memory ran out; lower --beam."
    assert "Traceback" not in answer.err


def test_a_command_without_advice_says_at_least_what_happened(
    shop: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in LACKS.values():
        monkeypatch.setattr("nezha_lite.cli.data.load_split", failing(error))
        answer = cli("data", shop)
        assert (answer.status, answer.err) == (2, "nezha-lite: Memory ran out.\n")


def _advises(command: object) -> bool:
    return "guarded" in getattr(getattr(command, "__code__", None), "co_name", "")


def test_all_advice_names_options_of_the_command() -> None:
    """`oom_hint` knows nothing of its command's options: a renamed one would be named in vain."""
    commands = typer.main.get_command(app).commands
    benches = commands.pop("bench").commands
    advised = 0
    for command in (*commands.values(), *benches.values()):
        guard = inspect.getclosurevars(inspect.unwrap(command.callback, stop=_advises)).nonlocals
        if "named" in guard:
            advised += 1
            known = {option for found in command.params for option in found.opts}
            assert set(guard["named"].replace(" or ", ", ").split(", ")) <= known, command.name
    assert advised >= 8


def test_what_bench_equal_has_measured_is_kept(
    trained: Path, shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = BeamSearch.__init__

    def lacking(self: BeamSearch, *arguments: object, **named: object) -> None:
        begin(self, *arguments, **named)
        if self.beam == 12:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(BeamSearch, "__init__", lacking)
    results = tmp_path / "equal.json"
    answer = cli(
        *("bench", "equal", trained, shop, "--users", 5, "--path", "nezha", "--no-compile"),
        *("--beam", 10, "--beam", 12, "--results", results),
    )
    assert answer.status == 2
    assert answer.err.splitlines()[-1] == "nezha-lite: Memory ran out; lower --beam."
    (row,) = read_results(results)
    assert (row.decoder, row.beam) == ("nezha", 10)


@pytest.mark.slow
def test_what_bench_decode_has_measured_is_kept(
    tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, lacking = nezha_lite.cli.bench.bench_decoding, [3]

    def some(model: NezhaModel, ids: SemanticIds, *arguments: object) -> list[ResultRow]:
        if ids.levels in lacking:
            raise torch.OutOfMemoryError("CUDA out of memory.\nSee docs.")
        return measure(model, ids, *arguments)

    monkeypatch.setattr("nezha_lite.cli.bench.bench_decoding", some)
    results = tmp_path / "decode.json"
    asked = ("bench", "decode", "--decoder", "forward", "--beam", 2, "--items", 50, "--codes", 8)
    asked += ("--levels", 2, "--levels", 3, "--repeats", 1, "--history", 2, "--no-compile")
    answer = cli(*asked, "--results", results)
    assert answer.status == 0
    assert "Left out: 3 levels: there is too little memory." in answer.err.splitlines()
    assert {row.settings["levels"] for row in read_results(results)} == {2}
    lacking.append(2)
    answer = cli(*asked)
    assert answer.status == 2
    assert answer.err.splitlines()[-1] == (
        "nezha-lite: Nothing was measured: all of it was left out; lower --batch, --beam or "
        "--history."
    )


@pytest.mark.slow
def test_a_study_names_the_job_and_what_to_lower(
    shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own, where nothing can be patched: so much memory nobody has.
    wide = replace(CONFIG, sasrec=replace(CONFIG.sasrec, width=2**22, heads=1), seeds=(0,))
    monkeypatch.setattr(nezha_lite.evaluation.study, "PRESETS", {"quick": wide})
    answer = cli("study", shop, tmp_path / "study", "--only", "sasrec", "--workers", 1)
    assert answer.status == 2
    assert answer.err.splitlines()[-1] == (
        "nezha-lite: 1 of 1 jobs failed (sasrec (seed 0)); sasrec: memory ran out; use fewer "
        "workers, or a smaller sasrec.batch_users or sasrec.width in the study's configuration; "
        "lower --workers."
    )


# Of a process that may use only so much more memory than it uses now.
LITTLE_MEMORY = """
import resource, sys
import nezha_lite.evaluation.study, nezha_lite.training
from nezha_lite.cli import main

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
main()
"""


@pytest.mark.slow
def test_memory_that_really_runs_out_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc to look at")
    options = ("--levels", "2", "--codes", "16", "--batch-rows", "4000", "--epochs", "1")
    done = python("-c", LITTLE_MEMORY, "train", "sample", str(tmp_path / "run"), *options)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.splitlines()[-1]
    assert last == "nezha-lite: Memory ran out; lower --batch-rows or --max-items."
    assert "Traceback" not in done.stderr
