"""``ucxnb demo``: mixed traffic with an embedded peer, in a terminal."""

from __future__ import annotations

import os
import time

from .echopeer import EchoPeer
from .errors import UcxnbError
from .terminal import LiveFigures
from .transports import describe_transport
from .worker import UcxWorker

__all__ = ["run_demo"]

_BURST = 256  # small messages on their way at once: what shows the message rate
_BURST_SIZE = 8
_SIZES = (0, 8, 1 << 10, 64 << 10, 1 << 20, 8 << 20)
_ROUNDS = 4  # messages of each size in turn
_LIMIT = 30.0  # seconds that any one message may take


def run_demo(seconds: float) -> int:
    """Exchange messages of many sizes with an `EchoPeer`, show live figures, check every answer.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If there is no UCX, if a message fails, or if another answer comes than what was sent.
    """
    with EchoPeer() as peer, UcxWorker(name="demo") as worker:
        endpoint_id = worker.connect(peer.address)
        print(f"Connected to an echo peer, process {peer.pid} at {peer.address}")
        print(
            f"Messages of {_SIZES[1]} bytes to {_SIZES[-1] >> 20} MiB for {seconds:g} s", flush=True
        )
        with LiveFigures(worker):
            _exchange(worker, endpoint_id, seconds)
        stats, transports = worker.stats(), worker.endpoints()[0].transports
    print()
    stats.print()
    print("\nTransports")
    for name in transports:
        print(f"  {name:<16}  {describe_transport(name)}".rstrip())
    return 0


def _exchange(worker: UcxWorker, endpoint_id: int, seconds: float) -> None:
    payloads = [os.urandom(size) for size in _SIZES]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _burst(worker, endpoint_id)
        for payload in payloads:
            for tag in range(_ROUNDS):
                worker.send_tag(endpoint_id, tag, payload, timeout=_LIMIT)
                _expect(worker, endpoint_id, tag, payload)


def _burst(worker: UcxWorker, endpoint_id: int) -> None:
    for tag in range(_BURST):
        worker.send_tag(endpoint_id, tag, tag.to_bytes(_BURST_SIZE, "little"), timeout=_LIMIT)
    for tag in range(_BURST):
        _expect(worker, endpoint_id, tag, tag.to_bytes(_BURST_SIZE, "little"))


def _expect(worker: UcxWorker, endpoint_id: int, tag: int, payload: bytes) -> None:
    answer = worker.receive_tag(endpoint_id, tag, timeout=_LIMIT)
    if answer != payload:
        raise UcxnbError(
            f"endpoint {endpoint_id}, tag {tag}: the echo of {len(payload)} bytes differs from "
            "what was sent; please report this with the output of `ucxnb info`"
        )
