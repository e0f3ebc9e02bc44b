"""``ucxnb serve``: an echo server until Ctrl-C, with live figures."""

from __future__ import annotations

import contextlib
import ipaddress
import signal

from .echo import echo_messages
from .terminal import LiveFigures
from .worker import UcxWorker

__all__ = ["run_server"]


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
    # A shell starts background jobs with SIGINT ignored; a server is stopped by it all the same.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with UcxWorker(name="serve") as worker:
        with contextlib.suppress(KeyboardInterrupt):
            listener = worker.create_listener(address)
            print(f"Listening on {listener.address}; Ctrl-C stops", flush=True)
            if not _is_loopback(listener.host):
                print(
                    "Nothing is encrypted or authenticated: whoever reaches this port may connect."
                )
            with LiveFigures(worker):
                echo_messages(worker)
        stats = worker.stats()
    print()
    stats.print()
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
