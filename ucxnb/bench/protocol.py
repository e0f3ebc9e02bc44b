"""What a measurement and its partner say to each other: JSON messages on tags of their own."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = [
    "CONTROL",
    "CONTROL_MASK",
    "LARGEST",
    "RESERVED_MASK",
    "SLICE",
    "is_control",
    "new_session",
    "pack",
    "patience_for",
    "rows_at_once",
    "unpack",
]

# A reserved tag: eight bits that say so, 28 that tell one measurement from another, so that what
# an interrupted one left behind is none of the next one's, and four for the kind of message.
CONTROL = 0xFF_0000_0000
CONTROL_MASK = 0xFF_0000_000F
RESERVED_MASK = 0xFF_0000_0000
_SESSIONS = 1 << 28

SLICE = 0.1  # seconds of waiting between two looks at whether to stop
LARGEST = 1 << 30  # bytes of a message that a partner makes room for
_VERSION = 1
_CHUNK = 1 << 20  # bytes of an array whose rows are messages
_MOST_ROWS = 1 << 16


def new_session() -> int:
    """Choose the control tag of a measurement; the tag of its data is the next number."""
    return CONTROL | random.randrange(_SESSIONS) << 4


def is_control(tag: int) -> bool:
    """Whether a message of this tag is for the partner itself."""
    return tag & CONTROL_MASK == CONTROL


def pack(word: str, **fields: Any) -> bytes:
    """Write a request or an answer."""
    return json.dumps({"ucxnb-bench": _VERSION, "is": word, **fields}).encode()


def unpack(data: bytes) -> dict[str, Any]:
    """Read a request or an answer.

    Raises
    ------
    ValueError
        It is none, or of another version.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "ucxnb-bench" not in said:
        raise ValueError("this tag is for measurements, and that was no request of one")
    if said["ucxnb-bench"] != _VERSION:
        raise ValueError(
            f"the two sides speak versions {_VERSION} and {said['ucxnb-bench']!r:.20} of the "
            "measurement: install the same ucxnb on both"
        )
    return said


def rows_at_once(nbytes: int) -> int:
    """How many messages of this size go in one call, as the rows of an array."""
    return 1 if nbytes == 0 else max(1, min(_MOST_ROWS, _CHUNK // nbytes))


def patience_for(nbytes: int) -> float:
    """Seconds without any progress after which the other side counts as stuck."""
    return 5.0 + nbytes / 20e6
