"""The measured loops, the same for every peer that blocks.

Side 0 takes the time and gives the result; side 1 answers, and gives an empty one.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from .peers.base import Peer
from .plan import BOTH_WAYS, BROADCAST, ENDPOINT_RATE, LATENCY, ONE_WAY

Result = dict[str, float]
now = time.perf_counter_ns
# Each with the number of rounds that it takes to mean something.
PERCENTILES = (("p50_us", 50.0, 1), ("p99_us", 99.0, 100), ("p999_us", 99.9, 1000))


def warmup_of(count: int) -> int:
    """Give the rounds or messages to warm up with."""
    return max(1, count // 10)


def buffer(nbytes: int) -> bytearray:
    """Make a buffer whose pages are there: zeros would all be read from one page."""
    return bytearray(b"\1") * nbytes


def stamps_for(count: int) -> array[int]:
    """Make room for as many stamps, and one more.

    In a list they would be objects: 40 bytes of cold memory in every round, which p99 shows.
    """
    return array("q", [now()]) * (count + 1)


def percentiles(stamps: Sequence[int], share: float = 0.5) -> Result:
    """Summarise the times between stamps, a share of each, in us.

    A percentile is left out where there were too few rounds for it: 100 for p99, 1,000 for p99.9.
    """
    times = sorted(b - a for a, b in itertools.pairwise(stamps))
    count = len(times)
    result = {"seconds": (stamps[-1] - stamps[0]) / 1e9, "count": count}
    for name, percent, least in PERCENTILES:
        if count >= least:
            result[name] = times[int(count * percent / 100)] * share / 1e3
    return result


def flow(count: int, nbytes: int, seconds: float) -> Result:
    """Give messages and bytes a second."""
    rate = count / seconds
    return {"seconds": seconds, "count": count, "rate": rate, "bandwidth": rate * nbytes}


def latency(peer: Peer, nbytes: int, count: int) -> Result:
    """Time each round trip."""
    out, into = peer.prepare(buffer(nbytes)), peer.prepare(buffer(nbytes))
    send, receive = peer.sender(out), peer.receiver(into)
    if peer.rank == 1:
        for _ in range(warmup_of(count) + count):
            receive()
            send()
        return {}
    for _ in range(warmup_of(count)):
        send()
        receive()
    stamps = stamps_for(count)
    stamps[0] = now()
    for i in range(1, count + 1):
        send()
        receive()
        stamps[i] = now()
    return percentiles(stamps)


def _flood(peer: Peer, nbytes: int, count: int, act: Callable[[int], None]) -> Result:
    """Time `act` on both sides until side 1 has said that it is done."""
    word = peer.prepare(buffer(1))
    result = {}
    for n in (warmup_of(count), count):
        if peer.rank == 1:
            peer.send(word)
            act(n)
            peer.send(word)
        else:
            peer.receive(word)
            start = now()
            act(n)
            peer.receive(word)
            result = flow(n, nbytes, (now() - start) / 1e9)
    return result


def one_way(peer: Peer, nbytes: int, count: int) -> Result:
    """Time many messages until the receiver has them all."""
    data = peer.prepare(buffer(nbytes))
    many = peer.receive_many if peer.rank else peer.send_many
    return _flood(peer, nbytes, count, lambda n: many(data, n))


def both_ways(peer: Peer, nbytes: int, count: int) -> Result:
    """Time many messages each way at once; the bandwidth is that of one way."""
    out, into = peer.prepare(buffer(nbytes)), peer.prepare(buffer(nbytes))
    return _flood(peer, nbytes, count, lambda n: peer.exchange_many(out, into, n))


def endpoints(peer: Peer, nbytes: int, count: int) -> Result:
    """Time many messages one way, in turns over all links."""
    data = peer.prepare(buffer(nbytes))
    one: Callable[[Any, int], None] = peer.receive if peer.rank else peer.send
    links = peer.links

    def act(n: int) -> None:
        for _ in range(n):
            for link in links:
                one(data, link)

    rounds = max(1, count // len(links))
    result = _flood(peer, nbytes, rounds, act)
    return flow(rounds * len(links), nbytes, result["seconds"]) if result else {}


def broadcast(peer: Peer, nbytes: int, count: int) -> Result:
    """Time each broadcast until the last receiver's answer."""
    data, word = peer.prepare(buffer(nbytes)), peer.prepare(buffer(1))
    stamps = []
    for _ in range(warmup_of(count) + count + 1):
        stamps.append(now())
        if peer.rank == 0:
            peer.broadcast(data)
            peer.receive(word)
        else:
            for link in peer.links:
                peer.receive(data, link)
            peer.send(word)
    return {} if peer.rank else percentiles(stamps[warmup_of(count) :], share=1.0)


LOOPS: dict[str, Callable[[Peer, int, int], Result]] = {
    LATENCY: latency,
    ONE_WAY: one_way,
    BOTH_WAYS: both_ways,
    ENDPOINT_RATE: endpoints,
    BROADCAST: broadcast,
}
