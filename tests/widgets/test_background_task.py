"""A background task: started, watched, cancelled, and failing, without a browser."""

from collections.abc import Callable, Iterator
from threading import Event

import pytest

from nezha_lite.widgets.background_task import BackgroundTask, Progress

SECONDS = 30


class Count:
    """Three pieces; each waits until the test lets it pass."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.shown: list[int] = []
        self.at_work, self.pass_on = Event(), Event()

    def pieces(self) -> Iterator[Progress]:
        for piece in range(3):
            yield piece, 3, f"piece <{piece}>"
            self.begun.append(piece)
            self.at_work.set()
            assert self.pass_on.wait(SECONDS)

    def finished(self) -> None:
        self.shown.append(len(self.begun))


@pytest.fixture
def count() -> Count:
    return Count()


@pytest.fixture
def work(count: Count) -> Iterator[BackgroundTask]:
    work = BackgroundTask("Count to three", count.pieces, count.finished, "Count")
    yield work
    work.cancel()
    count.pass_on.set()
    work.wait(SECONDS)


def test_all_pieces_are_done_and_then_shown(work: BackgroundTask, count: Count) -> None:
    count.pass_on.set()
    work.start_button.click()
    work.wait(SECONDS)
    assert count.begun == [0, 1, 2]
    assert count.shown == [3]
    assert "Done" in work.message.value


def test_while_it_runs_only_cancel_can_be_pressed(work: BackgroundTask, count: Count) -> None:
    assert work.cancel_button.disabled
    work.start()
    assert count.at_work.wait(SECONDS)
    assert work.running
    assert (work.start_button.disabled, work.cancel_button.disabled) == (True, False)
    assert work.bar.layout.display is None
    assert "piece &lt;0&gt; (0 of 3 done)" in work.message.value
    count.pass_on.set()
    work.wait(SECONDS)
    assert not work.running
    assert (work.start_button.disabled, work.cancel_button.disabled) == (False, True)
    assert work.bar.layout.display == "none"


def test_a_cancelled_start_shows_nothing_and_can_be_repeated(
    work: BackgroundTask, count: Count
) -> None:
    work.start()
    assert count.at_work.wait(SECONDS)
    work.cancel_button.click()
    count.pass_on.set()
    work.wait(SECONDS)
    assert count.begun == [0]
    assert count.shown == []
    assert "Cancelled" in work.message.value
    work.start()
    work.wait(SECONDS)
    assert count.begun == [0, 0, 1, 2]
    assert len(count.shown) == 1


def test_the_last_piece_can_be_cancelled_too() -> None:
    shown: list[str] = []

    def pieces() -> Iterator[Progress]:
        yield 0, 1, "the only piece"
        work.cancel()

    work = BackgroundTask("One piece", pieces, lambda: shown.append("shown"), "Work")
    work.start()
    work.wait(SECONDS)
    assert shown == []
    assert "Cancelled" in work.message.value


def test_a_second_start_does_not_begin_anew(work: BackgroundTask, count: Count) -> None:
    work.start()
    assert count.at_work.wait(SECONDS)
    work.start()
    count.pass_on.set()
    work.wait(SECONDS)
    assert count.begun == [0, 1, 2]


@pytest.mark.parametrize("failing", ["pieces", "finished"])
def test_an_error_is_said_and_the_button_comes_back(failing: str) -> None:
    def pieces() -> Iterator[Progress]:
        yield 0, 1, "one"
        if failing == "pieces":
            raise ValueError("no <b>such</b> beam")

    def finished() -> None:
        raise ValueError("no <b>such</b> beam")

    shown: Callable[[], None] = finished
    work = BackgroundTask("Fail", pieces, shown, "Fail")
    work.start()
    work.wait(SECONDS)
    assert "Stopped: no &lt;b&gt;such&lt;/b&gt; beam" in work.message.value
    assert not work.running
    assert not work.start_button.disabled
