"""Messages at a set rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from eventually import eventually

import ucxnb
from ucxnb import TrafficGenerator, UcxWorker


@pytest.fixture
def pair() -> Iterator[tuple[UcxWorker, int, UcxWorker]]:
    with UcxWorker(name="sender") as sender, UcxWorker(name="receiver") as receiver:
        endpoint_id = sender.connect(receiver.create_listener().address)
        yield sender, endpoint_id, receiver


def test_it_sends_as_many_as_asked_for(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, receiver = pair
    with TrafficGenerator(sender, endpoint_id, tag=5, size=100, rate=None, count=1000) as traffic:
        sizes = {len(receiver.receive_tag(None, 5, timeout=20)) for _ in range(1000)}
        traffic.wait(20)
    assert sizes == {100}
    assert (traffic.messages, traffic.nbytes, traffic.in_flight) == (1000, 100_000, 0)
    assert not traffic.running
    assert "ended, 1,000 messages" in repr(traffic)
    assert receiver.try_receive_tag(None, 5) is None


@pytest.mark.parametrize("rate", [50.0, 5_000.0])
def test_the_rate_is_kept(pair: tuple[UcxWorker, int, UcxWorker], rate: float) -> None:
    sender, endpoint_id, _ = pair
    traffic = TrafficGenerator(sender, endpoint_id, rate=rate, duration=1.0)
    traffic.wait(20)
    # Never faster, however noisy the machine: message i leaves i / rate after the first, or later.
    assert 1 < traffic.messages <= traffic.seconds * rate + 1
    assert traffic.rate == rate


def test_a_rate_of_bytes(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, _ = pair
    traffic = TrafficGenerator(sender, endpoint_id, size=1000, byte_rate=100_000, duration=0.5)
    traffic.wait(20)
    assert traffic.rate is None
    assert 1000 < traffic.nbytes <= traffic.seconds * 100_000 + 1000


def test_sizes_are_drawn_between_two(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, receiver = pair
    with TrafficGenerator(sender, endpoint_id, size=(0, 1024), rate=None, count=2000) as traffic:
        sizes = [len(receiver.receive_tag(None, 1, timeout=20)) for _ in range(2000)]
        traffic.wait(20)
    assert min(sizes) == 0
    assert 512 < max(sizes) <= 1024
    assert sum(size < 32 for size in sizes) > 600  # each doubling is as likely as any other
    assert sum(sizes) == traffic.nbytes


def test_stop_does_not_wait_for_a_peer_that_receives_nothing(
    pair: tuple[UcxWorker, int, UcxWorker],
) -> None:
    sender, endpoint_id, receiver = pair
    traffic = TrafficGenerator(sender, endpoint_id, size=10_000_000, rate=None)
    eventually(lambda: traffic.blocked)
    with pytest.raises(ucxnb.OperationTimeoutError, match=r"call stop\(\)"):
        traffic.wait(0.1)
    assert traffic.running
    traffic.stop()
    traffic.stop()
    assert not traffic.running
    assert traffic.in_flight == 64
    assert len(receiver.receive_tag(None, 1, timeout=20)) == 10_000_000


def test_a_peer_that_keeps_up_late_gets_no_burst(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, receiver = pair
    with TrafficGenerator(sender, endpoint_id, size=1_000_000, rate=1000) as traffic:
        eventually(lambda: traffic.in_flight == 64)
        time.sleep(0.5)
        for _ in range(64):
            receiver.receive_tag(None, 1, timeout=20)
    assert traffic.messages < 64 + 64 + 101


def test_a_lost_peer_ends_it(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, receiver = pair
    traffic = TrafficGenerator(sender, endpoint_id, rate=200)
    receiver.close()
    with pytest.raises(ucxnb.EndpointLostError):
        traffic.wait(20)
    assert isinstance(traffic.error, ucxnb.EndpointLostError)
    assert "failed" in repr(traffic)
    traffic.stop()


def test_the_worker_may_close_first(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, endpoint_id, _ = pair
    traffic = TrafficGenerator(sender, endpoint_id, rate=200)
    sender.close()
    with pytest.raises(ucxnb.UcxnbError):
        traffic.wait(20)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"size": -1}, "size"),
        ({"size": (8, 4)}, "size"),
        ({"size": "64"}, "size"),
        ({"size": 2 << 30}, "size"),
        ({"size": (1, 2, 3)}, "size"),
        ({"rate": 0}, "rate"),
        ({"rate": "many"}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"byte_rate": -5}, "byte_rate"),
        ({"count": -1}, "count"),
        ({"count": 1.5}, "count"),
        ({"duration": "long"}, "duration"),
    ],
)
def test_what_it_cannot_do_is_said_at_once(
    pair: tuple[UcxWorker, int, UcxWorker], options: dict[str, Any], word: str
) -> None:
    sender, endpoint_id, _ = pair
    with pytest.raises(ucxnb.ArgumentError, match=word):
        TrafficGenerator(sender, endpoint_id, **options)
    assert sender.stats().messages_sent == 0


def test_no_endpoint_no_traffic(pair: tuple[UcxWorker, int, UcxWorker]) -> None:
    sender, *_ = pair
    with pytest.raises(ucxnb.UnknownEndpointError):
        TrafficGenerator(sender, 99)
    with pytest.raises(ucxnb.TagRangeError):
        TrafficGenerator(sender, sender.get_endpoint_ids()[0], tag=-1)
