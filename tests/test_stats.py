from __future__ import annotations

import dataclasses
import pickle
import threading

import pytest

from ucxnb.stats import Rates, StatsHistory, TrafficStats, WorkerStats


def stats(elapsed: float, sent: int = 0, **more: int) -> WorkerStats:
    return WorkerStats(messages_sent=sent, bytes_sent=sent * 1000, elapsed=elapsed, **more)


def test_counters_are_read_one_by_one():
    snapshot = WorkerStats(1, 2, 3, 4, 5, 6.0, 7)
    assert dataclasses.asdict(snapshot) == {
        "messages_sent": 1,
        "messages_received": 2,
        "bytes_sent": 3,
        "bytes_received": 4,
        "errors": 5,
        "elapsed": 6.0,
        "unreceived_messages": 0,
        "unreceived_bytes": 0,
        "sends_held": 0,
        "sends_in_flight": 0,
        "bytes_in_flight": 0,
        "stream_bytes_sent": 0,
        "stream_bytes_received": 0,
        "puts": 0,
        "gets": 0,
        "atomics": 0,
        "put_bytes": 0,
        "get_bytes": 0,
        "connections": 7,
    }


def test_a_snapshot_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats(1.0).messages_sent = 4
    assert pickle.loads(pickle.dumps(stats(1.0, 3))) == stats(1.0, 3)


def test_rates_between_two_snapshots():
    earlier = TrafficStats(10, 100, 1000, 10_000, 0, 2.0)
    later = TrafficStats(30, 140, 3000, 50_000, 1, 4.0)
    rates = later.since(earlier)
    assert rates == Rates(2.0, 10.0, 20.0, 1000.0, 20_000.0)
    assert rates.message_rate() == 30.0
    assert rates.throughput_mbps() == pytest.approx(0.168)


def test_mean_rates_since_the_start():
    snapshot = TrafficStats(5, 5, 1_000_000, 1_000_000, 0, 2.0)
    assert snapshot.message_rate() == 5.0
    assert snapshot.throughput_mbps() == pytest.approx(8.0)


@pytest.mark.parametrize("elapsed", [0.0, 1.0, 2.0])
def test_no_time_between_means_no_rate(elapsed):
    assert stats(elapsed, 1).since(stats(2.0, 9)) == Rates()
    assert TrafficStats(messages_sent=4).message_rate() == 0.0


def test_print_names_every_counter(capsys):
    WorkerStats(1234567, 2, 3, 4, 5, 6.5, 7).print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "WorkerStats"
    assert lines[1].split() == ["messages", "sent", "1,234,567"]
    names = [line.strip().split("  ")[0] for line in lines[1:]]
    assert names == [
        "messages sent",
        "messages received",
        "bytes sent",
        "bytes received",
        "errors",
        "unreceived messages",
        "unreceived bytes",
        "sends held",
        "sends in flight",
        "bytes in flight",
        "stream bytes sent",
        "stream bytes received",
        "puts",
        "gets",
        "atomics",
        "put bytes",
        "get bytes",
        "connections",
        "elapsed",
        "throughput",
        "message rate",
    ]
    assert len({len(line) for line in lines[1:6]}) == 1


def test_html_has_a_row_for_each_counter():
    text = TrafficStats(1234)._repr_html_()
    assert text.startswith("<table>")
    assert text.endswith("</table>")
    assert text.count("<tr>") == 20
    assert "1,234" in text


def test_history_is_bounded_and_oldest_first():
    history = StatsHistory(3)
    for i in range(10):
        history.append(stats(float(i), i))
    assert [s.messages_sent for s in history.snapshots()] == [7, 8, 9]
    assert len(history) == 3


def test_an_idle_stretch_is_its_first_and_last_snapshot():
    history = StatsHistory(100)
    history.append(stats(0.0, 1))
    for i in range(1, 50):
        history.append(stats(float(i), 2))
    history.append(stats(50.0, 3))
    assert [(s.elapsed, s.messages_sent) for s in history.snapshots()] == [
        (0.0, 1),
        (1.0, 2),
        (49.0, 2),
        (50.0, 3),
    ]
    assert [(t, r.messages_sent) for t, r in history.rates()] == [
        (1.0, 1.0),
        (49.0, 0.0),
        (50.0, 1.0),
    ]


def test_history_of_none_or_one_has_no_rates():
    history = StatsHistory(5)
    assert list(history.rates()) == []
    history.append(stats(1.0))
    assert list(history.rates()) == []
    assert len(history) == 1


def test_history_is_read_while_it_grows():
    history = StatsHistory(50)
    done = threading.Event()

    def grow() -> None:
        for i in range(20_000):
            history.append(stats(float(i), i))
        done.set()

    writer = threading.Thread(target=grow)
    writer.start()
    while not done.is_set():
        seen = [s.elapsed for s in history.snapshots()]
        assert seen == sorted(seen)
        assert len(seen) <= 50
    writer.join()
