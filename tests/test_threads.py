"""Sixteen threads on one worker, and all that can disturb them."""

from __future__ import annotations

import os

import pytest
from thread_stress import stress

SECONDS = 60 if os.environ.get("UCXNB_THOROUGH") else 10
THREADS = 16
COUNTED = ("connections", "visits", "listeners", "reads", "streamed", "reached")


@pytest.mark.reliability
@pytest.mark.timeout(300)
def test_threads_that_do_everything_at_once(saw):
    counts = stress(SECONDS, THREADS)
    assert min(counts[name] for name in COUNTED) > 10
    saw(
        "threads",
        f"{THREADS} threads send and receive on one worker for {SECONDS} s, in all the ways there "
        "are, while others connect, disconnect, listen, broadcast, drive it and read statistics: "
        "messages",
        tried=counts["received"],
        sees="every message is the right one, and is counted; no thread hangs",
        seconds=[],
        lost="nothing",
    )
    saw(
        "threads",
        "connections made and closed meanwhile; workers closed while a call of theirs is blocked",
        tried=counts["connections"] + counts["visits"],
        sees="`WorkerClosedError` in the blocked call; no other call notices",
        seconds=[],
        lost="nothing",
    )
