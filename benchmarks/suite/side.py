"""One process of a peer: it connects to the other side, and measures what it is told to.

Started by the controller as ``python -m suite.side SOCKET PEER TRANSPORT UCX_TLS LINKS RANK``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .async_loops import ASYNC_LOOPS
from .control import Line
from .loops import LOOPS
from .peers import PEERS
from .peers.base import AsyncPeer, Peer, Setup

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with(line: Line) -> None:
    """End this process when the controller has gone, even from inside a library that hangs."""
    # The kernel sees to it should this process be stopped by then, as one that spins is.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    poller = select.poll()
    poller.register(line.socket, 0)  # hang-ups only: this wakes once in a lifetime

    def watch() -> None:
        poller.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(peer: Peer, line: Line) -> None:
    """Connect, then answer the controller until it says to close."""
    line.write(rank=peer.rank, pid=os.getpid(), address=peer.address())
    peer.connect(line.read()["address"])
    line.write(about=peer.about())
    while (order := line.read())["do"] != "close":
        line.write(result=LOOPS[order["measure"]](peer, order["nbytes"], order["count"]))
    peer.close()
    line.write(closed=True)


async def serve_async(peer: AsyncPeer, line: Line) -> None:
    """Do what `serve` does, inside an event loop."""

    async def read() -> dict[str, Any]:
        # A thread of its own waits: UCXX's progress has to go on while the other side connects.
        return await asyncio.to_thread(line.read)

    await peer.open()
    line.write(rank=peer.rank, pid=os.getpid(), address=peer.address())
    await peer.connect((await read())["address"])
    line.write(about=peer.about())
    while (order := await read())["do"] != "close":
        loop = ASYNC_LOOPS[order["measure"]]
        line.write(result=await loop(peer, order["nbytes"], order["count"]))
    await peer.close()
    line.write(closed=True)


def serve_both(first: Peer, second: Peer, line: Line) -> None:
    """Do what `serve` does for two sides that are threads of this process."""
    line.write(rank=0, pid=os.getpid(), address=None)
    line.read()
    with ThreadPoolExecutor(2) as pool:

        def both(name: str, *arguments: Any) -> list[Any]:
            futures = [
                pool.submit(getattr(peer, name), *extra)
                for peer, *extra in zip((first, second), *arguments, strict=True)
            ]
            return [future.result() for future in futures]

        addresses = [first.address(), second.address()]
        both("connect", addresses[::-1])
        line.write(about=first.about())
        while (order := line.read())["do"] != "close":
            loop = LOOPS[order["measure"]]
            futures = [
                pool.submit(loop, peer, order["nbytes"], order["count"]) for peer in (first, second)
            ]
            results = [future.result() for future in futures]
            line.write(result=results[0])
        both("close")
    line.write(closed=True)


def main() -> None:
    """Run one side, or both of them."""
    path, name, transport, ucx_tls, links, rank = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        line = Line(connection)
        end_with(line)
        peer_class = PEERS[name]
        try:
            setup = Setup(int(rank), transport, ucx_tls, int(links))
            if peer_class.in_one_process:
                other = Setup(1, transport, ucx_tls, int(links))
                serve_both(peer_class(setup), peer_class(other), line)
            elif issubclass(peer_class, AsyncPeer):
                asyncio.run(serve_async(peer_class(setup), line))
            else:
                serve(peer_class(setup), line)
        except BaseException as error:
            traceback.print_exc()
            line.write(error=f"{type(error).__name__}: {error}")
            sys.stderr.flush()
            os._exit(1)
    # Not by way of the interpreter's end: there UCXX's threads hang now and then.
    os._exit(0)


if __name__ == "__main__":
    main()
