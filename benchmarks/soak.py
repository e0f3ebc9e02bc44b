"""A long run: messages of mixed sizes over endpoints that come and go all along.

Every message is checked by its content; memory is watched, and what descriptors are left behind.
10,000 times connect, one message, disconnect: ``--messages 10000 --endpoints 1 --life 1``.
With ``--trim`` the receiver gives free memory back to the system now and then: what it still takes
is in use, where otherwise the allocator's holes count as well.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import machine

from ucxnb import UcxWorker
from ucxnb.errors import EndpointError, OperationTimeoutError

PATIENCE = 60.0  # seconds in which something must happen
HELLO, DATA, TAKEN = 0, 1, 2  # tags
WINDOW = 64  # messages of a connection before the receiver confirms them
# Largest size, and how many of a thousand messages have up to that.
SIZES = ((64, 600), (1024, 300), (8192, 90), (65_536, 9), (1 << 20, 1))
LARGEST = SIZES[-1][0]
NOISE = random.Random(0).randbytes(2 * LARGEST)
WARM = 0.2  # of the run, before memory is expected to be flat
TRIMS = 40  # of a run with --trim


def _plan() -> list[tuple[int, int]]:
    """Where in the noise a message begins, and its size."""
    chance = random.Random(1)
    limits, weights = zip(*SIZES, strict=True)
    picked = chance.choices(limits, weights, k=1 << 16)
    return [(chance.randrange(LARGEST), chance.randint(0, limit)) for limit in picked]


PLAN = _plan()


def place_of(connection: int, number: int) -> tuple[int, int]:
    """Place and size of a message by the number of its connection and its own."""
    return PLAN[(connection * 40_503 + number * 7919) % len(PLAN)]


# ---- the processes ----


@dataclass(frozen=True)
class Task:
    """What one sending process has to do."""

    address: str
    numbers: range  # of its connections
    endpoints: int
    messages: int
    life: int
    seconds: float


def serve(
    pipe: Connection, tls: str, life: int, trim: int, progress: ctypes.Array[ctypes.c_uint64]
) -> None:
    """Receive from anyone and check, until told that nobody sends any more."""
    in_use: list[tuple[int, int]] = []  # messages, bytes
    known: dict[int, list[int]] = {}  # by endpoint: the connection's number, messages so far
    window = min(life, WINDOW)
    with UcxWorker(ucx_options=options(tls)) as worker:
        listener = worker.create_listener()
        meet(worker, listener.address, tls)
        before = open_descriptors()
        pipe.send(listener.address)
        while not pipe.poll():
            try:
                message = worker.receive_message(None, 0, tag_mask=0, timeout=0.5)
            except (OperationTimeoutError, EndpointError):
                continue
            endpoint_id, tag, size, data = message
            if tag == HELLO:
                known[endpoint_id] = [int(data), 0]
                continue
            connection, number = known[endpoint_id]
            start, wanted = place_of(connection, number)
            if size != wanted or not NOISE.startswith(data, start):
                raise AssertionError(f"message {number} of connection {connection} is wrong")
            known[endpoint_id][1] = number = number + 1
            progress[0] += 1
            if number % window == 0:
                worker.send_tag(endpoint_id, TAKEN, b"%d" % number)
            if trim and progress[0] % trim == 0:
                in_use.append((progress[0], memory_in_use()))
            if len(known) > 1024:
                alive = set(worker.get_endpoint_ids())
                known = {id_: state for id_, state in known.items() if id_ in alive}
        wait_until(lambda: not worker.get_endpoint_ids())
        pipe.recv()
        pipe.send((left_behind(before), in_use))


@dataclass
class Sender:
    """One connection, from hello to goodbye."""

    worker: UcxWorker
    address: str
    number: int
    life: int
    sent: int = 0
    endpoint_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.endpoint_id = self.worker.connect(self.address, timeout=PATIENCE)
        self.worker.send_tag(self.endpoint_id, HELLO, b"%d" % self.number)

    def send(self, count: int, noise: memoryview) -> None:
        """Send the next `count` messages."""
        for number in range(self.sent, self.sent + count):
            start, size = place_of(self.number, number)
            self.worker.send_tag(self.endpoint_id, DATA, noise[start : start + size])
        self.sent += count

    def wait(self) -> None:
        """Wait until the receiver says that it has them all."""
        taken = int(self.worker.receive_tag(self.endpoint_id, TAKEN, timeout=PATIENCE))
        if taken != self.sent:
            raise AssertionError(f"{taken} messages of {self.sent} were taken")


def send_all(pipe: Connection, tls: str, task: Task) -> None:
    """Keep all connections busy, and replace each at the end of its life."""
    noise = memoryview(NOISE)
    chance = random.Random(task.numbers.start)
    numbers = iter(task.numbers)
    window = min(task.life, WINDOW)
    until = time.monotonic() + task.seconds
    with UcxWorker(ucx_options=options(tls)) as worker:
        meet(worker, task.address, tls)
        before = open_descriptors()

        def connect() -> Sender:
            lives = chance.randint(1, 2 * task.life // window - 1)
            return Sender(worker, task.address, next(numbers), lives * window)

        senders = [connect() for _ in range(task.endpoints)]
        sent, connections = 0, task.endpoints
        while sent < task.messages and time.monotonic() < until:
            for sender in senders:
                sender.send(window, noise)
            for i, sender in enumerate(senders):
                sender.wait()
                sent += window
                if sender.sent >= sender.life and sent < task.messages:
                    worker.disconnect(sender.endpoint_id)
                    senders[i] = connect()
                    connections += 1
        worker.cleanup_all()
        pipe.send((sent, connections, left_behind(before)))
        pipe.recv()


def options(tls: str) -> dict[str, str]:
    """UCX's own choice of wires, or these."""
    return {"TLS": tls} if tls else {}


