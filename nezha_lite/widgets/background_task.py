"""A task too slow to be live: a button starts it, a bar shows its progress, a button cancels it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from threading import Event, Thread

import ipywidgets as widgets
import traitlets

Progress = tuple[int, int, str]
"""How many pieces are done, of how many, and what comes next in plain text."""


class BackgroundTask(widgets.HBox):
    """A start button, a cancel button, and the progress of a task.

    The task runs on a thread of its own: a kernel that is busy itself receives no "cancel".

    Args:
        description: of the start button.
        pieces: called at each start. It yields a `Progress` before each piece of work, the first
            one at once; it is resumed only while the task is not cancelled. The message beside the
            bar reports an error that it raises.
        finished: called after the last piece, but not after a cancellation or an error. It shows
            all that `pieces` prepared, so that a cancelled start changes nothing.
        tooltip: of the start button.

    The trait `running` may be observed.
    """

    running = traitlets.Bool(False)

    def __init__(
        self,
        description: str,
        pieces: Callable[[], Iterator[Progress]],
        finished: Callable[[], None],
        tooltip: str,
    ) -> None:
        self.pieces, self.finished = pieces, finished
        self.start_button = widgets.Button(
            description=description,
            tooltip=tooltip,
            button_style="primary",
            layout={"width": "auto"},
        )
        self.cancel_button = widgets.Button(
            description="Cancel",
            tooltip="Stop after the piece at work",
            disabled=True,
            layout={"width": "auto"},
        )
        self.bar = widgets.IntProgress(
            description="Progress", min=0, max=1, layout={"width": "260px", "display": "none"}
        )
        self.message = widgets.HTML()
        super().__init__(
            [self.start_button, self.cancel_button, self.bar, self.message],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        self._cancelled = Event()
        self._thread = Thread()
        self.start_button.on_click(lambda _: self.start())
        self.cancel_button.on_click(lambda _: self.cancel())

    def start(self) -> None:
        """Begin, unless it is running already."""
        if self.running:
            return
        self._cancelled.clear()
        self._set_running(True)
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop after the current piece; without one this does nothing."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> None:
        """Return when the task has ended, or after so many seconds without an end."""
        if self.running:
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            for done, total, upcoming in self.pieces():
                self.bar.max, self.bar.value = max(1, total), done
                self._say(f"{upcoming} ({done} of {total} done)")
                if self._cancelled.is_set():
                    break
            if self._cancelled.is_set():
                self._say("Cancelled; what is shown is as it was.")
            else:
                self.finished()
                self._say("Done.")
        except Exception as error:  # nothing else reports an error on this thread
            self._say(f"Stopped: {error}")
        finally:
            self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self.start_button.disabled, self.cancel_button.disabled = running, not running
        self.bar.layout.display = None if running else "none"
        self.running = running

    def _say(self, text: str) -> None:
        self.message.value = f'<span role="status">{html.escape(text)}</span>'
