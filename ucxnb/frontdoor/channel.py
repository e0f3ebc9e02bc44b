"""The control channel of one connection, from handshake to goodbye."""

from __future__ import annotations

import enum
import math
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..address import Address
from ..endpoint_info import CLOSED_BY_YOU, EndpointState
from ..engine import Endpoint, TagEngine
from ..errors import (
    AuthenticationError,
    ConnectTimeoutError,
    EndpointLostError,
    HandshakeError,
    OpenFilesError,
    RejectedError,
    UcxnbError,
    WorkerClosedError,
)
from ..events import EventKind
from ..open_files import FOR_A_CONNECTION, need_descriptors
from .budget import Allowance
from .handshake import Handshake, Introduction, sum_of_cost
from .leases import Leases
from .protocol import Frame, FrameDecoder, FrameType, ProtocolError, encode_frame
from .ucx_ports import hosts_of

if TYPE_CHECKING:
    from .door import FrontDoor

__all__ = ["Channel"]

_ABOUT_MEMORY = {
    FrameType.LEASE,
    FrameType.LEASED,
    FrameType.REVOKE,
    FrameType.RELEASED,
    FrameType.ATOMIC,
    FrameType.ATOMIC_DONE,
}
_READ_SIZE = 64 * 1024
_MAX_UNSENT = 256 * 1024
_SILENT_INTERVALS = 3
# With worker-scoped tags nobody can count what a peer sent: its last messages get this long.
_DRAIN_SECONDS = 0.05


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()  # we said goodbye and wait for the answer
    DRAINING = enum.auto()  # the peer did, and its last messages are on their way
    DONE = enum.auto()