def meet(worker: UcxWorker, address: str, tls: str) -> None:
    """One connection for what a process opens once and keeps."""
    with UcxWorker(ucx_options=options(tls)) as other:
        endpoint_id = other.connect(address, timeout=PATIENCE)
        other.disconnect(endpoint_id)
    worker.disconnect(worker.connect(address, timeout=PATIENCE))
    wait_until(lambda: not worker.get_endpoint_ids())


def wait_until(condition: Callable[[], bool]) -> None:
    """For what the other side does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)


def open_descriptors() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd")) - 1


def left_behind(before: int) -> int:
    """Descriptors more than before, once those that are being closed are."""
    deadline = time.monotonic() + 2
    while (more := open_descriptors() - before) > 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    return more


def memory_in_use() -> int:
    """Memory of this process, bytes, without what its allocators keep for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory_of(os.getpid()).own


# ---- the one that watches ----


def run(choice: argparse.Namespace) -> int:
    """Start all, watch, and report; 0 if nothing was wrong and nothing is left behind."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # also for the processes
    context = multiprocessing.get_context("spawn")
    progress = context.Array("Q", 1, lock=False)

    def start(function: Callable[..., None], *arguments: object) -> tuple:
        ours, theirs = context.Pipe()
        process = context.Process(target=function, args=(theirs, choice.tls, *arguments))
        process.start()
        theirs.close()
        return process, ours

    trim = choice.messages // TRIMS if choice.trim else 0
    server, to_server = start(serve, choice.life, trim, progress)
    address = to_server.recv()
    count = min(choice.processes, choice.endpoints)
    tasks = [
        Task(
            address,
            range(first, sys.maxsize, count),
            len(range(first, choice.endpoints, count)),
            len(range(first, choice.messages, count)),
            choice.life,
            60 * choice.minutes,
        )
        for first in range(count)
    ]
    senders = [start(send_all, task) for task in tasks]
    processes = {"receiver": server} | {f"sender {i}": p for i, (p, _) in enumerate(senders)}
    samples: list[Sample] = []
    started = printed = time.monotonic()
    while not all(pipe.poll() for _, pipe in senders):
        if not all(process.is_alive() for process in processes.values()):
            break
        if not any(pipe.poll() for _, pipe in senders):  # those that are done free theirs
            samples.append(Sample(progress[0], [memory_of(p.pid) for p in processes.values()]))
        if time.monotonic() - printed > choice.every:
            printed = time.monotonic()
            show(samples[-1], printed - started)
        time.sleep(0.1)
    seconds = time.monotonic() - started
    try:
        ends = [pipe.recv() for _, pipe in senders]
        to_server.send(None)
        to_server.send(None)
        left, in_use = to_server.recv()
        ends.append((0, 0, left))
    except EOFError:
        sys.exit("a process has failed: its traceback is above")
    for _, pipe in senders:
        pipe.send(None)
    for process in processes.values():
        process.join(PATIENCE)
    sent = sum(end[0] for end in ends)
    report = {
        "machine": machine(),
        "wire": choice.tls or "UCX's choice",
        "endpoints": choice.endpoints,
        "messages": sent,
        "checked": progress[0],
        "connections": sum(end[1] for end in ends),
        "seconds": round(seconds, 1),
        "messages per second": round(sent / seconds),
        "descriptors left behind": max(end[2] for end in ends),
        "memory": {
            name: slopes_of([(s.messages, s.memory[i]) for s in samples])
            for i, name in enumerate(processes)
        },
    }
    if in_use:
        used = [(messages, Memory(nbytes, nbytes)) for messages, nbytes in in_use]
        report["memory"]["receiver"]["in use"] = slopes_of(used)["own"]
    print(json.dumps(report, indent=2))
    if choice.out:
        choice.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(report["checked"] != sent or report["descriptors left behind"] > 0)


class Memory(NamedTuple):
    """Of a process, bytes."""

    resident: int
    own: int  # what it allocated, resident or not: no part of files, or of memory that is shared


class Sample(NamedTuple):
    """Messages so far, and what each process takes."""

    messages: int
    memory: list[Memory]


def memory_of(pid: int | None) -> Memory:
    """What a process takes; nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return Memory(0, 0)
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    resident, anonymous, swapped = (
        1024 * int(fields.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssAnon", "VmSwap")
    )
    return Memory(resident, anonymous + swapped)


def show(sample: Sample, seconds: float) -> None:
    """A line while it runs."""
    memory = ", ".join(f"{m.resident / 1e6:.1f} ({m.own / 1e6:.1f})" for m in sample.memory)
    print(f"{seconds:5.0f} s {sample.messages:12,} messages; MB (its own): {memory}", flush=True)


def slopes_of(samples: list[tuple[int, Memory]]) -> dict[str, dict[str, float]]:
    """Memory of a process after the warm-up and at the end of the run, and the slope between."""
    warm = [(count, memory) for count, memory in samples if count >= WARM * samples[-1][0]]
    millions = np.array([count for count, _ in warm]) / 1e6
    slopes = {}
    for kind in Memory._fields:
        nbytes = np.array([getattr(memory, kind) for _, memory in warm])
        slopes[kind] = {
            "MB warm": round(nbytes[0] / 1e6, 2),
            "MB at the end": round(nbytes[-1] / 1e6, 2),
            "bytes per million messages": round(np.polyfit(millions, nbytes, 1)[0]),
        }
    return slopes


def main() -> int:
    """Parse, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--endpoints", type=int, default=64, help="open at the same time")
    parser.add_argument("--processes", type=int, default=4, help="that send")
    parser.add_argument("--life", type=int, default=2000, help="messages of a connection, about")
    parser.add_argument("--minutes", type=float, default=60, help="end after that in any case")
    parser.add_argument("--tls", default="", help="wires, as in UCX_TLS; UCX's own choice if empty")
    parser.add_argument("--every", type=float, default=10, help="seconds between two lines")
    parser.add_argument(
        "--trim", action="store_true", help="also measure what of the receiver's memory is in use"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the report")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
