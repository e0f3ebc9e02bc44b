"""Write what workers do to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..snapshot import Snapshot
from ..ticker import Ticker
from .files import open_writer

if TYPE_CHECKING:
    from ..dashboard.watched import Watched

__all__ = ["Recorder"]


class Recorder:
    """Write snapshots and events of workers to a file, until it is closed or they all are.

    Parameters
    ----------
    worker : Watched or sequence of Watched
        What a dashboard takes: a `UcxWorker`, or several.
    path : str or path
        A new file, or one to be replaced. With a name that ends with ``.jsonl`` it holds a JSON
        object a line, and what was recorded is safe if this process is killed. With ``.parquet``
        (``pip install 'ucxnb[record]'``) it is a table with the counters as columns, a tenth as
        large, which can be read only after `close`.
    interval : float
        Seconds between two snapshots, 0.01 to 3600.

    Attributes
    ----------
    path : Path
        The file.
    error : Exception or None
        Why writing failed; nothing is written after that, and the workers are not disturbed.

    Raises
    ------
    ArgumentError
        A value is wrong, or the name has another ending.
    RecordingError
        There is no pyarrow.
    OSError
        The file cannot be made.

    Notes
    -----
    A context manager. Memory does not grow with the time that is recorded.
    """

    def __init__(
        self,
        worker: Watched | Sequence[Watched],
        path: str | os.PathLike[str],
        *,
        interval: float = 0.5,
    ) -> None:
        self._watched = tuple(worker) if isinstance(worker, Sequence) else (worker,)
        if not self._watched:
            raise ArgumentError("worker=[]: it takes at least one")
        if not 0.01 <= interval <= 3600:
            raise ArgumentError(f"interval={interval!r}: it takes 0.01 to 3600 seconds")
        self.path = Path(path)
        self.error: Exception | None = None
        self._writer = open_writer(self.path)
        self._seen = [0 for _ in self._watched]  # numbers of the latest events
        self._ended = [False for _ in self._watched]
        self._closed = False
        self._ticker = Ticker("ucxnb-recorder", interval, self._tick)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or ended with its workers or by an error."""
        return not self._ticker.running

    def close(self) -> None:
        """Write a last snapshot, and close the file. Twice is fine."""
        self._ticker.stop()
        if not self._closed:
            self._closed = True
            if self.error is None:
                self._tick()
            try:
                self._writer.close()
            except OSError as error:
                self.error = self.error or error

    def _tick(self) -> bool:
        snapshots = []
        for i, worker in enumerate(self._watched):
            if not self._ended[i]:
                snapshot = worker.snapshot()
                snapshots.append(self._with_new_events(i, snapshot))
                self._ended[i] = snapshot.closed
        try:
            self._writer.write(snapshots)
        except Exception as error:
            self.error = error
            return False
        return not all(self._ended)

    def _with_new_events(self, i: int, snapshot: Snapshot) -> Snapshot:
        new = tuple(event for event in snapshot.events if event.number > self._seen[i])
        if new:
            self._seen[i] = new[-1].number
        return replace(snapshot, events=new)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recorder to {str(self.path)!r}, {'closed' if self.closed else 'recording'}>"
