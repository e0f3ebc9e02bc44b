"""Each plot of the dashboard, from snapshots of workers to what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from eventually import eventually
from hypothesis import given
from hypothesis import strategies as st

from ucxnb import (
    EndpointInfo,
    EndpointState,
    EngineHealth,
    Event,
    EventKind,
    Histogram,
    Snapshot,
    TrafficStats,
    UcxWorker,
    WorkerStats,
)
from ucxnb.dashboard.breakdown import Breakdown
from ucxnb.dashboard.by_kind import ByKind
from ucxnb.dashboard.components import Components
from ucxnb.dashboard.counters import counter_table
from ucxnb.dashboard.endpoint_map import EndpointMap
from ucxnb.dashboard.event_strip import EventStrip
from ucxnb.dashboard.latency import Latency
from ucxnb.dashboard.message_rate import MessageRate
from ucxnb.dashboard.moment import Moment, Sampler
from ucxnb.dashboard.plots import TimeAxis, time_ticks
from ucxnb.dashboard.progress_engine import ProgressEngine
from ucxnb.dashboard.series import LENGTH, Series, Tiers, steps_for
from ucxnb.dashboard.size_histogram import SizeHistogram
from ucxnb.dashboard.table import Table
from ucxnb.dashboard.throughput import Throughput
from ucxnb.dashboard.waiting import Waiting

STEPS = (0.1, 1.0, 5.0)


def snapshot(name: str = "a", elapsed: float = 1.0, **fields) -> Snapshot:
    stats = {n: fields.pop(n) for n in list(fields) if n in WorkerStats.__dataclass_fields__}
    return Snapshot(name, 0.0, WorkerStats(elapsed=elapsed, **stats), **fields)


def moment(earlier: Snapshot, later: Snapshot, time: float = 5.0, events=()) -> Moment:
    return Moment(time, (earlier,), (later,), tuple((later.name, event) for event in events))


def point(component) -> dict[str, float]:
    """The only point of a component."""
    columns = component.series.tiers[0].all()
    return {name: column.item() for name, column in columns.items()}


BEFORE = snapshot(messages_sent=10, messages_received=20, bytes_sent=1000, bytes_received=2000)
AFTER = snapshot(
    elapsed=1.5,
    messages_sent=30,
    messages_received=20,
    bytes_sent=6000,
    bytes_received=2500,
    bytes_in_flight=70,
    unreceived_bytes=700,
    stream_bytes_sent=600,
    stream_bytes_received=400,
    put_bytes=300,
    get_bytes=200,
    latencies=Histogram((0,) * 40 + (98, 0, 0, 0, 2), 4),
    health=EngineHealth(0.25, 7, 0.002),
)


@pytest.mark.parametrize(
    ("component", "values"),
    [
        (Throughput, {"sent": 10_000.0, "received": 1000.0}),
        (MessageRate, {"sent": 40.0, "received": 0.0}),
        (ByKind, {"tagged": 8000.0, "streamed": 2000.0, "one_sided": 1000.0}),
        (Waiting, {"in_flight": 70.0, "unreceived": 700.0}),
        (ProgressEngine, {"busy": 50.0, "gap": 2e6}),
    ],
)
def test_a_plot_over_time_adds_a_point_for_each_moment(component, values):
    plot = component(TimeAxis(60), STEPS)
    plot.update(moment(BEFORE, AFTER))
    assert point(plot) == pytest.approx({"time": 5.0, **values})
    assert plot.root.y_range.start == 0
    assert set(plot.source.data) == set(plot.series.columns)


def test_latencies_are_those_between_two_moments():
    plot = Latency(TimeAxis(60), STEPS)
    plot.update(moment(BEFORE, AFTER))
    low, high = AFTER.latencies.bounds(40)
    assert low <= point(plot)["p50"] <= high
    low, high = AFTER.latencies.bounds(44)
    assert low <= point(plot)["p999"] <= high
    idle = Latency(TimeAxis(60), STEPS)
    idle.update(moment(AFTER, AFTER))
    assert math.isnan(point(idle)["p50"])


def test_a_plot_with_nothing_to_show_says_so():
    latency, sizes = Latency(TimeAxis(60), STEPS), SizeHistogram()
    for plot, title in ((latency, "latency-title"), (sizes, "sizes-title")):
        assert plot.root.title.name == title
        assert "none yet" in plot.texts()[title]
        later = snapshot(latencies=AFTER.latencies, sizes_sent=Histogram((1,)))
        plot.update(moment(snapshot(), later))
        plot.update(moment(later, later))  # it was there
        assert plot.texts()[title] == plot.root.title.text


def test_counters_are_those_of_all_workers_together():
    table = counter_table(Moment(5.0, (BEFORE, BEFORE), (AFTER, AFTER)))
    assert ["Throughput", "20 kB/s", "2 kB/s"] in table["pairs"]
    assert ["Messages", "60", "40"] in table["pairs"]
    assert ["Waiting", "140 B", "1.40 kB"] in table["pairs"]
    assert ["Progress busy", "50 %"] in table["singles"]
    assert ["Wake-ups", "28 /s"] in table["singles"]


# ---- coarser tiers


@pytest.mark.parametrize(
    ("interval", "longest", "steps"),
    [
        (0.1, 3600, [0.1, 1, 5]),
        (0.02, 3600, [0.02, 1, 5]),
        (1.0, 3600, [1, 5]),
        (5.0, 3600, [5]),
        (60.0, 1_200_000, [60, 180, 1800]),
    ],
)
def test_tiers_cover_the_longest_window(interval, longest, steps):
    assert steps_for(interval, longest) == steps
    assert steps[-1] * LENGTH >= longest


def test_coarse_points_are_means_or_maxima_of_their_second():
    means, greatest = Tiers(("time", "x"), STEPS), Tiers(("time", "x"), STEPS, max)
    for i in range(31):
        means.append(i / 10, float(i % 10))
        greatest.append(i / 10, float(i % 10) if i % 2 else math.nan)
    assert means.tiers[1].all()["x"].tolist() == [4.5, 4.5, 4.5]
    assert means.tiers[1].all()["time"].tolist() == [0.9, 1.9, 2.9]
    assert greatest.tiers[1].all()["x"].tolist() == [9.0, 9.0, 9.0]
    assert [means.tier_for(w) for w in (30, 120, 121, 1200, 3600, 1e6)] == [0, 0, 1, 1, 2, 2]


def test_no_value_stays_none_in_a_coarser_tier():
    tiers = Tiers(("time", "x"), STEPS, max)
    for i in range(11):
        tiers.append(i / 10, math.nan)
    assert np.isnan(tiers.tiers[1].all()["x"]).tolist() == [True]


def test_tiers_are_bounded():
    tiers = Tiers(("time", "x"), (0.001, 1.0))
    for i in range(10_000):
        tiers.append(i / 1000, 1.0)
    assert len(tiers.tiers[0]) == LENGTH + 1
    assert len(tiers.tiers[1]) == 9


def test_the_latest_points_of_a_series():
    series = Series(("x",), 5)
    for i in range(9):
        series.append(i)
    assert series.all(2)["x"].tolist() == [7, 8]
    assert series.all(99)["x"].tolist() == [4, 5, 6, 7, 8]


@given(st.floats(0.5, 1e6))
def test_ticks_are_few_and_end_now(window):
    ticks = time_ticks(window)
    assert ticks[-1] == 0
    assert 1 <= len(ticks) <= 6
    assert ticks[0] >= -window * (1 + 1e-9)


def test_a_table_tells_whether_it_has_changed():
    table = Table(("x",), ("name",))
    assert table.take() is not None
    assert table.take() is None
    table.replace(x=[1], name=["a"])
    assert table.take()["name"] == ["a"]
    table.replace(x=[1], name=["a"])
    assert table.take() is None
    assert len(table) == 1
    with pytest.raises(ValueError, match="all of one length"):
        table.replace(x=[1, 2], name=["a"])


# ---- breakdowns


def endpoint(number: int, nbytes: int, elapsed: float, **fields) -> EndpointInfo:
    stats = TrafficStats(bytes_sent=nbytes, messages_sent=nbytes, elapsed=elapsed)
    options = {"peer_name": f"peer-{number}", "transports": ("posix/memory",), **fields}
    return EndpointInfo(
        number,
        "127.0.0.1:1",
        options.pop("peer_name"),
        options.pop("state", EndpointState.OPEN),
        0.0,
        "connected",
        stats=stats,
        **options,
    )


def traffic(counts: dict[int, int], elapsed: float) -> Snapshot:
    return snapshot(
        elapsed=elapsed, endpoints=tuple(endpoint(n, c, elapsed) for n, c in counts.items())
    )


def test_the_busiest_connections_have_lines_and_the_rest_is_together():
    plot = Breakdown(TimeAxis(60), STEPS, "connection")
    rates = {number: number * 1000 for number in range(1, 11)}
    plot.update(moment(traffic(dict.fromkeys(rates, 0), 1), traffic(rates, 2)))
    assert [*plot.texts().values()] == [*(f"{n} peer-{n}" for n in range(10, 4, -1)), "others"]
    made = point(plot)
    assert [made[f"bytes_{i}"] for i in range(7)] == [10e3, 9e3, 8e3, 7e3, 6e3, 5e3, 10e3]
    assert [made[f"messages_{i}"] for i in range(7)] == [10e3, 9e3, 8e3, 7e3, 6e3, 5e3, 10e3]


def test_one_that_becomes_busy_takes_a_line_and_the_past_of_the_other_is_kept():
    plot = Breakdown(TimeAxis(60), STEPS, "connection")
    counts = dict.fromkeys(range(1, 8), 100)
    plot.update(moment(traffic(dict.fromkeys(counts, 0), 1), traffic(counts, 2)))
    assert not plot.rewritten
    plot.update(moment(traffic(counts, 2), traffic({**counts, 7: 1_000_000}, 3)))
    assert plot.rewritten
    assert "7 peer-7" in plot.texts().values()
    columns = plot.series.tiers[0].all()
    totals = sum(columns[f"bytes_{i}"] for i in range(7))
    assert totals.tolist() == [700, 999_900]
    slot = [*plot.texts().values()].index("7 peer-7")
    assert columns[f"bytes_{slot}"].tolist() == [0, 999_900]
    assert columns["bytes_6"].tolist() == [200, 0]


def test_connections_that_end_are_forgotten_in_time():
    plot = Breakdown(TimeAxis(60), STEPS, "connection")
    for number in range(1, 400):
        counts = {number: 100}
        plot.update(moment(traffic({number: 0}, 1), traffic(counts, 2), float(number)))
    for i in range(1000):
        plot.update(moment(traffic({}, 1), traffic({}, 2), 400.0 + i))
    assert len(plot._names) <= 6


@pytest.mark.parametrize("measure", ["bytes", "messages"])
@pytest.mark.parametrize("style", ["lines", "stacked"])
def test_breakdowns_are_drawn_in_each_way(measure, style):
    plot = Breakdown(TimeAxis(60), STEPS, "worker", measure=measure, style=style)
    drawn = [r for r in plot.root.renderers if (r.name or "").startswith("slot-")]
    assert [renderer.name for renderer in drawn] == [f"slot-{i}" for i in range(7)]
    plot.update(Moment(1.0, (BEFORE, BEFORE), (AFTER, AFTER)))
    assert [*plot.texts().values()][:3] == ["a", "a", ""]


# ---- events, sizes, map


def test_events_are_marks_on_the_axis():
    axis = TimeAxis(60)
    strip = EventStrip(axis)
    strip.update(
        moment(
            BEFORE,
            AFTER,
            events=[
                Event(1, 4.0, EventKind.CONNECTED, 1, "b"),
                Event(2, 5.0, EventKind.LOST, 1, "b", "the peer is gone"),
            ],
        )
    )
    rows = strip.series.all()
    assert rows["time"].tolist() == [4.0, 5.0]
    assert rows["row"] == ["opened", "trouble"]
    assert rows["text"] == ["", "the peer is gone"]
    assert rows["worker"] == ["a", "a"]
    assert strip.source is axis.marks
    assert {*rows, "color"} == set(axis.marks.data)


def test_every_kind_of_event_has_a_look():
    strip = EventStrip(TimeAxis(60))
    for kind in EventKind:
        strip.update(moment(BEFORE, AFTER, events=[Event(1, 1.0, kind)]))
    assert len(strip.series) == len(EventKind)


def test_sizes_lately_and_since_the_start():
    plot = SizeHistogram()
    first = snapshot(sizes_sent=Histogram((4, 0, 0, 4)))
    plot.update(moment(first, first, 0.0))
    later = snapshot(sizes_sent=Histogram((4, 0, 0, 4, 8)), sizes_received=Histogram((1,)))
    plot.update(moment(first, later, 5.0))
    rows = plot.series.all()
    assert rows["size"] == ["0 B", "4 B to less than 8 B", "8 B to less than 16 B"]
    assert rows["sent_lately"].tolist() == [0, 0, 100]
    assert rows["sent_ever"].tolist() == [25, 25, 50]
    assert rows["sent_count"].tolist() == [4, 4, 8]
    assert rows["received_lately"].tolist() == [100, 0, 0]
    plot.update(moment(later, later, 20.0))
    assert plot.series.all()["sent_lately"].tolist() == [0, 0, 0]


def test_both_ends_of_a_connection_are_one_line():
    ab = snapshot("a", endpoints=(endpoint(1, 0, 1.0, peer_name="b"),))
    ba = snapshot("b", endpoints=(endpoint(1, 0, 1.0, peer_name="a"),))
    plot = EndpointMap()
    plot.update(Moment(1.0, (ab, ba), (ab, ba)))
    assert plot.series.all()["ends"] == ["a and b"]
    assert plot.nodes.all()["name"] == ["a", "b"]
    assert plot.series.all()["via"] == ["posix"]


def test_a_line_says_transport_traffic_and_state():
    earlier = snapshot(
        endpoints=(
            endpoint(1, 0, 1.0),
            endpoint(2, 0, 1.0, transports=("tcp/lo",)),
            endpoint(3, 0, 1.0, state=EndpointState.UNRESPONSIVE),
        )
    )
    later = snapshot(
        endpoints=(
            endpoint(1, 5_000_000, 2.0),
            endpoint(2, 0, 2.0, transports=("tcp/lo",)),
            endpoint(3, 0, 2.0, state=EndpointState.UNRESPONSIVE),
        )
    )
    plot = EndpointMap()
    lost = Event(1, 1.0, EventKind.LOST, 4, "gone")
    plot.update(moment(earlier, later, 2.0, [lost]))
    rows = plot.series.all()
    assert rows["paint"] == ["shm", "tcp", "doubt", "bad"]
    assert rows["state"] == ["open", "open", "unresponsive", "lost"]
    assert rows["traffic"][0] == "5 MB/s, 5 M/s"
    assert rows["width"][0] > rows["width"][1]
    assert plot.nodes.all()["name"] == ["a", "peer-1", "peer-2", "peer-3", "gone"]
    plot.update(moment(later, later, 60.0))
    assert "gone" not in plot.nodes.all()["name"]


@pytest.mark.parametrize("peers", [0, 1, 16, 40, 200])
def test_nodes_do_not_lie_on_each_other(peers):
    now = traffic(dict.fromkeys(range(peers), 0), 1.0)
    plot = EndpointMap()
    plot.update(moment(now, now))
    nodes = plot.nodes.all()
    places = list(zip(nodes["x"].round(6), nodes["y"].round(6), strict=True))
    assert len(set(places)) == len(places) == 1 + min(peers, 64)
    assert ("136 more peers" in nodes["about"][0]) == (peers == 200)


# ---- all together


def test_a_sampler_tells_each_event_once_and_stops_asking_the_closed():
    with UcxWorker(name="server") as server, UcxWorker(name="client") as client:
        sampler = Sampler([server, client], 0.1)
        assert sampler.sample().moments[0].events == ()
        client.connect(server.create_listener().address)
        told = eventually(lambda: sampler.sample().moments[0].events)
        assert {(name, event.kind.value) for name, event in told} <= {
            ("server", "accepted"),
            ("client", "connected"),
        }
        server.close()
        last = sampler.sample().moments[0].later[0]
        assert last.closed
        assert sampler.sample().moments[0].later[0] is last
        assert not sampler.ended
    sampler.sample()
    assert sampler.ended


@pytest.mark.parametrize("workers", [1, 3])
def test_layouts_draw_the_same_data_under_the_same_names(workers):
    components = Components(workers, 0.1, 3600)
    layouts = [components.layout(60, "bytes", "lines"), components.layout(30, "bytes", "stacked")]
    for layout in layouts:
        names = [source.name for source in layout.select({"name": "throughput"})]
        assert names == ["throughput"]
        for name, feed in components.feeds.items():
            (source,) = layout.select({"name": name})
            assert set(feed.columns) <= set(source.data)
    assert ("by_worker" in components.feeds) == (workers > 1)
