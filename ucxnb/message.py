"""A received message, and who sent it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Message"]


class Message(NamedTuple):
    """A received message, or what a `Request` moved.

    Attributes
    ----------
    endpoint_id : int or None
        The endpoint it came from; None with ``tag_scope="worker"``, where UCX does not tell.
    tag : int
        The tag it was sent with; 0 for bytes of a stream.
    nbytes : int
        Its size, bytes.
    data : bytes or None
        Its bytes, yours to keep; None if they went into a buffer that you passed.
    """

    endpoint_id: int | None
    tag: int
    nbytes: int
    data: bytes | None
