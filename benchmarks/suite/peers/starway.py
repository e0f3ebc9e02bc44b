"""starway, another binding of UCX for asyncio."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from .base import AsyncPeer, Setup, windows

TAG = 1
ANY = 0xFFFF_FFFF_FFFF_FFFF


class Starway(AsyncPeer):
    """`asend` and `arecv`; many at once are gathered in windows."""

    needs = ("starway", "libucx", "numpy")
    spins = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        os.environ |= {
            "STARWAY_USE_SYSTEM_UCX": "false",  # the wheel that all the others use
            "UCX_TLS": setup.ucx_tls,
            "UCX_MM_ERROR_HANDLING": "y",
        }
        import starway

        self.end: Any = starway.Server() if setup.rank else starway.Client()
        self.to: tuple[Any, ...] = ()

    def address(self) -> Any:
        return self.end.listen_address().hex() if self.rank else None

    async def connect(self, address: Any) -> None:
        word = self.prepare(bytearray(1))
        if self.rank:
            while not (clients := self.end.list_clients()):
                await asyncio.sleep(0.01)
            self.to = (next(iter(clients)),)
            await self.receive(word)
            await self.send(word)
        else:
            await self.end.aconnect_address(bytes.fromhex(address))
            await self.send(word)
            await self.receive(word)

    def about(self) -> str:
        return self.setup.ucx_tls

    async def close(self) -> None:
        await asyncio.wait_for(self.end.aclose(), 2)

    def prepare(self, buffer: bytearray) -> Any:
        import numpy as np

        return np.frombuffer(buffer, "u1")

    async def send(self, buffer: Any, link: int = 0) -> None:
        await self.end.asend(*self.to, buffer, TAG)

    async def receive(self, buffer: Any, link: int = 0) -> None:
        await self.end.arecv(buffer, TAG, ANY)

    async def send_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            await asyncio.gather(*[self.end.asend(*self.to, buffer, TAG) for _ in range(n)])

    async def receive_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            await asyncio.gather(*[self.end.arecv(buffer, TAG, ANY) for _ in range(n)])

    async def exchange_many(self, out: Any, into: Any, count: int) -> None:
        for n in windows(count):
            receives = [self.end.arecv(into, TAG, ANY) for _ in range(n)]
            sends = [self.end.asend(*self.to, out, TAG) for _ in range(n)]
            await asyncio.gather(*receives, *sends)
