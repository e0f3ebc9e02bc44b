"""What every test gets: a leak check around it, and a way to start child processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from children import Child, children
from leaks import Holdings, leaked_since

from ucxnb import UcxWorker


@pytest.fixture(scope="session", autouse=True)
def _ucx_is_warm() -> None:
    # UCX opens a few descriptors once per process and keeps them: before the first count.
    with UcxWorker() as server, UcxWorker() as client:
        endpoint_id = client.connect(server.create_listener().address)
        client.send_tag(endpoint_id, 0, b"warm")
        server.receive_tag(None, 0, timeout=30)


@pytest.fixture(autouse=True)
def _no_leaks(_ucx_is_warm: None) -> Iterator[None]:
    before = Holdings.now()
    yield
    assert not (found := leaked_since(before)), "left behind: " + "; ".join(found)


@pytest.fixture
def start_child(_no_leaks: None) -> Iterator[Callable[..., Child]]:
    """``start_child(function, *args)`` runs ``function(channel, *args)`` in a new process."""
    with children() as start:
        yield start
