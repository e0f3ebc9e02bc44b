"""Short runs of `benchmarks/soak.py`: each checks every message, and what is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[1] / "benchmarks" / "soak.py"


def soak(tmp_path, *arguments):
    out = tmp_path / "report.json"
    command = [sys.executable, SOAK, "--out", out, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.reliability
@pytest.mark.parametrize("tls", ["", "tcp"])
def test_messages_of_mixed_sizes_over_endpoints_that_come_and_go(tmp_path, saw, tls):
    found = soak(tmp_path, "--messages", 100_000, "--life", 500, "--processes", 2, f"--tls={tls}")
    assert found["checked"] == found["messages"] >= 100_000
    assert found["connections"] > 100
    assert found["descriptors left behind"] == 0
    saw(
        "load",
        "messages of 0 B to 1 MiB over 64 endpoints that come and go, over "
        + (tls or "shared memory"),
        tried=found["messages"],
        sees="each is checked by its content; no descriptor is left behind",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_connecting_and_disconnecting_again_and_again(tmp_path, saw):
    found = soak(tmp_path, "--messages", 2000, "--endpoints", 1, "--life", 1)
    assert found["checked"] == found["connections"] == 2000
    assert found["descriptors left behind"] == 0
    for memory in found["memory"].values():
        assert memory["own"]["MB at the end"] - memory["own"]["MB warm"] < 2
    saw(
        "load",
        "connect, one message, disconnect",
        tried=found["connections"],
        sees="memory is flat, and no descriptor is left behind",
        seconds=[],
        lost="nothing",
    )