class Channel:
    """One connection's TCP socket, and the UCP endpoint that lives and dies with it.

    Everything but the constructor runs on the front door's thread.

    Parameters
    ----------
    door : FrontDoor
        Whose connection it is.
    sock : socket.socket
        Connected, non-blocking; owned from now on.
    direction : {"connected", "accepted"}
        Which side asked.
    deadline : float or None
        When the handshake must be over, on `time.monotonic`.
    """

    def __init__(
        self, door: FrontDoor, sock: socket.socket, direction: str, deadline: float | None
    ) -> None:
        self.socket = sock
        self.direction = direction
        self.endpoint_id = 0  # until the handshake needs one: strangers get none
        self.endpoint: Endpoint | None = None
        self.allowance: Allowance | None = None  # of the peer; likewise
        self.leases = Leases(lambda engine, frame: self._send(engine, [frame]))
        self.connected: Future[int] = Future()
        self.closed: Future[None] = Future()
        self.deadline = deadline
        self._door = door
        self._phase = _Phase.HANDSHAKE
        self._decoder = FrameDecoder()
        self._unsent = bytearray()
        self._last_heard = time.monotonic()
        # Messages and bytes of the stream:
        self._last_words = (0, 0)  # that the peer says it sent, in its goodbye
        self._sent_there = (0, 0)  # and in its latest heartbeat
        self._arrived = (0, 0)  # when that was last looked at, which takes time
        self._taken = (0, 0)  # by the user
        self._last_arrival = self._last_heard
        self._near = door.ucx_ports.hosts_behind(sock)
        self._hosts: set[str] = set()  # where UCX's ports let it in from
        self._allowed: int | None = None  # the sum up to which the peer lets us send
        name = sock.getpeername()
        self.peer_address = str(Address(name[0], name[1]))
        # One host can have 2**64 IPv6 addresses.
        self.network = socket.inet_pton(sock.family, name[0].partition("%")[0])[:8]
        self._handshake = Handshake(
            Introduction(
                door.name, door.config.tag_scope, door.config.features, door.worker_address
            ),
            self._enroll,
            connecting=direction == "connected",
            key=door.key,
        )

    @property
    def in_handshake(self) -> bool:
        """Whether messages cannot flow yet."""
        return self._phase is _Phase.HANDSHAKE

    @property
    def introduced(self) -> bool:
        """Whether the peer has said who it is."""
        return self._handshake.peer is not None

    @property
    def wants_to_write(self) -> bool:
        """Whether the socket could not take everything."""
        return bool(self._unsent)

    # ---- what happens to it ----

    def _enroll(self) -> tuple[int, int | None]:
        self.endpoint_id = self._door.next_endpoint_id()
        self.allowance = self._door.new_allowance()
        if self.direction == "accepted":  # it gets this worker's address now
            self._admit(self._near)
        return self.endpoint_id, self.allowance.window

    def begin(self, engine: TagEngine) -> None:
        """Speak first, if that is this side's part."""
        self._send(engine, self._handshake.begin())

    def on_readable(self, engine: TagEngine) -> None:
        """Take what the peer says on the control channel."""
        try:
            data = self.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(engine, error.strerror or str(error))
            return
        if not data:
            self._broken(engine, "it closed the connection without a goodbye")
            return
        self._last_heard = time.monotonic()
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(engine, frame)
                if self._phase is _Phase.DONE:
                    return
        except ProtocolError as error:
            self._refuse(engine, str(error))
        except UcxnbError as error:
            self._refuse(engine, str(error), error)

    def on_writable(self, engine: TagEngine) -> None:
        """Send what the socket could not take before."""
        self._send(engine, [])

    def on_failure(self, engine: TagEngine) -> None:
        """UCX reported the endpoint as failed."""
        assert self.endpoint is not None
        self._finish(engine, EndpointState.LOST, f"UCX lost it ({self.endpoint.failure})")

    def on_tick(self, engine: TagEngine, now: float) -> None:
        """Look at the clock, and at what has arrived."""
        late = self.deadline is not None and now >= self.deadline
        if self._phase is _Phase.HANDSHAKE and late:
            self._fail(
                engine,
                ConnectTimeoutError(
                    f"{self.peer_address}: it did not finish the handshake in time; check that a "
                    "ucxnb worker listens there, and that its process is not stopped"
                ),
                "it did not finish the handshake in time",
            )
        elif self._phase is _Phase.CLOSING and late:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)
        elif self._phase is _Phase.OPEN:
            self.leases.on_tick(engine)
            if not self.leases.waiting:
                self._door.ticking.discard(self)
        elif self._phase is _Phase.DRAINING:
            assert self.endpoint is not None
            arrived = engine._arrived(self.endpoint)
            counted = self._door.config.tag_scope == "endpoint"
            if late or (counted and _all_of(self._last_words, arrived)):
                self._finish(
                    engine, EndpointState.CLOSED, "the peer closed the connection", answer=True
                )

    def on_heartbeat(self, engine: TagEngine, now: float, grace: bool) -> None:
        """Give a sign of life, and look for the peer's."""
        if self._phase is not _Phase.OPEN:
            return
        assert self.endpoint is not None
        self._send(engine, [Frame(FrameType.HEARTBEAT, self._counts(engine))])
        if self._phase is not _Phase.OPEN:  # the socket has just broken
            return
        if grace:  # this process was stopped, so silence proves nothing
            self._last_heard = self._last_arrival = now
        silent = now - self._last_heard
        stuck = self._seconds_stuck(engine, now)
        config = self._door.config
        limit = math.inf if config.heartbeat_timeout is None else config.heartbeat_timeout
        if silent > limit:
            self._finish(engine, EndpointState.LOST, f"no sign of life for {silent:.0f} s")
        elif stuck > limit:
            self._finish(
                engine,
                EndpointState.LOST,
                f"it lives, and nothing of what it sends has arrived for {stuck:.0f} s; if another "
                "peer was killed, shared memory may be blocked: close this worker, make a new one",
            )
        elif silent > _SILENT_INTERVALS * config.heartbeat_interval:
            self._set_state(EndpointState.UNRESPONSIVE)

    # ---- what is done with it ----

    def allow_more(self, engine: TagEngine) -> None:
        """Tell the peer what it may send from now on, which may also be less than before."""
        if self._phase is _Phase.DRAINING or not self._is_bounded():
            return
        assert self.endpoint is not None
        assert self.allowance is not None
        window = self.allowance.next_window()
        limit = self.allowance.offer(engine._renew_window(self.endpoint, window))
        self._send(engine, [Frame(FrameType.ALLOW, {"limit": limit, "window": window})])

    def say_goodbye(self, engine: TagEngine, timeout: float) -> None:
        """Begin to close; `closed` is resolved when it is."""
        if self._phase is _Phase.DRAINING:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU, answer=True)
        elif self._phase is _Phase.OPEN:
            assert self.endpoint is not None
            engine._reap()
            self._phase = _Phase.CLOSING
            self.deadline = time.monotonic() + timeout
            self._door.ticking.add(self)
            stats = engine._traffic(self.endpoint)
            sent = {"sent": stats.messages_sent, "streamed": stats.stream_bytes_sent}
            self._send(engine, [Frame(FrameType.GOODBYE, sent)])

    def abort(self, engine: TagEngine) -> None:
        """Give up at once: the worker closes, or whoever asked for the connection left."""
        if self._phase is _Phase.HANDSHAKE:
            self._fail(engine, WorkerClosedError("the worker was closed meanwhile"))
        elif self._phase is _Phase.OPEN:
            assert self.endpoint is not None
            self.say_goodbye(engine, 0)
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)
        elif self._phase is not _Phase.DONE:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)

    def note(self, kind: EventKind, text: str = "") -> None:
        """Put into the worker's log what happens to the connection."""
        assert self.endpoint is not None
        peer = self.endpoint.peer_name or self.peer_address
        self._door.events.note(kind, self.endpoint_id, peer, text)

    def make_room(self, engine: TagEngine) -> None:
        """Leave the handshake, of which there are too many, to others."""
        reason = "it was slowest in the handshake of too many at once, and made room for the next"
        self._fail(engine, ConnectTimeoutError(f"{self.peer_address}: {reason}"), reason)

    # ---- inside ----

    def _send(self, engine: TagEngine, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._unsent += encode_frame(frame)
        if len(self._unsent) > _MAX_UNSENT:
            self._broken(engine, "it does not read its control channel")
            return
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(engine, error.strerror or str(error))
            return
        self._door.watch(self)

    def _on_frame(self, engine: TagEngine, frame: Frame) -> None:
        if self._phase is _Phase.HANDSHAKE:
            self._on_handshake(engine, frame)
        elif frame.type is FrameType.HEARTBEAT:
            self._note_counts(frame)
            if self._phase is _Phase.OPEN:
                self._set_state(EndpointState.OPEN)
        elif frame.type is FrameType.GOODBYE:
            self._on_goodbye(engine, frame)
        elif frame.type is FrameType.ALLOW:
            self._on_allow(engine, frame)
        elif frame.type is FrameType.KEPT and self._is_bounded():
            assert self.allowance is not None
            self.allowance.kept(sum_of_cost(frame.payload, "limit"))
        elif frame.type in _ABOUT_MEMORY and "rma" in self._door.config.features:
            self._on_memory(engine, frame)
        elif frame.type is FrameType.GOODBYE_ACK and self._phase is _Phase.CLOSING:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)
        else:
            raise ProtocolError(f"it sent {frame.type.name} to an open connection")

    def _on_memory(self, engine: TagEngine, frame: Frame) -> None:
        assert self.endpoint is not None
        self.leases.on_frame(engine, self.endpoint, frame)
        if self.leases.waiting:
            self._door.ticking.add(self)

    def _counts(self, engine: TagEngine) -> dict[str, int]:
        """What the peer may know of the traffic; with worker-scoped tags nobody can tell."""
        if self._door.config.tag_scope != "endpoint":
            return {}
        assert self.endpoint is not None
        stats = engine._traffic(self.endpoint)
        return {
            "sent": stats.messages_sent,
            "streamed": stats.stream_bytes_sent,
            "received": stats.messages_received,
            "bytes": stats.bytes_received - stats.get_bytes,
        }

    def _note_counts(self, frame: Frame) -> None:
        assert self.endpoint is not None
        sent = _counters(frame, "sent", "streamed")
        received = _counters(frame, "received", "bytes")
        if sent is not None and received is not None:
            self._sent_there = sent
            self.endpoint.received_there = received

    def _seconds_stuck(self, engine: TagEngine, now: float) -> float:
        """How long nothing has come of what the peer says it sent.

        One that is killed while it writes into the shared memory of this worker can block that for
        all others (UCX's FIFO waits for its message), and nobody else would tell.
        """
        assert self.endpoint is not None
        stats = engine._traffic(self.endpoint)
        received = (stats.messages_received, stats.stream_bytes_received)
        if received != self._taken or _all_of(self._sent_there, self._arrived):
            self._taken, self._last_arrival = received, now
        elif (arrived := engine._arrived(self.endpoint)) != self._arrived:
            self._arrived, self._last_arrival = arrived, now
        return now - self._last_arrival

    def _on_handshake(self, engine: TagEngine, frame: Frame) -> None:
        replies = self._handshake.receive(frame)
        peer = self._handshake.peer
        if self.endpoint is None and peer is not None and peer.worker_address:
            assert self.allowance is not None
            where = f"{self.peer_address}: " if self.direction == "connected" else ""
            need_descriptors(FOR_A_CONNECTION, f"{where}a connection")
            self._allowed = peer.window
            self._admit(self._near | hosts_of(peer.worker_address))
            self.endpoint = engine._open_endpoint(
                self.endpoint_id,
                peer.worker_address,
                peer.tag_prefix,
                peer.window,
                self.allowance.window,
            )
            self.endpoint.peer_address = self.peer_address
            self.endpoint.peer_name = peer.name
            self.endpoint.direction = self.direction
            self.endpoint.features = peer.features
        if self._handshake.done:
            assert self.endpoint is not None
            self._phase = _Phase.OPEN
            self.deadline = None
            self._set_state(EndpointState.OPEN)
            engine._add_endpoint(self.endpoint)
            self._door.opened(engine, self)
        self._send(engine, replies)
        if self._phase is _Phase.OPEN and not self.connected.done():
            self.connected.set_result(self.endpoint_id)

    def _is_bounded(self) -> bool:
        return self.allowance is not None and self.allowance.window is not None

    def _on_allow(self, engine: TagEngine, frame: Frame) -> None:
        limit = sum_of_cost(frame.payload, "limit")
        window = sum_of_cost(frame.payload, "window")
        assert self.endpoint is not None
        if self._allowed is None:
            raise ProtocolError("it set no limit before, and sets one now")
        less = limit < self._allowed
        self._allowed = engine._allow(self.endpoint, limit, window)
        if less and self._phase is not _Phase.DRAINING:
            self._send(engine, [Frame(FrameType.KEPT, {"limit": self._allowed})])

    def _on_goodbye(self, engine: TagEngine, frame: Frame) -> None:
        if self._phase is _Phase.CLOSING:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU, answer=True)
            return
        sent = _counters(frame, "sent", "streamed")
        if sent is None:
            counts = (frame.payload.get(name) for name in ("sent", "streamed"))
            raise ProtocolError("its goodbye counts {!r} messages and {!r} bytes".format(*counts))
        config = self._door.config
        patience = config.close_timeout if config.tag_scope == "endpoint" else _DRAIN_SECONDS
        self._last_words = sent
        self._phase = _Phase.DRAINING
        self.deadline = time.monotonic() + patience
        self._door.ticking.add(self)
        self.on_tick(engine, time.monotonic())

    def _refuse(self, engine: TagEngine, reason: str, error: UcxnbError | None = None) -> None:
        """The peer broke the protocol, or cannot be talked to: say so, and part."""
        if self._phase is not _Phase.HANDSHAKE:
            self._finish(engine, EndpointState.LOST, f"it broke the protocol: {reason}")
            return
        answer = []
        if not self._handshake.declined:
            told = reason
            if isinstance(error, OpenFilesError):  # strangers need not know the rest
                told = "it has too few file descriptors left"
            printable = "".join(c if c.isprintable() else "?" for c in told)
            said = {"reason": printable[:400]}
            if isinstance(error, AuthenticationError):
                said["kind"] = "auth"
            answer = [Frame(FrameType.REJECT, said)]
        if error is None:
            error = HandshakeError(
                f"{self.peer_address}: what listens there is no ucxnb worker: {reason}"
            )
        elif isinstance(error, RejectedError):
            error = type(error)(f"{self.peer_address}: {error}")
        self._fail(engine, error, reason, answer)

    def _broken(self, engine: TagEngine, reason: str) -> None:
        """The socket is of no more use."""
        if self._phase is _Phase.HANDSHAKE:
            self._fail(
                engine,
                HandshakeError(
                    f"{self.peer_address}: the connection ended in the handshake: {reason}; check "
                    "that a ucxnb worker listens there"
                ),
                reason,
            )
        elif self._phase is _Phase.CLOSING:
            self._finish(engine, EndpointState.CLOSED, CLOSED_BY_YOU)
        elif self._phase is not _Phase.DONE:
            self._finish(engine, EndpointState.LOST, f"the peer is gone: {reason}")

    def _fail(
        self,
        engine: TagEngine,
        error: UcxnbError,
        refusal: str = "",
        answer: Sequence[Frame] = (),
    ) -> None:
        """The handshake did not succeed; `refusal` says why, unless this worker is closing."""
        if self._phase is _Phase.DONE:
            return
        self._phase = _Phase.DONE
        if self.endpoint is not None:
            self.endpoint.closed_by_me = True
            engine._end_endpoint(self.endpoint)
            engine._remove_endpoint(self.endpoint)
        if refusal and self.direction == "accepted":
            self._door.note_refusal(self.peer_address, refusal)
        if self.allowance is not None:
            self.allowance.end()
            self.allowance.left(0)
        if not self.connected.done():
            self.connected.set_exception(error)
        if answer:  # it is in the books when the peer hears so
            self._send(engine, answer)
        self._end()

    def _finish(
        self, engine: TagEngine, state: EndpointState, reason: str, *, answer: bool = False
    ) -> None:
        """The connection was open and is no more; `answer` the peer's goodbye."""
        if self._phase is _Phase.DONE:
            return
        assert self.endpoint is not None
        assert self.allowance is not None
        self._phase = _Phase.DONE
        self.endpoint.reason = reason
        self._set_state(state)
        engine._end_endpoint(self.endpoint)
        self.leases.end(EndpointLostError(f"{self.peer_address}: {reason}", self.endpoint_id))
        self.allowance.end()
        self._door.remember_ended(engine, self.endpoint, self.allowance)
        if answer:  # it is closed on this side when the peer hears so
            self._send(engine, [Frame(FrameType.GOODBYE_ACK, {})])
        self._end()

    def _admit(self, hosts: set[str]) -> None:
        self._door.ucx_ports.admit(hosts, instead_of=self._hosts)
        self._hosts = hosts

    def _end(self) -> None:
        self._door.forget(self)
        self._admit(set())
        self.socket.close()
        if not self.closed.done():
            self.closed.set_result(None)

    def _set_state(self, state: EndpointState) -> None:
        assert self.endpoint is not None
        if self.endpoint.state is not state:
            before, self.endpoint.state = self.endpoint.state, state
            self.endpoint.since = time.time()
            if state is not EndpointState.OPEN:
                self.note(EventKind(state.value), self.endpoint.reason or "")
            elif before is EndpointState.UNRESPONSIVE:
                self.note(EventKind.RESPONSIVE)


def _counters(frame: Frame, *names: str) -> tuple[int, int] | None:
    """Take two counters from a frame; None if they are none."""
    first, second = (frame.payload.get(name) for name in names)
    if type(first) is type(second) is int and min(first, second) >= 0:
        return first, second
    return None


def _all_of(sent: tuple[int, int], arrived: tuple[int, int]) -> bool:
    """Whether messages and bytes that were sent have arrived."""
    return all(there <= here for there, here in zip(sent, arrived, strict=True))
