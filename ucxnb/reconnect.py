"""A connection that is made again when it was lost, and a record of what went with it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import random
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from .endpoint_info import CLOSED_BY_YOU, EndpointState
from .engine import Endpoint, mark_toolkit_thread
from .engine.event_loop import resolve
from .errors import (
    EndpointClosedError,
    EndpointLostError,
    OperationTimeoutError,
    PeerClosedError,
    RejectedError,
    UcxnbError,
    WorkerClosedError,
)
from .stats import TrafficStats
from .timeouts import checked_timeout

if TYPE_CHECKING:
    from .frontdoor import FrontDoor

__all__ = ["KeptConnection", "Loss"]

_LOSSES_KEPT = 256
_JOIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A connection that was lost, and what is known of the messages on it.

    Attributes
    ----------
    endpoint_id : int
        Its endpoint, which does not come back: the next connection has another id. What arrived
        from it and was not received yet can still be received with this id.
    since : float
        When it was noticed, seconds since the epoch.
    reason : str
        As in `EndpointInfo`.
    messages_sent, bytes_sent : int
        What `send_tag` and the others took without an error; the bytes of streams count too.
    messages_unconfirmed, bytes_unconfirmed : int or None
        How much of that the peer's program had not received at its latest heartbeat: this much is
        lost at most. None if the peer told nothing, and then all that was sent may be.
    messages_received, bytes_received : int
        What you received. Nobody can tell what else the peer sent that did not arrive.
    """

    endpoint_id: int
    since: float
    reason: str
    messages_sent: int
    bytes_sent: int
    messages_unconfirmed: int | None
    bytes_unconfirmed: int | None
    messages_received: int
    bytes_received: int

    def __str__(self) -> str:
        if self.messages_unconfirmed is None:
            lost = "the peer told nothing about them"
        else:
            lost = (
                f"the peer is not known to have received {self.messages_unconfirmed:,} of them "
                f"({self.bytes_unconfirmed:,} bytes)"
            )
        return (
            f"endpoint {self.endpoint_id}: {self.reason}; {self.messages_sent:,} messages "
            f"({self.bytes_sent:,} bytes) sent, {lost}; {self.messages_received:,} received"
        )


class _Worker(Protocol):
    """What is used of a `UcxWorker`."""

    _kept: list[KeptConnection]

    @property
    def closed(self) -> bool: ...
    def is_connected(self, endpoint_id: int) -> bool: ...
    def disconnect(self, endpoint_id: int) -> None: ...
    def _endpoint(self, endpoint_id: int) -> Endpoint: ...
    def _traffic(self, endpoint: Endpoint) -> TrafficStats: ...
    def _enter_call(self) -> None: ...
    def _leave_call(self) -> None: ...
    def _add_source(self) -> None: ...
    def _drop_source(self) -> None: ...


