"""Workers of other processes are watched over UCX, and nobody is disturbed by it."""

from __future__ import annotations

import signal
import threading
import time
import zlib
from dataclasses import replace

import pytest
from eventually import eventually
from hypothesis import given
from hypothesis import strategies as st

import ucxnb
from ucxnb import EventKind, Snapshot, UcxWorker
from ucxnb.dashboard import Dashboard
from ucxnb.watching import Publisher, RemoteWorker
from ucxnb.watching.samples import Packer, Unpacker


def same(here: Snapshot, there: Snapshot) -> bool:
    """Whether both tell the same, but for what passes with the time."""
    stats = replace(here.stats, elapsed=there.stats.elapsed)
    ends = zip(here.endpoints, there.endpoints, strict=True)
    endpoints = tuple(
        replace(mine, stats=replace(mine.stats, elapsed=yours.stats.elapsed))
        for mine, yours in ends
    )
    timeless = {"time": there.time, "health": there.health, "closed": there.closed}
    return replace(here, stats=stats, endpoints=endpoints, **timeless) == there


def test_a_watcher_sees_what_the_worker_does(pair):
    left, to_right, right, to_left = pair
    with Publisher(right, interval=0.02) as publisher, RemoteWorker(publisher.address) as remote:
        assert remote.name == right.name
        for size in (0, 10, 100_000):
            request = left.isend_tag(to_right, 1, bytes(size))
            right.receive_tag(to_left, 1, timeout=30)
            request.wait(30)
        eventually(lambda: remote.snapshot().stats.messages_received == 3)
        eventually(lambda: same(right.snapshot(), remote.snapshot()))
        assert publisher.watchers == 1
        # The one that is watched has got no connection by it.
        assert right.get_endpoint_ids() == [to_left]
        left.disconnect(to_right)
        eventually(lambda: remote.snapshot().events[-1].kind is EventKind.CLOSED)
        assert [e.number for e in remote.snapshot().events] == [1, 2]


def test_a_dashboard_takes_it_like_a_worker(pair):
    with Publisher(pair[0], interval=0.02) as publisher, RemoteWorker(publisher.address) as remote:
        dashboard = Dashboard([pair[2], remote], interval=0.02)
        pair[0].send_tag(pair[1], 1, b"hello")
        shown = dashboard.widget  # nothing before the first snapshot has come
        eventually(lambda: shown._content["counters"] and _sent(shown) == "1")
        dashboard.close()


def test_when_the_publisher_ends_the_last_snapshot_stays(pair):
    left, to_right, *_ = pair
    publisher = Publisher(left, interval=60)
    with RemoteWorker(publisher.address) as remote:
        left.send_tag(to_right, 1, b"the last")
        publisher.close()
        eventually(lambda: remote.closed)
        assert remote.snapshot().stats.messages_sent == 1
        assert remote.reason
    publisher.close()
    assert publisher.closed


def test_when_the_worker_closes_its_watchers_know():
    with UcxWorker() as worker:
        publisher = Publisher(worker, interval=0.02)
        remote = RemoteWorker(publisher.address)
    eventually(lambda: remote.closed)
    assert remote.snapshot().closed
    remote.close()
    publisher.close()


def published(channel) -> None:
    with UcxWorker(name="there") as worker, Publisher(worker, interval=0.02) as publisher:
        channel.send(publisher.address)
        channel.receive()


def test_when_its_process_is_killed_it_is_closed(start_child):
    child = start_child(published)
    with RemoteWorker(child.receive()) as remote:
        assert remote.name == "there"
        child.kill()
        eventually(lambda: remote.closed)
        assert remote.reason


def watch(channel, address: str) -> None:
    with RemoteWorker(address) as remote:
        channel.send(remote.name)
        channel.receive()


def test_a_watcher_that_stops_slows_nobody(start_child, pair):
    left, to_right, right, to_left = pair
    with Publisher(left, interval=0.02) as publisher:
        child = start_child(watch, publisher.address)
        child.receive()
        with RemoteWorker(publisher.address) as other:
            child.kill(signal.SIGSTOP)
            for number in range(1, 40):
                left.send_tag(to_right, 1, bytes(100))
                right.receive_tag(to_left, 1, timeout=30)
                eventually(lambda number=number: other.snapshot().stats.messages_sent == number)
            child.kill(signal.SIGKILL)
        eventually(lambda: publisher.watchers == 0)
        eventually(lambda: not publisher._watchers)


def test_many_watchers():
    with UcxWorker() as worker, Publisher(worker, interval=0.02) as publisher:
        remotes = [RemoteWorker(publisher.address) for _ in range(8)]
        start = time.time()
        for remote in remotes:
            eventually(lambda remote=remote: remote.snapshot().time > start)
        for remote in remotes:
            remote.close()


def test_a_key_protects_it():
    with UcxWorker(auth_key="a secret of mine alone") as worker, Publisher(worker) as publisher:
        with pytest.raises(ucxnb.AuthenticationError):
            RemoteWorker(publisher.address)
        with RemoteWorker(publisher.address, auth_key="a secret of mine alone") as remote:
            assert remote.name == worker.name


def test_what_publishes_nothing_is_named():
    with UcxWorker() as worker:
        listener = worker.create_listener()
        with pytest.raises(ucxnb.ConnectTimeoutError, match="publishes nothing"):
            RemoteWorker(listener.address, timeout=0.3)
    with pytest.raises(ucxnb.ConnectRefusedError):
        RemoteWorker("127.0.0.1:1")
    with UcxWorker() as worker, pytest.raises(ucxnb.ArgumentError, match="interval"):
        Publisher(worker, interval=0)


@pytest.mark.parametrize("junk", [b"", b"junk", zlib.compress(b"{}"), bytes(1000)])
def test_junk_instead_of_a_snapshot_is_refused(junk):
    with UcxWorker() as stranger:
        listener = stranger.create_listener()

        def answer() -> None:
            peer = eventually(stranger.get_endpoint_ids)[0]
            stranger.send_tag(peer, 1, junk)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ucxnb.HandshakeError, match="no snapshot"):
            RemoteWorker(listener.address)
        thread.join()


@given(st.binary(max_size=300))
def test_no_bytes_are_a_danger(data):
    with pytest.raises(ucxnb.HandshakeError):
        Unpacker().unpack(data)


def test_a_bomb_does_not_explode():
    with pytest.raises(ucxnb.HandshakeError, match="too large"):
        Unpacker().unpack(zlib.compress(b"0" * 100_000_000))


def test_a_sample_is_small():
    with UcxWorker() as left, UcxWorker() as right:
        listener = right.create_listener()
        peers = [left.connect(listener.address) for _ in range(4)]
        packer, unpacker = Packer(), Unpacker()
        for _ in range(5):
            for peer in peers:
                left.send_tag(peer, 1, bytes(1000))
            snapshot = replace(left.snapshot(), events=())
            packed = packer.pack(snapshot)
            assert unpacker.unpack(packed) == snapshot
        assert len(packed) < 400


def _sent(view) -> str:
    """The messages sent, as the table of counters has them."""
    return next(row[1] for row in view._content["counters"]["pairs"] if row[0] == "Messages")
