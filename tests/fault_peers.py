"""A peer to kill and to stop: a child process that is caught at a moment of the test's choice.

Each moment is a pair of functions: what the peer does on a thread of its own, and what this side
does meanwhile. Both loop, or wait, until something ends them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import signal
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from call_in_thread import Call
from children import Channel, Child

import ucxnb
from ucxnb import ThreadMode, UcxWorker

TIMEOUT = 30
LARGE = 1 << 30
_MARKS = 1 << 23  # one number in 64 MiB: the huge pages between cost the sender no memory
_TAG = 5
_NUMBER = struct.Struct("!Q")


# Made once: pages cost seconds where they come from a virtual machine's host.
@functools.cache
def large_data() -> np.ndarray:
    """Memory with a number every now and then, which says where it belongs."""
    data = np.zeros(LARGE // 8, np.uint64)
    data[::_MARKS] = np.arange(1, len(data) // _MARKS + 1, dtype=np.uint64)
    return data


@functools.cache
def large_buffer() -> np.ndarray:
    return np.empty(LARGE // 8, np.uint64)


def send_on(worker: UcxWorker, endpoint_id: int) -> None:
    """Send numbers until an error."""
    for number in itertools.count():
        worker.send_tag(endpoint_id, _TAG, _NUMBER.pack(number))


def receive_on(worker: UcxWorker, endpoint_id: int, least: int = 0) -> int:
    """Receive numbers, none missing, until an error; or `least` of them, if that is not 0."""
    number = 0
    while not least or number < least:
        data = worker.receive_tag(endpoint_id, _TAG, timeout=TIMEOUT)
        assert _NUMBER.unpack(data) == (number,), (data, number)
        number += 1
    return number


def send_large(worker: UcxWorker, endpoint_id: int) -> bool:
    worker.send_tag(endpoint_id, _TAG, large_data())
    return True


def receive_large(worker: UcxWorker, endpoint_id: int) -> bool:
    buffer = large_buffer()
    buffer[::_MARKS] = 0
    worker.receive_tag(endpoint_id, _TAG, buffer)
    return bool((buffer[::_MARKS] == large_data()[::_MARKS]).all())


def do_nothing(worker: UcxWorker, endpoint_id: int) -> None:
    """An idle peer."""


# moment: what the peer does, what this side does
MOMENTS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "idle": (do_nothing, do_nothing),
    "while it sends": (send_on, do_nothing),
    "while it is sent to": (receive_on, send_on),
    "in 1 GiB from it": (send_large, receive_large),
    "in 1 GiB to it": (receive_large, send_large),
}


def prepare(moment: str) -> None:
    """Have the memory ready, so that the transfer begins at once."""
    if "GiB" in moment:
        large_data()
        large_buffer()


def fault_peer(channel: Channel, address: str, fields: dict[str, Any]) -> None:
    """Does what the test says, ``(name, *arguments)``, until None."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent ignores it
    endpoint_id = 0
    call: Call | None = None
    with UcxWorker(thread_mode=ThreadMode.MULTI, **fields) as worker:
        command: Any = ("connect", address)
        while command is not None:
            name, *arguments = command
            if name == "connect":
                endpoint_id = worker.connect(*arguments)
                channel.send(endpoint_id)
            elif name == "begin":
                prepare(arguments[0])
                call = Call(MOMENTS[arguments[0]][0], worker, endpoint_id)
                channel.send(True)
            elif name == "outcome":
                assert call is not None
                call.join()
                channel.send((call.value, None if call.error is None else type(call.error)))
            else:
                channel.send(getattr(worker, name)(endpoint_id, *arguments))
            command = channel.receive()


class Peer:
    """This side's hold of a child that runs `fault_peer`."""

    def __init__(self, child: Child, server: UcxWorker) -> None:
        self.child = child
        self.server = server
        self.id = 0  # the server's for it
        self._greet(server)

    def _greet(self, server: UcxWorker) -> None:
        self.child.receive()
        self.server = server
        self.id = server.get_endpoint_ids()[-1]
        self.exchange()

    def ask(self, *command: Any) -> Any:
        self.child.send(command)
        return self.child.receive()

    def connect(self, server: UcxWorker) -> None:
        """Connect it, again or for the first time, to a listening worker."""
        self.child.send(("connect", server.listeners[0].address))
        self._greet(server)

    def move(self, server: UcxWorker) -> None:
        """The same, from another one."""
        self.server.disconnect(self.id)
        self.connect(server)

    def exchange(self) -> None:
        """A message each way."""
        self.ask("send_tag", 77, b"ping")
        assert self.server.receive_tag(self.id, 77, timeout=TIMEOUT) == b"ping"
        self.server.send_tag(self.id, 77, b"pong", timeout=TIMEOUT)
        assert self.ask("receive_tag", 77) == b"pong"

    def begin(self, moment: str) -> Call:
        """Bring about a moment, and give this side's call, which is under way."""
        prepare(moment)
        self.ask("begin", moment)
        if moment == "while it sends":
            receive_on(self.server, self.id, least=100)
        elif moment == "in 1 GiB from it":
            with contextlib.suppress(ucxnb.BufferTooSmallError):
                self.server.receive_tag(self.id, _TAG, bytearray(1), timeout=TIMEOUT)
        call = Call(MOMENTS[moment][1], self.server, self.id)
        time.sleep(random.uniform(0.005, 0.05))
        return call

    def finish(self) -> None:
        self.child.send(None)
        self.child.result()
