"""Python objects as messages: pickled, with the bytes of arrays beside the pickle and never copied.

A message is one, whatever it holds, so that it comes whole or not at all::

    magic, version     8 bytes
    numbers            8 bytes each: size of the pickle, count of buffers, size of each buffer
    pickle             protocol 5 (PEP 574)
    buffers            as they lie in the sender's memory

Pickle and buffers begin at multiples of 64 bytes.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

from .errors import ObjectError
from .text import shown

__all__ = ["ROOM_FOR_SMALL", "pack", "unpack"]

ROOM_FOR_SMALL = 16 * 1024
"""Objects up to this size are received without asking for their size first."""

_MAGIC = b"UCXo\x01\x00\x00\x00"
_ALIGNMENT = 64
_ZEROS = memoryview(bytes(_ALIGNMENT))
_MOST_BUFFERS = 1_000_000


def pack(value: object) -> list[memoryview]:
    """Give the parts of the message that stands for an object.

    Parameters
    ----------
    value : object
        Whatever can be pickled. It must not change until the message is sent.

    Returns
    -------
    list of memoryview
        One after the other they are the message; buffers are views of the object's own memory.

    Raises
    ------
    ObjectError
        It cannot be pickled; the cause says why.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
    except Exception as error:  # of whatever the object does when it is pickled
        raise ObjectError(f"{shown(value)} cannot be sent as an object: {error}") from error
    sizes = [len(pickled), len(views), *(view.nbytes for view in views)]
    parts: list[memoryview] = []
    for part in (memoryview(_MAGIC + struct.pack(f"<{len(sizes)}Q", *sizes)),
                 memoryview(pickled), *views):  # fmt: skip
        parts.append(part)
        if missing := -part.nbytes % _ALIGNMENT:
            parts.append(_ZEROS[:missing])
    return [part for part in parts if part.nbytes]


def unpack(message: bytearray) -> Any:
    """Make the object of a message. This runs code that the sender chose.

    Parameters
    ----------
    message : bytearray
        What came. Arrays of the object lie in it, and keep it alive.

    Returns
    -------
    object

    Raises
    ------
    ObjectError
        The message is none of an object's, or it cannot be made here; `ObjectError.data` has the
        bytes.
    """
    view = memoryview(message)
    try:
        pickled, buffers = _cut(view)
    except (struct.error, ValueError):
        raise ObjectError(
            f"the message of {len(message):,} bytes holds no object: send_object() makes those",
            bytes(message),
        ) from None
    try:
        return pickle.loads(pickled, buffers=buffers)
    except Exception as error:  # of whatever the object does when it is made
        raise ObjectError(
            f"the object cannot be made here: {type(error).__name__}: {error}", bytes(message)
        ) from error


def _cut(view: memoryview) -> tuple[memoryview, list[memoryview]]:
    if view[:8] != _MAGIC:
        raise ValueError
    length, count = struct.unpack_from("<2Q", view, 8)
    if count > _MOST_BUFFERS:
        raise ValueError
    sizes = struct.unpack_from(f"<{count}Q", view, 24)
    place = _aligned(24 + 8 * count)
    parts = []
    for size in (length, *sizes):
        if place + size > len(view):
            raise ValueError
        parts.append(view[place : place + size])
        place = _aligned(place + size)
    if place != len(view):
        raise ValueError
    return parts[0], parts[1:]


def _aligned(place: int) -> int:
    return place + -place % _ALIGNMENT
