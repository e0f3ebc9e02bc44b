"""ucxnb, one blocking call for each message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan import BROADCAST, ENDPOINT_RATE, LATENCY, ONE_WAY
from .base import Peer, Setup

TAG = 1


class UcxnbBlocking(Peer):
    """`send_tag` and `receive_tag` into a buffer.

    Both ways at once takes requests, as two blocking sends would wait for each other.
    """

    needs = ("ucxnb", "ucxx")
    measures = (LATENCY, ONE_WAY, ENDPOINT_RATE, BROADCAST)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        from ucxnb import UcxWorker

        self.worker = UcxWorker(ucx_options={"TLS": setup.ucx_tls})
        self.ids: list[int] = []

    def address(self) -> Any:
        return self.worker.create_listener().address if self.rank else None

    def connect(self, address: Any) -> None:
        # The sides' endpoints are paired by the order of their first messages.
        for link in self.links:
            if self.rank:
                self.ids.append(self.worker.receive_message(None, link).endpoint_id)
                self.worker.send_tag(self.ids[-1], link, b"")
            else:
                self.ids.append(self.worker.connect(address))
                self.worker.send_tag(self.ids[-1], link, b"")
                self.worker.receive_tag(self.ids[-1], link)

    def about(self) -> str:
        return ",".join(self.worker.endpoints()[0].transports)

    def close(self) -> None:
        self.worker.close()

    def send(self, buffer: Any, link: int = 0) -> None:
        self.worker.send_tag(self.ids[link], TAG, buffer)

    def receive(self, buffer: Any, link: int = 0) -> None:
        self.worker.receive_tag(self.ids[link], TAG, buffer)

    def sender(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.worker.send_tag, self.ids[0], TAG, buffer)

    def receiver(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.worker.receive_tag, self.ids[0], TAG, buffer)

    def send_many(self, buffer: Any, count: int) -> None:
        send, there = self.worker.send_tag, self.ids[0]
        for _ in range(count):
            send(there, TAG, buffer)

    def receive_many(self, buffer: Any, count: int) -> None:
        receive, there = self.worker.receive_tag, self.ids[0]
        for _ in range(count):
            receive(there, TAG, buffer)

    def broadcast(self, buffer: Any) -> None:
        self.worker.broadcast_tag(TAG, buffer)
