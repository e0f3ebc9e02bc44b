"""pyzmq: PAIR sockets over ipc and TCP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan import BROADCAST, ENDPOINT_RATE
from .base import Peer, Setup, windows

ZERO_COPY = 64 << 10  # pyzmq's own threshold


class Pyzmq(Peer):
    """`send` and `recv_into`, zero-copy from 64 KiB; ``ipc`` is a Unix socket, not memory."""

    needs = ("zmq",)
    measures = (*Peer.measures, ENDPOINT_RATE, BROADCAST)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        import zmq

        self.context = zmq.Context()
        self.sockets = [self.context.socket(zmq.PAIR) for _ in self.links]
        for pair in self.sockets:
            pair.linger = 0

    def address(self) -> Any:
        if self.rank == 0:
            return None
        if self.setup.transport == "tcp":
            for pair in self.sockets:
                pair.bind("tcp://127.0.0.1:*")
        else:
            self.folder = tempfile.TemporaryDirectory()
            for number, pair in enumerate(self.sockets):
                pair.bind(f"ipc://{self.folder.name}/{number}")
        return [pair.last_endpoint.decode() for pair in self.sockets]

    def connect(self, address: Any) -> None:
        word = bytearray(1)
        for link, pair in enumerate(self.sockets):
            if self.rank == 0:
                pair.connect(address[link])
                self.send(word, link)
                self.receive(word, link)
            else:
                self.receive(word, link)
                self.send(word, link)

    def about(self) -> str:
        return "ipc (a Unix socket)" if self.setup.transport == "shm" else "tcp"

    def close(self) -> None:
        self.context.destroy()
        if self.rank and self.setup.transport == "shm":
            self.folder.cleanup()

    def send(self, buffer: Any, link: int = 0) -> None:
        self.sockets[link].send(buffer, copy=len(buffer) < ZERO_COPY)

    def receive(self, buffer: Any, link: int = 0) -> None:
        self.sockets[link].recv_into(buffer)

    def sender(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.sockets[0].send, buffer, copy=len(buffer) < ZERO_COPY)

    def receiver(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.sockets[0].recv_into, buffer)

    def exchange_many(self, out: Any, into: Any, count: int) -> None:
        for n in windows(count):
            self.send_many(out, n)
            self.receive_many(into, n)
