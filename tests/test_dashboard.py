"""The dashboard without a browser: what it samples, publishes, keeps and frees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import ipywidgets
import numpy as np
import pytest
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.dashboard import Dashboard, cell
from ucxnb.dashboard.live import LiveView
from ucxnb.dashboard.series import Series
from ucxnb.dashboard.units import human_bytes, human_count, human_rate
from ucxnb.ticker import Ticker

Published = list[tuple[dict, list[bytes]]]


@pytest.fixture
def pair() -> Iterator[tuple[UcxWorker, UcxWorker, int]]:
    """Two connected workers, and the endpoint from the first to the second."""
    with UcxWorker() as client, UcxWorker() as server:
        yield client, server, client.connect(server.create_listener().address)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    """What any live view sends to its pages, as a list that grows."""
    messages: Published = []
    monkeypatch.setattr(
        LiveView, "send", lambda self, content, buffers: messages.append((content, buffers))
    )
    return messages


def points(message: tuple[dict, list[bytes]], name: str) -> dict[str, np.ndarray]:
    """The columns of one source in a published message."""
    content, (buffer,) = message
    numbers, first = np.frombuffer(buffer), 0
    for source in content["sources"]:
        names, count = source["columns"], source["count"]
        table = numbers[first : first + count * len(names)].reshape(len(names), count)
        if source["name"] == name:
            return dict(zip(names, table, strict=True))
        first += table.size
    raise AssertionError(f"no source {name}")


def test_series_keeps_the_latest_and_hands_out_what_is_new() -> None:
    series = Series(("x", "y"), 3)
    assert [len(column) for column in series.take().values()] == [0, 0]
    for i in range(5):
        series.append(i, i * 10)
    assert series.take()["x"].tolist() == [2, 3, 4]
    assert series.take()["x"].tolist() == []
    series.append(5, 50)
    assert series.take()["y"].tolist() == [50]
    assert series.all()["x"].tolist() == [3, 4, 5]
    assert len(series) == 3


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1.00 kB"),
        (1000, "1 kB"),
        (1234567, "1.23 MB"),
        (99_960_000, "100 MB"),
        (12_500_000_000, "12.5 GB"),
    ],
)
def test_bytes_are_shown_with_three_digits(nbytes: float, text: str) -> None:
    assert human_bytes(nbytes) == text


def test_counts_and_rates_are_readable() -> None:
    assert human_count(1234567) == "1,234,567"
    assert human_count(12_345_678) == "12.3 M"
    assert human_rate(4560) == "4.56 k/s"


def test_dashboard_publishes_all_points_and_then_new_ones(
    pair: tuple[UcxWorker, UcxWorker, int], published: Published
) -> None:
    client, server, endpoint_id = pair
    dashboard = Dashboard(client, interval=0.02, window=2)
    try:
        eventually(lambda: published)
        for _ in range(10):
            client.send_tag(endpoint_id, 1, b"x" * 1000)
            server.receive_tag(None, 1, timeout=20)
        eventually(lambda: any(points(m, "throughput")["sent"].any() for m in list(published)))
        eventually(lambda: len(published) > 20)
    finally:
        dashboard.close()
    assert published[0][0]["full"]
    assert not published[1][0]["full"]
    assert len(points(published[1], "message_rate")["time"]) == 1
    assert max(points(m, "message_rate")["sent"].max() for m in published) > 0
    assert published[-1][0]["counters"]["pairs"][3] == ["Messages", "10", "0"]


def test_a_page_that_opens_later_gets_all_points(
    pair: tuple[UcxWorker, UcxWorker, int], published: Published
) -> None:
    dashboard = Dashboard(pair[0], interval=0.02, window=2)
    try:
        eventually(lambda: len(published) > 10)
        snapshot = dashboard.widget.get_state()["snapshot"]
    finally:
        dashboard.close()
    assert len(snapshot["sources"]["throughput"]["time"]) >= 10 * 8
    assert snapshot["counters"]["pairs"]


def test_points_are_bounded_by_the_window(
    pair: tuple[UcxWorker, UcxWorker, int], published: Published
) -> None:
    dashboard = Dashboard(pair[0], interval=0.02, window=0.2)
    try:
        eventually(lambda: len(published) > 40)
        snapshot = dashboard.widget.get_state()["snapshot"]
    finally:
        dashboard.close()
    assert len(snapshot["sources"]["throughput"]["time"]) == 12 * 8


def test_pause_holds_the_plots_and_resume_shows_what_came_meanwhile(
    pair: tuple[UcxWorker, UcxWorker, int], published: Published
) -> None:
    client, server, endpoint_id = pair
    dashboard = Dashboard(client, interval=0.02, window=20)
    try:
        eventually(lambda: len(published) > 2)
        dashboard.pause()
        assert dashboard.paused
        client.send_tag(endpoint_id, 1, b"x" * 1000)
        server.receive_tag(None, 1, timeout=20)
        throughput = dashboard._components.feeds["throughput"].tiers[0]
        eventually(lambda: throughput.all()["sent"].any())
        count = len(published)
        known = len(throughput)
        eventually(lambda: len(throughput) > known + 5)
        assert len(published) <= count + 1
        dashboard.resume()
        eventually(lambda: len(published) > count + 1)
        full = next(message for message in published[count:] if message[0]["full"])
        assert points(full, "throughput")["sent"].any()
    finally:
        dashboard.close()


def test_close_frees_everything_and_twice_is_fine(pair: tuple[UcxWorker, UcxWorker, int]) -> None:
    before = set(ipywidgets.widgets.widget._instances)
    dashboard = Dashboard(pair[0])
    assert "live" in repr(dashboard)
    assert "application/vnd.jupyter.widget-view+json" in dashboard._repr_mimebundle_()[0]
    dashboard.close()
    dashboard.close()
    assert dashboard.closed
    assert "closed" in repr(dashboard)
    assert set(ipywidgets.widgets.widget._instances) == before


def test_it_ends_with_its_worker() -> None:
    with UcxWorker() as worker:
        dashboard = Dashboard(worker)
    eventually(lambda: dashboard.closed)
    assert dashboard.widget.ended == "worker closed"
    dashboard.close()


def test_one_of_several_that_closes_is_told_and_the_others_go_on() -> None:
    with UcxWorker(name="stays") as stays, UcxWorker(name="goes") as goes:
        dashboard = Dashboard([stays, goes], interval=0.02, window=2)
        goes.close()
        eventually(lambda: dashboard.widget.gone == "goes closed")
        assert not dashboard.closed
        assert not dashboard.widget.ended
        stays.close()
        eventually(lambda: dashboard.closed)
        assert dashboard.widget.ended == "all workers closed"
        dashboard.close()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": 1, "window": 1}, "window"),
        ({"window": 1e9}, "window"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, float], field: str) -> None:
    with UcxWorker() as worker, pytest.raises(ValueError, match=f"^{field}="):
        Dashboard(worker, **settings)


def test_running_a_cell_again_closes_what_it_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ["cell-a", "1"]
    monkeypatch.setattr(cell, "_current", lambda: tuple(run))
    with UcxWorker() as worker:
        first, twin = Dashboard(worker), Dashboard(worker)
        assert not first.closed
        run[:] = "cell-b", "2"
        other = Dashboard(worker)
        assert not first.closed
        run[:] = "cell-a", "3"
        second = Dashboard(worker)
        assert first.closed
        assert twin.closed
        assert not other.closed
        assert not second.closed
        second.close()
        other.close()
    assert not cell._runs


def test_a_ticker_outlives_an_error_of_its_function() -> None:
    calls = []

    def tick() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("once")
        return True

    ticker = Ticker("test", 0.01, tick)
    eventually(lambda: len(calls) > 3)
    ticker.stop()
    assert str(ticker.error) == "once"
    assert not ticker.running


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("ucxnb.dashboard", "bokeh"), ("ucxnb.widgets", "bokeh"), ("ucxnb", "ipywidgets")],
)
def test_imports_stay_cheap(module: str, heavy: str) -> None:
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=60).returncode == 0