class KeptConnection:
    """A connection to a listener that is made again whenever it is lost.

    Made by `UcxWorker.keep_connected`. It resends nothing: `losses` says what may be gone, and
    what to do about it is the program's to decide. It ends, and stays ended, when you close it or
    its endpoint or the worker, when the peer says goodbye, when the listener refuses, or when
    ``give_up_after`` has passed.

    A context manager. Any thread may use it.
    """

    def __init__(
        self,
        worker: _Worker,
        door: FrontDoor,
        address: str,
        endpoint_id: int,
        *,
        timeout: float | None,
        first_delay: float,
        longest_delay: float,
        give_up_after: float | None,
    ) -> None:
        self._worker = weakref.ref(worker)  # one that nobody uses can be collected
        self._door = door
        self._address = address
        self._timeout = timeout
        self._delays = (first_delay, longest_delay)
        self._give_up_after = give_up_after
        self._endpoint = worker._endpoint(endpoint_id)
        self._losses: collections.deque[Loss] = collections.deque(maxlen=_LOSSES_KEPT)
        self._error: UcxnbError | None = None
        self._doing = ""
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._waiting: list[asyncio.Future[None]] = []
        worker._add_source()
        worker._kept.append(self)
        if worker.closed:  # and may not have seen this one
            self._stop.set()
        self._thread = threading.Thread(target=self._keep, name="ucxnb-reconnect", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the listener is."""
        return self._address

    @property
    def endpoint_id(self) -> int | None:
        """Id of the endpoint that is open now, None while there is none."""
        worker = self._worker()
        endpoint_id: int = self._endpoint.endpoint_id
        return endpoint_id if worker is not None and worker.is_connected(endpoint_id) else None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was lost and when, oldest first; the latest 256."""
        return tuple(self._losses)

    @property
    def error(self) -> UcxnbError | None:
        """Why it has ended; None while it has not."""
        return self._error

    @property
    def status(self) -> str:
        """What it does at the moment, for people."""
        error, endpoint_id = self._error, self.endpoint_id
        if error is not None:
            return f"ended: {error}"
        if endpoint_id is not None:
            return f"connected, endpoint {endpoint_id}"
        return self._doing or f"endpoint {self._endpoint.endpoint_id} has just ended"

    def wait(self, timeout: float | None = None) -> int:
        """Wait until there is a connection.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        int
            Its endpoint's id; another one than before if the connection was lost meanwhile.

        Raises
        ------
        OperationTimeoutError
            There is none yet; it goes on trying.
        EndpointClosedError, PeerClosedError
            You, or the peer, closed it.
        RejectedError, AuthenticationError
            The listener refused.
        EndpointLostError
            It gave up.
        WorkerClosedError
            The worker is closed.
        """
        limit = checked_timeout(timeout)
        with self._changed:
            if not self._changed.wait_for(self._settled, limit):
                raise self._not_yet(timeout)
        return self._id_or_error()

    async def wait_async(self, timeout: float | None = None) -> int:
        """Wait until there is a connection, without holding up the event loop.

        Parameters
        ----------
        timeout
            As in `wait`.

        Returns
        -------
        int
            As `wait`.

        Raises
        ------
        UcxnbError
            As `wait`.
        """
        limit = checked_timeout(timeout)
        try:
            async with asyncio.timeout(limit):
                while True:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    with self._changed:
                        if self._settled():
                            return self._id_or_error()
                        self._waiting.append(future)
                    try:
                        await future
                    finally:
                        with self._changed:
                            if future in self._waiting:
                                self._waiting.remove(future)
        except TimeoutError as error:
            if isinstance(error, UcxnbError):
                raise
            raise self._not_yet(timeout) from None

    def close(self) -> None:
        """Disconnect, and connect no more. Closing again does nothing.

        An attempt under way is given up in the background, when it ends.
        """
        self._stop_trying()
        worker = self._worker()
        if worker is not None and self._error is None:
            with contextlib.suppress(WorkerClosedError):
                worker.disconnect(self._endpoint.endpoint_id)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KeptConnection to {self._address}, {self.status}>"

    # ---- inside ----

    def _stop_trying(self) -> None:
        """End the wait between two attempts; for the worker too, when it closes."""
        self._stop.set()

    def _settled(self) -> bool:
        return self._error is not None or self.endpoint_id is not None

    def _id_or_error(self) -> int:
        endpoint_id = self.endpoint_id
        if endpoint_id is not None:
            return endpoint_id
        if self._error is None:  # lost again just now: whoever uses the id learns of it
            return int(self._endpoint.endpoint_id)
        raise copy.copy(self._error)

    def _not_yet(self, timeout: float | None) -> OperationTimeoutError:
        return OperationTimeoutError(
            f"{self._address}: no connection within {timeout} s ({self.status}); wait again"
        )

    def _tell(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            resolve(future)

    def _keep(self) -> None:
        mark_toolkit_thread()
        try:
            while True:
                closed = self._door.when_closed(self._endpoint.endpoint_id)
                if closed is not None:
                    closed.result()
                self._look_why()
                self._connect_again()
                self._tell()
        except UcxnbError as error:
            self._error = error
        except Exception as error:  # whoever waits must hear of it
            self._error = UcxnbError(f"{self._address}: {type(error).__name__}: {error}")
        worker = self._worker()
        if worker is None or worker.closed:
            self._error = WorkerClosedError("the worker was closed; make a new one")
        if worker is not None:
            worker._kept.remove(self)
            with contextlib.suppress(WorkerClosedError):
                worker._enter_call()
                worker._drop_source()
                worker._leave_call()
        self._tell()

    def _look_why(self) -> None:
        """Note a loss; raise if the connection ended otherwise."""
        endpoint = self._endpoint
        endpoint_id, reason = endpoint.endpoint_id, endpoint.reason or CLOSED_BY_YOU
        if endpoint.closed_by_me:
            raise EndpointClosedError(f"{self._address}: {reason}", endpoint_id)
        if endpoint.state is not EndpointState.LOST:
            raise PeerClosedError(f"{self._address}: {reason}", endpoint_id)
        worker = self._worker()
        if worker is None:
            raise WorkerClosedError("the worker was closed; make a new one")
        stats, there = worker._traffic(endpoint), endpoint.received_there
        bytes_sent = stats.bytes_sent - stats.put_bytes
        self._losses.append(
            Loss(
                endpoint_id,
                endpoint.since,
                reason,
                stats.messages_sent,
                bytes_sent,
                None if there is None else max(0, stats.messages_sent - there[0]),
                None if there is None else max(0, bytes_sent - there[1]),
                stats.messages_received,
                stats.bytes_received - stats.get_bytes,
            )
        )

    def _connect_again(self) -> None:
        delay, longest = self._delays
        lost = self._losses[-1]
        last_words = lost.reason
        began = time.monotonic()
        for attempt in range(1, 2**62):
            pause = delay * random.uniform(0.5, 1.0)  # so that many clients do not come at once
            passed = time.monotonic() - began
            if self._give_up_after is not None and passed + pause > self._give_up_after:
                raise EndpointLostError(
                    f"{self._address}: gave up after {passed:.3g} s: {last_words}; see whether it "
                    "runs, and connect again",
                    lost.endpoint_id,
                )
            self._doing = (
                f"lost endpoint {lost.endpoint_id} ({last_words}), attempt {attempt} in "
                f"{pause:.2g} s"
            )
            self._stop.wait(pause)
            self._doing = f"connecting, attempt {attempt}"
            try:
                self._attempt()
                return
            except (RejectedError, WorkerClosedError, EndpointClosedError):
                raise
            except UcxnbError as error:
                last_words = str(error)
            delay = min(2 * delay, longest)

    def _attempt(self) -> None:
        if self._stop.is_set():
            raise EndpointClosedError(f"{self._address}: {CLOSED_BY_YOU}", None)
        endpoint_id = self._door.connect(self._address, self._timeout)
        worker = self._worker()
        if worker is not None:
            # This thread says what it has and then looks at `_stop`, close() the other way round:
            # one of them disconnects it.
            self._endpoint = worker._endpoint(endpoint_id)
            if self._stop.is_set():
                worker.disconnect(endpoint_id)
