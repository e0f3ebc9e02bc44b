"""``ucxnb serve``: an echo server until Ctrl-C, with live figures."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

from .echo import echo_messages
from .terminal import LiveFigures
from .worker import UcxWorker

__all__ = ["run_server", "serve_until_stopped"]


def run_server(
    address: str,
    *,
    dashboard: str | None = None,
    metrics: str | None = None,
    publish: str | None = None,
) -> int:
    """Echo every message until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    address : str
        ``host:port`` to listen on; port 0 takes a free one.
    dashboard, metrics, publish : str, optional
        Where to serve a dashboard to browsers, metrics to Prometheus, and snapshots to dashboards
        of other processes.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If there is no UCX, or the address cannot be listened on.
    """

    def show(worker: UcxWorker, shown: contextlib.ExitStack) -> None:
        if dashboard is not None:
            from .dashboard.server import DashboardServer

            page = shown.enter_context(DashboardServer([worker], dashboard))
            print(f"Dashboard: {page.url}", flush=True)
        if metrics is not None:
            from .metrics import MetricsServer

            server = shown.enter_context(MetricsServer([worker], metrics))
            print(f"Metrics: http://{server.address}/metrics", flush=True)
        if publish is not None:
            from .watching import Publisher

            publisher = shown.enter_context(Publisher(worker, publish))
            print(f"Watch it with: ucxnb dashboard {publisher.address}", flush=True)

    return serve_until_stopped("serve", address, echo_messages, show)


def serve_until_stopped(
    name: str,
    address: str,
    serve: Callable[[UcxWorker], None],
    show: Callable[[UcxWorker, contextlib.ExitStack], None] | None = None,
) -> int:
    """Listen and serve with live figures until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    name : str
        What peers are told about the worker.
    address : str
        ``host:port`` to listen on; port 0 takes a free one.
    serve : callable
        Called with the worker; serves until it is interrupted.
    show : callable, optional
        Called with the worker before; what it enters into the stack is left when the worker closes.

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
    with UcxWorker(name=name) as worker, contextlib.ExitStack() as shown:
        with contextlib.suppress(KeyboardInterrupt):
            if show is not None:
                show(worker, shown)
            listener = worker.create_listener(address)
            print(f"Listening on {listener.address}; Ctrl-C stops", flush=True)
            with LiveFigures(worker):
                serve(worker)
        stats = worker.stats()
    print()
    stats.print()
    return 0
