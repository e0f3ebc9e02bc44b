"""What every test gets: a leak check around it, and a way to start child processes."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker

# NumPy's BLAS, which no test needs, has a thread that is busy for 0.1 s in each new process.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pandas as pd
import pyarrow as pa
import pytest
import reliability_rows
import uvloop
from children import Child, children
from leaks import Holdings, leaked_since

from ucxnb import UcxWorker


@pytest.fixture(scope="session", autouse=True)
def _libraries_are_warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    # UCX and libuv open a few descriptors once per process and keep them, and Arrow a few threads:
    # before the first count.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    path = tmp_path_factory.mktemp("warm") / "a.parquet"
    pd.DataFrame({"x": ["a"]}).to_parquet(path)
    pd.read_parquet(path)
    uvloop.run(asyncio.sleep(0))
    resource_tracker.ensure_running()  # a process that Dask's workers are started with
    with UcxWorker() as server, UcxWorker() as client:
        endpoint_id = client.connect(server.create_listener().address)
        client.send_tag(endpoint_id, 0, b"warm")
        server.receive_tag(None, 0, timeout=30)
    # A collection took 0.1 s for what is imported by now, and many tests collect.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_leaks(_libraries_are_warm: None) -> Iterator[None]:
    before = Holdings.now()
    yield
    assert not (found := leaked_since(before)), "left behind: " + "; ".join(found)


@pytest.fixture
def start_child(_no_leaks: None) -> Iterator[Callable[..., Child]]:
    """``start_child(function, *args)`` runs ``function(channel, *args)`` in a new process."""
    with children() as start:
        yield start


@pytest.fixture
def pair(_no_leaks: None) -> Iterator[tuple[UcxWorker, int, UcxWorker, int]]:
    """Two connected workers: (left, its id for right, right, its id for left)."""
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        yield left, to_right, right, right.get_endpoint_ids()[0]


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`reliability_rows.record`, for a test that is marked as one of reliability."""
    assert request.node.get_closest_marker("reliability"), "mark the test with reliability"
    return reliability_rows.record
