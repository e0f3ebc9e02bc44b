"""The client's side of the talk with a peer that is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..errors import BufferTooSmallError, OperationTimeoutError, UcxnbError
from ..request import Request
from ..worker import UcxWorker
from .protocol import CONTROL, RESERVED_MASK, SLICE, new_session, pack, patience_for, unpack

__all__ = ["Session", "StoppedError"]

_HELLO_PATIENCE = 6.0  # more than a partner's with a client that left it waiting
_ADVICE = (
    "measure with a peer that echoes, such as `ucxnb serve`, or with a partner: "
    "`ucxnb bench --serve`"
)


class StoppedError(Exception):
    """The measurement was told to stop; never seen outside of it."""


class Session:
    """One measurement's talk with its peer. Every wait ends when it is told to stop.

    Parameters
    ----------
    worker : UcxWorker
        It must have nobody else receive from that endpoint meanwhile.
    endpoint_id : int
        The peer.
    should_stop : callable
        Asked many times a second.

    Attributes
    ----------
    data_tag : int
        The tag of what is measured.
    has_partner : bool
        Whether the peer takes part, and does not only echo.

    Raises
    ------
    OperationTimeoutError
        The peer answers nothing.
    UcxnbError
        It answers something else; and all errors of sending and receiving.
    StoppedError
    """

    def __init__(
        self, worker: UcxWorker, endpoint_id: int, should_stop: Callable[[], bool]
    ) -> None:
        self.worker = worker
        self.endpoint_id = endpoint_id
        self.source = None if worker.config.tag_scope == "worker" else endpoint_id
        self._should_stop = should_stop
        self._control_tag = new_session()
        self.data_tag = self._control_tag + 1
        self._throw_away_leftovers()
        hello = pack("hello")
        self._send(hello)
        answer = self._hear(_HELLO_PATIENCE)
        self.has_partner = answer != hello
        if self.has_partner:
            self._check(answer, "ready")

    def check(self) -> None:
        """Raise `StoppedError` if the measurement was told to stop."""
        if self._should_stop():
            raise StoppedError

    def ask(self, word: str, nbytes: int, count: int = 0) -> dict[str, Any]:
        """Ask a partner for something, wait until it is ready, and return its answer."""
        self._send(pack(word, nbytes=nbytes, count=count))
        return self.expect("ready", 0)

    def expect(self, word: str, nbytes: int) -> dict[str, Any]:
        """Wait for a partner's answer, with the patience that `nbytes` on their way deserve."""
        return self._check(self._hear(patience_for(nbytes)), word)

    def receive_slowly(self, buffer: bytearray, patience: float) -> int:
        """Go on with a receive of data that took long."""
        return self._receive(self.data_tag, buffer, patience)

    def finish(self, request: Request, nbytes: int) -> None:
        """Wait for a send to end."""
        end = time.monotonic() + patience_for(nbytes)
        while True:
            try:
                request.wait(SLICE)
                return
            except OperationTimeoutError:
                self.check()
                if time.monotonic() > end:
                    raise

    def wrong_echo(self, nbytes: int, got: int) -> UcxnbError:
        """Make the error of a peer that sends something else back."""
        return UcxnbError(
            f"endpoint {self.endpoint_id} answered {nbytes:,} bytes with {got:,}: {_ADVICE}"
        )

    def _hear(self, patience: float) -> bytes:
        return self._receive(self._control_tag, None, patience)

    def _receive(self, tag: int, buffer: bytearray | None, patience: float) -> Any:
        end = time.monotonic() + patience
        while True:
            self.check()
            try:
                return self.worker.receive_tag(self.source, tag, buffer, timeout=SLICE)
            except BufferTooSmallError as error:
                assert buffer is not None
                raise self.wrong_echo(len(buffer), error.needed) from None
            except OperationTimeoutError:
                if time.monotonic() > end:
                    raise OperationTimeoutError(
                        f"endpoint {self.endpoint_id} answered nothing in {patience:g} s: "
                        f"{_ADVICE}; nobody else may receive from it meanwhile"
                    ) from None

    def _send(self, data: bytes) -> None:
        self.worker.send_tag(
            self.endpoint_id, self._control_tag, data, timeout=patience_for(len(data))
        )

    def _check(self, answer: bytes, word: str) -> dict[str, Any]:
        try:
            said = unpack(answer)
        except ValueError as error:
            raise UcxnbError(f"endpoint {self.endpoint_id}: {error}; {_ADVICE}") from None
        if said.get("is") != word:
            why = said.get("why", f"it said {said.get('is')!r:.40} instead of {word!r}")
            raise UcxnbError(f"endpoint {self.endpoint_id} does not take part: {why!s:.300}")
        return said

    def _throw_away_leftovers(self) -> None:
        """Receive what a measurement that was given up left behind, and with it free its sender."""
        if self.source is None:
            return  # a mask would take tags of others as well
        end = time.monotonic() + SLICE
        while time.monotonic() < end:
            message = self.worker.try_receive_message(
                self.source, CONTROL & RESERVED_MASK, tag_mask=RESERVED_MASK
            )
            if message is None:
                return
