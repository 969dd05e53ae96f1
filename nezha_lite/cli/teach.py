"""`nezha-lite teach`: a teacher's lists, made and inspected."""

from __future__ import annotations

import os
from pathlib import Path

from nezha_lite.cli.options import Data, SplitBy, TestFrom, load_split, oom_hint
from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.training import TrainingConfig
from nezha_lite.training.packing import TrainingRows, training_rows
from nezha_lite.training.teacher_lists import Teacher, TeacherLists, make_lists

LISTS_FILE = "lists.safetensors"


@oom_hint("--max-items")
def teach(
    dataset: Data,
    output: Path,
    teacher: str = "blend",
    run: Path | None = None,
    list_length: int = 16,
    max_items: int = 20,
    window_stride: int = TrainingConfig.window_stride,
    show: int = 3,
    split: SplitBy = "leave-one-out",
    test_from: TestFrom = None,
) -> None:
    """Make a teacher's lists for all training prefixes, for `train --teacher OUTPUT`.

    An interrupted call goes on where it was.

    Args:
        output: folder for the lists, and for SASRec where the teacher needs one
        teacher: sasrec, item-knn, blend (both), own: the backbone of `--run`, code by code; or a
            Parquet file of scores: columns user, after (the prefix's last item), item, score
        run: folder written by `train`, for the teacher own
        list_length: items a list
        max_items: longest history, in items; as in `train`
        window_stride: as in `train`
        show: training prefixes to show
    """
    data = load_split(dataset, split, test_from)
    config = TrainingConfig(window_stride=window_stride)
    rows = training_rows(data, config, max_items)
    lists = teacher_lists(data, teacher, output, rows, list_length, run)
    next_items = rows.next_items
    hits = sum(item in row for item, row in zip(next_items, lists.items.tolist(), strict=True))
    print(
        f"{len(next_items):,} lists of {lists.items.shape[1]} items are in {output / LISTS_FILE}; "
        f"{hits / len(next_items):.1%} hold the item that came next."
    )
    prefixes = rows.prefixes()
    for number, (user, history) in zip(range(show), prefixes, strict=False):
        print(f"\nAfter {data.title(history[-1])!r} (user {data.user_name(user)!r}):")
        pairs = zip(lists.items[number].tolist(), lists.weights[number].tolist(), strict=True)
        for item, weight in list(pairs)[:5]:
            came = "   ← came next" if item == next_items[number] else ""
            print(f"  {weight:6.1%}  {data.title(item)}{came}")


def teacher_lists(
    data: InteractionDataset,
    teacher: str,
    folder: Path,
    rows: TrainingRows,
    length: int,
    run: Path | None = None,
) -> TeacherLists:
    """Lists by the teacher's name, made in a folder, or read from a file or folder of `teach`."""
    path = Path(teacher)
    if path.exists() and path.suffix != ".parquet":
        return TeacherLists.load(path / LISTS_FILE if path.is_dir() else path).cut(length)
    valid = "a folder written by `nezha-lite teach`, where several processes train"
    check(os.environ.get("WORLD_SIZE", "1") == "1", "teacher", teacher, valid)
    folder.mkdir(parents=True, exist_ok=True)
    return make_lists(_teacher(data, teacher, folder, run), rows, folder / LISTS_FILE, length)


def _teacher(data: InteractionDataset, name: str, folder: Path, run: Path | None) -> Teacher:
    from nezha_lite.decoding.recommender import Recommender
    from nezha_lite.evaluation.baselines.scores_file import ScoresFileTeacher
    from nezha_lite.evaluation.baselines.teachers import BackboneTeacher, make_teacher

    if Path(name).suffix == ".parquet":
        return ScoresFileTeacher(name, data)
    if name != "own":
        return make_teacher(name, data, folder, progress=True)
    if run is None:
        raise ValueError("The teacher 'own' is a trained model's backbone: name its run by --run.")
    trained = Recommender.load(run)
    return BackboneTeacher(trained.model, trained.semantic_ids, f"own backbone of {run.name}")
