"""Interpreters that exit at any moment: run as a program, which forks one for each try.

``python exits.py SEED TRIES`` writes a line of JSON for each. A fork of a process that has loaded
everything and started nothing is an interpreter like any other, and there a second sooner.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO

from ucxnb import EchoPeer, OperationTimeoutError, ThreadMode, UcxWorker
from ucxnb.binding import ucx_versions
from ucxnb.widgets import ControlRoom

HANG = 30.0  # seconds until an interpreter that does not end is given up
SECOND_LIFE = 15.0  # seconds for a child of an interpreter that has ended
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
LARGE = 1 << 30

# ---- what goes on when it exits ----


def pair() -> tuple[UcxWorker, int, UcxWorker, int]:
    fields = {"thread_mode": ThreadMode.MULTI, "close_timeout": 0.5}
    left, right = UcxWorker(**fields), UcxWorker(**fields)
    to_right = left.connect(right.create_listener().address)
    return left, to_right, right, right.get_endpoint_ids()[0]


def in_thread(function: Callable[..., object], *args: object) -> None:
    threading.Thread(target=function, args=args, daemon=True).start()


def connecting() -> object:
    left, right = UcxWorker(close_timeout=0.5), UcxWorker(close_timeout=0.5)
    address = right.create_listener().address
    while True:
        left.disconnect(left.connect(address))


def traffic_in_a_thread() -> object:
    left, to_right, right, to_left = pair()

    def traffic() -> None:
        while True:
            left.send_tag(to_right, 1, bytes(100))
            right.receive_tag(to_left, 1)

    in_thread(traffic)
    return left, right


def large_transfer() -> object:
    left, to_right, right, to_left = pair()

    def receive() -> None:
        while True:
            right.receive_tag(to_left, 1)

    in_thread(receive)
    while True:
        left.send_tag(to_right, 1, bytes(LARGE))


def blocked_receive() -> object:
    left, to_right, _right, _ = pair()
    return left.receive_tag(to_right, 1)


def requests_pending() -> object:
    left, to_right, right, _ = pair()
    requests = [left.ireceive_tag(to_right, tag) for tag in range(100)]
    requests += [left.isend_tag(to_right, tag, bytes(1 << 20)) for tag in range(10)]
    return left, right, requests


def in_a_callback() -> object:
    """The event loop calls back when a message comes, and that raises."""
    left, to_right, right, to_left = pair()

    async def story() -> None:
        while True:
            request = left.ireceive_tag(to_right, 1)
            right.send_tag(to_left, 1, b"x")
            await request

    return asyncio.run(story())


def panels_open() -> object:
    left, to_right, right, to_left = pair()
    room = ControlRoom(left, interval=0.02)
    right.send_tag(to_left, 1, b"to be kept")
    room.receive_panel.keep_button.click()
    while True:
        room.send_panel.send_button.click()
        right.send_tag(to_left, 1, b"x")
        with contextlib.suppress(OperationTimeoutError):
            left.receive_tag(to_right, 3, timeout=0.001)


def kept_connection() -> object:
    left, right = UcxWorker(close_timeout=0.5), UcxWorker(close_timeout=0.5)
    link = left.keep_connected(right.create_listener().address, first_delay=0.001)
    while True:
        left.send_tag(link.wait(), 1, b"x")
        right.receive_tag(None, 1)


def echo_peer() -> object:
    peer, worker = EchoPeer(), UcxWorker(close_timeout=0.5)
    endpoint_id = worker.connect(peer.address)
    while True:
        worker.send_tag(endpoint_id, 1, bytes(1 << 20))
        worker.receive_tag(endpoint_id, 1)


SCENES = {
    "connecting": connecting,
    "traffic in a thread": traffic_in_a_thread,
    "in the middle of 1 GiB": large_transfer,
    "in a blocked receive": blocked_receive,
    "requests pending": requests_pending,
    "in a callback of asyncio": in_a_callback,
    "panels open": panels_open,
    "kept connection": kept_connection,
    "traffic with an EchoPeer": echo_peer,
}

# ---- how it exits ----


class UnhandledError(Exception):
    """Ends the program with a traceback."""


def raise_soon(error: BaseException, delay: float) -> None:
    """Have an exception raised in the main thread, wherever that is.

    Where Python ignores it, as in a finalizer, another one follows; none once the exit has begun.
    """

    def handler(number: int, frame: object) -> None:
        raise error

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-3), 1.0)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


# name: (exit codes that are right, signal from outside)
WAYS: dict[str, tuple[tuple[int, ...], int]] = {
    "sys.exit": ((3,), 0),
    "unhandled exception": ((1,), 0),
    "SIGTERM": ((-signal.SIGTERM,), signal.SIGTERM),
    "SIGINT": ((-signal.SIGINT, 1, 130), signal.SIGINT),
}
TROUBLE = ("Fatal Python error", "Segmentation fault", "core dumped", "UCX  ERROR", "Assertion")
# UCX's log, where one worker of the process was closed while the other was about to reach it.
PEER_IS_GONE = re.compile(
    r"UCX  ERROR +(shmat\(|open\(file_name=/proc/|mm ep failed to connect to remote FIFO)"
)


def be_the_interpreter(scene: str, way: str, delay: float) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if way == "sys.exit":
        raise_soon(SystemExit(3), delay)
    elif way == "unhandled exception":
        raise_soon(UnhandledError("on purpose"), delay)
    held = SCENES[scene]()
    time.sleep(HANG)
    del held


def watch(pid: int, scene: str, way: str, delay: float, words: IO[bytes]) -> dict[str, object]:
    """Wait for the end of an interpreter, and for that of every process it leaves behind."""
    codes, number = WAYS[way]
    began = time.monotonic()
    if number:
        time.sleep(delay)
        os.kill(pid, number)
    wrong = []
    code = wait_for(pid, HANG)
    seconds = time.monotonic() - began - delay
    if code is None:
        os.kill(pid, signal.SIGABRT)
        os.waitpid(pid, 0)
        wrong.append(f"it hung for {HANG} s")
    elif code not in codes:
        wrong.append(f"exit code {code}")
    words.seek(0)
    said = words.read().decode(errors="replace")
    bad = "\n".join(line for line in said.splitlines() if not PEER_IS_GONE.search(line))
    wrong += [f"it said {trouble!r}" for trouble in TROUBLE if trouble in bad]
    deadline = time.monotonic() + SECOND_LIFE
    while (orphan := any_child()) is not None:
        if time.monotonic() > deadline:
            wrong.append(f"process {orphan} was left behind")
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
        time.sleep(0.01)
    return {
        "scene": scene,
        "way": way,
        "delay": delay,
        "seconds": max(0.0, seconds),
        "wrong": wrong,
        "said": said[-4000:] if wrong else "",
    }


def wait_for(pid: int, limit: float) -> int | None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def any_child() -> int | None:
    """A process that was left behind and came to us, after reaping those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        path = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        with open(path) as file:
            for pid in file.read().split():
                return int(pid)
    return None


def main(seed: int, tries: int) -> None:
    ucx_versions()  # loads UCX
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    chance = random.Random(seed)
    scenes = list(SCENES)
    for number in range(tries):
        scene = scenes[number % len(scenes)]
        way = chance.choice(list(WAYS))
        # An EchoPeer takes most of a second to start; the moments before that count as well.
        delay = chance.uniform(0.0, 1.5 if scene == "traffic with an EchoPeer" else 0.4)
        with tempfile.TemporaryFile() as words:
            # Python forgets, in the child, which signals came until then.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            pid = os.fork()
            if pid == 0:
                os.dup2(words.fileno(), 1)
                os.dup2(words.fileno(), 2)
                break
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            print(json.dumps(watch(pid, scene, way, delay, words)), flush=True)
    else:
        return
    be_the_interpreter(scene, way, delay)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
