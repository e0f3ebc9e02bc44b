"""Coroutines on the event loop of a Dask client, waited for from other threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from distributed import Client

from ..errors import ClusterError

__all__ = ["begin", "wait_for"]

_ENDED = ("closed", "closing")
_CLOSED = "the Dask client was closed: make a new one, and a new UcxCluster"
_SLICE = 0.5  # seconds between two looks at whether the loop still runs
_Result = TypeVar("_Result")


def begin(client: Client, coroutine: Coroutine[Any, Any, _Result]) -> Future[_Result]:
    """Start a coroutine on the client's loop.

    Raises
    ------
    ClusterError
        The client was closed, and its loop with it.
    """
    try:
        if client.status not in _ENDED:
            return asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop)
    except RuntimeError:
        pass  # it was closed just now
    coroutine.close()
    raise ClusterError(_CLOSED)


def wait_for(client: Client, future: Future[_Result], timeout: float | None = None) -> _Result:
    """Wait for what was begun.

    Raises
    ------
    TimeoutError
        It goes on.
    ClusterError
        The client was closed, and its loop with it.
    """
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _SLICE if end is None else min(_SLICE, max(0.0, end - time.monotonic()))
        try:
            return future.result(left)
        except TimeoutError:
            if future.done():
                raise  # the coroutine's own
            if client.status in _ENDED:
                future.cancel()
                raise ClusterError(_CLOSED) from None
            if end is not None and time.monotonic() >= end:
                raise
