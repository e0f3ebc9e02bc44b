"""One piece of work on a thread of the toolkit, which can be asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Job"]


class Job:
    """Run `work` on a daemon thread.

    Parameters
    ----------
    name : str
        Name of the thread.
    work : callable
        Called with this job. It looks at `stopping` several times a second, and handles its own
        exceptions.
    """

    def __init__(self, name: str, work: Callable[[Job], None]) -> None:
        self._stop = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether the work was asked to stop."""
        return self._stop.is_set()

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def pause(self, seconds: float) -> None:
        """Wait, for the work itself; returns at once when it is asked to stop."""
        self._stop.wait(seconds)

    def ask_to_stop(self) -> None:
        """Tell the work to stop, without waiting for it."""
        self._stop.set()

    def stop(self, timeout: float) -> None:
        """Tell the work to stop and wait for its thread, at most `timeout` seconds."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        from ..engine import mark_toolkit_thread

        mark_toolkit_thread()
        self._work(self)
