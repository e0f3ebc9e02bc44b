"""Which message sizes are measured."""

from __future__ import annotations

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
    """
    sizes = [smallest]
    while sizes[-1] * _STEP < largest:
        sizes.append(sizes[-1] * _STEP)
    return (*sizes, largest) if largest > smallest else (smallest,)


DEFAULT_SIZES = sizes_between(8, 4 << 20)
"""Bytes of the messages that are measured if nothing else is said: 8 B to 4 MiB."""
