"""The benchmark suite: a very small run of it, as a user starts it. No figure is judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "benchmarks" / "suite"
pytestmark = [
    pytest.mark.skipif(not SUITE.is_dir(), reason="the benchmarks come with a clone only"),
    pytest.mark.timeout(120),
]
SMALL = ["--repeats", "1", "--seconds", "0.01", "--endpoints", "2", "--broadcasts", "2"]


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    """Start the suite; what it says comes line by line from its standard error."""
    return subprocess.Popen(
        [sys.executable, "-P", str(SUITE), *SMALL, "--out", str(out), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=out,
        env={**os.environ, "UCXNB_BENCH_MPI": str(out / "nothing-here")},
    )


def sides_of(suite: int, peer: str) -> list[int]:
    """Find the processes of a peer that a running suite has started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == suite and b"suite.side" in words and peer.encode() in words:
            found.append(int(entry.name))
    return found


def results_in(out: Path) -> dict:
    return json.loads((out / "results" / "results.json").read_text())


def measured(results: dict, peer: str) -> set[tuple[str, str, int]]:
    return {
        (entry["transport"], entry["measure"], entry["nbytes"])
        for entry in results["measurements"]
        if entry["peer"] == peer
    }


def test_a_small_run_gives_json_and_a_table_and_skips_by_name(tmp_path: Path) -> None:
    peers = "ucx_perftest,ucxnb,ucxnb-window,ucxnb-await,openmpi,sockets"
    with start(tmp_path, "--peers", peers, "--sizes", "8,64KiB", "--seconds", "0.1") as suite:
        said = suite.stderr.read()
    assert suite.returncode == 0, said
    results = results_in(tmp_path)
    assert results["failures"] == [], said
    for peer in ("ucx_perftest", "ucxnb", "sockets"):
        for transport in ("shm", "tcp"):
            for measure in ("latency", "one_way"):
                for nbytes in (8, 65536):
                    assert (transport, measure, nbytes) in measured(results, peer)
    assert ("shm", "both_ways", 65536) in measured(results, "ucxnb-window")
    assert ("tcp", "latency", 8) in measured(results, "ucxnb-await")
    assert {("shm", "endpoints", 8), ("tcp", "broadcast", 8)} <= measured(results, "ucxnb")
    assert [entry["peer"] for entry in results["skipped"]] == ["openmpi"]
    report = (tmp_path / "RESULTS.md").read_text()
    assert "skipped openmpi: " in report
    assert "| half round trip <= 3 times ucx_perftest | shm, 8 B |" in report
    assert "### Half round trip, median, us" in report


def test_a_peer_that_dies_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    options = ["--transports", "shm", "--sizes", "8", "--seconds", "0.2"]
    with start(tmp_path, "--peers", "sockets,ucxnb", *options) as suite:
        # Both peers have measured something once the second measure begins.
        for line in suite.stderr:
            if "one_way" in line:
                break
        os.kill(sides_of(suite.pid, "sockets")[0], signal.SIGKILL)
        said = suite.stderr.read()
    assert suite.returncode == 0, said
    results = results_in(tmp_path)
    assert [entry["peer"] for entry in results["failures"]] == ["sockets"], said
    assert "died" in results["failures"][0]["reason"]
    assert ("shm", "endpoints", 8) in measured(results, "sockets")  # it was started again
    assert ("shm", "both_ways", 8) not in measured(results, "ucxnb")  # it has no such measure
    assert ("shm", "broadcast", 8) in measured(results, "ucxnb")
    assert "**failed** sockets over shm" in (tmp_path / "RESULTS.md").read_text()


def test_ctrl_c_reports_what_there_is_and_leaves_no_process(tmp_path: Path) -> None:
    with start(tmp_path, "--peers", "sockets", "--sizes", "8", "--seconds", "0.2") as suite:
        for line in suite.stderr:
            if "one_way" in line:
                break
        sides = sides_of(suite.pid, "sockets")
        assert len(sides) == 2
        suite.send_signal(signal.SIGINT)
        suite.stderr.read()
    assert suite.returncode == 1
    results = results_in(tmp_path)
    assert results["interrupted"]
    assert measured(results, "sockets") == {("shm", "latency", 8)}
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in sides) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in sides)
