"""UCXX's asyncio calls, with its defaults: a progress thread."""

from __future__ import annotations

import asyncio
from typing import Any

from .base import AsyncPeer, Setup, windows

TAG = 1


class UcxxAsync(AsyncPeer):
    """``await endpoint.send(...)``; many at once are gathered in windows."""

    needs = ("ucxx", "numpy")
    spins = True  # its tasks wake all the time

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        import ucxx

        self.ucxx = ucxx

    async def open(self) -> None:
        self.ucxx.init({"TLS": self.setup.ucx_tls})

    def address(self) -> Any:
        return bytes(self.ucxx.get_worker_address().tobytes()).hex()

    async def connect(self, address: Any) -> None:
        there = self.ucxx.get_ucx_address_from_buffer(bytearray.fromhex(address))
        self.endpoint = await self.ucxx.create_endpoint_from_worker_address(
            there, endpoint_error_handling=False
        )
        self.tag = self.ucxx.types.Tag(TAG)
        word = self.prepare(bytearray(1))
        for act in (self.receive, self.send) if self.rank else (self.send, self.receive):
            await act(word)

    def about(self) -> str:
        return self.setup.ucx_tls

    async def close(self) -> None:
        self.ucxx.stop_notifier_thread()

    def prepare(self, buffer: bytearray) -> Any:
        import numpy as np
        from ucxx._lib.arr import Array

        return Array(np.frombuffer(buffer, "u1"))

    async def send(self, buffer: Any, link: int = 0) -> None:
        await self.endpoint.send(buffer, tag=self.tag, force_tag=True)

    async def receive(self, buffer: Any, link: int = 0) -> None:
        await self.endpoint.recv(buffer, tag=self.tag, force_tag=True)

    async def send_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            await asyncio.gather(*[self.send(buffer) for _ in range(n)])

    async def receive_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            await asyncio.gather(*[self.receive(buffer) for _ in range(n)])

    async def exchange_many(self, out: Any, into: Any, count: int) -> None:
        for n in windows(count):
            receives = [self.receive(into) for _ in range(n)]
            await asyncio.gather(*receives, *[self.send(out) for _ in range(n)])
