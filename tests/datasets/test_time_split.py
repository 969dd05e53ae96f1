"""The split at a moment against one that is made by looking at every interaction."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nezha_lite.datasets import (
    InteractionDataset,
    Split,
    TimeSplit,
    load_folder,
    read_tables,
    write_folder,
)

SECOND = 10**9
ITEMS = tuple("abcde")
events = st.lists(  # (time, item) of each user, in order of time, with many equal times
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=7).map(
        lambda taken: sorted(taken, key=lambda event: event[0])
    ),
    min_size=1,
    max_size=6,
)


def dataset_of(histories: list[list[tuple[int, int]]]) -> InteractionDataset:
    return InteractionDataset(
        "shop",
        ITEMS,
        tuple(f"u{user}" for user in range(len(histories))),
        [[item for _, item in taken] for taken in histories],  # type: ignore[arg-type]
        times=[[time * SECOND for time, _ in taken] for taken in histories],  # type: ignore[arg-type]
    )


def cuts(times: list[int], test_from: int | float) -> tuple[int, int] | None:
    """Where validation and test begin, or None where nothing is left for one of the parts."""
    ordered = sorted(times)
    if isinstance(test_from, int):
        end = test_from
    elif ordered:
        end = ordered[min(round((1 - test_from) * len(ordered)), len(ordered) - 1)]
    else:
        return None
    earlier = [time for time in ordered if time < end]
    tested = len(ordered) - len(earlier)
    if not 0 < tested <= len(earlier) or earlier[-tested] == ordered[0]:
        return None
    return earlier[-tested], end


@given(histories=events, test_from=st.one_of(st.integers(0, 13), st.floats(0.01, 0.99)))
def test_the_future_is_neither_trained_on_nor_in_a_history(
    histories: list[list[tuple[int, int]]], test_from: int | float
) -> None:
    dataset = dataset_of(histories)
    date = f"1970-01-01T00:00:{test_from:02d}" if isinstance(test_from, int) else test_from
    expected_cuts = cuts([time for taken in histories for time, _ in taken], test_from)
    if expected_cuts is None:
        with pytest.raises(ValueError, match="must be left for training"):
            dataset.by_time(date)
        return
    cut, end = expected_cuts
    split = dataset.by_time(date)
    assert split.time_split == TimeSplit(cut * SECOND, end * SECOND)
    train = [tuple(item for time, item in taken if time < cut) for taken in histories]
    assert split.train_sequences() == train
    assert any(train)
    assert split.popularity() == [sum(row.count(item) for row in train) for item in range(5)]
    for name, first, last in (("validation", cut, end), ("test", end, 99)):
        expected, left_out = [], 0
        for user, taken in enumerate(histories):
            later = [item for time, item in taken if first <= time < last]
            history = tuple(item for time, item in taken if time < first)
            if later and history:
                expected.append((user, history, later[0]))
            left_out += bool(later) and not history
        found = split.split(name)  # type: ignore[arg-type]
        assert found == Split(*(tuple(row[k] for row in expected) for k in range(3)))
        assert found.left_out == left_out
    assert replace(split, time_split=None) == dataset


@given(histories=events)
def test_leave_one_out_counts_the_users_it_leaves_out(
    histories: list[list[tuple[int, int]]],
) -> None:
    split = dataset_of(histories).split("test")
    assert len(split) == sum(len(taken) >= 3 for taken in histories)
    assert split.left_out == sum(0 < len(taken) < 3 for taken in histories)


def test_times_stay_with_the_data(tmp_path: Path) -> None:
    table = tmp_path / "orders.csv"
    rows = [("u", "b", 30), ("v", "a", 20), ("u", "a", 10), ("v", "b", 40), ("v", "c", 50)]
    table.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    dataset = read_tables(table)
    assert dataset.times == [[10 * SECOND, 30 * SECOND], [20 * SECOND, 40 * SECOND, 50 * SECOND]]
    found = load_folder(write_folder(dataset, tmp_path / "orders"))
    assert found == dataset
    split = found.by_time("1970-01-01T01:00:35+01:00")
    assert split.split_method == (
        "temporal, validation from 1970-01-01T00:00:20Z, test from 1970-01-01T00:00:35Z"
    )
    assert split.split("test") == Split((1,), ((0,),), (1,))
    (tmp_path / "orders" / "orders.inter.json").write_text('{"u": ["a", "b", "c", "a", "b"]}')
    with pytest.raises(ValueError, match=r"orders\.times\.safetensors is damaged.*other histories"):
        load_folder(tmp_path / "orders")


@pytest.mark.parametrize(
    ("test_from", "message"),
    [
        (1.5, r"test_from is 1.5, but must be a share in \(0, 1\) or a date such as"),
        ("0", "test_from is 0, but must be a share"),
        ("20240131", "test_from is 20240131, but must be a share"),
        ("soon", "test_from is 'soon', but must be a share"),
        ("2024-01-31", r"0 of 4 interactions \(1970-01-01T00:00:01Z to 1970-01-01T00:00:04Z\)"),
        ("1970-01-01", "4 of 4 interactions"),
        (0.5, "2 of 4 interactions .* must be left for training"),
    ],
)
def test_impossible_moments_are_refused(test_from: str | float, message: str) -> None:
    dataset = dataset_of([[(1, 0), (2, 1), (3, 2), (4, 3)]])
    assert dataset.by_time(0.25).time_split == TimeSplit(3 * SECOND, 4 * SECOND)
    with pytest.raises(ValueError, match=message):
        dataset.by_time(test_from)


def test_data_without_times_says_what_is_needed() -> None:
    dataset = replace(dataset_of([[(1, 0)]]), times=None)
    with pytest.raises(ValueError, match=r"'shop' has no times.*Import a table.*--time COLUMN"):
        dataset.by_time(0.1)
    with pytest.raises(ValueError, match="has no times"):
        replace(dataset, time_split=TimeSplit(0, 1))


@given(histories=events)
def test_times_that_do_not_fit_are_refused(histories: list[list[tuple[int, int]]]) -> None:
    dataset = dataset_of(histories)
    assert dataset.times is not None
    with pytest.raises(ValueError, match="times of 'shop' are not one for each item"):
        replace(dataset, times=[*dataset.times, (1,)])
    falling = [tuple(reversed(times)) for times in dataset.times]
    assume(any(times[:1] != times[-1:] for times in falling))
    user = next(user for user, times in enumerate(falling) if times[:1] != times[-1:])
    with pytest.raises(ValueError, match=f"times of 'shop', user 'u{user}': they fall"):
        replace(dataset, times=falling)
