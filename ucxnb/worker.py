"""`UcxWorker`: connections and tagged messages over UCX."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import socket
import threading
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar, overload

from .auth_key import AuthKey
from .binding import UcpWorker, ucx_versions
from .config import ThreadMode, WorkerConfig
from .endpoint_info import EndpointInfo
from .engine import (
    Endpoint,
    RegisteredMemory,
    RemoteMemory,
    Request,
    TagEngine,
    mark_toolkit_thread,
)
from .errors import (
    ArgumentError,
    BufferTooSmallError,
    ConfigError,
    InvalidBufferError,
    NoPeersError,
    OperationTimeoutError,
    PeerClosedError,
    UntrustedPeersError,
    WorkerClosedError,
)
from .events import Event
from .frontdoor import FrontDoor, Listener
from .message import Message
from .objects import ROOM_FOR_SMALL, pack, unpack
from .open_files import FOR_A_WORKER, need_descriptors
from .protocols import Explanation, explain_printed
from .reconnect import KeptConnection
from .refusals import Refusals
from .snapshot import Snapshot
from .stats import StatsHistory, TrafficStats, WorkerStats
from .streams import UcxStream, open_pair
from .text import shown
from .timeouts import checked_timeout

__all__ = ["UcxWorker"]

_numbers = itertools.count(1)
_open_workers: weakref.WeakSet[UcxWorker] = weakref.WeakSet()
_DEFAULT: Any = object()
_EVENTS_IN_A_SNAPSHOT = 64
_TRIES = 3  # of what Ctrl-C interrupts
_Result = TypeVar("_Result")


class UcxWorker(TagEngine):
    """A UCX worker with its connections; a native background thread progresses it.

    Sending and receiving release the GIL. Blocking calls let Ctrl-C through, and others' calls
    too: how many of your threads may be inside at once is `WorkerConfig.thread_mode`.

    Parameters
    ----------
    config : WorkerConfig, optional
        Settings; the defaults if left out.
    **fields
        Fields of `WorkerConfig`, on top of `config`: ``UcxWorker(buffer_size=128 * 1024)``.

    Raises
    ------
    ConfigError
        A field is unknown or wrong, or UCX refuses an option.
    MissingUcxError
        UCXX is not installed; the message says what to install.
    UcxError
        UCX cannot start.
    OpenFilesError
        This process has too few file descriptors left.

    Notes
    -----
    A context manager. `close` it: a worker that is dropped open closes itself, with a
    `ResourceWarning`. In the child of a fork it is closed; make a new one there.

    Examples
    --------
    >>> with UcxWorker() as server, UcxWorker() as client:
    ...     listener = server.create_listener()
    ...     peer = client.connect(listener.address)
    ...     client.send_tag(peer, 1, b"hello")
    ...     server.receive_tag(None, 1)
    b'hello'
    """

    def __init__(self, config: WorkerConfig | None = None, **fields: Any) -> None:
        if config is None:
            config = WorkerConfig()
        elif not isinstance(config, WorkerConfig):
            raise ConfigError(f"config={shown(config)}: it takes a WorkerConfig")
        config = config.replace(**fields)
        if config.auth_key is None:
            config = config.replace(auth_key=AuthKey.from_environment())
        self._config = config
        self._name = config.name or f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        self._history = StatsHistory(config.history_length)
        self._kept: list[KeptConnection] = []
        need_descriptors(FOR_A_WORKER, "a worker")
        with contextlib.ExitStack() as undo:
            self._ucp = UcpWorker(config)
            undo.callback(self._ucp.close)
            # Before the start: Ctrl-C may come right after it, and its thread needs the UCP worker.
            undo.callback(self._stop_engine)
            undo.callback(self._shut_engine)
            self._enable_rma(config.enable_rma)
            self._start_engine(
                self._ucp.handle,
                self._ucp.context.handle,
                config,
                config.thread_mode is ThreadMode.SINGLE,
            )
            self._door = FrontDoor(self, config, self._name, self._ucp.address)
            undo.callback(self._door.stop, self)
            history = self._history
            self._door.every(
                config.history_interval, lambda engine, _: history.append(engine._totals())
            )
            self._door.start()
            undo.pop_all()
        _open_workers.add(self)

    @property
    def config(self) -> WorkerConfig:
        """Its settings; `WorkerConfig.auth_key` may have come from the environment."""
        return self._config

    @property
    def name(self) -> str:
        """What peers are told about it."""
        return self._name

    # ---- connections ----

    def connect(self, address: str, *, timeout: float | None = _DEFAULT, via: str = "ucxnb") -> int:
        """Connect to a listening worker.

        Parameters
        ----------
        address : str
            ``"127.0.0.1:8080"``, ``"server.example.com:8080"``, ``"[::1]:8080"``.
        timeout : float or None
            Seconds for name lookup, TCP and handshake together; None waits for ever. Default is
            `WorkerConfig.connect_timeout`.
        via : {"ucxnb", "ucx"}
            With ``"ucx"`` what listens there is any UCX program (``ucp_listener_create``), in C,
            Rust or Python, and there is no control channel: no name, no heartbeats, no limit of
            what lies unreceived, and a peer that closes looks like one that is gone. It needs
            ``tag_scope="worker"`` and no key.

        Returns
        -------
        int
            The endpoint's id, for all the other calls.

        Raises
        ------
        AddressError
            It is no address.
        ConnectRefusedError, UnreachableError, ConnectTimeoutError
            Nothing listens there, the name does not resolve or no route leads there, or it does
            not answer.
        HandshakeError, RejectedError, AuthenticationError
            What listens there is no ucxnb worker, or one that declines, or the two do not have the
            same `WorkerConfig.auth_key`.
        OpenFilesError
            This process has too few file descriptors left; if it is the peer's that has, the error
            is a `RejectedError`.
        ArgumentError, ThreadModeError, WorkerClosedError
            Nothing was tried.

        Notes
        -----
        The peers meet on a TCP socket, exchange worker addresses and make UCP endpoints from them
        (``ucp_ep_create``, ``UCP_ERR_HANDLING_MODE_PEER``). With ``via="ucx"`` UCX does all of it
        (``UCP_EP_PARAMS_FLAGS_CLIENT_SERVER``). After an error nothing is left behind.
        """
        self._enter_call()
        self._add_source()
        try:
            limit = self.config.connect_timeout if timeout is _DEFAULT else timeout
            reach = self._door.connect_ucx if self._is_plain(via) else self._door.connect
            return reach(address, checked_timeout(limit))
        except BaseException as error:
            self._count_error(f"connecting to {shown(address)} failed: {error}")
            raise
        finally:
            self._drop_source()
            self._leave_call()

    def keep_connected(
        self,
        address: str,
        *,
        timeout: float | None = _DEFAULT,
        first_delay: float = 0.1,
        longest_delay: float = 10.0,
        give_up_after: float | None = None,
    ) -> KeptConnection:
        """Connect to a listening worker, and again whenever that connection is lost.

        Parameters
        ----------
        address, timeout
            As in `connect`, for each attempt.
        first_delay, longest_delay : float
            Seconds from a loss to the first attempt, and at most between two; in between the delay
            doubles. Each is shortened by chance, down to a half.
        give_up_after : float or None
            Seconds from a loss after which no attempt is made any more; None for ever.

        Returns
        -------
        KeptConnection
            Connected. Each connection has an endpoint id of its own. Nothing is sent again: it
            records what a loss may have cost.

        Raises
        ------
        UcxnbError
            As `connect`; then nothing is kept.
        ArgumentError
            A delay is no number of seconds; nothing was tried.

        Examples
        --------
        >>> with worker.keep_connected("127.0.0.1:8080") as link:
        ...     while question := next(questions, None):
        ...         try:
        ...             worker.send_tag(link.wait(), 1, question)
        ...         except EndpointLostError:
        ...             print(link.losses[-1])
        """
        for name, delay in (("first_delay", first_delay), ("longest_delay", longest_delay)):
            if (checked_timeout(delay, name) or 0) < 0.001:
                raise ArgumentError(f"{name}={delay!r}: it takes seconds, 0.001 or more")
        checked_timeout(give_up_after, "give_up_after")
        limit = self.config.connect_timeout if timeout is _DEFAULT else timeout
        return KeptConnection(
            self,
            self._door,
            address,
            self.connect(address, timeout=limit),
            timeout=limit,
            first_delay=first_delay,
            longest_delay=longest_delay,
            give_up_after=give_up_after,
        )

    @property
    def kept_connections(self) -> tuple[KeptConnection, ...]:
        """Those of `keep_connected` that have not ended."""
        return tuple(self._kept)

    def create_listener(self, address: str = "127.0.0.1:0", *, via: str = "ucxnb") -> Listener:
        """Accept peers at an address, in the background.

        Parameters
        ----------
        address : str
            ``"0.0.0.0:8080"`` for all interfaces; ``":8080"`` for this machine only; port 0 for
            any free port.
        via : {"ucxnb", "ucx"}
            With ``"ucx"`` any UCX program can connect, as in `connect`. **On trusted networks
            only**: UCX's listener has no authentication, and whoever reaches it can stop the
            process with a few bytes.

        Returns
        -------
        Listener
            With the address and port as really bound. The worker closes it if you do not.

        Raises
        ------
        AddressError, AddressInUseError, UnreachableError, ConnectTimeoutError, OpenFilesError
            Nothing listens.
        ArgumentError, ThreadModeError, WorkerClosedError
            Nothing was tried.

        Warns
        -----
        UnprotectedListenerWarning
            Other machines can reach it, and there is no `WorkerConfig.auth_key`.
        UcxListenerWarning
            With ``via="ucx"``, always.

        Notes
        -----
        A TCP socket; with ``via="ucx"`` ``ucp_listener_create``.
        """
        self._enter_call()
        try:
            if self._is_plain(via):
                return self._door.listen_ucx(address)
            return self._door.listen(address)
        finally:
            self._leave_call()

    def _is_plain(self, via: str) -> bool:
        """Whether UCX's own wire-up is wanted, and can be."""
        if not isinstance(via, str) or via not in ("ucxnb", "ucx"):
            raise ArgumentError(f'via={shown(via)}: it takes "ucxnb" or "ucx"')
        if via == "ucx" and self.config.tag_scope != "worker":
            raise ArgumentError(
                'via="ucx" needs tag_scope="worker": other programs put no endpoint into their tags'
            )
        if via == "ucx" and self.config.auth_key is not None:
            raise ArgumentError(
                'via="ucx" asks nobody for the auth_key: make a worker without one for that'
            )
        return via == "ucx"

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listeners that are open."""
        return self._door.listeners

    def refusals(self) -> Refusals:
        """Tell who came to a listener and was not let in, and why.

        Returns
        -------
        Refusals
            Their number, and the latest of them: with a wrong key, none where one is asked for, of
            another release, no ucxnb worker at all, or slower than
            `WorkerConfig.handshake_timeout`. Any thread may call this.
        """
        return self._door.refusals

    def disconnect(self, endpoint_id: int, *, timeout: float = _DEFAULT) -> None:
        """Close a connection in order.

        What was sent is flushed first, and the peer can still receive it; what it sent and you
        did not receive is dropped. Doing it again does nothing.

        Parameters
        ----------
        endpoint_id : int
            Which.
        timeout : float
            Seconds to wait for the flush and the peer's answer; it is closed after that in any
            case. Default is `WorkerConfig.close_timeout`.

        Raises
        ------
        UnknownEndpointError
            There never was such a connection.
        ArgumentError, ThreadModeError, WorkerClosedError
            Nothing was done.

        Notes
        -----
        ``ucp_ep_flush_nbx``, then ``ucp_ep_close_nbx``.
        """
        self._close_endpoints([endpoint_id], timeout)

    def cleanup_all(self, *, timeout: float = _DEFAULT) -> None:
        """Close every connection, as `disconnect` does, all at the same time.

        Parameters
        ----------
        timeout : float
            Seconds for all together.

        Raises
        ------
        ArgumentError, ThreadModeError, WorkerClosedError
            Nothing was done.
        """
        self._close_endpoints(self.get_endpoint_ids(), timeout)

    def _close_endpoints(self, ids: list[int], timeout: float) -> None:
        self._enter_call()
        try:
            limit = checked_timeout(self.config.close_timeout if timeout is _DEFAULT else timeout)
            if limit is None:
                raise ArgumentError("timeout=None: closing takes a number of seconds")
            self._door.disconnect(self, ids, limit)
        finally:
            self._leave_call()

    def endpoints(self, *, ended: bool = False) -> list[EndpointInfo]:
        """Tell everything about each connection.

        Parameters
        ----------
        ended : bool
            Whether to add those that ended, the latest 256 of them.

        Returns
        -------
        list of EndpointInfo
            In the order they were made. Any thread may call this; it costs a few microseconds
            for each.
        """
        return [
            self._describe(endpoint)
            for endpoint in self._known_endpoints()
            if ended or self.is_connected(endpoint.endpoint_id)
        ]

    def _describe(self, endpoint: Endpoint) -> EndpointInfo:
        return EndpointInfo(
            endpoint.endpoint_id,
            endpoint.peer_address,
            endpoint.peer_name,
            endpoint.state,
            endpoint.since,
            endpoint.direction,
            endpoint.transports,
            self._traffic(endpoint),
            endpoint.reason or "",
            endpoint.received_there,
        )

    def explain(self, endpoint_id: int) -> Explanation:
        """Tell what UCX chose for a connection: transports, and a protocol for each message size.

        UCX chooses for an operation when it is first used: send once, write to the stream once,
        and look again. Put, get and rendezvous it tells only of a worker whose UCX prints its
        choices; `ucxnb.explorer.probe` makes one, in a new process, and adds the times that UCX
        expects.

        Parameters
        ----------
        endpoint_id : int
            Which, open.

        Returns
        -------
        Explanation
            A value: nothing in it changes later. Any thread may call this; it takes about 0.1 ms,
            for which the worker stands still.

        Raises
        ------
        UnknownEndpointError, ArgumentError
            There is no such connection.
        EndpointClosedError, EndpointLostError, PeerClosedError
            It has ended.
        WorkerClosedError
            The worker is closed.

        Notes
        -----
        ``ucp_ep_print_info`` and ``ucp_worker_print_info``, into memory: nothing is printed.
        """
        endpoint = self._endpoint(endpoint_id)
        if self.closed:
            self._enter_call()  # it says why
        text = endpoint.printed()
        peer = " ".join(filter(None, [endpoint.peer_name, f"({endpoint.peer_address})"]))
        return explain_printed(text, endpoint_id, peer, ucx_versions()[0])

    # ---- streams ----

    def open_stream(self, endpoint_id: int, *, timeout: float | None = None) -> UcxStream:
        """Use the stream of a connection as a file.

        Parameters
        ----------
        endpoint_id : int
            Which.
        timeout : float, optional
            Seconds that each read or write may take; None waits for ever.

        Returns
        -------
        UcxStream
            An `io.RawIOBase`, to read and to write.

        Raises
        ------
        UnknownEndpointError, EndpointClosedError, FeatureDisabledError, ArgumentError
            There is no such stream.
        ThreadModeError, WorkerClosedError
            None was opened.

        Examples
        --------
        >>> with io.BufferedReader(worker.open_stream(endpoint_id)) as file:
        ...     table = pickle.load(file)
        """
        self._check_stream(endpoint_id)
        return UcxStream(self, endpoint_id, timeout=timeout)

    async def open_stream_async(
        self, endpoint_id: int, *, limit: int = 64 * 1024
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Use the stream of a connection in asyncio, as `asyncio.open_connection` does a socket's.

        Parameters
        ----------
        endpoint_id : int
            Which.
        limit : int
            Bytes that the reader keeps ahead, and the longest line that ``readline`` takes.

        Returns
        -------
        tuple of asyncio.StreamReader and asyncio.StreamWriter
            The reader comes to its end when the peer closes in order, and raises
            `EndpointLostError` when it is lost. Close the writer to part with both; the connection
            stays open, and what the reader had ahead is gone.

        Raises
        ------
        UnknownEndpointError, EndpointClosedError, FeatureDisabledError, ArgumentError
            There is no such stream.
        ThreadModeError, WorkerClosedError
            None was opened.
        """
        self._check_stream(endpoint_id)
        return open_pair(self, endpoint_id, limit)

    # ---- objects ----

    def send_object(
        self, endpoint_id: int, tag: int, value: object, *, timeout: float | None = None
    ) -> None:
        """Send a Python object, pickled; the bytes of arrays in it are not copied.

        Parameters
        ----------
        endpoint_id, tag
            As in `send_tag`; the peer takes it with `receive_object`.
        value : object
            Whatever can be pickled. It must not change before this returns.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        ObjectError
            It cannot be pickled.
        OperationTimeoutError
            It still goes out, and must not change until it has.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError, UcxError
            Nothing was sent.

        Notes
        -----
        One message, gathered by UCX (``ucp_tag_send_nbx`` with ``ucp_dt_make_iov``) from a pickle
        of protocol 5 and its buffers.
        """
        checked_timeout(timeout)
        self._isend_parts(endpoint_id, tag, pack(value)).wait(timeout)

    def isend_object(self, endpoint_id: int, tag: int, value: object) -> Request:
        """Begin to send a Python object.

        Parameters
        ----------
        endpoint_id, tag
            As in `send_object`.
        value : object
            As in `send_object`. It must not change until the request is done.

        Returns
        -------
        Request
            Done when the object may change again.

        Raises
        ------
        ObjectError
            It cannot be pickled.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.
        """
        return self._isend_parts(endpoint_id, tag, pack(value))

    def receive_object(
        self, endpoint_id: int | None, tag: int, *, timeout: float | None = None
    ) -> Any:
        """Wait for an object and make it. **This runs code that its sender chose.**

        Parameters
        ----------
        endpoint_id, tag, timeout
            As in `receive_tag`.

        Returns
        -------
        object
            Arrays in it can be written, and lie in the memory into which the message came.

        Raises
        ------
        UntrustedPeersError
            Peers of this worker need no key (`WorkerConfig.auth_key`), and
            `WorkerConfig.unpickle_from_anyone` is not set. The message is kept.
        ObjectError
            The message holds no object, or one that cannot be made here: it has the bytes.
        OperationTimeoutError, EndpointLostError, PeerClosedError, NoPeersError
            As in `receive_tag`.
        EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, ArgumentError
            Nothing was received.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was received.
        """
        self._check_trust()
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        buffer = bytearray(ROOM_FOR_SMALL)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                nbytes = self.receive_tag(endpoint_id, tag, buffer, timeout=left)
            except BufferTooSmallError as error:
                buffer = bytearray(error.needed)
            else:
                del buffer[nbytes:]
                return unpack(buffer)

    async def receive_object_async(self, endpoint_id: int | None, tag: int) -> Any:
        """Wait for an object and make it, without holding up the event loop.

        Parameters
        ----------
        endpoint_id, tag
            As in `receive_object`.

        Returns
        -------
        object

        Raises
        ------
        UcxnbError
            As `receive_object`. If the task is cancelled, no message is lost.
        """
        self._check_trust()
        buffer = bytearray(ROOM_FOR_SMALL)
        while True:
            try:
                message = await self.ireceive_tag(endpoint_id, tag, buffer)
            except BufferTooSmallError as error:
                buffer = bytearray(error.needed)
            else:
                del buffer[message.nbytes :]
                return unpack(buffer)

    def _check_trust(self) -> None:
        self._enter_call()
        self._leave_call()
        if self.config.auth_key is None and not self.config.unpickle_from_anyone:
            raise UntrustedPeersError(
                "peers of this worker need no key, and making an object runs code that its sender "
                "chose: give both sides an auth_key, or, where everybody who can reach this worker "
                "is trusted, make it with unpickle_from_anyone=True"
            )

    # ---- one-sided memory ----

    def register(self, buffer: Any, *, writable: bool | None = None) -> RegisteredMemory:
        """Let peers reach a buffer of yours, with the key that this gives.

        Parameters
        ----------
        buffer : bytes-like or array
            Any contiguous buffer, a NumPy array, say, or memory of a GPU as in `send_tag`. It is
            kept alive until the memory is closed.
        writable : bool, optional
            Whether peers may write; if left out, whether you could.

        Returns
        -------
        RegisteredMemory
            Close it before the buffer is used for something else.

        Raises
        ------
        InvalidBufferError, ArgumentError
            It cannot be registered.
        UcxError
            UCX cannot register it.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was done; ``enable_rma`` is needed.

        Notes
        -----
        ``ucp_mem_map``. Over shared memory, what UCX allocates itself (`allocate`) can be reached
        directly, and is many times faster.
        """
        if writable is not None and not isinstance(writable, bool):
            raise ArgumentError(f"writable={shown(writable)}: it takes True, False or None")
        if buffer is None:
            raise InvalidBufferError("buffer is None: pass one, or allocate() memory")
        return self._make_memory(buffer, 0, writable)

    def allocate(self, nbytes: int) -> RegisteredMemory:
        """Let UCX allocate memory that peers can reach, filled with zeros.

        Parameters
        ----------
        nbytes : int
            Its size.

        Returns
        -------
        RegisteredMemory
            A buffer: ``numpy.frombuffer(memory, dtype)`` is a view of it.

        Raises
        ------
        ArgumentError
            It is no such size.
        UcxError
            UCX cannot allocate so much.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was done; ``enable_rma`` is needed.

        Notes
        -----
        ``ucp_mem_map`` with ``UCP_MEM_MAP_ALLOCATE``: shared memory, for peers on this machine.
        """
        if not isinstance(nbytes, int) or not 1 <= nbytes < 2**47:
            raise ArgumentError(f"nbytes={shown(nbytes)}: it takes a number of bytes, 1 or more")
        return self._make_memory(None, nbytes, True)

    def open_remote(
        self, endpoint_id: int, key: bytes, *, timeout: float | None = None
    ) -> RemoteMemory:
        """Ask a peer about the memory of a key, before it is used.

        Parameters
        ----------
        endpoint_id : int
            The connection to the memory's owner.
        key : bytes
            Its `RegisteredMemory.remote_key`.
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        RemoteMemory
            Its size, and whether it can be written. `put`, `get` and the atomics take it, or the
            key.

        Raises
        ------
        RemoteKeyError
            It is no key, or of another worker's memory, or of memory that was closed.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        OperationTimeoutError
            The peer did not answer.
        ArgumentError, UcxError
            Nothing was done, or UCX cannot use the key.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was done; ``enable_rma`` is needed on both sides.

        Notes
        -----
        ``ucp_ep_rkey_unpack``.
        """
        return self._check_remote(endpoint_id, key, timeout)

    def _make_memory(self, buffer: Any, nbytes: int, writable: bool | None) -> RegisteredMemory:
        self._enter_call()
        try:
            return self._map(self._ucp.context, self._ucp.context.handle, buffer, nbytes, writable)
        finally:
            self._leave_call()

    def _lease(self, endpoint: Endpoint, key: bytes, timeout: float | None) -> RemoteMemory:
        return self._door.lease(endpoint.endpoint_id, key, timeout)

    def _ask_for_atomic(
        self,
        endpoint: Endpoint,
        key: bytes,
        offset: int,
        nbytes: int,
        expected: int | None,
        value: int,
        timeout: float | None,
    ) -> int:
        fields = {"offset": offset, "nbytes": nbytes, "expected": expected, "value": value}
        return self._door.atomic(endpoint.endpoint_id, key, fields, timeout)

    def _revoke(self, key: bytes, timeout: float | None) -> None:
        checked_timeout(timeout)
        with contextlib.suppress(WorkerClosedError):  # then nobody reaches it
            late = self._door.revoke(key, timeout)
            if late:
                raise OperationTimeoutError(
                    f"{', '.join(late)} did not let go of the memory in {timeout} s; close it "
                    "again, or disconnect that peer first"
                )

    # ---- in asyncio ----

    async def connect_async(
        self, address: str, *, timeout: float | None = _DEFAULT, via: str = "ucxnb"
    ) -> int:
        """Connect to a listening worker, without holding up the event loop.

        Parameters
        ----------
        address, timeout, via
            As in `connect`.

        Returns
        -------
        int
            The endpoint's id.

        Raises
        ------
        UcxnbError
            As `connect`. If the task is cancelled, the connection is closed should it come about.
        """
        made: list[int] = []
        unwanted = False

        def connect() -> int:
            endpoint_id = self.connect(address, timeout=timeout, via=via)
            made.append(endpoint_id)
            if unwanted:
                self._disconnect_quietly(endpoint_id)
            return endpoint_id

        try:
            return await _in_thread(connect)
        except BaseException:
            # Each side first says what it did and then looks at the other: one of them closes it.
            unwanted = True
            if made:
                threading.Thread(target=self._disconnect_quietly, args=made).start()
            raise

    def _disconnect_quietly(self, endpoint_id: int) -> None:
        mark_toolkit_thread()
        with contextlib.suppress(WorkerClosedError):
            self.disconnect(endpoint_id)

    async def disconnect_async(self, endpoint_id: int, *, timeout: float = _DEFAULT) -> None:
        """Close a connection in order, without holding up the event loop.

        Parameters
        ----------
        endpoint_id, timeout
            As in `disconnect`.

        Raises
        ------
        UcxnbError
            As `disconnect`. It goes on if the task is cancelled.
        """
        await _in_thread_to_the_end(self.disconnect, endpoint_id, timeout=timeout)

    async def accept(self) -> int:
        """Wait for the next peer that connects to a listener.

        Returns
        -------
        int
            Its endpoint's id. Every accepted peer is returned once, in the order they came, also
            those that came before this was called; not those that have left by then.

        Raises
        ------
        NoPeersError
            No listener is open, or the last one was closed meanwhile.
        WorkerClosedError
            The worker is closed, or was meanwhile. If the task is cancelled, no peer is lost.
        """
        while True:
            self._enter_call()
            self._leave_call()
            endpoint_id = self._door.accepted.take()
            if endpoint_id is not None:
                if self.is_connected(endpoint_id):
                    return endpoint_id
                continue  # it is just leaving
            if not self.listeners:
                raise NoPeersError("no listener is open; call create_listener first")
            await self._door.accepted.changed()

    async def messages(
        self, tag: int, *, endpoint_id: int | None = None, tag_mask: int | None = None
    ) -> AsyncGenerator[Message, None]:
        """Receive one message after the other: ``async for message in worker.messages(7)``.

        Parameters
        ----------
        tag, tag_mask
            As in `receive_tag`.
        endpoint_id : int, optional
            Where from; anyone by default.

        Yields
        ------
        Message
            With its bytes. The iteration ends when the peer closes in order, or, from anyone, when
            the last peer has gone and no listener is open.

        Raises
        ------
        EndpointLostError
            The peer was lost, and all that came from it has been yielded.
        NoPeersError
            From anyone, and there never was a peer.
        UcxnbError
            As `ireceive_tag`, and `WorkerClosedError` if the worker is closed meanwhile. If the
            task is cancelled, no message is lost.
        """
        begun = bool(self.get_endpoint_ids() or self.listeners)
        while True:
            try:
                message = await self.ireceive_tag(endpoint_id, tag, tag_mask=tag_mask)
            except PeerClosedError:
                return
            except NoPeersError:
                if begun:
                    return
                raise
            begun = True
            yield message

    async def __aenter__(self) -> UcxWorker:
        return self

    async def __aexit__(self, *exception: object) -> None:
        # Closing waits for the peers' goodbyes, which may take as long as close_timeout.
        await _in_thread_to_the_end(self.close)

    # ---- statistics ----

    @overload
    def stats(self, endpoint_id: None = None) -> WorkerStats: ...

    @overload
    def stats(self, endpoint_id: int) -> TrafficStats: ...

    def stats(self, endpoint_id: int | None = None) -> TrafficStats:
        """Take a snapshot of the counters.

        Parameters
        ----------
        endpoint_id : int, optional
            Of one connection only, open or ended.

        Returns
        -------
        WorkerStats or TrafficStats
            Of the worker, or of the connection. Any thread may call this.

        Raises
        ------
        UnknownEndpointError, ArgumentError
            There is no such connection.
        """
        if endpoint_id is None:
            return self._totals()
        return self._traffic(self._endpoint(endpoint_id))

    def snapshot(self) -> Snapshot:
        """Take a snapshot of everything that can be seen of the worker.

        Returns
        -------
        Snapshot
            Any thread may call this, also after `close`; it costs a few microseconds for each
            connection.
        """
        return Snapshot(
            self._name,
            time.time(),
            self._totals(),
            tuple(self.endpoints()),
            tuple(listener.address for listener in self.listeners),
            *self._histograms(),
            self._health(),
            self._door.events.latest(_EVENTS_IN_A_SNAPSHOT),
            self.closed,
        )

    def events(self) -> tuple[Event, ...]:
        """Tell what happened to the connections.

        Returns
        -------
        tuple of Event
            The latest 1,024, oldest first. Any thread may call this, also after `close`.
        """
        return self._door.events.latest()

    def history(self) -> StatsHistory:
        """Give the latest snapshots.

        Returns
        -------
        StatsHistory
            Sampled every `WorkerConfig.history_interval` in the background, and bounded.
        """
        return self._history

    # ---- life ----

    def close(self) -> None:
        """Close all connections and listeners, stop the background threads, free everything.

        Calls that are blocked in other threads end with `WorkerClosedError`. What was sent is
        flushed, for `WorkerConfig.close_timeout` seconds at most. Doing it again does nothing.

        Raises
        ------
        ThreadModeError
            From a signal handler or a finalizer inside another call of this thread, of any worker.
        """
        if not self.closed:
            self._shut_engine()
            self._stop_keeping()
            self._door.accepted.wake_all()
            try:
                with contextlib.suppress(Exception):
                    self._door.disconnect(self, self.get_endpoint_ids(), self.config.close_timeout)
            finally:  # Ctrl-C ends the wait for the peers' answers, and no more
                self._free()

    def _stop_keeping(self) -> None:
        for link in self.kept_connections:
            link._stop_trying()

    def _free(self) -> None:
        _open_workers.discard(self)
        interrupt = None
        for step in (
            self._door.end_handshakes,
            self._wait_for_calls,
            lambda: self._door.stop(self),
            lambda: self._history.append(self._totals()),
            self._stop_engine,
            self._release_memory,
            self._ucp.close,
        ):
            for _ in range(_TRIES):
                try:
                    with contextlib.suppress(WorkerClosedError):
                        step()
                    break
                except KeyboardInterrupt as error:
                    interrupt = error
        if interrupt is not None:
            raise interrupt

    def _wait_for_calls(self) -> None:
        while self._calls_inside:  # they see that it is closed, and leave
            time.sleep(0.0005)

    def _after_fork_in_child(self) -> None:
        self._abandon_engine()
        self._door.abandon()

    def __enter__(self) -> UcxWorker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            try:
                warnings.warn(
                    f"{self!r} was dropped open; close() it",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            finally:  # a warning may be an error
                self._shut_engine(True)
                self._stop_keeping()
                self._free()

    def __repr__(self) -> str:
        if self.closed:
            return f"<UcxWorker {self._name} closed>"
        listening = ", ".join(listener.address for listener in self.listeners)
        where = f", listening on {listening}" if listening else ""
        return f"<UcxWorker {self._name}: {self._open_count} endpoints{where}>"


async def _in_thread(call: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
    """Make a blocking call on a thread of the loop's, on behalf of the loop's thread."""

    def run() -> _Result:
        before = mark_toolkit_thread()
        try:
            return call(*args, **kwargs)
        finally:
            mark_toolkit_thread(before)

    return await asyncio.to_thread(run)


async def _in_thread_to_the_end(call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """`_in_thread`, and the call is made even if the task is cancelled before a thread is free."""
    await asyncio.shield(asyncio.ensure_future(_in_thread(call, *args, **kwargs)))


def _close_all() -> None:
    for worker in list(_open_workers):
        worker.close()


def _after_fork_in_child() -> None:
    for worker in list(_open_workers):
        worker._after_fork_in_child()


# The background threads must stop before the interpreter does.
atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
