"""The latest messages that came in, within bounds of memory, found by sender and tag."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..message import Message

__all__ = ["MessageStore", "Received"]

_MESSAGES = 100_000
_HEAD = 64 << 10
_BYTES = 128 << 20
_NOBODY = -1  # in the column of endpoints


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came.

    Attributes
    ----------
    number : int
        The first message that the store got is 0.
    at : float
        When it was received, seconds since the epoch.
    endpoint_id : int or None
        Where from; None where UCX does not tell.
    tag, nbytes : int
        Its tag, and its whole size.
    head : bytes
        Its first bytes, up to 64 KiB.
    """

    number: int
    at: float
    endpoint_id: int | None
    tag: int
    nbytes: int
    head: bytes


class MessageStore:
    """Keep the latest messages, the first 64 KiB of each.

    The oldest are dropped beyond 100,000 messages or 128 MiB of their bytes. One thread adds; any
    thread looks.

    Parameters
    ----------
    messages : int
        How many to keep.
    nbytes : int
        How many bytes of them to keep.

    Attributes
    ----------
    count, nbytes : int
        Messages and bytes that came, also those that are not kept any more.
    dropped : int
        How many of the messages are not kept.
    version : int
        Another one whenever anything changed.
    """

    def __init__(self, messages: int = _MESSAGES, nbytes: int = _BYTES) -> None:
        self._length, self._most = messages, nbytes
        self._lock = threading.Lock()
        self.version = 0
        self._empty()

    def _empty(self) -> None:
        # The columns of message i are at i modulo the length.
        self._at = np.zeros(self._length)
        self._endpoints = np.zeros(self._length, np.int64)
        self._tags = np.zeros(self._length, np.uint64)
        self._sizes = np.zeros(self._length, np.int64)
        self._heads: list[bytes] = [b""] * self._length
        self._held = 0
        self.count = self.nbytes = self.dropped = 0

    def add(self, message: Message) -> None:
        """Add a message that was just received."""
        head = bytes(memoryview(message.data or b"")[:_HEAD])
        with self._lock:
            while self.dropped < self.count and (
                self.count - self.dropped == self._length or self._held + len(head) > self._most
            ):
                self._drop()
            at = self.count % self._length
            self._at[at] = time.time()
            self._endpoints[at] = _NOBODY if message.endpoint_id is None else message.endpoint_id
            self._tags[at] = message.tag
            self._sizes[at] = message.nbytes
            self._heads[at] = head
            self._held += len(head)
            self.count += 1
            self.nbytes += message.nbytes
            self.version += 1

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._empty()
            self.version += 1

    def __len__(self) -> int:
        return self.count - self.dropped

    def find(self, endpoint_id: int | None, tag: int | None) -> np.ndarray:
        """Give the numbers of the messages of an endpoint with a tag, oldest first.

        Parameters
        ----------
        endpoint_id, tag : int or None
            None takes any.
        """
        with self._lock:
            numbers = np.arange(self.dropped, self.count)
            at = numbers % self._length
            wanted = np.ones(len(numbers), bool)
            if endpoint_id is not None:
                wanted &= self._endpoints[at] == endpoint_id
            if tag is not None:
                wanted &= self._tags[at] == np.uint64(tag)
            return numbers[wanted]

    def endpoints(self) -> list[int]:
        """Give the endpoints that messages came from, sorted."""
        with self._lock:
            at = np.arange(self.dropped, self.count) % self._length
            return [int(i) for i in np.unique(self._endpoints[at]) if i != _NOBODY]

    def get(self, number: int) -> Received | None:
        """Give one message, None if it is not kept."""
        with self._lock:
            if not self.dropped <= number < self.count:
                return None
            at = number % self._length
            endpoint_id = int(self._endpoints[at])
            return Received(
                number,
                float(self._at[at]),
                None if endpoint_id == _NOBODY else endpoint_id,
                int(self._tags[at]),
                int(self._sizes[at]),
                self._heads[at],
            )

    def _drop(self) -> None:
        at = self.dropped % self._length
        self._held -= len(self._heads[at])
        self._heads[at] = b""
        self.dropped += 1
