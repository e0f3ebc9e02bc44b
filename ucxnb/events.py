"""What happened to a worker's connections, in order."""

from __future__ import annotations

import collections
import enum
import itertools
import time
from dataclasses import dataclass

from .text import shortened

__all__ = ["Event", "EventKind"]

_REMEMBERED = 1024
_TEXT = 400  # characters that are kept


class EventKind(enum.Enum):
    """What happened."""

    CONNECTED = "connected"
    """This worker connected to a peer."""

    ACCEPTED = "accepted"
    """A peer connected to this worker."""

    CLOSED = "closed"
    """A connection was closed in order, by you or by the peer."""

    LOST = "lost"
    """The peer died, or the network between did."""

    UNRESPONSIVE = "unresponsive"
    """A peer gives no sign of life; the connection is still open."""

    RESPONSIVE = "responsive"
    """Such a peer gives signs of life again."""

    REFUSED = "refused"
    """A peer was not let in."""

    ERROR = "error"
    """Operations failed: those of up to a second are one event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    number : int
        Of this worker, from 1 up, without gaps.
    time : float
        When, seconds since the epoch.
    kind : EventKind
        What.
    endpoint_id : int
        Whose connection; 0 where there is none.
    peer : str
        The peer's name or ``host:port``. It comes from the peer: do not trust it.
    text : str
        Why, in words; may be empty.
    """

    number: int
    time: float
    kind: EventKind
    endpoint_id: int = 0
    peer: str = ""
    text: str = ""


class EventLog:
    """The latest events of a worker, 1,024 of them.

    One thread notes them. Any thread reads, also in a signal's handler or a finalizer that runs in
    the middle of `note`: there is no lock.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._events: collections.deque[Event] = collections.deque(maxlen=_REMEMBERED)

    def note(self, kind: EventKind, endpoint_id: int = 0, peer: str = "", text: str = "") -> None:
        """Add an event that has just happened.

        Parameters
        ----------
        kind, endpoint_id, peer, text
            As in `Event`; texts are shortened, and what cannot be printed is replaced.
        """
        peer, text = shortened(peer, _TEXT), shortened(text, _TEXT)
        self._events.append(Event(next(self._numbers), time.time(), kind, endpoint_id, peer, text))

    def latest(self, most: int = _REMEMBERED) -> tuple[Event, ...]:
        """Give the latest events.

        Parameters
        ----------
        most : int
            So many at most.

        Returns
        -------
        tuple of Event
            Oldest first.
        """
        return tuple(self._events.copy())[-most:]
