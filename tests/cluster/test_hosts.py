"""A cluster over hosts of their own, with a network between them that is slow and loses packets."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from cable import NoNamespacesError
from children import children
from distributed import Client
from eventually import eventually
from hosts import Hosts

from ucxnb.cluster import UcxCluster

PORT = 8786
OPTIONS = {"TLS": "tcp,self", "NET_DEVICES": Hosts.device}  # shared memory knows no namespaces


@contextlib.contextmanager
def dask_on(hosts: Hosts) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a Dask scheduler on the first host, and a worker on each of the others."""
    address = f"tcp://{hosts.addresses[0]}:{PORT}"
    command = [sys.executable, "-P", "-m"]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    run = [
        [*hosts.prefixes[0], *command, "distributed.cli.dask_scheduler", "--port", str(PORT),
         "--host", hosts.addresses[0], "--no-dashboard"],
        *(
            [*prefix, *command, "distributed.cli.dask_worker", address, "--no-nanny",
             "--no-dashboard", "--nthreads", "1", "--host", own]
            for prefix, own in zip(hosts.prefixes[1:], hosts.addresses[1:], strict=True)
        ),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        processes = []
        for each in run:
            processes.append(stack.enter_context(subprocess.Popen(each, **quiet)))
            stack.callback(processes[-1].kill)
        yield address, processes


def notebook(channel, dask_address, count, options):
    """What a notebook on the first host does."""
    with Client(dask_address) as client:
        client.wait_for_workers(count, timeout=60)
        with UcxCluster(client, ucx_options=options) as cluster:
            members = cluster.workers
            hosts = [member.host for member in members]
            value = np.random.default_rng(3).integers(0, 256, 2_500_000, "u1")
            everywhere = cluster.broadcast(value)
            assert all((part == value).all() for part in everywhere.gather())
            parts = cluster.scatter(np.arange(400_000.0))
            assert (np.concatenate(parts.gather()) == np.arange(400_000.0)).all()
            ones = cluster.broadcast(np.ones(300_000))
            assert (cluster.allreduce(ones).gather()[0] == count).all()
            figures = cluster.measure(seconds=0.05)
            stats = cluster.stats()
            listening = [member.ucx_address for member in members]
            channel.send((hosts, listening, figures.latency_us, stats.transports))
            lost = channel.receive()
            eventually(lambda: lost not in {m.host for m in cluster.workers}, 60)
            assert len(cluster.broadcast(value).gather()) == count - 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("network", [{"delay": 0.004, "loss": 0.01}, {"rate": "400mbit"}])
def test_hosts_of_their_own(network):
    try:
        hosts = Hosts(4, **network)
    except NoNamespacesError as error:
        pytest.skip(f"no network namespaces: {error}")
    with hosts, dask_on(hosts) as (address, processes), children() as start:
        child = start(notebook, address, 3, OPTIONS, prefix=hosts.prefixes[0])
        there, listening, latency, transports = child.receive(120)
        assert sorted(there) == sorted(hosts.addresses[1:])
        assert [where.rpartition(":")[0] for where in listening] == there
        others = ~np.eye(3, dtype=bool)
        assert (latency[others] > 1e6 * network.get("delay", 0)).all()
        assert {word for row in transports for word in row} == {"", "tcp"}
        processes[-1].kill()
        child.send(hosts.addresses[-1])
        child.result()
