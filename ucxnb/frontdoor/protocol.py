"""Frames on the control channel: a fixed header, and a small JSON object.

Header, network byte order: 4 bytes magic, 1 byte protocol version, 1 byte frame type, 4 bytes
payload length. The header and the REJECT frame keep their form in every version, so that two
versions can tell each other why they part.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = [
    "MAX_PAYLOAD",
    "VERSION",
    "Frame",
    "FrameDecoder",
    "FrameType",
    "ProtocolError",
    "encode_frame",
]

VERSION = 3
MAX_PAYLOAD = 64 * 1024
_MAGIC = b"UCXn"
_HEADER = struct.Struct("!4sBBI")


class ProtocolError(Exception):
    """The bytes are no frame, or no frame that may come now."""


class FrameType(enum.IntEnum):
    """What a frame is for, in the order of a connection's life."""

    HELLO = 1
    WELCOME = 2
    AUTH = 3
    ADDRESS = 4
    READY = 5
    REJECT = 6
    HEARTBEAT = 7
    GOODBYE = 8
    GOODBYE_ACK = 9
    ALLOW = 10
    KEPT = 11
    LEASE = 12
    LEASED = 13
    REVOKE = 14
    RELEASED = 15
    ATOMIC = 16
    ATOMIC_DONE = 17


class Frame(NamedTuple):
    """A frame's type and payload."""

    type: FrameType
    payload: Mapping[str, Any]


def encode_frame(frame: Frame) -> bytes:
    """Give the bytes of a frame."""
    payload = json.dumps(frame.payload, separators=(",", ":")).encode() if frame.payload else b""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a frame of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}")
    return _HEADER.pack(_MAGIC, VERSION, frame.type, len(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream into frames; holds one frame's bytes at most."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises
        ------
        ProtocolError
            As soon as the first bytes show that this is no frame of ours.
        """
        pending = self._pending
        pending += data
        while pending:
            head = bytes(pending[: len(_MAGIC)])
            if not _MAGIC.startswith(head):
                raise ProtocolError(f"it says {bytes(pending[:24])!r}")
            if len(pending) < _HEADER.size:
                return
            _, version, kind, length = _HEADER.unpack_from(pending)
            if version != VERSION and kind != FrameType.REJECT:
                raise ProtocolError(
                    f"it speaks protocol version {version}, this is version {VERSION}; "
                    "install the same release of ucxnb on both sides"
                )
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"it announces a frame of {length} bytes")
            end = _HEADER.size + length
            if len(pending) < end:
                return
            payload = bytes(pending[_HEADER.size : end])
            del pending[:end]
            yield _decode(kind, payload)


def _decode(kind: int, payload: bytes) -> Frame:
    try:
        frame_type = FrameType(kind)
        fields = json.loads(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"it sent a frame that cannot be read ({error})") from None
    if not isinstance(fields, dict):
        raise ProtocolError("it sent a frame that holds no object")
    return Frame(frame_type, fields)
