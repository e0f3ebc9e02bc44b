"""The benchmarks of growth and of costs run, small, and write what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    not os.environ.get("UCXNB_THOROUGH"), reason="its plots take long: with UCXNB_THOROUGH"
)
def test_growth_writes_figures_and_plots(tmp_path: Path) -> None:
    sizes = ("--endpoints", 2, "--idle-seconds", 0.1, "--waiting", 60, "--lengths", 9)
    run("growth.py", *sizes, "--samples", 9, "--out", tmp_path)
    found = {}
    for part in ("endpoints", "waiting", "history"):
        file = tmp_path / f"growth-{part}.json"
        found[part] = json.loads(file.read_text())["figures"]
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert {"receive from anyone, us", "stats(), ns", "progress, idle, ns"} <= found["endpoints"][
        "2"
    ].keys()
    assert {"late", "late, from anyone", "absent", "drain"} <= found["waiting"][
        "own tags, in engine"
    ]["60"].keys()
    assert set(found["waiting"]["while they come"]["60"]) == {"from one endpoint", "from anyone"}
    assert {"append, us", "rates(), ms", "memory, MB"} <= found["history"]["history"]["9"].keys()
    assert "update, us" in found["history"]["dashboard"]["9"]


def test_costs_writes_figures(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    sizes = ("--starts", 1, "--repeats", 1, "--seconds", 0.01)
    run("costs.py", *sizes, "--no-browser", "--out", file)
    figures = json.loads(file.read_text())
    assert not figures["import_loads_ucx"]
    for name in ("dashboard_cost", "import_ms", "start_ms_beyond_ucx"):
        assert isinstance(figures[name], float)
    assert figures["dashboard_cost_with_browser"] is None
    assert set(figures["dashboard"]) == {
        "rows",
        "send_tag",
        "cpu_share_closed",
        "cpu_share_open",
    }
