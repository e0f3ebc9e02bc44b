"""Two connected workers in two processes of this machine, made to be measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import ArgumentError
from ..text import shown
from ..worker import UcxWorker
from .partner import BenchPartner

__all__ = ["TRANSPORTS", "private_pair"]

TRANSPORTS = {
    "auto": {},
    "shm": {"TLS": "shm,self"},
    "tcp": {"TLS": "tcp,self"},
}
"""UCX options by the name of a way: UCX's choice, shared memory, TCP."""


@contextlib.contextmanager
def private_pair(transport: str = "auto") -> Iterator[tuple[UcxWorker, int]]:
    """Start a worker here and a `BenchPartner`, connect them, and close both with the block.

    Parameters
    ----------
    transport : {"auto", "shm", "tcp"}
        Which way the messages may go.

    Yields
    ------
    tuple of (UcxWorker, int)
        The worker here and its endpoint.

    Raises
    ------
    ArgumentError
        There is no such transport.
    UcxnbError
        As `BenchPartner`, `UcxWorker` and `UcxWorker.connect`.
    """
    if not isinstance(transport, str) or transport not in TRANSPORTS:
        raise ArgumentError(f"transport={shown(transport)}: it takes {', '.join(TRANSPORTS)}")
    options = TRANSPORTS[transport]
    with (
        BenchPartner(ucx_options=options) as partner,
        UcxWorker(name="bench", ucx_options=options) as worker,
    ):
        yield worker, worker.connect(partner.address)
