"""A daemon thread of the toolkit that calls a function at a fixed rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Ticker"]


class Ticker:
    """Call `tick` every `interval` seconds on a thread of its own, until it returns False.

    An exception in `tick` does not end the thread, or a live view would freeze without a word: it
    is kept in `error` and the next tick is tried.

    Parameters
    ----------
    name : str
        Name of the thread.
    interval : float
        Seconds from one call to the next. Late calls are not made up for.
    tick : callable
        Called without arguments; returns whether to go on.
    """

    def __init__(self, name: str, interval: float, tick: Callable[[], bool]) -> None:
        self.error: Exception | None = None
        self._interval = interval
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it. Twice is fine, and so is a call from `tick` itself."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def _run(self) -> None:
        from .engine import mark_toolkit_thread

        mark_toolkit_thread()
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            try:
                if not self._tick():
                    return
            except Exception as error:
                self.error = error
