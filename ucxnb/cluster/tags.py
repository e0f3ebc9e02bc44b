"""Tags that a cluster keeps for itself, so that no message of one operation is another's."""

from __future__ import annotations

__all__ = ["OPERATION_MASK", "tag_of"]

# Eight bits that say so, 20 for the operation, 12 for the call and what is in it.
_RESERVED = 0xFE_0000_0000
_OPERATIONS = 1 << 20
_CALLS = 1 << 11

OPERATION_MASK = 0xFF_FFFF_F000
"""All of a tag but the call: a receive with it takes whatever an operation left behind."""


def tag_of(operation: int, call: int = 0) -> int:
    """Give the tag of a call's headers; that of its data is the next number.

    Parameters
    ----------
    operation, call : int
        Counted from 0. They come round after a million, and after 2,048, and messages of one tag
        stay in order.

    Returns
    -------
    int
    """
    return _RESERVED | operation % _OPERATIONS << 12 | call % _CALLS << 1
