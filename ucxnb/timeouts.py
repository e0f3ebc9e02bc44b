"""What a timeout may be."""

from __future__ import annotations

from .errors import ArgumentError

__all__ = ["checked_timeout"]


def checked_timeout(timeout: float | None) -> float | None:
    """Return a timeout as it is: None, or seconds.

    Raises
    ------
    ArgumentError
        It is neither.
    """
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout >= 0):
        raise ArgumentError(f"timeout={timeout!r}: it takes None or seconds, 0 or more")
    return timeout
