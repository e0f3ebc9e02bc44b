"""A worker's figures, live, in a terminal or in a log."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from typing import TextIO

from .engine import mark_toolkit_thread
from .errors import WorkerClosedError
from .stats import TrafficStats, WorkerStats
from .worker import UcxWorker

__all__ = ["LiveFigures", "figures_line"]


def figures_line(earlier: TrafficStats, later: WorkerStats) -> str:
    """Write what happened between two snapshots as one line.

    Parameters
    ----------
    earlier, later : TrafficStats
        Two snapshots of one worker.

    Returns
    -------
    str
        Megabytes (10**6) a second, messages a second, connections.
    """
    rates = later.since(earlier)
    connections = "1 connection" if later.connections == 1 else f"{later.connections} connections"
    return (
        f"{later.elapsed:7.1f} s"
        f"   sent {rates.bytes_sent / 1e6:8,.1f} MB/s"
        f"   received {rates.bytes_received / 1e6:8,.1f} MB/s"
        f"   {rates.message_rate():10,.0f} messages/s"
        f"   {connections}"
    )


class LiveFigures:
    """Show a worker's figures while a ``with`` block runs.

    A terminal gets one line that is renewed four times a second; anything else gets a new line
    every second.

    Parameters
    ----------
    worker : UcxWorker
        Whose figures; it should outlive the block.
    stream : file, optional
        Where to write; standard output by default.
    """

    def __init__(self, worker: UcxWorker, stream: TextIO | None = None) -> None:
        self._worker = worker
        self._stream = sys.stdout if stream is None else stream
        self._in_place = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="ucxnb-figures", daemon=True)

    def __enter__(self) -> LiveFigures:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        mark_toolkit_thread()
        try:
            earlier = self._worker.stats()
            while not self._stop.wait(0.25 if self._in_place else 1.0):
                later = self._worker.stats()
                self._write(figures_line(earlier, later))
                earlier = later
            if self._in_place:
                print(file=self._stream, flush=True)
        except (OSError, ValueError, WorkerClosedError):
            return  # the reader of our output is gone, or the worker is: there is nothing to show

    def _write(self, line: str) -> None:
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{line[:width]}\x1b[K")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
