"""``ucxnb serve``: an echo server until Ctrl-C, with live figures."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

from .echo import echo_messages
from .terminal import LiveFigures
from .worker import UcxWorker

__all__ = ["run_server", "serve_until_stopped"]


def run_server(address: str) -> int:
    """Echo every message until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    address : str
        ``host:port`` to listen on; port 0 takes a free one.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If there is no UCX, or the address cannot be listened on.
    """
    return serve_until_stopped("serve", address, echo_messages)


def serve_until_stopped(name: str, address: str, serve: Callable[[UcxWorker], None]) -> int:
    """Listen and serve with live figures until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    name : str
        What peers are told about the worker.
    address : str
        ``host:port`` to listen on; port 0 takes a free one.
    serve : callable
        Called with the worker; serves until it is interrupted.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If there is no UCX, or the address cannot be listened on.
    """
    # A shell starts background jobs with SIGINT ignored; a server is stopped by it all the same.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with UcxWorker(name=name) as worker:
        with contextlib.suppress(KeyboardInterrupt):
            listener = worker.create_listener(address)
            print(f"Listening on {listener.address}; Ctrl-C stops", flush=True)
            with LiveFigures(worker):
                serve(worker)
        stats = worker.stats()
    print()
    stats.print()
    return 0
