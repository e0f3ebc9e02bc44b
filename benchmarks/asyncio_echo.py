"""Echo with asyncio on both sides: ucxnb, UCXX's asyncio API and TCP streams, in turns."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from peer import python_peer

SERVERS = {
    "ucxnb": """
import asyncio, sys
from ucxnb import UcxWorker
async def main():
    async with UcxWorker() as worker:
        print(worker.create_listener().address, flush=True)
        client = await worker.accept()
        async for message in worker.messages(1, endpoint_id=client):
            await worker.isend_tag(client, 1, message.data)
asyncio.run(main())
""",
    "ucxx": """
import asyncio, sys
import numpy, ucxx
size = int(sys.argv[1])
async def serve(endpoint):
    buffer = numpy.empty(size, "u1")
    try:
        while True:
            await endpoint.recv(buffer)
            await endpoint.send(buffer)
    except ucxx.exceptions.UCXError:
        pass
async def main():
    listener = ucxx.create_listener(serve)
    print(listener.port, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
""",
    "streams": """
import asyncio, sys
size = int(sys.argv[1])
async def serve(reader, writer):
    try:
        while True:
            writer.write(await reader.readexactly(size))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
""",
}
Exchange = Callable[[], Awaitable[object]]


async def time_rounds(exchange: Exchange, rounds: int) -> float:
    """Median half round trip, us."""
    for _ in range(rounds // 10):
        await exchange()
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        await exchange()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 2e3


async def ask_ucxnb(address: str, size: int, rounds: int) -> float:
    from ucxnb import UcxWorker

    data = bytes(size)
    async with UcxWorker() as worker:
        there = await worker.connect_async(address)

        async def exchange() -> None:
            await worker.isend_tag(there, 1, data)
            await worker.ireceive_tag(there, 1)

        return await time_rounds(exchange, rounds)


async def ask_ucxx(port: str, size: int, rounds: int) -> float:
    import numpy as np
    import ucxx

    endpoint = await ucxx.create_endpoint("127.0.0.1", int(port))
    data, buffer = np.zeros(size, "u1"), np.empty(size, "u1")

    async def exchange() -> None:
        await endpoint.send(data)
        await endpoint.recv(buffer)

    result = await time_rounds(exchange, rounds)
    await endpoint.close()
    return result


async def ask_streams(port: str, size: int, rounds: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    data = bytes(size)

    async def exchange() -> None:
        writer.write(data)
        await writer.drain()
        await reader.readexactly(size)

    result = await time_rounds(exchange, rounds)
    writer.close()
    return result


ASK = {"ucxnb": ask_ucxnb, "ucxx": ask_ucxx, "streams": ask_streams}
# The client has a process of its own as well: UCXX keeps one context for all of it.
CLIENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import asyncio_echo
print(asyncio.run(asyncio_echo.ASK[sys.argv[2]](sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
"""


def measure(name: str, size: int, rounds: int) -> float:
    """Median half round trip between two fresh processes, us."""
    from pathlib import Path

    with (
        python_peer(SERVERS[name], size) as server,
        python_peer(CLIENT, Path(__file__).parent, name, server.address, size, rounds) as client,
    ):
        return float(client.address)


def main() -> None:
    """Print a table, one line a repeat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8, help="bytes of a message")
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"median half round trip of {options.size} bytes, {options.rounds:,} echoes, us")
    print("repeat" + "".join(f"{name:>10}" for name in ASK))
    rows = []
    for repeat in range(options.repeats):
        rows.append([measure(name, options.size, options.rounds) for name in ASK])
        print(f"{repeat:6}" + "".join(f"{value:10.2f}" for value in rows[-1]))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("median" + "".join(f"{value:10.2f}" for value in medians))
    print("times ucxnb's  " + "".join(f"{value / medians[0]:>9.1f} " for value in medians))


if __name__ == "__main__":
    main()
