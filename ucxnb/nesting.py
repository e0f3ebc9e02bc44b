"""``asyncio.run`` inside a notebook cell, for those who ask for it."""

from __future__ import annotations

from .errors import UcxnbError

__all__ = ["enable_nested_asyncio"]


def enable_nested_asyncio() -> None:
    """Let ``asyncio.run`` and ``run_until_complete`` work in a notebook cell.

    A cell runs inside the kernel's event loop, where Python allows neither. A plain ``await`` in
    the cell needs nothing of this. The change holds for the whole process, and stays.

    Raises
    ------
    UcxnbError
        nest_asyncio2 is not installed, or the running loop is none of asyncio's own (uvloop).

    Notes
    -----
    ``nest_asyncio2.apply()``, the maintained fork of nest_asyncio.
    """
    try:
        import nest_asyncio2
    except ImportError as error:
        raise UcxnbError(
            'nest_asyncio2 is not installed; install it with: pip install "ucxnb[notebook]"'
        ) from error
    try:
        nest_asyncio2.apply()
    except ValueError as error:
        raise UcxnbError(f"{error}; use asyncio's own event loop, or await in the cell") from error
