"""The dashboard outside a notebook: the same plots as a Bokeh server application."""

from __future__ import annotations

import asyncio
import html
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.core.properties import value
from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d
from bokeh.models.annotations import Title
from bokeh.models.widgets import Div, Select, Toggle
from bokeh.server.server import Server
from bokeh.util.token import generate_session_id
from jinja2 import BaseLoader, Environment, Template
from tornado.ioloop import IOLoop

from ..address import Address, parse_address
from ..engine import mark_toolkit_thread
from ..errors import AddressInUseError
from ..ticker import Ticker
from .bokeh_widget import static_text
from .components import Components
from .counters import counter_table
from .moment import Sampler
from .plots import time_ticks
from .series import Tiers
from .watched import Watched

__all__ = ["DashboardServer"]

_WINDOWS = {"30 s": 30.0, "1 min": 60.0, "5 min": 300.0, "15 min": 900.0, "1 h": 3600.0}
_LONGEST = max(_WINDOWS.values())
# Of what the plots call paints, in light and dark pages.
_COLORS = {
    "good": "#009e73",
    "doubt": "#b8860b",
    "bad": "#e0452f",
    "muted": "#808080",
    "shm": "#009e73",
    "tcp": "#2b8cc4",
    "rdma": "#d55e00",
    "gpu": "#a8527f",
    "node": "#2b8cc4",
    "peer": "#808080",
}


