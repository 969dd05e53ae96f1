"""Sequences in flat arrays against tuples of tuples."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import Sequences

lists = st.lists(st.lists(st.integers(-5, 2**40), max_size=5).map(tuple), max_size=8).map(tuple)
places = st.one_of(st.none(), st.integers(-10, 10))
steps = st.one_of(st.none(), st.integers(-3, 3).filter(bool))


@given(rows=lists, other=lists, where=st.builds(slice, places, places, steps))
def test_they_read_as_tuples_do(
    rows: tuple[tuple[int, ...], ...], other: tuple[tuple[int, ...], ...], where: slice
) -> None:
    flat = Sequences.of(rows)
    assert tuple(flat) == rows
    assert [flat[row] for row in range(-len(rows), 0)] == list(rows)
    assert tuple(flat[where]) == rows[where]
    assert flat[where] == rows[where]
    assert (flat == other) is (rows == other) is (flat == Sequences.of(other))
    assert (flat == [*map(list, rows)], flat != rows) == (True, False)
    assert [*zip(flat.rows, flat.values, strict=True)] == [
        (row, value) for row, values in enumerate(rows) for value in values
    ]
    assert flat.lengths.tolist() == [*map(len, rows)]
    assert deepcopy(flat) == flat
    assert all(type(value) is int for row in flat for value in row)


def test_rows_that_are_not_there() -> None:
    flat = Sequences.of([[1], []])
    for index in (2, -3):
        with pytest.raises(IndexError):
            flat[index]
    assert flat != 3
    assert flat != "12"
    assert repr(flat) == "Sequences([(1,), ()])"
    assert "9 in all" in repr(Sequences.of([[0]] * 9))


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([0, 2], "from 0 to 3"), ([1, 3], "from 0 to 3"), ([], "from 0"), ([0, 3, 2, 3], "at row 1")],
)
def test_wrong_offsets_are_refused(offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sequences(offsets, np.arange(3))
