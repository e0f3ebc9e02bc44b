"""Measurements of real connections: what comes out, what goes wrong, and that nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from eventually import eventually

from ucxnb import (
    ArgumentError,
    EchoPeer,
    EndpointLostError,
    MissingUcxError,
    OperationTimeoutError,
    UcxError,
    UcxnbError,
    UcxWorker,
    UnknownEndpointError,
)
from ucxnb.bench import (
    DEFAULT_SIZES,
    BenchPartner,
    BenchRow,
    BenchRun,
    Measurement,
    Perftest,
    private_pair,
    run_perftest,
    run_perftests,
    runs_to_csv,
    sizes_between,
)
from ucxnb.bench.limit import why_no_limit
from ucxnb.bench.protocol import new_session, pack, rows_at_once, unpack
from ucxnb.text import parse_size, size_text

QUICK = {"seconds": 0.03, "limit": False}
WAIT = 30.0
ROW = BenchRow(1 << 20, 1000, 50.0, 60.5, 1700.0, 20_000.0, 25.0, 25_000.0)


@pytest.fixture(scope="module")
def partner():
    with BenchPartner() as partner:
        yield partner


@pytest.fixture
def connected(partner):
    with UcxWorker() as worker:
        yield worker, worker.connect(partner.address)


def ask(worker: UcxWorker, endpoint_id: int, request: bytes) -> dict:
    tag = new_session()
    worker.send_tag(endpoint_id, tag, request, timeout=WAIT)
    return unpack(worker.receive_tag(endpoint_id, tag, timeout=WAIT))


# ---- what comes out


@pytest.mark.parametrize(("transport", "name"), [("shm", "memory"), ("tcp", "tcp")])
def test_every_size_has_its_figures(transport, name):
    sizes = (0, 8, 1000, 5_000_000)
    with private_pair(transport) as (worker, endpoint_id):
        measurement = Measurement(worker, endpoint_id, sizes, **QUICK)
        rows = list(measurement)
        assert worker.is_connected(endpoint_id)
    assert [row.nbytes for row in rows] == list(sizes)
    for row in rows:
        assert row.rounds >= 5
        assert 0 < row.p50_us <= row.p99_us <= row.p999_us
        assert row.message_rate > 0
        assert row.bandwidth == row.message_rate * row.nbytes
        assert row.limit_us is row.limit_rate is row.limit_bandwidth is None
    assert measurement.run.rows == tuple(rows)
    assert not measurement.stopped
    assert any(name in transport for transport in measurement.run.transports)
    assert measurement.progress.fraction == 1


def test_the_limit_is_measured_over_the_same_transports(connected):
    (row,) = Measurement(*connected, (8,), seconds=0.03)
    assert row.limit_us > 0
    assert row.limit_rate > 0
    assert row.limit_bandwidth == row.limit_rate * 8


def test_a_peer_that_only_echoes_has_no_bandwidth():
    with EchoPeer() as peer, UcxWorker() as worker:
        measurement = Measurement(worker, worker.connect(peer.address), (8, 1 << 20), **QUICK)
        rows = list(measurement)
    assert [row.nbytes for row in rows] == [8, 1 << 20]
    assert all(row.p50_us > 0 and row.message_rate is None for row in rows)
    assert "only echoes" in measurement.run.note


def test_many_clients_one_after_the_other_and_at_once(partner):
    for _ in range(3):
        with UcxWorker() as worker:
            assert list(Measurement(worker, worker.connect(partner.address), (64,), **QUICK))
    with UcxWorker() as one, UcxWorker() as two:
        pairs = [(worker, worker.connect(partner.address)) for worker in (one, two)]
        got: list[list[BenchRow]] = []
        threads = [
            threading.Thread(target=lambda p=p: got.append(list(Measurement(*p, (64,), **QUICK))))
            for p in pairs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(rows) for rows in got] == [1, 1]


# ---- stopping


@pytest.mark.parametrize("nbytes", [8, 256 << 20])
def test_it_stops_when_told_and_the_partner_goes_on(connected, nbytes):
    begun = threading.Event()
    stop_at = []

    def should_stop() -> bool:
        if not begun.is_set():
            return False
        stop_at.append(time.monotonic())
        return True

    measurement = Measurement(
        *connected, (nbytes,), seconds=60, limit=False, should_stop=should_stop
    )
    rows: list[BenchRow] = []
    thread = threading.Thread(target=lambda: rows.extend(measurement))
    thread.start()
    eventually(lambda: 0 < measurement.progress.fraction < 1)
    time.sleep(0.2)
    begun.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert measurement.stopped
    assert not rows
    assert list(Measurement(*connected, (8,), **QUICK))


def test_one_that_was_told_before_it_began(connected):
    measurement = Measurement(*connected, should_stop=lambda: True)
    assert list(measurement) == []
    assert measurement.stopped


def test_one_test_of_ucx_perftest():
    result = run_perftest("tag_lat", 8, 1000, percentile=99)
    assert result.iterations == 1000
    assert result.percentile_us > 0


def test_a_stop_ends_ucx_perftest():
    began = time.monotonic()
    stop = lambda: time.monotonic() > began + 0.5  # noqa: E731
    assert list(run_perftests([Perftest("tag_lat", 8, 10**9)], should_stop=stop)) == []


def test_ucx_perftest_that_fails_or_takes_too_long_says_so():
    with pytest.raises(UcxError, match=r"failed: [\s\S]*nonsense"):
        list(run_perftests([Perftest("nonsense", 8, 10)]))
    with pytest.raises(UcxError, match=r"tag_lat -s 8 did not end in 0\.5 s"):
        list(run_perftests([Perftest("tag_lat", 8, 10**9)], timeout=0.5))


def interrupted(channel, address):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        channel.send(None)
        try:
            list(Measurement(worker, endpoint_id, (256 << 10,), seconds=60, limit=False))
        except KeyboardInterrupt:
            (row,) = Measurement(worker, endpoint_id, (8,), **QUICK)
            channel.send(row.nbytes)


def test_ctrl_c_does_not_spoil_the_next_one(start_child, partner):
    child = start_child(interrupted, partner.address)
    child.receive()
    time.sleep(0.7)
    child.kill(signal.SIGINT)
    assert child.receive() == 8
    child.result()


# ---- what goes wrong


@pytest.mark.parametrize("nbytes", [8, 4 << 20])
def test_a_partner_that_dies_is_a_lost_endpoint(nbytes):
    with BenchPartner() as partner, UcxWorker() as worker:
        endpoint_id = worker.connect(partner.address)
        measurement = Measurement(worker, endpoint_id, (8, nbytes), seconds=0.5, limit=False)
        rows = iter(measurement)
        first = next(rows)
        os.kill(partner.pid, signal.SIGKILL)
        with pytest.raises(EndpointLostError):
            list(rows)
        assert measurement.run.rows == (first,)


def vanishing(channel, address):
    # Not over shared memory: killed in the middle of a write, it would block all others there.
    with UcxWorker(ucx_options={"TLS": "tcp,self"}) as worker:
        endpoint_id = worker.connect(address)
        channel.send(None)
        list(Measurement(worker, endpoint_id, (1 << 20,), seconds=60, limit=False))


def test_the_partner_survives_a_client_that_dies(start_child, connected, partner):
    child = start_child(vanishing, partner.address)
    child.receive()
    time.sleep(0.5)
    child.kill()
    assert list(Measurement(*connected, (8,), **QUICK))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"\x00junk", "no request"),
        (b"[" * 100_000, "no request"),
        (b'{"ucxnb-bench": 99, "is": "hello"}', "versions 1 and 99"),
        (pack("dance"), "none of hello, echo, take"),
        (pack("echo", nbytes=-1, count=1), "nbytes=-1"),
        (pack("echo", nbytes=1 << 40, count=1), "nbytes="),
        (pack("take", nbytes=8, count="many"), "count='many'"),
        (json.dumps({"ucxnb-bench": 1, "is": []}).encode(), "none of hello"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(connected, request_, words):
    answer = ask(*connected, request_)
    assert answer["is"] == "error"
    assert words in answer["why"]
    assert ask(*connected, pack("hello"))["is"] == "ready"


def test_junk_of_any_tag_and_size_is_thrown_away(connected):
    worker, endpoint_id = connected
    for tag in (0, 7, new_session() + 1, 2**40 - 1):
        for nbytes in (0, 8, 300_000):
            worker.send_tag(endpoint_id, tag, bytes(nbytes), timeout=WAIT)
    assert list(Measurement(worker, endpoint_id, (8,), **QUICK))


def test_a_client_that_leaves_a_request_undone_holds_nobody_up_for_long(connected, partner):
    with UcxWorker() as other:
        assert ask(other, other.connect(partner.address), pack("echo", nbytes=8, count=5))
        # It closes now, with five echoes still owed.
    assert list(Measurement(*connected, (8,), **QUICK))
    worker, endpoint_id = connected
    assert ask(worker, endpoint_id, pack("take", nbytes=8, count=5))["is"] == "ready"
    # The same client begins anew: the partner looks for that.
    assert list(Measurement(worker, endpoint_id, (8,), **QUICK))


def test_a_peer_that_answers_nothing(pair, monkeypatch):
    monkeypatch.setattr("ucxnb.bench.session._HELLO_PATIENCE", 0.3)
    left, to_right, _, _ = pair
    with pytest.raises(OperationTimeoutError, match="ucxnb bench --serve"):
        list(Measurement(left, to_right, (8,)))


def test_a_peer_that_answers_something_else(pair):
    left, to_right, right, to_left = pair

    def answer() -> None:
        message = right.receive_message(None, 0, tag_mask=0, timeout=WAIT)
        right.send_tag(to_left, message.tag, b"what?")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(UcxnbError, match="no request of one"):
        list(Measurement(left, to_right, (8,)))
    thread.join()


def test_wrong_arguments(connected):
    with pytest.raises(ArgumentError, match="sizes"):
        Measurement(*connected, (-1,))
    with pytest.raises(ArgumentError, match="seconds"):
        Measurement(*connected, seconds=0)
    with pytest.raises(UnknownEndpointError):
        Measurement(connected[0], 99)
    with pytest.raises(ArgumentError, match="transport"), private_pair("pigeon"):
        pass


def test_without_ucx_perftest_there_is_no_limit_and_it_says_so(connected, monkeypatch):
    monkeypatch.setattr("ucxnb.bench.limit.find_ucx_program", lambda name: None)
    monkeypatch.setattr("ucxnb.bench.perftest.find_ucx_program", lambda name: None)
    measurement = Measurement(*connected, (8,), seconds=0.03)
    (row,) = measurement
    assert row.limit_us is None
    assert "there is no ucx_perftest" in measurement.run.note
    with pytest.raises(MissingUcxError):
        next(run_perftests([Perftest("tag_lat", 8, 10)]))


def test_a_ucx_perftest_that_fails_costs_the_limit_only(connected, monkeypatch):
    monkeypatch.setattr(
        "ucxnb.bench.measure.measure_limits", lambda *_: (_ for _ in ()).throw(UcxError("boom"))
    )
    measurement = Measurement(*connected, (8,), seconds=0.03)
    (row,) = measurement
    assert row.message_rate > 0
    assert row.limit_us is None
    assert "boom" in measurement.run.note


def test_a_peer_on_another_machine_has_no_limit(connected):
    (info,) = connected[0].endpoints()
    assert why_no_limit(info) == ""
    far = replace(info, peer_address="10.0.0.5:4000", transports=("tcp/eth0",))
    assert "another one" in why_no_limit(far)


# ---- as a value


def test_a_run_is_saved_and_read_again(tmp_path):
    run = BenchRun("TCP", (ROW, replace(ROW, nbytes=8, message_rate=None)), ("tcp/lo",), "b", "m")
    run.to_json(tmp_path / "run.json")
    assert BenchRun.from_json(tmp_path / "run.json") == run
    assert BenchRun.from_json(run.to_json()) == run
    text = run.to_csv(tmp_path / "run.csv")
    assert (tmp_path / "run.csv").read_text() == text
    head, first, second = text.splitlines()
    assert head.startswith("run,transports,nbytes,rounds,p50_us,p99_us,p999_us,message_rate")
    figures = "50.0,60.5,1700.0,20000.0,20971520000.0,25.0,25000.0,26214400000.0"
    assert first == f"TCP,tcp/lo,1048576,1000,{figures}"
    assert second.startswith("TCP,tcp/lo,8,1000,50.0,60.5,1700.0,,,25.0")
    assert runs_to_csv([run, run]).count("\n") == 5


@pytest.mark.parametrize("text", ["{", "{}", '{"rows": [{"nbytes": 1}], "transports": []}'])
def test_what_is_no_run_is_refused(text):
    with pytest.raises(UcxnbError, match="no saved benchmark"):
        BenchRun.from_json(text)


def test_a_run_shows_itself():
    run = BenchRun("<b>", (ROW,), ("tcp/lo",))
    assert re.search(
        r"1 MiB +50.00 +60.50 +1,700 +20,000 +20,972 +25.00 +2.00 +26,214 +0.80", run.text
    )
    assert "&lt;b&gt;" in run._repr_html_()
    assert "limit" not in BenchRun("x", (replace(ROW, limit_us=None),)).text


def test_pandas_is_optional(monkeypatch):
    frame = BenchRun("x", (ROW,)).to_pandas()
    assert frame.loc[0, "bandwidth"] == ROW.bandwidth
    assert list(frame["nbytes"]) == [1 << 20]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UcxnbError, match="pip install pandas"):
        BenchRun("x", (ROW,)).to_pandas()


def test_sizes_lie_evenly():
    assert sizes_between(8, 8) == (8,)
    assert sizes_between(8, 4096) == (8, 64, 512, 4096)
    assert DEFAULT_SIZES[0] == 8
    assert DEFAULT_SIZES[-1] == 4 << 20
    for nbytes in (1, 1000, 1024, 3 << 20, 1 << 30, 1025):
        assert parse_size(size_text(nbytes)) == nbytes
    assert [rows_at_once(nbytes) for nbytes in (0, 1, 1 << 20, 1 << 25)] == [1, 65536, 1, 1]


# ---- the command


def bench(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ucxnb", "bench", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_the_command_measures_a_new_process_and_saves(tmp_path):
    done = bench(
        *("--sizes", "8B,1KiB", "--seconds", "0.05", "--transport", "tcp"),
        *("--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^over tcp/", done.stdout, re.MULTILINE)
    assert re.search(r"^ +size +p50 us .* limit us +ratio", done.stdout, re.MULTILINE)
    assert re.search(r"^ +8 B( +[\d.,]+){9}$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +1 KiB( +[\d.,]+){9}$", done.stdout, re.MULTILINE)
    assert [row.nbytes for row in BenchRun.from_json(tmp_path / "a.json").rows] == [8, 1024]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_the_command_measures_with_its_own_server_and_ends_by_ctrl_c(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "ucxnb", "bench", "--serve"], stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            address = re.match(r"Listening on (\S+);", server.stdout.readline())[1]
            client = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "ucxnb", "bench", address, "--no-limit"),
                    *("--sizes", "8B,1MiB,2MiB", "--seconds", "2", "--csv", str(tmp_path / "a")),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with client:
                for line in client.stdout:
                    if " 8 B " in line:
                        break
                client.send_signal(signal.SIGINT)
                _, errors = client.communicate(timeout=WAIT)
            assert client.returncode == 130
            assert errors == "\nucxnb bench: interrupted\n"
            assert len((tmp_path / "a").read_text().splitlines()) == 2
        finally:
            server.send_signal(signal.SIGINT)
            said, _ = server.communicate(timeout=WAIT)
    assert server.returncode == 0
    assert "WorkerStats" in said


def test_the_command_says_what_is_wrong(tmp_path):
    assert bench("--sizes", "big").returncode == 2
    done = bench("127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing listens there" in done.stderr
    done = bench("127.0.0.1:1", "--serve", "127.0.0.1:0")
    assert done.returncode == 1
    assert "as in --serve 127.0.0.1:1" in done.stderr
    done = bench("--csv", str(tmp_path / "no" / "such"))
    assert done.returncode == 1
    assert "No such file" in done.stderr
