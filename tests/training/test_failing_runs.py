"""A run that must stop says why in one sentence, and its checkpoints can be resumed from."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest
import torch

from nezha_lite.evaluation.baselines import SasRecConfig, train_sasrec
from nezha_lite.evaluation.baselines.sasrec import SasRec
from nezha_lite.model import NezhaModel
from nezha_lite.training import train
from nezha_lite.training.packing import LengthGroupedOrder, TrainingRows
from tests.helpers.runs import CONFIG, DROPOUT, checkpoints, files, python, run, same_weights
from tests.helpers.shops import SMALL, Run
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

pytestmark = pytest.mark.usefixtures("random_state")

Forward = Callable[..., dict[str, torch.Tensor]]


def spoilt(forward: Forward, call: int, factor: float) -> Forward:
    """The same forward, but for the loss of one call, counted from 0."""
    calls: list[int] = []

    @wraps(forward)  # the Trainer looks at the signature
    def changed(self: object, *arguments: object, **named: object) -> dict[str, torch.Tensor]:
        answer = forward(self, *arguments, **named)
        calls.append(1)
        return answer | {"loss": answer["loss"] * factor} if len(calls) == call + 1 else answer

    return changed


# ---- NaN -----------------------------------------------------------------------------------------


def users_of_batch(epoch: int, batch: int) -> list[str]:
    """Whose rows are trained together, worked out from the order itself."""
    rows = TrainingRows(toy_dataset().train_sequences(), 6, 6)
    lengths = [row.n_tokens(3) for row in rows.rows]
    order = LengthGroupedOrder(lengths, CONFIG.batch_rows, CONFIG.seed)
    order.set_epoch(epoch)
    places = list(order)[batch * CONFIG.batch_rows :][: CONFIG.batch_rows]
    targets = [rows.rows[place].items for place in places]
    sequences = toy_dataset().train_sequences()
    return [f"u{next(u for u, s in enumerate(sequences) if tuple(s) == t)}" for t in targets]


@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_the_run_at_once(
    factor: float,
    finished: tuple[NezhaModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(NezhaModel, "forward", spoilt(NezhaModel.forward, 10, factor))
        with pytest.raises(FloatingPointError) as stopped:
            run(folder)
    last = folder / "checkpoints" / "checkpoint-8"
    said = str(stopped.value)
    assert said.startswith(f"The loss is {factor} in step 11 of 16, at users 'u")
    assert said.endswith(
        f" and 5 more; the last good checkpoint is {last}. A lower learning rate may help."
    )
    (note,) = stopped.value.__notes__
    named = note.removeprefix("All users of the batch: ").split(", ")
    assert len(named) == len(set(named)) == 8
    sequences, users = toy_dataset().train_sequences(), toy_dataset().users
    assert {tuple(sequences[users.index(name)]) for name in named} == {
        tuple(sequences[users.index(name)]) for name in users_of_batch(2, 2)
    }
    assert checkpoints(folder) == [4, 8]
    assert same_weights(run(folder, resume=True), finished[0])


def test_weights_that_are_not_finite_are_never_saved(
    finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    """The loss of the step that breaks them may be finite, and the next one an epoch later."""
    model, calls = toy_model(dropout=DROPOUT), []

    def broken_at_step_8(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * (torch.nan if len(calls) == 8 else 1.0)

    next(model.head.parameters()).register_hook(broken_at_step_8)
    with pytest.raises(
        FloatingPointError,
        match=r"holds NaN or infinite weights in step 8 of 16; the last good .*checkpoint-4\.",
    ):
        train(model, toy_ids(), toy_dataset(), tmp_path, CONFIG, progress=False)
    assert checkpoints(tmp_path) == [4]
    assert same_weights(run(tmp_path, resume=True), finished[0])


def test_without_checkpoints_broken_weights_are_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model()
    next(model.head.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    config = replace(CONFIG, epochs=1, batch_rows=30, checkpoints=False)
    with pytest.raises(FloatingPointError, match="in step 1 of 1; there is no checkpoint yet"):
        train(model, toy_ids(), toy_dataset(), tmp_path, config, progress=False)
    assert files(tmp_path) == {"semantic_ids.safetensors", "checkpoints"}


def test_sasrec_stops_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SasRecConfig(width=16, layers=1, epochs=3, patience=3, batch_users=8)
    monkeypatch.setattr(SasRec, "forward", spoilt(SasRec.forward, 5, torch.nan))
    with pytest.raises(FloatingPointError, match=r"step 6 of 12, at users 'u.*checkpoint-4\."):
        train_sasrec(toy_dataset(), tmp_path, config)
    monkeypatch.undo()
    _, record = train_sasrec(toy_dataset(), tmp_path, config)
    assert record["resumed"] is True


def small_at(rates: list[str]) -> list[str]:
    """The small shop's options with this learning rate, and what follows it."""
    options = list(SMALL)
    place = options.index("--learning-rate") + 1
    return [*options[:place], *rates, *options[place + 1 :]]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        # The highest rates allowed: AdamW's product of them is still a number of float32.
        (
            ["1e9", "--embedding-lr", "1e9"],
            "A lower learning rate may help.",
        ),
        (["1e38"], "learning_rate is 1e+38, but must be above 0 and at most 1e+09."),
    ],
)
def test_an_absurd_learning_rate_is_one_sentence(
    shop: Path, tmp_path: Path, cli: Run, rates: list[str], said: str
) -> None:
    answer = cli("train", shop, tmp_path / "run", *small_at(rates))
    last = answer.err.splitlines()[-1]
    assert answer.status == 2
    assert last.startswith("nezha-lite: ")
    assert said in last
    assert "Traceback" not in answer.err


# ---- a full disk ---------------------------------------------------------------------------------

# Once the model is saved to a folder of the name argv[2], no file may become as large as argv[3] in
# the checkpoint before: the system refuses to write more, as it does on a full disk.
FULL_DISK = """
import resource, sys
from pathlib import Path
from nezha_lite.model import NezhaModel
from tests.helpers.runs import run

output, name, like = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[1], "checkpoints", sys.argv[3])
save = NezhaModel.save_pretrained
def saved(self, folder, **options):
    if Path(folder).name == name:
        room = like.stat().st_size - 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    save(self, folder, **options)
NezhaModel.save_pretrained = saved
try:
    run(output)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "like", "left"),
    [
        ("checkpoint-4", "../semantic_ids.safetensors", []),
        ("checkpoint-8", "checkpoint-4/model.safetensors", [4]),
        ("checkpoint-8", "checkpoint-4/optimizer.pt", [4]),
        ("run", "checkpoint-16/model.safetensors", [12, 16]),
    ],
)
@pytest.mark.slow
def test_a_full_disk_costs_no_checkpoint(
    name: str, like: str, left: list[int], finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    done = python("-c", FULL_DISK, str(folder), name, like)
    (said,) = done.stdout.splitlines()
    place = folder if name == "run" else folder / "checkpoints" / name
    assert said.startswith(f"{place} could not be written ("), done.stderr
    assert said.endswith(
        "make room on the disk, then "
        + {0: "train again.", 1: "resume from checkpoint-4.", 2: "resume."}[len(left)]
    )
    assert checkpoints(folder) == left
    assert not (folder / "training.json").exists()
    assert same_weights(run(folder, resume=True), finished[0])


def test_a_part_that_is_no_disk_s_fault_keeps_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(NezhaModel, "save_pretrained", lacking)
    with pytest.raises(torch.OutOfMemoryError):
        run(tmp_path / "run")
