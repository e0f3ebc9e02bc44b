"""Recordings: what is written is what is read, played and shown."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import ipywidgets
import pandas as pd
import pytest
from eventually import eventually

import ucxnb
from ucxnb import EventKind, UcxWorker
from ucxnb.dashboard import Dashboard
from ucxnb.recording import Player, Recorder, Recording
from ucxnb.widgets.replay import Replay

BOTH = pytest.mark.parametrize("ending", ["jsonl", "parquet"])


def record(path: Path) -> list[ucxnb.Snapshot]:
    """Record real traffic; returns the last snapshots."""
    with UcxWorker(name="server") as server, UcxWorker(name="client") as client:
        peer = client.connect(server.create_listener().address)
        with Recorder([server, client], path, interval=0.02):
            for number in range(30):
                client.send_tag(peer, 1, bytes(number * 100))
                server.receive_tag(None, 1, timeout=30)
                time.sleep(0.02)
            client.disconnect(peer)
            eventually(lambda: server.events()[-1].kind is EventKind.CLOSED)
        return [server.snapshot(), client.snapshot()]


@BOTH
def test_what_was_recorded_is_read_again(tmp_path, ending):
    path = tmp_path / f"session.{ending}"
    before = time.time()
    last = record(path)
    recording = Recording.load(path)
    assert recording.names == ("server", "client")
    assert before <= recording.start < recording.end <= time.time()
    for known in last:
        read = recording.snapshot_at(known.name, recording.end)
        same = {"time": read.time, "events": read.events, "health": read.health}
        stats = replace(known.stats, elapsed=read.stats.elapsed)
        assert replace(known, **same, stats=stats) == read
    assert recording.snapshot_at("client", 0).stats.messages_sent <= 1
    assert len(recording.times("client")) > 10
    assert repr(recording).startswith("<Recording of 'server', 'client': ")


@BOTH
def test_events_are_recorded_once(tmp_path, ending):
    path = tmp_path / f"session.{ending}"
    last = record(path)
    recording = Recording.load(path)
    for known in last:
        assert [e for name, e in recording.events() if name == known.name] == list(known.events)


@BOTH
def test_counters_as_a_table(tmp_path, ending):
    path = tmp_path / f"session.{ending}"
    record(path)
    table = Recording.load(path).to_pandas()
    whole = table[(table.worker == "client") & (table.endpoint == 0)]
    assert whole.messages_sent.is_monotonic_increasing
    assert whole.messages_sent.iloc[-1] == 30
    assert whole.bytes_sent.iloc[-1] == sum(number * 100 for number in range(30))
    peers = table[(table.worker == "client") & (table.endpoint > 0)]
    assert set(peers.peer) == {"server"}
    assert str(table.time.dtype).startswith("datetime64")


def test_parquet_has_the_counters_as_columns(tmp_path):
    path = tmp_path / "session.parquet"
    record(path)
    table = pd.read_parquet(path)
    assert table[table.worker == "server"].messages_received.max() == 30


def test_a_recorder_ends_with_its_workers(tmp_path):
    with UcxWorker() as worker:
        recorder = Recorder(worker, tmp_path / "a.jsonl", interval=0.02)
    eventually(lambda: recorder.closed)
    recorder.close()
    recorder.close()
    recording = Recording.load(recorder.path)
    assert recording.snapshot_at(worker.name, recording.end).closed


def test_a_recorder_that_cannot_write_disturbs_nobody(tmp_path):
    path = tmp_path / "a.jsonl"
    path.symlink_to("/dev/full")
    with UcxWorker() as worker:
        recorder = Recorder(worker, path, interval=0.02)
        eventually(lambda: recorder.closed)
        assert isinstance(recorder.error, OSError)
        recorder.close()
        assert not worker.closed


def killed_recorder(channel, path: str) -> None:
    with UcxWorker(name="a") as worker, Recorder(worker, path, interval=0.01):
        time.sleep(0.5)
        channel.send("recording")
        channel.receive()


def test_lines_survive_a_recorder_that_is_killed(start_child, tmp_path):
    path = tmp_path / "a.jsonl"
    child = start_child(killed_recorder, str(path))
    child.receive()
    child.kill(signal.SIGKILL)
    assert len(Recording.load(path).times("a")) > 5


def test_a_cut_line_is_left_out_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    record(path)
    whole = path.read_bytes()
    count = len(Recording.load(path).times("client")) + len(Recording.load(path).times("server"))
    path.write_bytes(whole[:-40])
    cut = Recording.load(path)
    assert len(cut.times("client")) + len(cut.times("server")) == count - 1
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"name": 3}\n' + lines[1])
    with pytest.raises(ucxnb.RecordingError, match="snapshot 2"):
        Recording.load(path)


@pytest.mark.parametrize("data", [b"", b"junk\n", b"[]\n", b"\xff\n", b"PAR1"])
@BOTH
def test_what_is_no_recording_is_refused(tmp_path, data, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    with pytest.raises(ucxnb.RecordingError):
        Recording.load(path)


def test_wrong_arguments_are_named(tmp_path):
    with UcxWorker() as worker:
        with pytest.raises(ucxnb.ArgumentError, match=r"\.jsonl or \.parquet"):
            Recorder(worker, tmp_path / "a.csv")
        with pytest.raises(ucxnb.ArgumentError, match="interval"):
            Recorder(worker, tmp_path / "a.jsonl", interval=0)
        with pytest.raises(ucxnb.ArgumentError, match="at least one"):
            Recorder([], tmp_path / "a.jsonl")
        with pytest.raises(FileNotFoundError):
            Recorder(worker, tmp_path / "no" / "a.jsonl")
    with pytest.raises(ucxnb.ArgumentError, match=r"\.jsonl or \.parquet"):
        Recording.load(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "a.jsonl")


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with UcxWorker() as worker, pytest.raises(ucxnb.RecordingError, match="pip install"):
        Recorder(worker, tmp_path / "a.parquet")


# ---- playing


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    path = tmp_path_factory.mktemp("recording") / "a.jsonl"
    record(path)
    return Recording.load(path)


def test_the_head_moves_is_moved_and_stops_at_the_end(recording):
    player = Player(recording, speed=100)
    assert player.time == recording.start
    assert not player.playing
    player.play()
    eventually(lambda: player.time == recording.end)
    assert not player.playing
    player.play()
    player.pause()
    player.seek(recording.start + 0.1)
    assert player.time == pytest.approx(recording.start + 0.1)
    player.seek(0)
    assert player.time == recording.start
    (server, client) = player.workers
    assert client.snapshot().stats.messages_sent <= 1
    player.seek(recording.end)
    assert client.snapshot().stats.messages_sent == 30
    assert server.name == "server"
    with pytest.raises(ucxnb.ArgumentError, match="speed"):
        player.speed = 0


def points(dashboard: Dashboard, name: str) -> dict:
    return dashboard._components.feeds[name].tiers[0].all()


def test_a_dashboard_shows_what_was_before_the_head(recording):
    player = Player(recording)
    dashboard = Dashboard(player, interval=0.02)
    try:
        eventually(lambda: len(points(dashboard, "throughput")["time"]) == 1)
        player.seek(recording.end)
        eventually(
            lambda: points(dashboard, "throughput")["time"].tolist() == recording.times("server")
        )
        assert points(dashboard, "throughput")["sent"].max() > 0
        # These come a moment later.
        pairs = ["Messages", "30", "30"]
        eventually(lambda: dashboard.widget._content["counters"]["pairs"][3] == pairs)
        eventually(lambda: len(dashboard._components.feeds["marks"].all()["what"]) == 4)
        marks = dashboard._components.feeds["marks"].all()
        assert set(marks["what"]) == {"accepted", "connected", "closed"}
        player.seek(recording.start)
        eventually(lambda: len(points(dashboard, "throughput")["time"]) == 1)
        player.speed = 20
        player.play()
        eventually(
            lambda: points(dashboard, "throughput")["time"].tolist() == recording.times("server")
        )
        marks = dashboard._components.feeds["marks"].all()
        assert len(marks["what"]) == 4
    finally:
        dashboard.close()


def test_controls_move_the_head_and_follow_it(recording):
    before = set(ipywidgets.widgets.widget._instances)
    player = Player(recording)
    replay = Replay(player)
    try:
        assert replay._button.description == "Play"
        replay._slider.value = 0.3
        assert player.time == pytest.approx(recording.start + 0.3)
        player.seek(recording.start + 0.5)
        eventually(lambda: replay._slider.value == 0.5)
        assert player.time == pytest.approx(recording.start + 0.5)
        replay._speed.value = 10.0
        assert player.speed == 10
        replay._button.click()
        eventually(lambda: player.time == recording.end)
        eventually(lambda: replay._button.description == "Play")
    finally:
        replay.close()
        replay.close()
    assert replay.closed
    assert set(ipywidgets.widgets.widget._instances) == before