class DashboardServer:
    """Serve a dashboard of workers to browsers, until it is closed.

    Only who has `url` can see it: it ends with a session id that is signed with a key of this
    server. Bokeh's own checks are on: other ids are refused, and so are pages of another origin.

    Parameters
    ----------
    workers : sequence of Watched
        What is watched.
    address : str
        ``host:port`` to listen on; by default a free port of this machine only.
    interval : float
        Seconds between two points.

    Attributes
    ----------
    address : str
        As really bound.
    url : str
        What to open in a browser.

    Raises
    ------
    AddressError, AddressInUseError
        Nothing is served.

    Notes
    -----
    A context manager. It is a ``bokeh.server.server.Server`` on a thread of its own.
    """

    def __init__(
        self,
        workers: Sequence[Watched],
        address: str = "127.0.0.1:0",
        *,
        interval: float = 0.2,
    ) -> None:
        where = parse_address(address, default_host="127.0.0.1", any_port=True)
        self._workers = tuple(workers)
        self._interval = interval
        self._sampler = Sampler(self._workers, interval)
        self._components = Components(len(self._workers), interval, _LONGEST)
        self._lock = threading.Lock()  # guards what follows, and the components' data
        self._now = time.time()
        self._counters: dict[str, list[list[str]]] = {}
        key = secrets.token_bytes(32)
        self._started = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._run, args=(where, key), name="ucxnb-dashboard-server", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise AddressInUseError(
                f"{where}: the dashboard cannot be served there: {self._error}; choose another port"
            ) from None
        self.address = str(Address(where.host, self._server.port or 0))
        session = generate_session_id(key, signed=True)
        self.url = f"http://{self.address}/?bokeh-session-id={session}"
        self._ticker = Ticker("ucxnb-dashboard", interval, self._tick)

    def close(self) -> None:
        """Stop serving, and end the threads. Twice is fine."""
        self._ticker.stop()
        if self._thread.is_alive():
            self._loop.add_callback(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> DashboardServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DashboardServer on http://{self.address}>"

    def _run(self, where: Address, key: bytes) -> None:
        """What the thread does: serve until the loop is stopped."""
        mark_toolkit_thread()
        asyncio.set_event_loop(asyncio.new_event_loop())
        self._loop = IOLoop.current()
        try:
            self._server = self._listen(where, key)
        except OSError as error:
            self._error = error
            self._loop.close()
            return
        finally:
            self._started.set()
        self._server.start()
        self._loop.start()
        self._server.stop()
        self._server.unlisten()
        self._loop.close(all_fds=True)  # connections to pages too

    def _listen(self, where: Address, key: bytes) -> Server:
        # The origins that are let in are to be known before the port is: it is chosen here.
        port = _free_port(where.host, where.port)
        names = {where.host, "localhost", socket.gethostname()}
        return Server(
            {"/": Application(FunctionHandler(self._open_page))},
            io_loop=self._loop,
            address=where.host,
            port=port,
            allow_websocket_origin=[str(Address(name, port)) for name in sorted(names)],
            sign_sessions=True,
            secret_key=key,
            generate_session_ids=False,
        )

    def _tick(self) -> bool:
        moments, _ = self._sampler.sample()
        with self._lock:
            for moment in moments:
                self._components.update(moment)
                self._now = moment.time
                self._counters = counter_table(moment)
        return True

    def _open_page(self, page: Document) -> None:
        page.title = "ucxnb: " + ", ".join(worker.name for worker in self._workers)
        page.template = _template()
        _Page(self, page)


class _Page:
    """One document: the layout, and what keeps it up to date."""

    def __init__(self, server: DashboardServer, page: Document) -> None:
        self._server = server
        self._page = page
        self._window = _WINDOWS["1 min"]
        layout = server._components.layout(self._window, "bytes", "lines")
        windows: list[str | tuple[Any, str]] = [*_WINDOWS]
        window = Select(
            title="Show",
            value="1 min",
            options=windows,
            stylesheets=["select.bk-input { background-color: Canvas; color: CanvasText; }"],
            width=110,
        )
        window.on_change("value", self._on_window)
        self._pause = Toggle(label="Pause", width=90, align="end")
        self._table = Div(sizing_mode="stretch_width")
        page.add_root(
            column(row(window, self._pause), self._table, layout, sizing_mode="stretch_width")
        )
        self._sources: dict[str, ColumnDataSource] = {}
        self._latest: dict[str, float] = {}  # times of the newest points that the page has
        for name in server._components.feeds:
            source = page.get_model_by_name(name)
            assert isinstance(source, ColumnDataSource)
            self._sources[name] = source
        ticker = page.get_model_by_name("time-ticks")
        assert isinstance(ticker, FixedTicker)
        self._ticker = ticker
        self._fill()
        # Up to when the page has drawn: it tells that (static/server.html).
        self._drawn = ColumnDataSource({"until": [None]}, name="drawn")
        page.add_root(self._drawn)
        page.add_periodic_callback(self._update, round(server._interval * 1000))

    def _on_window(self, _name: str, _old: str, new: str) -> None:
        self._window = _WINDOWS[new]
        self._latest.clear()
        self._update()

    def _update(self) -> None:
        # A page that is slow, or hidden, gets the next update when it has drawn the one before.
        if not self._pause.active and self._drawn.data["until"][0] == self._ticker.ticks[-1]:
            self._fill()

    def _fill(self) -> None:
        server = self._server
        with server._lock:
            now, counters = server._now, server._counters
            texts = server._components.texts()
            columns = {name: self._new(name) for name in self._sources}
        for name, (new, grows) in columns.items():
            if not grows:
                self._sources[name].data = new
            elif len(new["time"]):
                self._sources[name].stream(new, rollover=self._length(name))
        time_range = self._page.get_model_by_name("time-range")
        assert isinstance(time_range, Range1d)
        time_range.update(start=now - self._window, end=now)
        self._ticker.ticks = [now + tick for tick in time_ticks(self._window)]
        for name, text in texts.items():
            entry = self._page.get_model_by_name(name)
            if isinstance(entry, Title):
                entry.text = text
            elif entry is not None:
                entry.update(label=value(text), visible=bool(text))
        self._table.text = _table_html(counters)

    def _new(self, name: str) -> tuple[dict[str, Any], bool]:
        """What a page lacks of a source, and whether that is to be added to what it has."""
        feed = self._server._components.feeds[name]
        if not isinstance(feed, Tiers):
            shown: dict[str, Any] = dict(feed.all())
            if "paint" in shown:
                shown["color"] = [_COLORS[paint] for paint in shown["paint"]]
            return shown, False
        series = feed.tiers[feed.tier_for(self._window)]
        points = series.all(self._length(name))
        known = self._latest.get(name)
        if len(points["time"]):
            self._latest[name] = float(points["time"][-1])
        if known is None:
            return points, False
        first = int(np.searchsorted(points["time"], known, side="right"))
        return {column: values[first:] for column, values in points.items()}, True

    def _length(self, name: str) -> int:
        feed = self._server._components.feeds[name]
        assert isinstance(feed, Tiers)
        return int(self._window / feed.steps[feed.tier_for(self._window)]) + 2


def _table_html(counters: dict[str, list[list[str]]]) -> str:
    pairs = [
        f"<span><b>{html.escape(label)}</b> {html.escape(sent)} sent, "
        f"{html.escape(received)} received</span>"
        for label, sent, received in counters.get("pairs", [])
    ]
    singles = [
        f"<span><b>{html.escape(label)}</b> {html.escape(value)}</span>"
        for label, value in counters.get("singles", [])
    ]
    style = "display:flex;flex-wrap:wrap;gap:2px 20px;font-variant-numeric:tabular-nums"
    return f'<div style="{style}">{"".join(pairs + singles)}</div>'


def _template() -> Template:
    """The page around the plots, with the style and the painter of those in notebooks."""
    environment = Environment(loader=BaseLoader(), autoescape=False)
    environment.globals["ucxnb_css"] = static_text("bokeh_widget.css")
    environment.globals["ucxnb_js"] = static_text("bokeh_widget.js")
    return environment.from_string(static_text("server.html"))


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; Bokeh itself leaves a socket open where a port is taken."""
    with socket.create_server((host, port)) as probe:
        return int(probe.getsockname()[1])
