"""ucxnb, windows of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..plan import BOTH_WAYS, ONE_WAY
from .base import WindowedPeer
from .ucxnb_blocking import TAG, UcxnbBlocking


class UcxnbWindow(WindowedPeer, UcxnbBlocking):
    """`isend_tag` and `ireceive_tag`, then `wait_all`."""

    measures = (ONE_WAY, BOTH_WAYS)

    send_many = WindowedPeer.send_many
    receive_many = WindowedPeer.receive_many

    def post_send(self, buffer: Any) -> Any:
        return self.worker.isend_tag(self.ids[0], TAG, buffer)

    def post_receive(self, buffer: Any) -> Any:
        return self.worker.ireceive_tag(self.ids[0], TAG, buffer)

    def wait_all(self, requests: Sequence[Any]) -> None:
        from ucxnb import wait_all

        wait_all(requests)
