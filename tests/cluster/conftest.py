"""A cluster of four workers for each file, and Dask told to be quiet meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import dask
import pytest
from distributed.utils import offload
from leaks import Holdings, leaked_since

from ucxnb.cluster import UcxCluster

# What Dask does by itself in each process would take a core of two.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "5s",
    "distributed.worker.memory.monitor-interval": "10s",
    "distributed.scheduler.active-memory-manager.start": False,
}


@pytest.fixture(autouse=True)
def _no_leaks() -> None:
    """Not after each test: Dask opens and closes connections of its own; see below."""


@pytest.fixture(scope="module", autouse=True)
def _quiet_dask(_libraries_are_warm: None) -> Iterator[None]:
    # Dask logs each worker that is killed, and each call that one does not answer.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(QUIET):
        with UcxCluster.local(1) as cluster:
            # Dask starts a few threads once per process, and keeps them.
            cluster.client.sync(offload, int)
        before = Holdings.now()
        yield
        # Sockets of Dask's may wait for those who were killed; ours come with threads.
        found = [each for each in leaked_since(before) if not each.endswith("descriptor socket")]
        assert not found, "left behind: " + "; ".join(found)


@pytest.fixture(scope="module")
def cluster(_quiet_dask: None) -> Iterator[UcxCluster]:
    with UcxCluster.local(4) as cluster:
        yield cluster
