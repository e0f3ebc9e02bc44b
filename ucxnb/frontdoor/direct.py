"""Connections by UCX's own client-server wire-up: no control channel, only what UCX tells."""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..address import Address
from ..endpoint_info import CLOSED_BY_YOU, EndpointState
from ..engine import Endpoint, TagEngine
from ..errors import EndpointLostError, UcxError
from ..events import EventKind
from .leases import Leases
from .protocol import Frame

if TYPE_CHECKING:
    from .door import FrontDoor

__all__ = ["Direct", "pack_sockaddr", "unpack_sockaddr"]


class Direct:
    """A connection whose other side may be any UCX program.

    It has the same calls as a `Channel`, as far as the front door makes them. There are no
    heartbeats: that the peer is gone is what UCX says, and a goodbye looks the same as a death.

    Parameters
    ----------
    door : FrontDoor
        Whose connection it is.
    endpoint : Endpoint
        Its UCP endpoint.
    direction : {"connected", "accepted"}
        Which side asked.
    peer_address : str
        ``host:port`` of the other side.
    """

    in_handshake = introduced = wants_to_write = False
    socket = None

    def __init__(
        self, door: FrontDoor, endpoint: Endpoint, direction: str, peer_address: str
    ) -> None:
        self._door = door
        self.endpoint = endpoint
        self.endpoint_id = endpoint.endpoint_id
        self.direction = direction
        self.peer_address = peer_address
        self.closed: Future[None] = Future()
        self.leases = Leases(self._cannot_say)
        self._allowance = door.new_allowance()
        self._done = False
        endpoint.peer_address = peer_address
        endpoint.peer_name = ""
        endpoint.direction = direction
        endpoint.features = ("tag", "stream")  # as far as this side can tell

    def begin(self, engine: TagEngine) -> int:
        """It is connected: from now on the user sees it. Returns its endpoint's id."""
        self._set_state(EndpointState.OPEN)
        engine._add_endpoint(self.endpoint)
        self._door.opened(engine, self)
        return self.endpoint_id

    def on_failure(self, engine: TagEngine) -> None:
        """UCX reported the endpoint as failed, which it also does when the peer closes it."""
        reason = f"the peer closed it or is gone ({self.endpoint.failure})"
        self._finish(engine, EndpointState.LOST, reason)

    def on_tick(self, engine: TagEngine, now: float) -> None:
        """It waits for nothing."""

    def on_heartbeat(self, engine: TagEngine, now: float, grace: bool) -> None:
        """Nobody could answer."""

    def allow_more(self, engine: TagEngine) -> None:
        """Nobody counts."""

    def say_goodbye(self, engine: TagEngine, timeout: float) -> None:
        """Close it; what was sent was flushed before."""
        self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)

    def abort(self, engine: TagEngine) -> None:
        """Close it at once."""
        engine._begin_close(self.endpoint)
        self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)

    def note(self, kind: EventKind, text: str = "") -> None:
        """Put into the worker's log what happens to the connection."""
        self._door.events.note(kind, self.endpoint_id, self.peer_address, text)

    def _finish(self, engine: TagEngine, state: EndpointState, reason: str) -> None:
        if self._done:
            return
        self._done = True
        self.endpoint.reason = reason
        self._set_state(state)
        engine._end_endpoint(self.endpoint)
        self.leases.end(EndpointLostError(f"{self.peer_address}: {reason}", self.endpoint_id))
        self._door.forget(self)
        self._door.ucx_ports.open_to_all(-1)
        self._allowance.end()
        self._door.remember_ended(engine, self.endpoint, self._allowance)
        self.closed.set_result(None)

    def _set_state(self, state: EndpointState) -> None:
        self.endpoint.state = state
        self.endpoint.since = time.time()
        if state is not EndpointState.OPEN:
            self.note(EventKind(state.value), self.endpoint.reason or "")

    def _cannot_say(self, engine: TagEngine, frame: Frame) -> None:
        raise UcxError("there is no control channel to the peer")  # `reachable` refuses before


def pack_sockaddr(family: int, target: tuple[object, ...]) -> bytes:
    """Make a ``struct sockaddr`` of what `socket.getaddrinfo` gives."""
    host, port, *rest = target
    packed = socket.inet_pton(family, str(host).partition("%")[0])
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H4s8x", port, packed)
    flow, scope = rest
    tail = struct.pack("=I", scope)
    return struct.pack("=H", family) + struct.pack("!HI16s", port, flow, packed) + tail


def unpack_sockaddr(raw: bytes) -> str:
    """``host:port`` of a ``struct sockaddr``; ``"unknown"`` if it has no such address."""
    (family,) = struct.unpack_from("=H", raw)
    if family == socket.AF_INET:
        port, packed = struct.unpack_from("!H4s", raw, 2)
    elif family == socket.AF_INET6:
        port, _, packed = struct.unpack_from("!HI16s", raw, 2)
    else:
        return "unknown"
    return str(Address(socket.inet_ntop(family, packed), port))
