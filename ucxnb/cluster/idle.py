"""Connections that nobody has used for a while are closed, if both sides agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import UcxnbError
from ..stats import TrafficStats

if TYPE_CHECKING:
    from .member import Member

__all__ = ["Counted", "IdleCloser", "counted"]

Counted = tuple[int, int, int, int]
"""Messages and bytes sent, and received."""


@dataclass(slots=True)
class _Use:
    counted: Counted
    since: float


class IdleCloser:
    """Closes those connections of a member that it dialled and nobody has used for a while.

    Of two members one dials, so one decides. The other agrees only if all that either has sent was
    received, and from then on waits for a new connection when it needs one.

    Parameters
    ----------
    member : Member
        Whose.
    seconds : float
        How long.
    ask : callable
        Called with the other's address and what this side has counted; returns whether the other
        side agrees.
    """

    def __init__(self, member: Member, seconds: float, ask: Callable[[str, Counted], bool]) -> None:
        self._member = member
        self._seconds = seconds
        self._ask = ask
        self._uses: dict[int, _Use] = {}

    def look(self) -> list[str]:
        """Close what is idle; give the addresses of the others."""
        now = time.monotonic()
        closed = []
        uses: dict[int, _Use] = {}
        for address, endpoint_id in self._member.dialled():
            try:
                stats = self._member.worker.stats(endpoint_id)
            except UcxnbError:
                continue  # it ended a moment ago
            use = self._uses.get(endpoint_id)
            if use is None or use.counted != _all_of(stats) or _under_way(stats):
                use = _Use(_all_of(stats), now)
            uses[endpoint_id] = use
            if now - use.since >= self._seconds and self._member.let_go_here(
                address, endpoint_id, partial(self._ask, address, use.counted)
            ):
                closed.append(address)
        self._uses = uses
        return closed


def counted(stats: TrafficStats) -> Counted | None:
    """What a connection has carried, or None if something of it has not arrived."""
    return None if _under_way(stats) else _all_of(stats)


def _all_of(stats: TrafficStats) -> Counted:
    return stats.messages_sent, stats.bytes_sent, stats.messages_received, stats.bytes_received


def _under_way(stats: TrafficStats) -> bool:
    return bool(stats.sends_in_flight or stats.sends_held or stats.unreceived_messages
                or stats.unreceived_bytes)  # fmt: skip
