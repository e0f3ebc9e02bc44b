"""What a cluster costs as it grows: measured up to 64 workers, reckoned for 1,000 and 10,000.

``python benchmarks/cluster_growth.py [--workers 2,4,8,16,32,64]`` measures on one machine;
``--hosts 2,4,8,16`` adds hosts of their own, network namespaces whose links have a rate (as root).
The model is `reckon`; docs/cluster-model.md explains it, and has a run.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import pickle
import statistics
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
from distributed import Client

HERE = Path(__file__).parent
sys.path.extend(str(HERE.parent / folder) for folder in ("benchmarks", "tests", "tests/cluster"))

from cluster import QUIET  # noqa: E402
from machine import machine  # noqa: E402

from ucxnb.cluster import UcxCluster  # noqa: E402
from ucxnb.cluster.group import SEGMENT  # noqa: E402

RATE = "200mbit"
LINK = 200e6 / 8  # bytes a second
MESSAGE = 8 << 20  # bytes
ON_LINKS = {"TLS": "tcp,self", "NET_DEVICES": "wire"}


def costs(worker):
    """Memory of this process alone (PSS) and its descriptors."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(pss.split()[1]) * 1024, len(os.listdir("/proc/self/fd"))


def median_of(call, repeats=9):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def small_broadcasts(worker, group, repeats):
    """Seconds of a broadcast of 8 bytes and the barrier after it, less those of a barrier."""
    both, barriers = [], []
    for _ in range(repeats):
        for times, send in ((both, True), (barriers, False)):
            group.barrier()
            began = time.perf_counter()
            if send:
                group.broadcast(np.ones(1) if group.rank == 0 else None)
            group.barrier()
            times.append(time.perf_counter() - began)
    return statistics.median(both) - statistics.median(barriers), statistics.median(barriers)


def measure_local(count):
    """Figures of one machine."""
    with (
        dask.config.set(QUIET),
        UcxCluster.local(count, topology="on demand", take_part=False) as cluster,
    ):
        bare = list(cluster.map(costs).values())
        began = time.perf_counter()
        cluster.map(lambda worker, group: group.barrier())
        first = time.perf_counter() - began
        demand = list(cluster.map(costs).values())
        control = median_of(lambda: cluster.map(costs, workers=None))
        broadcast, barrier = cluster.map(small_broadcasts, 30)[cluster.workers[0].address]
        stats_few = median_of(cluster.stats)
        client = cluster.client
        began = time.perf_counter()
        with UcxCluster(client, take_part=False) as everybody:
            connect = time.perf_counter() - began
            before = [sum(c[0] for c in demand) / count, sum(c[1] for c in demand) / count]
            full = list(everybody.map(costs).values())
            sample = everybody.stats().workers[0].sample
            stats_all = median_of(everybody.stats)
    return {
        "workers": count,
        "pairs": count * (count - 1) // 2,
        "start_and_connect_s": connect,
        "memory_per_connection": (sum(c[0] for c in full) / count - before[0]) / (count - 1),
        "descriptors_per_connection": (sum(c[1] for c in full) / count - before[1]) / (count - 1),
        "memory_per_worker": sum(c[0] for c in bare) / count,
        "control_s": control,
        "first_barrier_s": first,
        "barrier_s": barrier,
        "small_broadcast_s": broadcast,
        "stats_on_demand_s": stats_few,
        "stats_all_pairs_s": stats_all,
        "sample_bytes": len(pickle.dumps(sample)),
    }


def links(worker, group, repeats):
    """Seconds of a broadcast down the tree, of one by a loop, and of an allreduce."""
    array, out = np.ones(MESSAGE // 8), np.empty(MESSAGE // 8)
    found = {"tree": [], "loop": [], "ring": []}
    for _ in range(repeats + 1):
        for what, times in found.items():
            group.barrier()
            began = time.perf_counter()
            if what == "tree":
                group.broadcast(array if group.rank == 0 else None, out=out)
            elif what == "ring":
                group.allreduce(array, out=out)
            elif group.rank == 0:
                for rank in range(1, group.size):
                    worker.send_tag(group.endpoint_to(rank), 1, array)
            else:
                worker.receive_tag(group.endpoint_to(0), 1, out)
            group.barrier()
            times.append(time.perf_counter() - began)
    return {what: statistics.median(times[1:]) for what, times in found.items()}


def notebook_on_a_host(address, count):
    with (
        Client(address) as client,
        UcxCluster(client, ucx_options=ON_LINKS, take_part=False) as cluster,
    ):
        cluster.wait_for_workers(count, timeout=60)
        print(json.dumps(next(iter(cluster.map(links, 3).values()))))


def measure_hosts(count):
    """Figures of hosts whose links have a rate."""
    from hosts import Hosts
    from test_hosts import dask_on

    with Hosts(count + 1, rate=RATE) as hosts, dask_on(hosts) as (address, _):
        command = [*hosts.prefixes[0], sys.executable, "-P", __file__, "--on-host", address]
        done = subprocess.run(
            [*command, str(count)], capture_output=True, text=True, timeout=300, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def reckon_links(count, nbytes=MESSAGE, link=LINK, latency=0.0, segment=SEGMENT):
    """Seconds that the model gives for the tree, the loop and the ring."""
    children = min(2, count - 1)
    depth = count.bit_length() - 1
    one = min(segment, nbytes)
    return {
        "tree": children * nbytes / link + (depth - 1) * (children * one / link + latency),
        "loop": (count - 1) * nbytes / link,
        "ring": 2 * (count - 1) / count * nbytes / link + 2 * (count - 1) * latency,
    }


def reckon(count, known):
    """Give the model's figures of a cluster of many hosts.

    `known` has what was measured: seconds of control for each worker, of a hop, of a connection;
    bytes of memory for each connection, and of a sample for each; and the link's.
    """
    tree = 2 + math.ceil(math.log2(count))
    demand = tree + 2  # both trees, and the ring
    figures = {}
    for topology, connections in (("all pairs", count - 1), ("on demand", demand)):
        figures[topology] = {
            "connections": connections,
            "memory": connections * known["memory_per_connection"],
            "descriptors": connections * known["descriptors_per_connection"],
            "connect_s": connections * known["connect_s"],
            "stats_per_s": 2 * count * (known["sample_base"] + connections * known["sample_each"]),
        }
    large = reckon_links(count, 64 << 20, known["link"], known["hop_s"])
    figures["times"] = {
        "control_s": known["control_base"] + count * known["control_each"],
        "small_broadcast_s": math.ceil(math.log2(count)) * known["hop_s"],
        "broadcast_s": large["tree"],
        "allreduce_s": large["ring"],
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="2,4,8,16,32,64")
    parser.add_argument("--hosts", default="")
    parser.add_argument("--on-host", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if options.on_host:
        notebook_on_a_host(options.on_host[0], int(options.on_host[1]))
        return
    print(json.dumps(machine()))
    for count in map(int, filter(None, options.workers.split(","))):
        print(json.dumps(measure_local(count)), flush=True)
    for count in map(int, filter(None, options.hosts.split(","))):
        found = {"hosts": count, "measured": measure_hosts(count), "model": reckon_links(count)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
