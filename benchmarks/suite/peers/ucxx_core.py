"""UCXX's core calls, without asyncio: the caller polls, or UCXX's own thread progresses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..plan import BROADCAST, ENDPOINT_RATE
from .base import Setup, WindowedPeer

TAG = 1


class UcxxPolling(WindowedPeer):
    """The caller calls `progress` until its requests have ended."""

    needs = ("ucxx", "numpy")
    measures = (*WindowedPeer.measures, ENDPOINT_RATE, BROADCAST)
    has_thread = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        import ucxx._lib.libucxx as ucxx

        self.ucxx = ucxx
        context = ucxx.UCXContext(
            {"TLS": setup.ucx_tls},
            feature_flags=(ucxx.Feature.TAG, ucxx.Feature.WAKEUP),
        )
        self.workers = [
            ucxx.UCXWorker(
                context, enable_delayed_submission=self.has_thread, enable_python_future=False
            )
        ]
        self.worker = self.workers[0]
        self.tag = ucxx.UCXXTag(TAG)
        self.tags = [ucxx.UCXXTag(TAG + link) for link in self.links]
        if self.has_thread:
            self.worker.start_progress_thread()

    def address(self) -> Any:
        return self.worker.address.tobytes().hex()

    def connect(self, address: Any) -> None:
        import numpy as np

        there = self.ucxx.UCXAddress.create_from_buffer(
            np.frombuffer(bytearray.fromhex(address), "u1")
        )
        self.endpoints = [
            self.ucxx.UCXEndpoint.create_from_worker_address(
                self.worker, there, endpoint_error_handling=False
            )
            for _ in self.links
        ]
        word = self.prepare(bytearray(1))
        for link in self.links:
            order = (self.receive, self.send) if self.rank else (self.send, self.receive)
            for act in order:
                act(word, link)

    def about(self) -> str:
        return self.setup.ucx_tls

    def close(self) -> None:
        if self.has_thread:
            self.worker.stop_progress_thread()

    def prepare(self, buffer: bytearray) -> Any:
        import numpy as np
        from ucxx._lib.arr import Array

        return Array(np.frombuffer(buffer, "u1"))

    def post_send(self, buffer: Any) -> Any:
        return self.endpoints[0].tag_send(buffer, self.tag)

    def post_receive(self, buffer: Any) -> Any:
        return self.endpoints[0].tag_recv(buffer, self.tag)

    def send(self, buffer: Any, link: int = 0) -> None:
        self.wait_one(self.endpoints[link].tag_send(buffer, self.tags[link]))

    def receive(self, buffer: Any, link: int = 0) -> None:
        self.wait_one(self.endpoints[link].tag_recv(buffer, self.tags[link]))

    def wait_one(self, request: Any) -> None:
        """Wait, and raise if it failed."""
        progress = self.worker.progress
        while not request.completed:
            progress()
        request.check_error()

    def wait_all(self, requests: Sequence[Any]) -> None:
        for request in requests:
            self.wait_one(request)


class UcxxThread(UcxxPolling):
    """UCXX's progress thread does the work; the caller looks, as UCXX's own benchmark does."""

    has_thread = True

    def wait_one(self, request: Any) -> None:
        while not request.completed:
            time.sleep(0)  # lets the other thread have the GIL, which its callbacks may want
        request.check_error()
