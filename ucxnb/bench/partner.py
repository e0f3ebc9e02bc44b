"""The other side of a measurement: a worker that does its half of what a client asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..auth_key import AuthKey
from ..engine import RegisteredMemory
from ..errors import (
    BufferTooSmallError,
    EndpointError,
    FeatureDisabledError,
    OperationTimeoutError,
    UcxError,
    UnknownEndpointError,
    WorkerClosedError,
)
from ..message import Message
from ..peer_process import PeerProcess
from ..worker import UcxWorker
from .protocol import (
    CONTROL,
    CONTROL_MASK,
    LARGEST,
    SLICE,
    is_control,
    pack,
    patience_for,
    rows_at_once,
    unpack,
)

__all__ = ["BenchPartner", "serve_measurements"]

_LOOK_UP = 0.5  # seconds between two looks at `until` while nothing arrives
_WORDS = ("hello", "echo", "take", "echo stream", "take stream", "expose")
_MOST = 10_000_000  # of anything that a client may ask for at once


class BenchPartner(PeerProcess):
    """A child process with a worker that takes part in measurements.

    It listens on a free port of the loopback interface, and it ends with this process, however
    this process ends. It may be used and closed from any thread.

    Parameters
    ----------
    ucx_options : mapping of str to str
        Of its worker, as in `WorkerConfig`.
    auth_key : str or bytes, optional
        Of its worker, as in `WorkerConfig`: the same as yours.
    enable_rma : bool
        Of its worker, as in `WorkerConfig`.
    start_timeout : float
        How long the child may take until it listens, seconds.

    Raises
    ------
    OperationTimeoutError, UcxnbError
        As `EchoPeer`.
    """

    def __init__(
        self,
        *,
        ucx_options: Mapping[str, str] | None = None,
        auth_key: AuthKey | str | bytes | None = None,
        enable_rma: bool = False,
        start_timeout: float = 30.0,
    ) -> None:
        super().__init__(
            "the bench partner",
            "bench",
            "ucxnb.bench.partner:serve_measurements",
            ucx_options=ucx_options,
            auth_key=auth_key,
            enable_rma=enable_rma,
            start_timeout=start_timeout,
        )


def serve_measurements(worker: UcxWorker, until: Callable[[], bool] = lambda: False) -> None:
    """Do the partner's half of measurements, until told to stop or the worker is closed.

    Clients may come, go, die and give up in the midst of a measurement. What they send that is
    no request is thrown away; a wrong request is answered with what is wrong.

    Parameters
    ----------
    worker : UcxWorker
        It should be listening, with tag scope ``"endpoint"``.
    until : callable
        Asked about twice a second while nothing arrives; True ends the loop.
    """
    partner = _Partner(worker)
    while True:
        try:
            message = partner.next_message()
            if message is not None:
                partner.answer(message)
            elif until():
                return
        except WorkerClosedError:
            return
        except (
            EndpointError,
            UnknownEndpointError,
            OperationTimeoutError,
            UcxError,
            _GivenUpError,
        ):
            continue  # that client is gone or stuck; there may be others


class _GivenUpError(Exception):
    """The client does not go on with what it asked for."""


class _Partner:
    """What lasts from one request to the next."""

    def __init__(self, worker: UcxWorker) -> None:
        self._worker = worker
        self._memory = bytearray(1 << 16)
        self._waiting: Message | None = None
        self._exposed: RegisteredMemory | None = None

    def next_message(self) -> Message | None:
        """Return the next request, None if nothing came; throw away what is none."""
        message, self._waiting = self._waiting, None
        while message is None:
            memory = memoryview(self._memory)
            try:
                message = self._worker.receive_message(
                    None, 0, memory, timeout=_LOOK_UP, tag_mask=0
                )
            except OperationTimeoutError:
                return None
            except BufferTooSmallError as error:
                self._grow(error.needed)
                continue
            if not is_control(message.tag):
                message = None  # what a measurement left behind that was given up
            else:
                message = message._replace(data=bytes(memory[: message.nbytes]))
        return message

    def answer(self, message: Message) -> None:
        """Do what was asked for."""
        assert message.endpoint_id is not None  # the tag scope is "endpoint" here
        assert message.data is not None
        try:
            request = unpack(message.data)
            nbytes, count = _number(request, "nbytes", LARGEST), _number(request, "count", _MOST)
            word = request.get("is")
            if word not in _WORDS:
                raise ValueError(f"the request {word!r:.40} is none of {', '.join(_WORDS)}")
            told = {"key": self._expose(nbytes)} if word == "expose" else {}
        except (ValueError, FeatureDisabledError) as error:
            self._say(message, "error", why=str(error))
            return
        self._grow(nbytes)
        self._say(message, "ready", **told)
        if word == "echo":
            self._echo(message.endpoint_id, message.tag + 1, nbytes, count)
        elif word == "take":
            self._take(message.endpoint_id, message.tag + 1, nbytes, count)
            self._say(message, "done")
        elif word in ("echo stream", "take stream"):
            self._read_stream(message.endpoint_id, nbytes, count, echo=word == "echo stream")
            if word == "take stream":
                self._say(message, "done")

    def _expose(self, nbytes: int) -> str:
        """Let clients put into memory and get from it; what was there before is gone."""
        if self._exposed is not None:
            self._exposed.close()
        # Not memory of UCX's own: that would be mapped into the client, past its protocols.
        self._exposed = self._worker.register(bytearray(max(1, nbytes)))
        return self._exposed.remote_key().hex()

    def _read_stream(self, endpoint_id: int, nbytes: int, count: int, *, echo: bool) -> None:
        """Read from a client's stream, and write the same back if it wants that."""
        memory = memoryview(self._memory)[:nbytes]

        def receive(endpoint_id: int, _: int, memory: memoryview, *, timeout: float) -> None:
            self._worker.receive_stream(endpoint_id, memory, True, timeout=timeout)

        for _ in range(count):
            try:
                receive(endpoint_id, 0, memory, timeout=SLICE)
            except OperationTimeoutError:
                self._keep_receiving(endpoint_id, 0, memory, receive)
            if echo:
                self._worker.send_stream(endpoint_id, memory, timeout=patience_for(nbytes))

    def _echo(self, endpoint_id: int, tag: int, nbytes: int, count: int) -> None:
        """Send `count` messages back."""
        receive, send = self._worker.receive_tag, self._worker.send_tag
        memory = memoryview(self._memory)[:nbytes]
        for _ in range(count):
            try:
                receive(endpoint_id, tag, memory, timeout=SLICE)
            except OperationTimeoutError:
                self._keep_receiving(endpoint_id, tag, memory)
            try:
                send(endpoint_id, tag, memory, timeout=SLICE)
            except OperationTimeoutError:
                continue  # it goes out by itself, before the next one comes

    def _take(self, endpoint_id: int, tag: int, nbytes: int, count: int) -> None:
        """Receive `count` times what is sent at once."""
        rows = rows_at_once(nbytes)
        receive: Callable[..., object] = self._worker.receive_tag
        memory = memoryview(self._memory)[:nbytes]
        if rows > 1:
            self._grow(rows * nbytes)
            receive = self._worker.receive_rows
            memory = memoryview(self._memory)[: rows * nbytes].cast("B", (rows, nbytes))
        for _ in range(count):
            try:
                receive(endpoint_id, tag, memory, timeout=SLICE)
            except OperationTimeoutError:
                self._keep_receiving(endpoint_id, tag, memory, receive)

    def _keep_receiving(
        self,
        endpoint_id: int,
        tag: int,
        memory: memoryview,
        receive: Callable[..., object] | None = None,
    ) -> None:
        """Go on with a receive that took long, unless the client has given up."""
        call = receive or self._worker.receive_tag
        end = time.monotonic() + patience_for(memory.nbytes)
        while time.monotonic() < end:
            self._waiting = self._worker.try_receive_message(
                endpoint_id, CONTROL, tag_mask=CONTROL_MASK
            )
            if self._waiting is not None:
                raise _GivenUpError
            try:
                call(endpoint_id, tag, memory, timeout=SLICE)
                return
            except OperationTimeoutError:
                continue  # nothing is lost: the same receive goes on
        raise _GivenUpError

    def _say(self, message: Message, word: str, **fields: Any) -> None:
        self._worker.send_tag(
            message.endpoint_id or 0, message.tag, pack(word, **fields), timeout=patience_for(0)
        )

    def _grow(self, nbytes: int) -> None:
        # A new one: UCX may still read from the old one.
        if len(self._memory) < nbytes:
            self._memory = bytearray(nbytes)


def _number(request: Mapping[str, Any], name: str, most: int) -> int:
    value = request.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name}={value!r:.40}: it takes a whole number up to {most:,}")
    return value
