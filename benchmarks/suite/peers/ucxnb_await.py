"""ucxnb, awaited in asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from .base import AsyncPeer, Setup, windows

TAG = 1


class UcxnbAwait(AsyncPeer):
    """``await worker.isend_tag(...)``; many at once are gathered in windows."""

    needs = ("ucxnb", "ucxx")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        from ucxnb import UcxWorker

        self.worker = UcxWorker(ucx_options={"TLS": setup.ucx_tls})
        self.there = 0

    def address(self) -> Any:
        return self.worker.create_listener().address if self.rank else None

    async def connect(self, address: Any) -> None:
        if self.rank:
            self.there = await self.worker.accept()
            await self.worker.ireceive_tag(self.there, 0)
            await self.worker.isend_tag(self.there, 0, b"")
        else:
            self.there = await self.worker.connect_async(address)
            await self.worker.isend_tag(self.there, 0, b"")
            await self.worker.ireceive_tag(self.there, 0)

    def about(self) -> str:
        return ",".join(self.worker.endpoints()[0].transports)

    async def close(self) -> None:
        await self.worker.__aexit__()

    async def send(self, buffer: Any, link: int = 0) -> None:
        await self.worker.isend_tag(self.there, TAG, buffer)

    async def receive(self, buffer: Any, link: int = 0) -> None:
        await self.worker.ireceive_tag(self.there, TAG, buffer)

    async def send_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            for request in [self.worker.isend_tag(self.there, TAG, buffer) for _ in range(n)]:
                await request

    async def receive_many(self, buffer: Any, count: int) -> None:
        for n in windows(count):
            for request in [self.worker.ireceive_tag(self.there, TAG, buffer) for _ in range(n)]:
                await request

    async def exchange_many(self, out: Any, into: Any, count: int) -> None:
        await asyncio.gather(self.receive_many(into, count), self.send_many(out, count))
