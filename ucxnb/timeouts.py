"""What a timeout may be."""

from __future__ import annotations

import math

from .errors import ArgumentError
from .text import shown

__all__ = ["checked_timeout"]

_LONGEST = 1e8  # seconds; some waits of the operating system take no more


def checked_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return a timeout as None or a float: seconds, three years at most.

    Raises
    ------
    ArgumentError
        It is neither None nor a number from 0 up.
    """
    if timeout is None:
        return None
    try:
        seconds = math.ldexp(timeout, 0)  # float() would take texts as well
    except OverflowError:
        seconds = math.inf if timeout > 0 else -1.0
    except (TypeError, ValueError):
        seconds = -1.0
    if not seconds >= 0:
        raise ArgumentError(f"{name}={shown(timeout)}: it takes None or seconds, 0 or more")
    return min(seconds, _LONGEST)
