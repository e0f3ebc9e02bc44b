"""Plain sockets: a Unix socket in place of shared memory, and TCP."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan import BROADCAST, ENDPOINT_RATE
from .base import Peer, Setup


class Sockets(Peer):
    """`sendall` and `recv_into`; TCP without delay. Both ways at once takes a second thread."""

    measures = (*Peer.measures, ENDPOINT_RATE, BROADCAST)
    sizes = (1, 1 << 40)  # a stream has no empty messages

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.listener: socket.socket | None = None
        self.sockets: list[socket.socket] = []

    def address(self) -> Any:
        if self.rank == 0:
            return None
        if self.setup.transport == "tcp":
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        else:
            self.folder = tempfile.TemporaryDirectory()
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(f"{self.folder.name}/socket")
            self.listener.listen(64)
        return self.listener.getsockname()

    def connect(self, address: Any) -> None:
        for _ in self.links:
            if self.listener is not None:
                end = self.listener.accept()[0]
            elif self.setup.transport == "tcp":
                end = socket.create_connection(tuple(address))
            else:
                end = socket.socket(socket.AF_UNIX)
                end.connect(address)
            if self.setup.transport == "tcp":
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(end)

    def about(self) -> str:
        return "a Unix socket" if self.setup.transport == "shm" else "tcp"

    def close(self) -> None:
        for end in self.sockets:
            end.close()
        if self.listener is not None:
            self.listener.close()
            if self.setup.transport == "shm":
                self.folder.cleanup()

    def prepare(self, buffer: bytearray) -> Any:
        return memoryview(buffer)

    def send(self, buffer: Any, link: int = 0) -> None:
        self.sockets[link].sendall(buffer)

    def receive(self, buffer: Any, link: int = 0) -> None:
        take = self.sockets[link].recv_into
        got = take(buffer)
        while got < len(buffer):
            more = take(buffer[got:])
            if more == 0:
                raise EOFError("the other side has gone")
            got += more

    def sender(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.sockets[0].sendall, buffer)

    def exchange_many(self, out: Any, into: Any, count: int) -> None:
        sender = threading.Thread(target=self.send_many, args=(out, count))
        sender.start()
        self.receive_many(into, count)
        sender.join()
