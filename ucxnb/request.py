"""Waiting for many requests, of one worker or of several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from .engine import (
    Request,
    group_by_worker,
    results_of,
    split_ended,
    wait_for_all,
    wait_for_any,
)
from .errors import ArgumentError, OperationTimeoutError
from .message import Message
from .text import shown
from .timeouts import checked_timeout

__all__ = ["Request", "as_completed", "wait_all", "wait_any"]

# Nobody can sleep on two workers at once: each gets this long in turn.
_TURN_SECONDS = 0.001
_LONG_SECONDS = 0.1


def wait_all(requests: Iterable[Request], timeout: float | None = None) -> list[Message]:
    """Wait until all of many requests have ended.

    Parameters
    ----------
    requests : iterable of Request
        Also of several workers.
    timeout : float, optional
        Seconds for all together; None waits for ever.

    Returns
    -------
    list of Message
        What `Request.wait` returns for each, in the order given.

    Raises
    ------
    OperationTimeoutError
        Those that have not ended go on; wait again. The same holds for ``KeyboardInterrupt``.
    ArgumentError, ThreadModeError, WorkerClosedError
        Nothing was waited for.
    UcxnbError
        All have ended, and this is the first error among them; `Request.wait` tells the others'.
    """
    wanted = _checked(requests)
    deadline = _deadline(timeout)
    for group in group_by_worker(wanted):
        while not wait_for_all(group, turn := _turn(deadline)):
            if turn == 0:
                raise _timeout_error(wanted, timeout)
    return results_of(wanted)


def wait_any(requests: Iterable[Request], timeout: float | None = None) -> Request:
    """Wait until one of many requests has ended, well or not.

    Parameters
    ----------
    requests : iterable of Request
        At least one; also of several workers.
    timeout : float, optional
        Seconds; None waits for ever.

    Returns
    -------
    Request
        The first in the order given that has ended; its `Request.wait` returns or raises at once.

    Raises
    ------
    OperationTimeoutError
        All go on. The same holds for ``KeyboardInterrupt``.
    ArgumentError, ThreadModeError, WorkerClosedError
        Nothing was waited for, as when there is none to wait for.
    """
    pending = _checked(requests)
    if not pending:
        raise ArgumentError("requests is empty: there is nothing to wait for")
    deadline = _deadline(timeout)
    while not (ended := split_ended(pending)[0]):
        if not _wait_for_one(pending, deadline):
            raise _timeout_error(pending, timeout)
    return ended[0]


def as_completed(requests: Iterable[Request], timeout: float | None = None) -> Iterator[Request]:
    """Go through requests in the order in which they end.

    Parameters
    ----------
    requests : iterable of Request
        Also of several workers.
    timeout : float, optional
        Seconds for all together, from now; None waits for ever.

    Yields
    ------
    Request
        Its `Request.wait` returns or raises at once.

    Raises
    ------
    OperationTimeoutError
        Those that were not yielded go on.
    ArgumentError, ThreadModeError, WorkerClosedError
        Nothing was waited for.
    """
    return _as_completed(_checked(requests), _deadline(timeout), timeout)


def _as_completed(
    requests: list[Request], deadline: float | None, timeout: float | None
) -> Iterator[Request]:
    pending = requests
    while pending:
        ended, pending = split_ended(pending)
        yield from ended
        if pending and not ended and not _wait_for_one(pending, deadline):
            raise _timeout_error(requests, timeout)


def _checked(requests: Iterable[Request]) -> list[Request]:
    try:
        checked = list(requests)
    except TypeError:
        raise ArgumentError(f"requests={shown(requests)}: pass several, as in [request]") from None
    for request in checked:
        if not isinstance(request, Request):
            raise ArgumentError(
                f"{shown(request)} is no request: isend_tag and ireceive_tag make them"
            )
    return checked


def _deadline(timeout: float | None) -> float | None:
    seconds = checked_timeout(timeout)
    return None if seconds is None else time.monotonic() + seconds


def _wait_for_one(pending: list[Request], deadline: float | None) -> bool:
    """Wait a while for one of them, on each of their workers in turn; false if time ran out."""
    groups = group_by_worker(pending)
    turn = _turn(deadline)
    for group in groups:
        wait_for_any(group, turn if len(groups) == 1 else min(turn, _TURN_SECONDS))
    return turn > 0 or bool(split_ended(pending)[0])


def _turn(deadline: float | None) -> float:
    """Seconds until the deadline, and not too many at once."""
    if deadline is None:
        return _LONG_SECONDS
    return min(max(deadline - time.monotonic(), 0.0), _LONG_SECONDS)


def _timeout_error(requests: list[Request], timeout: float | None) -> OperationTimeoutError:
    ended = len(split_ended(requests)[0])
    return OperationTimeoutError(
        f"{ended} of {len(requests)} requests ended in {timeout} s; wait again, or cancel them"
    )
