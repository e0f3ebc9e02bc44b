"""How receives slow down, and memory grows, with messages that wait and nobody receives."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer import python_peer

from ucxnb import OperationTimeoutError, UcxWorker

PEER = """
import sys
from ucxnb import UcxWorker
with UcxWorker() as worker:
    print(worker.create_listener().address, flush=True)
    for line in sys.stdin:
        first, step, count, mark = map(int, line.split())
        client = worker.get_endpoint_ids()[0]
        for start in range(0, count, 10_000):
            numbers = range(start, min(count, start + 10_000))
            worker.send_tags(client, [(first + step * i, b"8 bytes.") for i in numbers])
        worker.send_tag(client, mark, b"")
"""
COUNTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
# One tag for all that wait, or a tag for each.
SHAPES = ("one tag", "own tags")
# Where they wait: in UCX's own queue; or in the engine's, where all go while a receive is posted.
PLACES = ("UCX", "engine")
PAGE = 4096
FIRST = 1 << 20
LATE, MARK, ABSENT = 1 << 30, 1 << 31, 1 << 32
# UCX sorts what waits into so many lists, by tag: two tags that differ by this share one.
UCX_LISTS = 1021
ALL_BUT_ONE_BIT = (1 << 40) - 2
SAMPLES = 200
FEW = 20  # samples, with many messages waiting: some receives then take long
MANY = 10_000
SECONDS = 0.4  # of one measurement
WAIT = 0.05
FLOOD_SECONDS = 8.0  # what takes longer is left out


def resident() -> int:
    """Resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def median_us(call: Callable[[], object], most: int) -> float:
    """Median time of a call, microseconds: `most` of them, or as many as fit into the limit."""
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < most and (len(times) < 3 or time.perf_counter() < end):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


class Backlog:
    """A worker with messages that wait, and the peer that sends them."""

    def __init__(self, worker: UcxWorker, peer: subprocess.Popen[str], place: str) -> None:
        self.worker = worker
        self.peer = peer
        self.place = place
        self.there = worker.connect(peer.address)  # type: ignore[attr-defined]

    def fill(self, first: int, step: int, count: int) -> None:
        """Have messages sent, and wait until all have arrived."""
        assert self.peer.stdin is not None
        posted = self.worker.ireceive_tag(self.there, ABSENT) if self.place == "engine" else None
        self.peer.stdin.write(f"{first} {step} {count} {MARK}\n")
        self.worker.receive_tag(self.there, MARK)
        if posted is not None:
            posted.cancel()


def measure(shape: str, place: str, count: int) -> dict[str, float]:
    """Receive past `count` waiting messages in all ways; microseconds of one call, by name."""
    step = int(shape == "own tags")
    samples = SAMPLES if count <= MANY else FEW
    with python_peer(PEER) as peer, UcxWorker() as worker:
        backlog = Backlog(worker, peer, place)
        there = backlog.there
        receive, look = worker.receive_tag, worker.try_receive_tag
        backlog.fill(LATE, 0, 1000)  # memory that is taken once
        for _ in range(1000):
            receive(there, LATE)
        before = resident()
        backlog.fill(FIRST, step, count)
        figures: dict[str, float] = {}
        if count >= MANY:  # fewer fit into memory that is there already
            figures["bytes"] = (resident() - before) / count
        figures["50 ms timeout"] = wait_in_vain(worker, there)
        figures["50 ms timeout, from anyone"] = wait_in_vain(worker, None)

        def late(name: str, tag: int, call: Callable[[], object]) -> None:
            backlog.fill(tag, 0, samples)
            figures[name] = median_us(call, samples)
            while look(there, tag) is not None:
                pass

        late("late", LATE, lambda: receive(there, LATE))
        late("late, from anyone", LATE, lambda: receive(None, LATE))
        late("late, masked", LATE, lambda: receive(there, LATE, tag_mask=ALL_BUT_ONE_BIT))
        twin = FIRST + (1 << 20) * UCX_LISTS
        late("late, unlucky tag", twin, lambda: receive(there, twin))
        figures["absent"] = median_us(lambda: look(there, ABSENT), SAMPLES)
        figures["absent, from anyone"] = median_us(lambda: look(None, ABSENT), SAMPLES)

        # The last measurements take of what waits: at most as many as there are.
        left = list(range(FIRST, FIRST + count)) if step else [FIRST] * count
        random.Random(1).shuffle(left)
        few = min(SAMPLES, max(1, count // 4))
        figures["any waiting one"] = median_us(lambda: receive(there, left.pop()), few)
        if left:
            gone = set(left) if step else set()
            figures["oldest, any tag"] = median_us(
                lambda: gone.discard(worker.receive_message(None, 0, tag_mask=0).tag),
                min(few, len(left)),
            )
        if len(left) > FEW:
            figures["drain"] = drain(worker, there, sorted(left), bool(step))
    return figures


def wait_in_vain(worker: UcxWorker, source: int | None) -> float:
    """Microseconds that a receive with a timeout of 50 ms takes to give up."""
    start = time.perf_counter()
    try:
        worker.receive_tag(source, ABSENT, timeout=WAIT)
    except OperationTimeoutError:
        return (time.perf_counter() - start) * 1e6
    raise AssertionError("nobody sent this")


def drain(worker: UcxWorker, there: int, tags: list[int], own: bool) -> float:
    """Receive all the rest, oldest first; microseconds a message."""
    start, received = time.perf_counter(), 0
    look = worker.try_receive_tag
    if own:
        for tag in tags:
            received += look(there, tag) is not None
    else:
        while look(there, FIRST) is not None:
            received += 1
    return (time.perf_counter() - start) / max(1, received) * 1e6


def measure_flood(count: int) -> dict[str, float]:
    """Receive one tag while `count` messages of another come in before it; milliseconds."""
    figures = {}
    for name in ("from one endpoint", "from anyone"):
        # The peer ends first: it may be in the middle of sending.
        with UcxWorker() as worker, python_peer(PEER) as peer:
            there = worker.connect(peer.address)  # type: ignore[attr-defined]
            source = there if name == "from one endpoint" else None
            assert peer.stdin is not None
            start = time.perf_counter()
            peer.stdin.write(f"{FIRST} 0 {count} {MARK}\n")
            try:
                worker.receive_tag(source, MARK, timeout=FLOOD_SECONDS)
            except OperationTimeoutError:
                continue
            figures[name] = (time.perf_counter() - start) * 1e3
    return figures


def run(counts: tuple[int, ...]) -> dict[str, Any]:
    """All shapes, places and counts, each in a process of its own: its memory starts small."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    spawn = multiprocessing.get_context("spawn")
    for shape in SHAPES:
        for place in PLACES:
            rows = table.setdefault(f"{shape}, in {place}", {})
            for count in counts:
                with spawn.Pool(1) as pool:
                    rows[str(count)] = pool.apply(measure, (shape, place, count))
    with spawn.Pool(1) as pool:
        table["while they come"] = {
            str(count): pool.apply(measure_flood, (count,)) for count in counts
        }
    return table


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    options = parser.parse_args()
    print(json.dumps(run(tuple(options.counts)), indent=1))


if __name__ == "__main__":
    main()
