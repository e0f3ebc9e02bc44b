"""What every test gets: a leak check around it, and a way to start child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker

import pandas as pd
import pyarrow as pa
import pytest
import reliability_rows
import uvloop
from children import Child, children
from leaks import Holdings, leaked_since

from ucxnb import UcxWorker

# Files that take long: at the end, whoever got one would work alone.
LONG = ("test_notebooks", "test_gpu", "test_benchmark_suite", "test_growth", "cluster/")


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep our order; it would begin with the files that have most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with long files, and spread those with a browser, which needs a core of its own."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0].removeprefix("tests/"), []).append(item)
    browser = [name for name in files if name.startswith("browser/")]
    order = sorted(files.keys() - set(browser), key=lambda name: (not name.startswith(LONG), name))
    step = len(order) * 0.75 / max(1, len(browser))
    for number, name in enumerate(browser):
        order.insert(round(number * (step + 1)), name)
    items[:] = [item for name in order for item in files[name]]


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
