"""A worker of another process, seen from here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import Any

from ..engine import mark_toolkit_thread
from ..errors import ConnectTimeoutError, OperationTimeoutError, UcxnbError
from ..events import Event
from ..snapshot import Snapshot
from ..worker import UcxWorker
from .samples import LARGEST_SAMPLE, SAMPLE_TAG, Unpacker

__all__ = ["RemoteWorker"]

_PATIENCE = 0.2
_EVENTS = 64


class RemoteWorker:
    """What a `Publisher` tells of its worker. A dashboard takes it like a worker.

    Parameters
    ----------
    address : str
        ``host:port`` of the publisher.
    timeout : float
        Seconds for the connection and the first snapshot.
    **fields
        Fields of the `WorkerConfig` of the small UCX worker that watches, such as ``auth_key``.

    Attributes
    ----------
    name : str
        The worker's name.
    reason : str
        Why nothing comes any more; empty while it does.

    Raises
    ------
    EndpointError, OperationTimeoutError, ConfigError, AddressError
        As `UcxWorker` and `UcxWorker.connect`, or what answers there is no publisher.

    Notes
    -----
    A context manager. When the publisher ends, or its process dies, the last snapshot stays, with
    ``closed`` set.
    """

    def __init__(self, address: str, *, timeout: float = 10.0, **fields: Any) -> None:
        self._worker = UcxWorker(**{"name": "watcher", **fields})
        self._unpacker = Unpacker()
        self._buffer = bytearray(LARGEST_SAMPLE)  # whatever is sent, memory is bounded
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._closing = False
        self.reason = ""
        try:
            self._peer = self._worker.connect(address, timeout=timeout)
            try:
                self._latest = self._receive(timeout)
            except OperationTimeoutError:
                raise ConnectTimeoutError(
                    f"{address}: a ucxnb worker is there, and publishes nothing; give the address "
                    "of a Publisher"
                ) from None
        except BaseException:
            self._worker.close()
            raise
        self.name = self._latest.name
        self._thread = threading.Thread(target=self._run, name="ucxnb-watcher", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._latest.closed

    def snapshot(self) -> Snapshot:
        """Tell how the worker was a moment ago, from any thread, without waiting."""
        return self._latest

    def close(self) -> None:
        """Stop watching. Twice is fine."""
        self._closing = True
        self._thread.join()
        self._worker.close()

    def _receive(self, timeout: float) -> Snapshot:
        buffer = self._buffer
        nbytes = self._worker.receive_tag(self._peer, SAMPLE_TAG, buffer, timeout=timeout)
        snapshot = self._unpacker.unpack(bytes(memoryview(buffer)[:nbytes]))
        self._events.extend(snapshot.events)
        return replace(snapshot, events=tuple(self._events))

    def _run(self) -> None:
        mark_toolkit_thread()
        while not self._closing and not self._latest.closed:
            try:
                self._latest = self._receive(_PATIENCE)
            except OperationTimeoutError:
                continue
            except UcxnbError as error:
                self.reason = str(error)
                break
        self._latest = replace(self._latest, closed=True)

    def __enter__(self) -> RemoteWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RemoteWorker {self.name!r}, {'closed' if self.closed else 'live'}>"
