"""asyncio's TCP streams."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .base import AsyncPeer


class Streams(AsyncPeer):
    """`write`, `drain` and `readexactly`."""

    transports = ("tcp",)
    sizes = (1, 16 << 20)  # `readexactly` copies larger ones for minutes

    async def open(self) -> None:
        self.connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.port = 0
        if self.rank:
            self.server = await asyncio.start_server(
                lambda *ends: self.connected.set_result(ends), "127.0.0.1", 0
            )
            self.port = self.server.sockets[0].getsockname()[1]

    def address(self) -> Any:
        return self.port

    async def connect(self, address: Any) -> None:
        if self.rank:
            self.reader, self.writer = await self.connected
        else:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", address)
        self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def about(self) -> str:
        return "tcp"

    async def close(self) -> None:
        self.writer.close()

    async def send(self, buffer: Any, link: int = 0) -> None:
        self.writer.write(buffer)
        await self.writer.drain()

    async def receive(self, buffer: Any, link: int = 0) -> None:
        await self.reader.readexactly(len(buffer))

    async def send_many(self, buffer: Any, count: int) -> None:
        for _ in range(count):
            await self.send(buffer)

    async def receive_many(self, buffer: Any, count: int) -> None:
        for _ in range(count):
            await self.receive(buffer)

    async def exchange_many(self, out: Any, into: Any, count: int) -> None:
        await asyncio.gather(self.send_many(out, count), self.receive_many(into, count))
