"""The measured loops of `loops`, for peers whose calls are awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .loops import Result, buffer, flow, now, percentiles, stamps_for, warmup_of
from .peers.base import AsyncPeer
from .plan import BOTH_WAYS, LATENCY, ONE_WAY


async def latency(peer: AsyncPeer, nbytes: int, count: int) -> Result:
    """Time each round trip."""
    out, into = peer.prepare(buffer(nbytes)), peer.prepare(buffer(nbytes))
    send, receive = peer.send, peer.receive
    if peer.rank == 1:
        for _ in range(warmup_of(count) + count):
            await receive(into)
            await send(out)
        return {}
    for _ in range(warmup_of(count)):
        await send(out)
        await receive(into)
    stamps = stamps_for(count)
    stamps[0] = now()
    for i in range(1, count + 1):
        await send(out)
        await receive(into)
        stamps[i] = now()
    return percentiles(stamps)


async def _flood(
    peer: AsyncPeer, nbytes: int, count: int, act: Callable[[int], Awaitable[None]]
) -> Result:
    word = peer.prepare(buffer(1))
    result = {}
    for n in (warmup_of(count), count):
        if peer.rank == 1:
            await peer.send(word)
            await act(n)
            await peer.send(word)
        else:
            await peer.receive(word)
            start = now()
            await act(n)
            await peer.receive(word)
            result = flow(n, nbytes, (now() - start) / 1e9)
    return result


async def one_way(peer: AsyncPeer, nbytes: int, count: int) -> Result:
    """Time many messages until the receiver has them all."""
    data = peer.prepare(buffer(nbytes))
    many = peer.receive_many if peer.rank else peer.send_many
    return await _flood(peer, nbytes, count, lambda n: many(data, n))


async def both_ways(peer: AsyncPeer, nbytes: int, count: int) -> Result:
    """Time many messages each way at once; the bandwidth is that of one way."""
    out, into = peer.prepare(buffer(nbytes)), peer.prepare(buffer(nbytes))
    return await _flood(peer, nbytes, count, lambda n: peer.exchange_many(out, into, n))


ASYNC_LOOPS: dict[str, Callable[[AsyncPeer, int, int], Awaitable[Result]]] = {
    LATENCY: latency,
    ONE_WAY: one_way,
    BOTH_WAYS: both_ways,
}
