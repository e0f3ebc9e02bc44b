"""``ucxnb dashboard``: watch workers of other processes in a browser."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Sequence

__all__ = ["run_dashboard"]


def run_dashboard(addresses: Sequence[str], at: str) -> int:
    """Serve a dashboard until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    addresses : sequence of str
        ``host:port`` of each `ucxnb.watching.Publisher`.
    at : str
        ``host:port`` to serve the page at; port 0 takes a free one.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If nobody publishes there, or the page cannot be served.
    """
    from .dashboard.server import DashboardServer
    from .watching import RemoteWorker

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        workers = [stack.enter_context(RemoteWorker(address)) for address in addresses]
        server = stack.enter_context(DashboardServer(workers, at))
        print(f"Dashboard: {server.url}", flush=True)
        threading.Event().wait()
    print()
    return 0
