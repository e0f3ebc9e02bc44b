"""The front door: one thread that looks after a worker's listeners and control channels."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import math
import os
import selectors
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from ..address import parse_address
from ..config import WorkerConfig
from ..engine import (
    MAX_ENDPOINT_ID,
    Endpoint,
    RemoteMemory,
    TagEngine,
    UcpListener,
    mark_toolkit_thread,
)
from ..errors import (
    AddressInUseError,
    ConnectRefusedError,
    ConnectTimeoutError,
    EndpointLostError,
    OperationTimeoutError,
    RejectedError,
    ThreadModeError,
    UcxError,
    UnreachableError,
    WorkerClosedError,
)
from ..events import EventKind, EventLog
from ..open_files import FOR_A_CONNECTION, need_descriptors
from ..refusals import Refusals
from .accepted import AcceptQueue
from .budget import Allowance, Budget
from .channel import Channel
from .dial import dial, resolve
from .direct import Direct, pack_sockaddr, unpack_sockaddr
from .leases import Leases
from .listener import (
    RESOLVE_TIMEOUT,
    Listener,
    UcxListener,
    UcxListenerWarning,
    UnprotectedListenerWarning,
    bind,
)
from .ucx_ports import UcxPorts

__all__ = ["FrontDoor"]

_Answer = TypeVar("_Answer")

_log = logging.getLogger("ucxnb")
# Strangers in the handshake; when there are more, one of them makes room.
_MAX_HANDSHAKES = 256
_ACCEPTS_AT_ONCE = 64
_ENDED_REMEMBERED = 256
_TICK_SECONDS = 0.001
_HANDSHAKE_TICK_SECONDS = 0.05
_ACCEPT_PAUSE_SECONDS = 0.2
_FAILURES_SECONDS = 1.0
_REJECTED, _BUSY = -23, -15  # UCS_ERR_REJECTED, UCS_ERR_BUSY


class FrontDoor:
    """Listens, connects, keeps connections alive and ends them, on a thread of its own.

    It holds the engine by a weak reference, so that a worker nobody uses can be collected.

    Parameters
    ----------
    engine : TagEngine
        Where endpoints are opened and ended.
    config : WorkerConfig
        The worker's.
    name : str
        What peers are told.
    worker_address : bytes
        Of the UCP worker.

    Attributes
    ----------
    key : AuthKey or None
        What peers must have.
    refusals : Refusals
        Who came to a listener and was not let in. Any thread may read it.
    events : EventLog
        What happened to its connections. The thread notes, any thread may read.
    ucx_ports : UcxPorts
        Who may come to the TCP ports that UCX opens.
    """

    def __init__(
        self, engine: TagEngine, config: WorkerConfig, name: str, worker_address: bytes
    ) -> None:
        assert not isinstance(config.auth_key, str | bytes)  # a config keeps an AuthKey
        self.config = config
        self.key = config.auth_key
        self.name = name
        self.worker_address = worker_address
        self.ucx_ports = UcxPorts(worker_address)
        self._engine = weakref.ref(engine)
        self._ids = itertools.count(1)
        self._channels: dict[int, Channel | Direct] = {}  # the open ones, by endpoint
        self._handshakes: set[Channel] = set()
        self.ticking: set[Channel | Direct] = set()  # those that wait for more than their socket
        self._listeners: dict[int, Listener] = {}
        self._ucx_listeners: list[UcxListener] = []
        self._ended: collections.deque[Endpoint] = collections.deque()
        # With worker-scoped tags nobody can tell whose message was received.
        total = config.max_unexpected_bytes if config.tag_scope == "endpoint" else None
        self._budget = Budget(total)
        self._share_told = total or 0
        self._left_over: list[tuple[Endpoint, Allowance]] = []  # of those that ended
        self._calls: collections.deque[Callable[[TagEngine], None]] = collections.deque()
        self._timers: list[tuple[float, Callable[[TagEngine, float], None]]] = []
        self._due: list[float] = []
        self.accepted = AcceptQueue()
        self.refusals = Refusals()
        self.events = EventLog()
        self._accept_again = 0.0
        self._closing = False
        self._stopping = False
        self._last_heartbeat = time.monotonic()
        self._wake_lock = threading.RLock()  # nobody writes to a descriptor that was closed
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._on_wake)
        self._selector.register(engine._news_fd, selectors.EVENT_READ, self._on_news)
        self.every(config.heartbeat_interval, self._heartbeat)
        self.every(_FAILURES_SECONDS, self._note_failures)
        self._thread = threading.Thread(target=self._run, name="ucxnb-frontdoor", daemon=True)

    # ---- for the worker, on any thread ----

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def every(self, seconds: float, function: Callable[[TagEngine, float], None]) -> None:
        """Call ``function(engine, now)`` again and again; to be said before `start`."""
        self._timers.append((seconds, function))
        self._due.append(time.monotonic() + seconds)

    def connect(self, address: str, timeout: float | None) -> int:
        """Connect to a listening worker; returns the new endpoint's id.

        Raises
        ------
        AddressError, ConnectRefusedError, UnreachableError, ConnectTimeoutError, HandshakeError
            No connection came about, and nothing is left of it.
        RejectedError, WorkerClosedError, OpenFilesError
            Likewise.
        """
        self._refuse_own_thread()
        where = parse_address(address)
        need_descriptors(FOR_A_CONNECTION, f"{where}: a connection")
        deadline = None if timeout is None else time.monotonic() + timeout
        sock = dial(where, timeout)
        try:
            channel = Channel(self, sock, "connected", deadline)
        except BaseException:
            sock.close()
            raise
        self._call(lambda engine: self._adopt(engine, channel))
        try:
            return self._await(channel.connected)
        except BaseException:
            with contextlib.suppress(WorkerClosedError):
                self._call(channel.abort)
            raise

    def connect_ucx(self, address: str, timeout: float | None) -> int:
        """Connect to a UCX listener; returns the new endpoint's id.

        Raises
        ------
        AddressError, ConnectRefusedError, UnreachableError, ConnectTimeoutError, RejectedError
            No connection came about, and nothing is left of it.
        WorkerClosedError, OpenFilesError, UcxError
            Likewise.
        """
        self._refuse_own_thread()
        where = parse_address(address)
        need_descriptors(FOR_A_CONNECTION, f"{where}: a connection")
        deadline = None if timeout is None else time.monotonic() + timeout
        family, _, _, _, target = resolve(where, timeout)[0]
        raw = pack_sockaddr(family, target)
        engine = self._engine()
        assert engine is not None  # it makes this call
        made: list[Endpoint] = []

        def begin(engine: TagEngine) -> Endpoint:
            made.append(engine._dial_ucx(self.next_endpoint_id(), raw))
            self.ucx_ports.open_to_all(1)
            return made[0]

        def give_up(engine: TagEngine) -> None:
            for endpoint in made:
                channel = self._channels.get(endpoint.endpoint_id)
                if channel is not None:
                    channel.abort(engine)
                    continue
                self.ucx_ports.open_to_all(-1)
                endpoint.closed_by_me = True
                engine._end_endpoint(endpoint)
                engine._remove_endpoint(endpoint)

        try:
            endpoint = self._do(begin)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            status = engine._wireup_status(endpoint, left)
            if status is None:
                raise ConnectTimeoutError(
                    f"{where}: no answer in {timeout} s; check that a UCX listener is there"
                )
            if status[0] != 0:
                kind = RejectedError if status[0] == _REJECTED else ConnectRefusedError
                raise kind(f"{where}: UCX says {status[1]}; check that a UCX listener is there")
            return self._do(lambda e: Direct(self, endpoint, "connected", str(where)).begin(e))
        except BaseException:
            with contextlib.suppress(WorkerClosedError):
                self._do(give_up)
            raise

    def listen_ucx(self, address: str) -> Listener:
        """Open a listener of UCX's own.

        Raises
        ------
        AddressError, AddressInUseError, UnreachableError, OpenFilesError
            Nothing listens.

        Warns
        -----
        UcxListenerWarning
            Said to the caller of the caller.
        """
        self._refuse_own_thread()
        where = parse_address(address, default_host="127.0.0.1", any_port=True)
        need_descriptors(FOR_A_CONNECTION, f"{where}: a listener")
        family, _, _, _, target = resolve(where, RESOLVE_TIMEOUT)[0]
        raw = pack_sockaddr(family, target)

        def register(engine: TagEngine) -> UcxListener:
            ucp = UcpListener(engine, raw)
            listener = UcxListener(self, ucp, parse_address(unpack_sockaddr(ucp.address)))
            self._ucx_listeners.append(listener)
            self.ucx_ports.open_to_all(1)
            engine._add_source()
            return listener

        try:
            listener = self._do(register)
        except UcxError as error:
            kind = AddressInUseError if error.status == _BUSY else UnreachableError
            raise kind(f"cannot listen on {where}: {error}; choose another address") from None
        try:
            warnings.warn(listener.warning, UcxListenerWarning, stacklevel=3)
        except BaseException:  # a warning may be an error
            self.close_listener(listener)
            raise
        return listener

    def _do(self, function: Callable[[TagEngine], _Answer]) -> _Answer:
        """Have a function called on the thread, and give what it returns or raises."""
        answer: Future[_Answer] = Future()

        def call(engine: TagEngine) -> None:
            try:
                answer.set_result(function(engine))
            except BaseException as error:
                answer.set_exception(error)

        self._call(call)
        return self._await(answer)

    def listen(self, address: str) -> Listener:
        """Open a listener.

        Raises
        ------
        AddressError, AddressInUseError, UnreachableError, OpenFilesError
            Nothing listens.

        Warns
        -----
        UnprotectedListenerWarning
            Said to the caller of the caller.
        """
        self._refuse_own_thread()
        where = parse_address(address, default_host="127.0.0.1", any_port=True)
        need_descriptors(FOR_A_CONNECTION, f"{where}: a listener")
        sock = bind(where)
        listener = Listener(self, sock)
        if listener.warning:
            try:
                warnings.warn(listener.warning, UnprotectedListenerWarning, stacklevel=3)
            except BaseException:  # a warning may be an error
                sock.close()
                raise
        opened: Future[None] = Future()

        def register(engine: TagEngine) -> None:
            self._listeners[sock.fileno()] = listener
            self._selector.register(sock, selectors.EVENT_READ, self._on_accept(sock))
            engine._add_source()
            opened.set_result(None)

        self._call(register)
        self._await(opened)
        return listener

    def close_listener(self, listener: Listener) -> None:
        """Close a listener; returns when its port is free."""
        closed: Future[None] = Future()

        def unregister(engine: TagEngine) -> None:
            if not listener.closed:
                self._drop_listener(listener)
                engine._drop_source()
                self.accepted.wake_all()
            closed.set_result(None)

        if not listener.closed and not self._stopping:
            self._refuse_own_thread()
            self._call(unregister)
            self._await(closed)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Those that are open."""
        return (*self._listeners.values(), *self._ucx_listeners)

    def disconnect(self, engine: TagEngine, ids: Iterable[int], timeout: float) -> None:
        """Flush endpoints, tell their peers, and close them; all at the same time."""
        self._refuse_own_thread()
        deadline = time.monotonic() + timeout
        closing = []
        for endpoint_id in ids:
            endpoint = engine._endpoint(endpoint_id)
            channel = self._channels.get(endpoint_id)
            engine._begin_close(endpoint)
            if channel is None:
                engine._forget_endpoint(endpoint)
            else:
                closing.append((endpoint, channel))
        for endpoint, channel in closing:
            engine._flush_endpoint(endpoint, max(0.0, deadline - time.monotonic()))
            left = max(0.0, deadline - time.monotonic())
            self._call(functools.partial(channel.say_goodbye, timeout=left))
        for _, channel in closing:
            with contextlib.suppress(WorkerClosedError):
                self._await(channel.closed)

    def when_closed(self, endpoint_id: int) -> Future[None] | None:
        """What is resolved when a connection has ended; None if it has."""
        channel = self._channels.get(endpoint_id)
        return None if channel is None else channel.closed

    def end_handshakes(self) -> None:
        """Let nobody in any more, so that connects under way end."""

        def end(engine: TagEngine) -> None:
            self._closing = True
            for channel in list(self._handshakes):
                channel.abort(engine)

        if threading.current_thread() is self._thread:
            self._stopping = True  # those who wait for this thread would wait for ever
        else:
            self._call(end)

    def stop(self, engine: TagEngine) -> None:
        """Stop the thread, and end at once whatever is still open."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        for channel in self._all_channels():
            channel.abort(engine)
        for listener in self.listeners:
            self._drop_listener(listener)
        self._note_failures(engine, time.monotonic())
        self._selector.close()
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
            self._wake_fd = -1

    def abandon(self) -> None:
        """In the child of a fork: close our copies of the parent's sockets, and nothing else."""
        self._stopping = True
        for channel in self._all_channels():
            if channel.socket is not None:
                channel.socket.close()
        for listener in self._listeners.values():
            listener._socket.close()
        self._selector.close()
        os.close(self._wake_fd)
        self._wake_fd = -1

    # ---- memory ----

    def lease(self, endpoint_id: int, key: bytes, timeout: float | None) -> RemoteMemory:
        """Ask a peer for the memory of a key.

        Raises
        ------
        RemoteKeyError
            It has none of that key.
        EndpointLostError, OperationTimeoutError, WorkerClosedError, UcxError
            It gave no answer, or one that UCX cannot use.
        """
        answer: Future[RemoteMemory] = Future()
        return self._ask_peer(
            endpoint_id,
            lambda engine, leases: leases.ask(engine, key, answer),
            answer,
            timeout,
            "it did not say whether the key is good",
        )

    def atomic(
        self, endpoint_id: int, key: bytes, fields: dict[str, Any], timeout: float | None
    ) -> int:
        """Let a peer change a number in its memory; gives what it was before.

        Raises
        ------
        RemoteKeyError
            The memory was closed meanwhile.
        EndpointLostError, OperationTimeoutError, WorkerClosedError
            It gave no answer; whether it was done is not known.
        """
        answer: Future[int] = Future()
        return self._ask_peer(
            endpoint_id,
            lambda engine, leases: leases.ask_for_atomic(engine, key, fields, answer),
            answer,
            timeout,
            "it did not say whether the atomic is done; it may be",
        )

    def _ask_peer(
        self,
        endpoint_id: int,
        ask: Callable[[TagEngine, Leases], None],
        answer: Future[_Answer],
        timeout: float | None,
        otherwise: str,
    ) -> _Answer:
        self._refuse_own_thread()

        def begin(engine: TagEngine) -> None:
            channel = self._channels.get(endpoint_id)
            if channel is None:
                answer.set_exception(EndpointLostError("the connection has ended", endpoint_id))
            else:
                ask(engine, channel.leases)

        self._call(begin)
        try:
            return self._await(answer, timeout)
        except OperationTimeoutError:
            raise
        except FutureTimeoutError:
            raise OperationTimeoutError(
                f"endpoint {endpoint_id}: {otherwise} ({timeout} s)"
            ) from None

    def revoke(self, key: bytes, timeout: float | None) -> list[str]:
        """Have every peer let go of a memory of this side; gives those that did not in time."""
        self._refuse_own_thread()
        told: Future[list[tuple[str, Future[None]]]] = Future()

        def tell(engine: TagEngine) -> None:
            waiting = []
            for channel in list(self._channels.values()):
                released = channel.leases.take_back(engine, key)
                if released is not None:
                    waiting.append((channel.peer_address, released))
            told.set_result(waiting)

        deadline = None if timeout is None else time.monotonic() + timeout
        self._call(tell)
        late = []
        for peer, released in self._await(told):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self._await(released, left)
            except FutureTimeoutError:
                late.append(peer)
        return late

    # ---- for channels, on the thread ----

    def next_endpoint_id(self) -> int:
        """Give an id that was never used."""
        endpoint_id = next(self._ids)
        if endpoint_id > MAX_ENDPOINT_ID:
            raise UcxError(f"this worker has had {MAX_ENDPOINT_ID:,} connections; make a new one")
        return endpoint_id

    def new_allowance(self) -> Allowance:
        """Give a new connection its part of what may lie unreceived."""
        return Allowance(self._budget)

    def opened(self, engine: TagEngine, channel: Channel | Direct) -> None:
        """Its handshake is over, and it has an endpoint."""
        self._handshakes.discard(channel)
        self.ticking.discard(channel)
        self._channels[channel.endpoint_id] = channel
        if self._budget.total is not None and self._budget.share < self._share_told:
            self._share_told = self._budget.share
            for other in list(self._channels.values()):
                if other is not channel:
                    other.allow_more(engine)
        accepted = channel.direction == "accepted"
        channel.note(EventKind.ACCEPTED if accepted else EventKind.CONNECTED)
        if accepted:
            self.accepted.put(channel.endpoint_id)

    def note_refusal(self, peer_address: str, reason: str) -> None:
        """A peer that came to a listener is not let in."""
        self.refusals = self.refusals.plus(time.time(), peer_address, reason)
        self.events.note(EventKind.REFUSED, peer=peer_address, text=reason)

    def watch(self, channel: Channel) -> None:
        """Wait for what the channel waits for."""
        events = selectors.EVENT_READ
        if channel.wants_to_write:
            events |= selectors.EVENT_WRITE
        with contextlib.suppress(KeyError):  # it may have ended just now
            if self._selector.get_key(channel.socket).events != events:
                self._selector.modify(channel.socket, events, self._on_channel(channel))

    def forget(self, channel: Channel | Direct) -> None:
        """The channel has ended and is about to close its socket, if it has one."""
        self._handshakes.discard(channel)
        self.ticking.discard(channel)
        self._channels.pop(channel.endpoint_id, None)
        self.accepted.discard(channel.endpoint_id)
        if channel.socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(channel.socket)

    def remember_ended(self, engine: TagEngine, endpoint: Endpoint, allowance: Allowance) -> None:
        """Keep what is known of it, and what nobody received yet, until many others ended too."""
        allowance.left(engine._cost_unreceived(endpoint))
        if allowance.reserved:
            self._left_over.append((endpoint, allowance))
        self._ended.append(endpoint)
        while len(self._ended) > _ENDED_REMEMBERED:
            engine._remove_endpoint(self._ended.popleft())

    # ---- inside ----

    def _refuse_own_thread(self) -> None:
        """What waits for the thread cannot be done on it, where finalizers of the user's may run.

        Raises
        ------
        ThreadModeError
            It is that thread.
        """
        if threading.current_thread() is self._thread:
            raise ThreadModeError(
                "a finalizer, or another callback, runs on the worker's own thread here: do this "
                "from a thread of yours"
            )

    def _call(self, function: Callable[[TagEngine], None]) -> None:
        """Have a function called on the thread."""
        if self._stopping:
            raise WorkerClosedError("this worker is closed; make a new one")
        self._calls.append(function)
        self._wake()

    def _wake(self) -> None:
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _await(self, future: Future[_Answer], timeout: float | None = None) -> _Answer:
        """Wait for a result from the thread, for as long as it runs.

        Raises
        ------
        TimeoutError
            There is none in so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return future.result(min(left, 0.5))
            except OperationTimeoutError:
                raise
            except FutureTimeoutError:
                if left == 0:
                    raise
                if self._stopping and not future.done():
                    raise WorkerClosedError("the worker was closed meanwhile") from None

    def _run(self) -> None:
        mark_toolkit_thread()
        while not self._stopping:
            events = self._selector.select(self._patience())
            engine = self._engine()
            if engine is None:
                return
            for key, mask in events:
                self._guarded(key.data, engine, mask)
            self._guarded(self._tick, engine)
            del engine

    def _guarded(self, function: Callable[..., None], *arguments: Any) -> None:
        """One connection's trouble must not end the thread that serves all."""
        if self._stopping:
            return
        try:
            function(*arguments)
        except Exception:
            _log.exception("the front door of worker %s met an error", self.name)

    def _patience(self) -> float:
        now = time.monotonic()
        until = min(self._due)
        if self._accept_again:
            until = min(until, self._accept_again)
        if self.ticking:
            slow = len(self.ticking) == len(self._handshakes)
            until = min(until, now + (_HANDSHAKE_TICK_SECONDS if slow else _TICK_SECONDS))
        return max(0.0, until - now)

    def _tick(self, engine: TagEngine) -> None:
        now = time.monotonic()
        for channel in list(self.ticking):
            channel.on_tick(engine, now)
        for i, (seconds, function) in enumerate(self._timers):
            if now >= self._due[i]:
                self._due[i] = max(self._due[i] + seconds, now)
                function(engine, now)
        if self._accept_again and now >= self._accept_again:
            self._accept_again = 0.0
            for listener in self._listeners.values():
                with contextlib.suppress(KeyError):  # made during the pause
                    self._selector.register(
                        listener._socket, selectors.EVENT_READ, self._on_accept(listener._socket)
                    )

    def _heartbeat(self, engine: TagEngine, now: float) -> None:
        grace = now - self._last_heartbeat > 2 * self.config.heartbeat_interval
        self._last_heartbeat = now
        for channel in list(self._channels.values()):
            channel.on_heartbeat(engine, now, grace)
        for endpoint, allowance in self._left_over:
            allowance.left(engine._cost_unreceived(endpoint))
        self._left_over = [pair for pair in self._left_over if pair[1].reserved]
        if self._budget.total is not None:
            # Not all of it: else each peer that comes and goes would change everybody's window.
            self._share_told = max(self._share_told, self._budget.share // 2)

    def _note_failures(self, engine: TagEngine, now: float) -> None:
        """Tell of them now and then, or a loop of failing calls would push out all else."""
        count, latest = engine._take_failures()
        if count:
            text = latest if count == 1 else f"{count:,} operations failed, the latest: {latest}"
            self.events.note(EventKind.ERROR, text=text)

    def _on_wake(self, engine: TagEngine, mask: int) -> None:
        os.eventfd_read(self._wake_fd)
        while self._calls:
            self._guarded(self._calls.popleft(), engine)

    def _on_news(self, engine: TagEngine, mask: int) -> None:
        failed, due = engine._news()
        for endpoint in failed:
            channel = self._channels.get(endpoint.endpoint_id)
            if channel is not None:
                channel.on_failure(engine)
        for endpoint in due:
            channel = self._channels.get(endpoint.endpoint_id)
            if channel is not None:
                channel.allow_more(engine)
        for listener in self._ucx_listeners:
            self._accept_ucx(engine, listener)

    def _accept_ucx(self, engine: TagEngine, listener: UcxListener) -> None:
        while listener._ucp is not None:
            came = listener._ucp.accept(engine, self.next_endpoint_id)
            if came is None:
                return
            endpoint, raw = came
            address = unpack_sockaddr(raw)
            if isinstance(endpoint, UcxError):
                self.note_refusal(address, str(endpoint))
            else:
                self.ucx_ports.open_to_all(1)
                Direct(self, endpoint, "accepted", address).begin(engine)

    def _on_channel(self, channel: Channel) -> Callable[[TagEngine, int], None]:
        def ready(engine: TagEngine, mask: int) -> None:
            if mask & selectors.EVENT_WRITE:
                channel.on_writable(engine)
            if mask & selectors.EVENT_READ and channel.socket.fileno() >= 0:
                channel.on_readable(engine)

        return ready

    def _on_accept(self, sock: socket.socket) -> Callable[[TagEngine, int], None]:
        def ready(engine: TagEngine, mask: int) -> None:
            for _ in range(_ACCEPTS_AT_ONCE):
                try:
                    accepted, _address = sock.accept()
                except BlockingIOError:
                    return
                except ConnectionError:
                    continue
                except OSError as error:
                    _log.warning("worker %s cannot accept: %s", self.name, error.strerror)
                    self._pause_accepting()
                    return
                self._welcome(engine, accepted)

        return ready

    def _pause_accepting(self) -> None:
        """Out of descriptors or memory: let those who are in finish first."""
        self._accept_again = time.monotonic() + _ACCEPT_PAUSE_SECONDS
        for listener in self._listeners.values():
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener._socket)

    def _welcome(self, engine: TagEngine, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            deadline = time.monotonic() + self.config.handshake_timeout
            channel = Channel(self, sock, "accepted", deadline)
        except OSError:  # it has left already
            sock.close()
            return
        strangers = [c for c in self._handshakes if c.direction == "accepted"]
        if len(strangers) >= _MAX_HANDSHAKES:
            _slowest(strangers).make_room(engine)
        self._adopt(engine, channel)

    def _adopt(self, engine: TagEngine, channel: Channel) -> None:
        self._handshakes.add(channel)
        self.ticking.add(channel)
        self._selector.register(channel.socket, selectors.EVENT_READ, self._on_channel(channel))
        if self._closing:
            channel.abort(engine)
        else:
            channel.begin(engine)

    def _all_channels(self) -> list[Channel | Direct]:
        return [*self._handshakes, *self._channels.values()]

    def _drop_listener(self, listener: Listener) -> None:
        if isinstance(listener, UcxListener):
            self._ucx_listeners.remove(listener)
            self.ucx_ports.open_to_all(-1)
            if listener._ucp is not None:
                listener._ucp.close()
            listener._ucp = None
            return
        self._listeners.pop(listener._socket.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(listener._socket)
        listener._socket.close()


def _slowest(strangers: list[Channel]) -> Channel:
    """Of the network that most came from, the first of those that said least."""
    crowds = collections.Counter(channel.network for channel in strangers)
    ((crowd, _),) = crowds.most_common(1)
    return min(
        (channel for channel in strangers if channel.network == crowd),
        key=lambda channel: (channel.introduced, channel.deadline),
    )
