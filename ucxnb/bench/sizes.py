"""Which message sizes are measured."""

from __future__ import annotations

from ..errors import ArgumentError
from ..text import shown

__all__ = ["DEFAULT_SIZES", "sizes_between"]

_STEP = 8


def sizes_between(smallest: int, largest: int) -> tuple[int, ...]:
    """Choose sizes that lie evenly on a logarithmic axis.

    Parameters
    ----------
    smallest, largest : int
        Bytes, at least 1; both are among the sizes.

    Returns
    -------
    tuple of int
        Each eight times the one before; the last step may be smaller.

    Raises
    ------
    ArgumentError
        They are no such numbers.
    """
    for nbytes in (smallest, largest):
        if type(nbytes) is not int or nbytes < 1:
            raise ArgumentError(f"{shown(nbytes)} is no size: it takes an integer from 1 up")
    sizes = [smallest]
    while sizes[-1] * _STEP < largest:
        sizes.append(sizes[-1] * _STEP)
    return (*sizes, largest) if largest > smallest else (smallest,)


DEFAULT_SIZES = sizes_between(8, 4 << 20)
"""Bytes of the messages that are measured if nothing else is said: 8 B to 4 MiB."""
