"""Play a recording: its workers again, at a play head that moves or is moved."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator

from ..dashboard.moment import Moment, Samples
from ..errors import ArgumentError
from ..events import Event
from ..snapshot import Snapshot
from .recording import Recording

__all__ = ["PlayedWorker", "Player"]

_SMOOTHING = 0.5  # seconds that rates are taken over, as of a live dashboard


class PlayedWorker:
    """A worker as it was at the play head; what takes a `UcxWorker` to watch takes it too.

    Attributes
    ----------
    name : str
        The worker's.
    """

    def __init__(self, player: Player, name: str) -> None:
        self._player = player
        self.name = name

    def snapshot(self) -> Snapshot:
        """Tell how the worker was at the play head."""
        return self._player.recording.snapshot_at(self.name, self._player.time)

    def __repr__(self) -> str:
        return f"<PlayedWorker {self.name!r}>"


class Player:
    """A play head in a recording. Any thread may move it.

    Give it to a `ucxnb.dashboard.Dashboard`, as if it were the workers. The head stands at the
    start at first.

    Parameters
    ----------
    recording : Recording
        What is played.
    speed : float
        How many times faster than it was, 0.01 to 1000.

    Attributes
    ----------
    recording : Recording
        As passed.
    workers : tuple of PlayedWorker
        Those that were recorded.

    Raises
    ------
    ArgumentError
        The speed is wrong.
    """

    def __init__(self, recording: Recording, *, speed: float = 1.0) -> None:
        self.recording = recording
        self.workers = tuple(PlayedWorker(self, name) for name in recording.names)
        self._lock = threading.Lock()
        self._head = recording.start
        self._since: float | None = None  # it plays since then, on the monotonic clock
        self._jumps = 0
        self._speed = 1.0
        self.speed = speed

    @property
    def time(self) -> float:
        """Where the head is, seconds since the epoch."""
        with self._lock:
            return self._now()

    @property
    def playing(self) -> bool:
        """Whether the head moves: it does until the end."""
        return self._since is not None and self.time < self.recording.end

    @property
    def speed(self) -> float:
        """How many times faster than it was."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if not 0.01 <= value <= 1000:
            raise ArgumentError(f"speed={value!r}: it takes 0.01 to 1000")
        with self._lock:
            self._settle()
            self._speed = float(value)

    def play(self) -> None:
        """Let the head move; from the start if it is at the end."""
        with self._lock:
            self._settle()
            if self._head >= self.recording.end:
                self._head = self.recording.start
                self._jumps += 1
            self._since = time.monotonic()

    def pause(self) -> None:
        """Let the head stand."""
        with self._lock:
            self._settle()
            self._since = None

    def seek(self, time: float) -> None:
        """Move the head.

        Parameters
        ----------
        time : float
            Seconds since the epoch; what is outside the recording is its start or its end.
        """
        with self._lock:
            self._settle()
            self._head = min(max(time, self.recording.start), self.recording.end)
            self._jumps += 1

    def sampler(self, interval: float, longest: float) -> _ReplaySampler:
        """Make what feeds a dashboard.

        Parameters
        ----------
        interval : float
            Of no use here: the moments are those of the recording.
        longest : float
            Seconds that are shown at most: so much is drawn anew when the head has jumped.
        """
        return _ReplaySampler(self, longest)

    def _now(self) -> float:
        head = self._head
        if self._since is not None:
            head += (time.monotonic() - self._since) * self._speed
        return min(head, self.recording.end)

    def _settle(self) -> None:
        """Count anew from here."""
        self._head = self._now()
        if self._since is not None:
            self._since = time.monotonic()

    def _place(self) -> tuple[float, int]:
        with self._lock:
            return self._now(), self._jumps

    def __repr__(self) -> str:
        at = self.time - self.recording.start
        return f"<Player at {at:,.1f} s, {'playing' if self.playing else 'paused'}>"


class _ReplaySampler:
    """Gives the moments that the head has passed."""

    ended = False

    def __init__(self, player: Player, longest: float) -> None:
        self._player = player
        self._longest = longest
        self._jumps = -1
        self._until = 0.0
        self._followers: list[_Follower] = []

    def sample(self) -> Samples:
        """Give the moments since the last call; after a jump, those of the time before the head."""
        head, jumps = self._player._place()
        anew = jumps != self._jumps
        start = head - self._longest if anew else self._until
        if anew:
            recording = self._player.recording
            self._followers = [_Follower(recording, name, start) for name in recording.names]
        self._jumps, self._until = jumps, head
        return Samples(list(self._moments(start, head)), anew)

    def _moments(self, start: float, end: float) -> Iterator[Moment]:
        recording = self._player.recording
        # All workers were looked at one after the other: those of the first tell when.
        times = recording._of(recording.names[0])[0]
        first, last = bisect.bisect_right(times, start), bisect.bisect_right(times, end)
        for i in range(first, last):
            # The others follow within the time to the next look.
            limit = times[i + 1] - 1e-6 if i + 1 < len(times) else float("inf")
            pairs = [follower.at(limit) for follower in self._followers]
            yield Moment(
                times[i],
                tuple(earlier for earlier, _, _ in pairs),
                tuple(later for _, later, _ in pairs),
                tuple((later.name, event) for _, later, events in pairs for event in events),
            )


class _Follower:
    """Walks through the snapshots of one worker, from a time on."""

    def __init__(self, recording: Recording, name: str, start: float) -> None:
        self._recording = recording
        self._name = name
        self._times = recording._of(name)[0]
        self._last = bisect.bisect_right(self._times, start) - 1
        self._known: dict[int, Snapshot] = {}

    def at(self, limit: float) -> tuple[Snapshot, Snapshot, tuple[Event, ...]]:
        """Give the latest up to a time, the one to take rates from, and what is new."""
        i = max(0, bisect.bisect_right(self._times, limit) - 1)
        before = bisect.bisect_right(self._times, self._times[i] - _SMOOTHING) - 1
        j = before if 0 <= before < i else max(0, i - 1)
        events = tuple(e for k in range(self._last + 1, i + 1) for e in self._get(k).events)
        self._last = i
        earlier, later = self._get(j), self._get(i)
        for k in [k for k in self._known if k < j]:
            del self._known[k]
        return earlier, later, events

    def _get(self, i: int) -> Snapshot:
        if i not in self._known:
            self._known[i] = self._recording.snapshot_at(self._name, self._times[i])
        return self._known[i]
