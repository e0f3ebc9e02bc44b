"""Who may reach which memory: asked for, given and taken back over a connection's control channel.

::

    user of the memory                  its owner
    LEASE key        ──────────▶
                     ◀──────────   LEASED key, address, size, UCX's packed key; or a reason
        puts and gets, over UCX
                     ◀──────────   REVOKE key          it is about to be unregistered
    RELEASED key     ──────────▶                       all that was begun is over
    ATOMIC key, ...  ──────────▶                       on memory that is not mapped there
                     ◀──────────   ATOMIC_DONE         what the number was before; or a reason

So the owner knows who may still write into its memory, and a key that is stale or another worker's
is told from a good one before anything leaves.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from ..engine import Endpoint, RegisteredMemory, RemoteMemory, TagEngine
from ..errors import RemoteKeyError, UcxnbError
from .protocol import Frame, FrameType, ProtocolError

__all__ = ["Leases"]

_KEY_SIZE = 36
_Answer = TypeVar("_Answer")
_MAX_PACKED = 16 * 1024


class Leases:
    """The leases of one connection, in both directions. Lives on the front door's thread.

    Parameters
    ----------
    send : callable
        Sends a frame to the peer.
    """

    def __init__(self, send: Callable[[TagEngine, Frame], None]) -> None:
        self._send = send
        self._given: dict[bytes, RegisteredMemory] = {}
        self._taken_back: dict[bytes, Future[None]] = {}
        self._asked: dict[bytes, list[Future[RemoteMemory]]] = {}
        self._open: dict[bytes, RemoteMemory] = {}
        self._letting_go: dict[bytes, RemoteMemory] = {}
        self._atomics: collections.deque[Future[int]] = collections.deque()

    @property
    def waiting(self) -> bool:
        """Whether `on_tick` has something to look after."""
        return bool(self._letting_go)

    # ---- what the user asks for ----

    def ask(self, engine: TagEngine, key: bytes, answer: Future[RemoteMemory]) -> None:
        """Ask the peer for the memory of a key; `answer` gets it, or an error."""
        if key in self._open:
            answer.set_result(self._open[key])
            return
        waiting = self._asked.setdefault(key, [])
        waiting.append(answer)
        if len(waiting) == 1:
            self._send(engine, Frame(FrameType.LEASE, {"key": key.hex()}))

    def ask_for_atomic(
        self, engine: TagEngine, key: bytes, fields: Mapping[str, Any], answer: Future[int]
    ) -> None:
        """Let the peer change a number in its memory; `answer` gets what it was before."""
        self._atomics.append(answer)
        self._send(engine, Frame(FrameType.ATOMIC, {"key": key.hex(), **fields}))

    def take_back(self, engine: TagEngine, key: bytes) -> Future[None] | None:
        """Tell the peer to let go of a memory of this side; None if it does not have it."""
        if key not in self._given:
            return None
        if key not in self._taken_back:
            self._taken_back[key] = Future()
            self._send(engine, Frame(FrameType.REVOKE, {"key": key.hex()}))
        return self._taken_back[key]

    # ---- what happens ----

    def on_frame(self, engine: TagEngine, endpoint: Endpoint, frame: Frame) -> None:
        """Take a frame of the peer's that is about memory.

        Raises
        ------
        ProtocolError
            It says what cannot be.
        """
        key = _bytes(frame.payload, "key", _KEY_SIZE)
        if frame.type is FrameType.LEASE:
            self._give(engine, key)
        elif frame.type is FrameType.LEASED:
            self._receive(engine, endpoint, key, frame.payload)
        elif frame.type is FrameType.REVOKE:
            remote = self._open.pop(key, None)
            if remote is None:
                raise ProtocolError("it takes back memory that it never gave")
            engine._revoke_remote(remote)
            self._letting_go[key] = remote
            self.on_tick(engine)
        elif frame.type is FrameType.ATOMIC:
            self._change(engine, key, frame.payload)
        elif frame.type is FrameType.ATOMIC_DONE:
            self._changed(endpoint, frame.payload)
        else:
            self._given.pop(key, None)
            released = self._taken_back.pop(key, None)
            if released is None:
                raise ProtocolError("it lets go of memory that nobody took back")
            released.set_result(None)

    def on_tick(self, engine: TagEngine) -> None:
        """Let go of what the peer takes back, once all that was begun on it is over."""
        for key, remote in list(self._letting_go.items()):
            if engine._release_remote(remote):
                del self._letting_go[key]
                self._send(engine, Frame(FrameType.RELEASED, {"key": key.hex()}))

    def end(self, error: UcxnbError) -> None:
        """The connection has ended: nobody reaches anything over it any more."""
        for waiting in self._asked.values():
            for answer in waiting:
                _fail(answer, error)
        for atomic in self._atomics:
            _fail(atomic, error)
        self._atomics.clear()
        for released in self._taken_back.values():
            released.set_result(None)
        for part in (self._asked, self._taken_back, self._given, self._open, self._letting_go):
            part.clear()

    # ---- inside ----

    def _give(self, engine: TagEngine, key: bytes) -> None:
        memory = engine._memory_of(key)
        said: dict[str, Any] = {"key": key.hex()}
        if isinstance(memory, str):
            said["reason"] = memory
        else:
            address, packed = engine._pack_key(memory)
            said |= {
                "address": address,
                "nbytes": memory.nbytes,
                "writable": memory.writable,
                "packed": packed.hex(),
            }
            self._given[key] = memory
        self._send(engine, Frame(FrameType.LEASED, said))

    def _change(self, engine: TagEngine, key: bytes, payload: Mapping[str, Any]) -> None:
        offset, nbytes, value = (_integer(payload, name) for name in ("offset", "nbytes", "value"))
        expected = None if payload.get("expected") is None else _integer(payload, "expected")
        if nbytes not in (4, 8):
            raise ProtocolError("it asks for a number that has neither 4 nor 8 bytes")
        before: int | str = "that memory was closed"
        if key in self._given:
            before = engine._do_atomic(key, offset, nbytes, expected, value)
        name = "reason" if isinstance(before, str) else "before"
        self._send(engine, Frame(FrameType.ATOMIC_DONE, {"key": key.hex(), name: before}))

    def _changed(self, endpoint: Endpoint, payload: Mapping[str, Any]) -> None:
        if not self._atomics:
            raise ProtocolError("it changed a number that nobody asked it to")
        answer = self._atomics.popleft()
        if "reason" in payload:
            _fail(answer, _refusal(endpoint, payload["reason"]))
        else:
            _succeed(answer, _integer(payload, "before"))

    def _receive(
        self, engine: TagEngine, endpoint: Endpoint, key: bytes, payload: Mapping[str, Any]
    ) -> None:
        waiting = self._asked.pop(key, None)
        if waiting is None:
            raise ProtocolError("it gives memory that nobody asked for")
        reason = payload.get("reason")
        error: UcxnbError
        if reason is not None:
            error = _refusal(endpoint, reason)
        else:
            address, nbytes = (_integer(payload, name) for name in ("address", "nbytes"))
            packed = _bytes(payload, "packed", _MAX_PACKED, exactly=False)
            if type(payload.get("writable")) is not bool or address + nbytes > 2**64:
                raise ProtocolError("it gives memory that cannot be")
            try:
                remote = engine._open_remote(
                    endpoint, key, packed, address, nbytes, payload["writable"]
                )
            except UcxnbError as failure:
                error = failure
            else:
                self._open[key] = remote
                for answer in waiting:
                    _succeed(answer, remote)
                return
        for answer in waiting:
            _fail(answer, error)


def _refusal(endpoint: Endpoint, reason: object) -> RemoteKeyError:
    told = reason if isinstance(reason, str) and reason.isprintable() else "it said no"
    return RemoteKeyError(
        f"{endpoint.peer_address} ({endpoint.peer_name}): {told[:200]}; ask the owner of the "
        "memory for a new key, and use it on the connection to that owner"
    )


def _succeed(answer: Future[_Answer], value: _Answer) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(value)


def _fail(answer: Future[_Answer], error: UcxnbError) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)


def _integer(payload: Mapping[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or not 0 <= value < 2**64:
        raise ProtocolError(f"its field {name!r} is no address or size")
    return value


def _bytes(payload: Mapping[str, Any], name: str, size: int, *, exactly: bool = True) -> bytes:
    text = payload.get(name)
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if not value or len(value) > size or (exactly and len(value) != size):
        raise ProtocolError(f"its field {name!r} is no hexadecimal number of {size} bytes")
    return value
