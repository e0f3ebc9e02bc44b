"""What was recorded, in memory."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, RecordingError
from ..events import Event
from ..snapshot import Snapshot
from .files import decoded, read_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recording"]

_TRAFFIC = (
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
    "errors",
    "unreceived_messages",
    "unreceived_bytes",
    "sends_held",
    "sends_in_flight",
    "bytes_in_flight",
    "stream_bytes_sent",
    "stream_bytes_received",
    "puts",
    "gets",
    "atomics",
    "put_bytes",
    "get_bytes",
)


class Recording:
    """Snapshots of workers over a time. Load one with `Recording.load`.

    Attributes
    ----------
    names : tuple of str
        The workers.
    start, end : float
        Times of the first and the last snapshot, seconds since the epoch.
    """

    def __init__(self, lines: dict[str, tuple[list[float], list[bytes]]]) -> None:
        self._lines = lines
        self.names = tuple(lines)
        self.start = min(times[0] for times, _ in lines.values())
        self.end = max(times[-1] for times, _ in lines.values())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a file that a `Recorder` wrote.

        Parameters
        ----------
        path : str or path
            Its name ends with ``.jsonl`` or ``.parquet``.

        Returns
        -------
        Recording
            It keeps the file's text in memory, and makes snapshots of it when they are asked for.

        Raises
        ------
        RecordingError
            It is damaged, or empty. The last line of a ``.jsonl`` file may be cut.
        ArgumentError
            The name has another ending.
        OSError
            It cannot be read.
        """
        lines: dict[str, tuple[list[float], list[bytes]]] = {}
        for number, line in enumerate(read_lines(Path(path)), 1):
            try:
                snapshot = decoded(line)
            except RecordingError as error:
                raise RecordingError(f"{path}, snapshot {number}: {error}") from None
            times, texts = lines.setdefault(snapshot.name, ([], []))
            times.append(snapshot.time)
            texts.append(line)
        if not lines:
            raise RecordingError(f"{path}: nothing was recorded")
        return cls(lines)

    def times(self, name: str) -> list[float]:
        """When the snapshots of a worker were taken.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        list of float
            Seconds since the epoch, rising.

        Raises
        ------
        ArgumentError
            There is no such worker.
        """
        return list(self._of(name)[0])

    def snapshot_at(self, name: str, time: float) -> Snapshot:
        """Give what was known of a worker at a time.

        Parameters
        ----------
        name : str
            One of `names`.
        time : float
            Seconds since the epoch; before the first snapshot, that is given.

        Returns
        -------
        Snapshot
            The latest up to then. Its events are those since the one before.

        Raises
        ------
        ArgumentError
            There is no such worker.
        """
        times, texts = self._of(name)
        return decoded(texts[max(0, bisect.bisect_right(times, time) - 1)])

    def snapshots(self, name: str, start: float, end: float) -> Iterator[Snapshot]:
        """Give the snapshots of a worker from after one time up to another.

        Parameters
        ----------
        name : str
            One of `names`.
        start, end : float
            Seconds since the epoch.

        Yields
        ------
        Snapshot
            In order.

        Raises
        ------
        ArgumentError
            There is no such worker.
        """
        times, texts = self._of(name)
        first, last = bisect.bisect_right(times, start), bisect.bisect_right(times, end)
        for text in texts[first:last]:
            yield decoded(text)

    def events(self) -> list[tuple[str, Event]]:
        """Give all events, with the name of the worker, in order."""
        found = [
            (name, event)
            for name in self.names
            for snapshot in self._all(name)
            for event in snapshot.events
        ]
        return sorted(found, key=lambda pair: pair[1].time)

    def to_pandas(self) -> pd.DataFrame:
        """Give all counters as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each snapshot of each worker, with ``endpoint`` 0, and for each of its
            connections. ``time`` is a timestamp (UTC); the counters grow from row to row.
        """
        import pandas as pd

        rows = [row for name in self.names for s in self._all(name) for row in _rows(s)]
        table = pd.DataFrame(rows)
        table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
        return table.sort_values(["time", "worker", "endpoint"], ignore_index=True)

    def _all(self, name: str) -> Iterator[Snapshot]:
        return self.snapshots(name, float("-inf"), float("inf"))

    def _of(self, name: str) -> tuple[list[float], list[bytes]]:
        if name not in self._lines:
            raise ArgumentError(f"name={name!r}: recorded were {', '.join(map(repr, self.names))}")
        return self._lines[name]

    def __repr__(self) -> str:
        count = sum(len(times) for times, _ in self._lines.values())
        return (
            f"<Recording of {', '.join(map(repr, self.names))}: {count:,} snapshots, "
            f"{self.end - self.start:,.1f} s>"
        )


def _rows(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    latency = snapshot.latencies
    yield {
        "time": snapshot.time,
        "worker": snapshot.name,
        "endpoint": 0,
        "peer": "",
        "transports": "",
        **{name: value for name, value in asdict(snapshot.stats).items() if name in _TRAFFIC},
        "connections": snapshot.stats.connections,
        "requests": latency.total,
        "busy_seconds": snapshot.health.busy_seconds,
        "wake_ups": snapshot.health.wake_ups,
    }
    for endpoint in snapshot.endpoints:
        traffic = asdict(endpoint.stats)
        yield {
            "time": snapshot.time,
            "worker": snapshot.name,
            "endpoint": endpoint.endpoint_id,
            "peer": endpoint.peer_name or endpoint.peer_address,
            "transports": ", ".join(endpoint.transports),
            **{name: traffic[name] for name in _TRAFFIC},
        }
