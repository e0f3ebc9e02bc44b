"""What can be known about one connection at one moment."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .stats import TrafficStats

__all__ = ["CLOSED_BY_YOU", "EndpointInfo", "EndpointState"]

CLOSED_BY_YOU = "you closed it"
"""`EndpointInfo.reason` after `disconnect` and `cleanup_all`."""


class EndpointState(enum.Enum):
    """The state of a connection."""

    OPEN = "open"
    """Messages can be sent and received."""

    UNRESPONSIVE = "unresponsive"
    """Still open, but the peer has given no sign of life for three heartbeat intervals."""

    CLOSED = "closed"
    """Closed in order, by you or by the peer."""

    LOST = "lost"
    """The peer died, or the network between did."""


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """A connection at one moment.

    Attributes
    ----------
    endpoint_id : int
        As returned by `UcxWorker.connect`; never used again after it ended.
    peer_address : str
        ``host:port`` of the peer's side of the control channel.
    peer_name : str
        The name the peer gave itself. It comes from the peer: do not trust it.
    state : EndpointState
        Its state.
    since : float
        When it entered that state, seconds since the epoch.
    direction : {"connected", "accepted"}
        Who asked for the connection: this worker, or the peer.
    transports : tuple of str
        What UCX chose, as ``"transport/device"`` (``ucp_ep_query``); empty once it ended.
    stats : TrafficStats
        Its counters. With ``tag_scope="worker"`` received messages cannot be told apart by
        endpoint and count for the worker only.
    reason : str
        Why it ended, empty while it is open.
    received_there : tuple of int and int, or None
        How many of your messages, and of their bytes and those of your stream, the peer's program
        had received at its latest heartbeat; None before the first one, and with
        ``tag_scope="worker"``.
    """

    endpoint_id: int
    peer_address: str
    peer_name: str
    state: EndpointState
    since: float
    direction: str
    transports: tuple[str, ...] = ()
    stats: TrafficStats = field(default_factory=TrafficStats)
    reason: str = ""
    received_there: tuple[int, int] | None = None
