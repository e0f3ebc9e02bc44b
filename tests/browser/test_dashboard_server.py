"""The dashboard outside a notebook, in a real browser: it moves, and only its owner sees it."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from lab import CHROMIUM, browser_page
from playwright.sync_api import Page, expect
from plots import source_columns
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

import ucxnb
from ucxnb import UcxWorker
from ucxnb.dashboard.series import Tiers
from ucxnb.dashboard.server import DashboardServer

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]


@pytest.fixture
def server() -> Iterator[DashboardServer]:
    """A dashboard of two workers with traffic."""
    with UcxWorker(name="left") as left, UcxWorker(name="right") as right:
        peer = left.connect(right.create_listener().address)
        stopped = threading.Event()

        def traffic() -> None:
            while not stopped.wait(0.02):
                left.send_tag(peer, 1, bytes(5000))
                right.receive_tag(None, 1, timeout=30)

        thread = threading.Thread(target=traffic)
        thread.start()
        with DashboardServer([left, right]) as server:
            yield server
        server.close()
        stopped.set()
        thread.join()


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def newest(page: Page) -> float:
    return source_columns(page, "throughput")["time"][-1]


def stands_still(page: Page) -> bool:
    before = newest(page)
    page.wait_for_timeout(1000)
    return newest(page) == before


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def axis(page: Page) -> float:
    return page.evaluate(
        """() => {
          const range = Bokeh.documents[0].get_model_by_name("time-range");
          return range.end - range.start;
        }"""
    )


def title_color(page: Page) -> str:
    return page.evaluate(
        "() => Bokeh.documents[0].get_model_by_name('throughput-title').text_color"
    )


def test_it_moves_pauses_and_follows_the_theme(server: DashboardServer) -> None:
    with browser_page(width=1400, color_scheme="dark") as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("body[data-ready=yes]")
        expect(page).to_have_title("ucxnb: left, right")
        first = newest(page)
        wait_until(page, lambda: newest(page) > first + 0.5)
        assert max(source_columns(page, "throughput")["sent"]) > 1000
        assert source_columns(page, "edges")["ends"] == ["left and right"]
        assert title_color(page) == "#ffffff"
        page.get_by_label("Show").select_option("5 min")
        wait_until(page, lambda: axis(page) == pytest.approx(300))
        page.get_by_role("button", name="Pause").click()
        wait_until(page, lambda: stands_still(page))
        page.emulate_media(color_scheme="light")
        wait_until(page, lambda: title_color(page) == "#111111")
        assert not errors


def test_a_page_that_does_not_draw_is_sent_no_more(server: DashboardServer) -> None:
    with browser_page() as page:
        page.goto(server.url)
        page.wait_for_selector("body[data-ready=yes]")
        page.evaluate("() => { window.drawing = requestAnimationFrame; }")
        page.evaluate("() => { window.requestAnimationFrame = (f) => { window.held = f; }; }")
        wait_until(page, lambda: page.evaluate("() => Boolean(window.held)"))
        wait_until(page, lambda: stands_still(page))
        stood = newest(page)
        page.evaluate("() => { requestAnimationFrame = drawing; requestAnimationFrame(held); }")
        wait_until(page, lambda: newest(page) > stood + 1)
        # It has got what there was meanwhile.
        times = source_columns(page, "throughput")["time"]
        feed = server._components.feeds["throughput"]
        assert isinstance(feed, Tiers)
        kept = feed.tiers[0].all()["time"]
        assert [t for t in kept if times[0] <= t <= times[-1]] == times
        # A zoom does not stop it.
        page.evaluate(
            """() => {
              const range = Bokeh.documents[0].get_model_by_name("time-range");
              range.setv({ start: range.end - 10, end: range.end - 5 });
            }"""
        )
        zoomed = newest(page)
        wait_until(page, lambda: newest(page) > zoomed + 1)


def test_only_who_has_the_url_sees_it(server: DashboardServer) -> None:
    base, _, session = server.url.partition("?bokeh-session-id=")
    assert "Bokeh" in fetched(server.url)
    for url in (base, f"{base}?bokeh-session-id=guess", f"{base}?bokeh-session-id={session}x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=10)
        assert refused.value.code == 403
        refused.value.close()


def test_a_page_of_another_origin_is_refused(server: DashboardServer) -> None:
    page = fetched(server.url)
    token = re.search(r'"token":"([^"]+)"', page)[1]
    url = f"ws://{server.address}/ws"

    async def attempt(origin: str) -> None:
        request = HTTPRequest(url, headers={"Origin": origin})
        socket = await websocket_connect(request, subprotocols=["bokeh", token])
        socket.close()

    loop = IOLoop(make_current=False)
    try:
        loop.run_sync(lambda: attempt(f"http://{server.address}"))
        with pytest.raises(HTTPClientError) as refused:
            loop.run_sync(lambda: attempt("http://evil.example"))
        assert refused.value.code == 403
    finally:
        loop.close(all_fds=True)


def test_an_address_that_is_taken_is_named(server: DashboardServer) -> None:
    with UcxWorker() as worker, pytest.raises(ucxnb.AddressInUseError, match="another port"):
        DashboardServer([worker], server.address)
