"""The bench panel without a browser: clicks from Python, real measurements, what is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import traitlets
from eventually import eventually

from ucxnb import EchoPeer, UcxWorker
from ucxnb.bench import BenchPartner, BenchRow, BenchRun
from ucxnb.dashboard.bench_chart import COLORS, BenchChart
from ucxnb.widgets import BenchPanel, ControlRoom
from ucxnb.widgets.panel import close_parts
from ucxnb.widgets.size_range import SizeRange

RUN = BenchRun("saved", (BenchRow(8, 10, 1.0, 2.0, 3.0, 1e6, 0.5, 2e6),), ("tcp/lo",))


@pytest.fixture
def panel() -> Iterator[BenchPanel]:
    with UcxWorker() as worker:
        made = BenchPanel(worker)
        made.seconds = 0.03
        made.sizes.value = (8, 512)
        made.limit.value = False
        yield made
        made.close()
    threads = [t.name for t in threading.enumerate()]
    assert "ucxnb-BenchPanel" not in threads


def measure(panel: BenchPanel) -> str:
    panel.start_button.click()
    assert panel.start_button.disabled
    eventually(lambda: not panel.start_button.disabled)
    return panel.status


def choose(panel: BenchPanel, endpoint_id: int) -> None:
    eventually(lambda: endpoint_id in [value for _, value in panel.peer.options])
    panel.peer.value = endpoint_id


def test_it_measures_a_new_process_both_ways_and_lays_the_runs_over_each_other(panel):
    assert panel._chart is None, "the plots should cost nothing before there is a run"
    panel.transport.value = "shm"
    assert "Measured 3 sizes over " in measure(panel)
    panel.transport.value = "tcp"
    panel.name.value = "by <b>TCP</b>"
    assert "Measured 3 sizes over tcp/" in measure(panel)
    assert [run.name for run in panel.runs] == ["shared memory", "by <b>TCP</b>"]
    assert all([row.nbytes for row in run.rows] == [8, 64, 512] for run in panel.runs)
    shown = panel._chart.runs
    assert [run["name"] for run in shown] == ["shared memory", "by <b>TCP</b>"]
    assert [run["color"] for run in shown] == [0, 1]
    assert [row["nbytes"] for row in shown[1]["rows"]] == [8, 64, 512]
    assert len(panel.to_pandas()) == 6
    assert measure(panel)
    assert panel.runs[-1].name == "by <b>TCP</b> 2"


def test_it_measures_the_limit_as_well(panel):
    panel.limit.value = True
    panel.sizes.value = (8, 8)
    assert "Measured 1 sizes" in measure(panel)
    assert panel.runs[0].rows[0].limit_us > 0


def test_it_measures_a_connection(panel):
    with BenchPartner() as partner, EchoPeer() as echo:
        for peer, has_rate in ((partner, True), (echo, False)):
            endpoint_id = panel._worker.connect(peer.address)
            choose(panel, endpoint_id)
            assert panel.transport.disabled
            said = measure(panel)
            assert "Measured 3 sizes" in said
            assert ("only echoes" in said) is not has_rate
            run = panel.runs[-1]
            assert run.name == f"endpoint {endpoint_id}"
            assert (run.rows[0].message_rate is not None) is has_rate
    eventually(lambda: not panel.transport.disabled)


def test_cancel_keeps_what_was_measured(panel):
    panel.sizes.value = (8, 256 << 20)
    panel.seconds = 0.5
    panel.start_button.click()
    eventually(lambda: panel.runs)
    assert panel._progress_row.layout.display is None
    eventually(lambda: panel._progress.value > 0)
    panel.cancel_button.click()
    eventually(lambda: not panel.start_button.disabled)
    assert "Cancelled: " in panel.status
    assert "sizes are kept" in panel.status
    assert panel._progress_row.layout.display == "none"
    assert panel.runs[0].rows


def test_a_peer_that_is_lost_is_said_and_the_next_run_works(panel):
    with BenchPartner() as partner:
        choose(panel, panel._worker.connect(partner.address))
        panel.seconds = 60
        panel.start_button.click()
        eventually(lambda: panel._measurement and panel._measurement.progress.fraction > 0)
        os.kill(partner.pid, signal.SIGKILL)
        eventually(lambda: not panel.start_button.disabled)
        assert panel._status.kind == "error"
        assert "gone" in panel.status
    eventually(lambda: panel.peer.value == 0)
    panel.seconds = 0.03
    assert "Measured" in measure(panel)


def test_a_partner_that_cannot_start_is_said(panel, monkeypatch, tmp_path):
    (tmp_path / "ucxx.py").write_text("raise ImportError('no ucxx here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    measure(panel)
    assert panel._status.kind == "error"
    assert "no ucxx here" in panel.status
    assert not panel.runs


def test_without_ucx_perftest_it_says_so(panel, monkeypatch):
    monkeypatch.setattr("ucxnb.bench.limit.find_ucx_program", lambda name: None)
    panel.limit.value = True
    panel.sizes.value = (8, 8)
    assert "Note: no limit: there is no ucx_perftest" in measure(panel)
    assert len(panel.runs) == 1


@pytest.mark.parametrize("what", ["panel", "worker"])
def test_closing_in_the_midst_leaves_nothing(what):
    worker = UcxWorker()
    panel = BenchPanel(worker)
    panel.seconds = 60
    panel.start_button.click()
    eventually(lambda: panel._measurement and panel._measurement.progress.fraction > 0)
    if what == "worker":
        worker.close()
        eventually(lambda: panel.status == "The worker is closed.")
        eventually(lambda: not panel._job.running)
        assert panel.start_button.disabled
    panel.close()
    worker.close()
    assert not panel._job.running


def test_runs_are_added_saved_and_removed(panel, monkeypatch):
    sent: list[dict] = []
    monkeypatch.setattr(BenchChart, "send", lambda self, content: sent.append(content))
    for _ in range(COLORS + 1):
        panel.add_run(RUN)
    assert [run.name for run in panel.runs][:3] == ["saved", "saved 2", "saved 3"]
    assert [run["color"] for run in panel._chart.runs] == [*range(COLORS), 0]
    panel.csv_button.click()
    panel.run.value = "saved 2"
    panel.json_button.click()
    panel.picture_button.click()
    assert [message["kind"] for message in sent] == ["download", "download", "picture"]
    assert sent[0]["text"].count("\n") == COLORS + 2
    assert sent[1]["name"] == "ucxnb-saved-2.json"
    assert BenchRun.from_json(sent[1]["text"]) == panel.runs[1]
    panel.remove_button.click()
    assert "saved 2" not in [run.name for run in panel.runs]
    assert "saved 2" not in [name for name, _ in panel.run.options]
    while panel.runs:
        panel.remove_button.click()
    assert panel._chart.runs == []
    assert panel._runs_row.layout.display == "none"


def test_in_the_control_room_it_is_folded_until_opened():
    with UcxWorker() as worker:
        room = ControlRoom(worker)
        row, body = room.bench_panel.children
        fold = row.children[1]
        assert body.layout.display == "none"
        assert room.bench_panel._chart is None
        fold.value = True
        assert body.layout.display is None
        assert fold.description == "Close"
        fold.value = False
        assert body.layout.display == "none"
        room.bench_panel.add_run(RUN)
        room.close()


def test_its_import_is_cheap():
    code = "import sys, ucxnb.widgets; sys.exit(any(n in sys.modules for n in ('bokeh', 'pandas')))"
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=60).returncode == 0


def test_the_smaller_size_is_first_whichever_list_it_is_chosen_in() -> None:
    sizes = SizeRange(8, 1024)
    smallest, largest = sizes.children
    smallest.value = 4096
    assert sizes.value == (1024, 4096)
    assert (smallest.value, largest.value) == (1024, 4096)
    sizes.value = (16, 2)
    assert (smallest.value, largest.value) == (2, 16)
    with pytest.raises(traitlets.TraitError, match="power of two"):
        sizes.value = (3, 8)
    close_parts(sizes)
    sizes.close()
