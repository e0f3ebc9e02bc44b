"""Streams as Python knows them: a file, and asyncio's pair of reader and writer."""

from __future__ import annotations

import asyncio
import collections
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import PeerClosedError, UcxnbError
from .timeouts import checked_timeout

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .engine import Request, StreamEngine

__all__ = ["UcxStream"]

_READ_SIZE = 256 * 1024
_HIGH_WATER = 1024 * 1024


class UcxStream(io.RawIOBase):
    """The stream of one connection as a binary file, without a buffer of its own.

    Made by `UcxWorker.open_stream`. Wrap it in `io.BufferedReader`, `io.BufferedWriter` or
    `io.TextIOWrapper` as you would a file; ``pickle.load``, ``shutil.copyfileobj`` and ``csv`` then
    just work. Closing it leaves the connection open; several of one connection share its stream.

    Parameters
    ----------
    worker : UcxWorker
        Whose connection it is.
    endpoint_id : int
        Which.
    timeout : float, optional
        Seconds that a read or a write may take; None waits for ever.
    """

    def __init__(
        self, worker: StreamEngine, endpoint_id: int, *, timeout: float | None = None
    ) -> None:
        self._worker = worker
        self._endpoint_id = endpoint_id
        self._timeout = checked_timeout(timeout)

    @property
    def endpoint_id(self) -> int:
        """The connection's."""
        return self._endpoint_id

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Read what has come, and wait until something has.

        Parameters
        ----------
        buffer : writable bytes-like
            Where the bytes go; yours again when this returns or raises.

        Returns
        -------
        int
            How many bytes were read; 0 after the last one, once the peer has closed in order.

        Raises
        ------
        EndpointLostError
            The peer was lost, and all that came from it has been read.
        OperationTimeoutError
            Nothing came in time; read again.
        UcxnbError
            As `UcxWorker.receive_stream`.
        """
        self._check_open()
        try:
            return self._worker.receive_stream(self._endpoint_id, buffer, timeout=self._timeout)
        except PeerClosedError:
            return 0

    def write(self, data: Buffer) -> int:
        """Send all bytes.

        Parameters
        ----------
        data : bytes-like
            They can change again when this returns.

        Returns
        -------
        int
            Their number.

        Raises
        ------
        UcxnbError
            As `UcxWorker.send_stream`.
        """
        self._check_open()
        view = memoryview(data)
        self._worker.send_stream(self._endpoint_id, view, timeout=self._timeout)
        return view.nbytes

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed stream: open_stream() gives another")

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<UcxStream of endpoint {self._endpoint_id}, {state}>"


class StreamTransport(asyncio.Transport):
    """What asyncio's readers and writers sit on: moves bytes between a protocol and a stream.

    Parameters
    ----------
    worker : UcxWorker
        Whose connection it is.
    endpoint_id : int
        Which.
    protocol : asyncio.Protocol
        Gets what is read. Its callbacks are called on the running loop.
    """

    def __init__(
        self, worker: StreamEngine, endpoint_id: int, protocol: asyncio.streams.FlowControlMixin
    ) -> None:
        where = worker._endpoint(endpoint_id).peer_address
        super().__init__({"peername": where, "endpoint_id": endpoint_id})
        self._worker = worker
        self._endpoint_id = endpoint_id
        self._protocol: Any = protocol
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._lost = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._unsent: collections.deque[tuple[Request, int]] = collections.deque()
        self._unsent_bytes = 0
        self._limits = (_HIGH_WATER // 4, _HIGH_WATER)
        self._paused = False
        self._sender: asyncio.Task[None] | None = None
        self._protocol.connection_made(self)
        self._reader = self._loop.create_task(self._read())

    # ---- reading ----

    async def _read(self) -> None:
        buffer = bytearray(_READ_SIZE)
        try:
            while True:
                await self._may_read.wait()
                got = await self._worker.ireceive_stream(self._endpoint_id, buffer)
                self._protocol.data_received(bytes(memoryview(buffer)[: got.nbytes]))
        except PeerClosedError:
            self._protocol.eof_received()
        except UcxnbError as error:
            self._lose(error)

    def pause_reading(self) -> None:
        """Leave what comes with the worker."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Read again."""
        self._may_read.set()

    def is_reading(self) -> bool:
        """Whether what comes is read."""
        return not self._closing and self._may_read.is_set()

    # ---- writing ----

    def write(self, data: Buffer) -> None:
        """Send bytes, of which a copy is kept until they have left."""
        if self._lost or self._closing:
            return
        kept = bytes(data)
        if not kept:
            return
        try:
            request = self._worker.isend_stream(self._endpoint_id, kept)
        except UcxnbError as error:
            self._lose(error)
            return
        self._unsent.append((request, len(kept)))
        self._unsent_bytes += len(kept)
        if not self._paused and self._unsent_bytes > self._limits[1]:
            self._paused = True
            self._protocol.pause_writing()
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several pieces, one after the other."""
        self.write(b"".join(list_of_data))

    async def _send(self) -> None:
        try:
            while self._unsent:
                await self._unsent[0][0]
                self._unsent_bytes -= self._unsent.popleft()[1]
                if self._paused and self._unsent_bytes <= self._limits[0]:
                    self._paused = False
                    self._protocol.resume_writing()
        except UcxnbError as error:
            self._lose(error)
        finally:
            self._sender = None
        if self._closing:
            self._lose(None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait to leave before writers are paused, and until when."""
        most = (_HIGH_WATER if low is None else 4 * low) if high is None else high
        least = most // 4 if low is None else low
        if not 0 <= least <= most:
            raise ValueError(f"high={most}, low={least}: it takes high >= low >= 0")
        self._limits = (least, most)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The limits, the low one first."""
        return self._limits

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to leave."""
        return self._unsent_bytes

    def can_write_eof(self) -> bool:
        """Whether one direction can be closed alone: no."""
        return False

    # ---- the end ----

    def is_closing(self) -> bool:
        """Whether it was closed, or was lost."""
        return self._closing

    def close(self) -> None:
        """Send what was written, then part with the stream. The connection stays open."""
        if not self._closing:
            self._closing = True
            self._reader.cancel()
            if self._sender is None:
                self._lose(None)

    def abort(self) -> None:
        """Part with the stream at once; what UCX has is sent."""
        self._lose(None)

    def get_protocol(self) -> Any:
        """What gets the bytes."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Let another one get the bytes."""
        self._protocol = protocol

    def _lose(self, error: UcxnbError | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            if asyncio.current_task() is not self._reader:
                self._reader.cancel()
            self._unsent.clear()
            self._unsent_bytes = 0
            self._loop.call_soon(self._protocol.connection_lost, error)


def open_pair(
    worker: StreamEngine, endpoint_id: int, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Make asyncio's reader and writer of a stream, on the running loop."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = StreamTransport(worker, endpoint_id, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
