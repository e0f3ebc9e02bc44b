"""The explorer panel without a browser: clicks from Python, real measurements, what is shown."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from driving import says
from eventually import eventually

from ucxnb import ArgumentError, UcxWorker
from ucxnb.bench import BenchPartner
from ucxnb.widgets import ExplorerPanel


@pytest.fixture
def panel() -> Iterator[ExplorerPanel]:
    with UcxWorker(ucx_options={"TLS": "shm,self"}) as worker:
        made = ExplorerPanel(worker)
        made.seconds, made.repeats = 0.002, 1
        made.sizes.value = (64, 256)
        yield made
        made.close()
    assert "ucxnb-ExplorerPanel" not in [t.name for t in threading.enumerate()]


def done(panel: ExplorerPanel) -> str:
    eventually(lambda: not panel.measure_button.disabled, timeout=60)
    return panel.status


def test_profiles_are_laid_over_each_other(panel):
    panel.measure_button.click()
    assert panel.measure_button.disabled
    assert not panel.stop_button.disabled
    assert done(panel) == "Measured 3 sizes between two new processes."
    panel.change("RNDV_THRESH", "128")
    panel.measure_button.click()
    assert done(panel).startswith("Measured 3 sizes")
    assert [profile.name for profile in panel.profiles] == [
        "tag, as it is",
        "tag, RNDV_THRESH=128",
    ]
    chart = panel._chart
    assert [p["color"] for p in chart.profiles] == [0, 1]
    assert [[point["nbytes"] for point in p["points"]] for p in chart.profiles] == [
        [64, 128, 256]
    ] * 2
    # Bands, estimates and table are of the one that is chosen: the latest, then another one.
    assert panel.profile.value == chart.of == "tag, RNDV_THRESH=128"
    assert [band["kind"] for band in chart.bands] == ["short", "copy", "rendezvous"]
    assert [band["first"] for band in chart.bands] == [0, 93, 128]
    assert "announces" in chart.bands[2]["words"]
    assert "us" in chart.bands[1]["expects"]
    sizes = [size for size, _ in chart.expected]
    assert sizes == sorted(sizes)
    assert {1, 92, 93, 127, 128, 4 << 20} <= set(sizes)
    assert ">93..127</td>" in panel._table.value
    panel.profile.value = "tag, as it is"
    assert chart.of == "tag, as it is"
    assert [band["first"] for band in chart.bands] == [0, 93, 8249, 580081]
    panel.remove_button.click()
    assert [profile.name for profile in panel.profiles] == ["tag, RNDV_THRESH=128"]
    panel.remove_button.click()
    assert panel.profiles == chart.profiles == chart.bands == []


def test_a_connection_is_explained():
    tcp = {"TLS": "tcp,self"}
    with BenchPartner(ucx_options=tcp) as partner, UcxWorker(ucx_options=tcp) as worker:
        there = ExplorerPanel(worker)
        endpoint_id = worker.connect(partner.address)
        eventually(lambda: endpoint_id in [value for _, value in there.peer.options])
        there.peer.value = endpoint_id
        assert f"probe(worker, {endpoint_id})" in there.python_line.text
        there.explain_button.click()
        assert done(there).startswith("8 KiB goes as eager")
        told = there.profiles[0].explanation
        assert told.endpoint_id == endpoint_id
        assert told.peer.startswith("bench-")
        assert told.at(8192).estimates
        assert "tcp/" in there._table.value
        worker.disconnect(endpoint_id)
        there.explain_button.click()
        says(there, "you closed it")
        there.close()


def test_settings_are_searched_set_and_taken_back(panel):
    panel.search.value = "rndv_thresh"
    assert panel.setting.value == "RNDV_THRESH"
    assert "rendezvous" in panel._about.value
    assert panel.value.placeholder == "intra:auto,inter:auto"
    panel.set_button.click()
    says(panel, "type a value")
    panel.value.value = "8k"
    panel.set_button.click()
    assert panel.settings == {"RNDV_THRESH": "8k"}
    assert "'RNDV_THRESH': '8k'" in panel.python_line.text
    panel.search.value = "nothing is called like that"
    assert panel.setting.value is None
    assert "No setting" in panel._about.value
    with pytest.raises(ArgumentError, match="no setting"):
        panel.change("NO_SUCH", "1")
    panel.unset_button.click()
    assert panel.settings == {}
    assert panel.unset_button.disabled
    panel.compare_button.click()
    says(panel, "Nothing is changed")


def test_compare_tune_and_stop(panel):
    panel.change("RNDV_THRESH", "8192")
    panel.compare_button.click()
    assert done(panel) == "Compared: no difference."  # one repetition decides nothing
    assert "RNDV_THRESH=8192: no difference" in panel._result.value
    assert panel._line.text == ""
    panel.tune_button.click()
    eventually(
        lambda: "times as fast" in panel._result.value and "RNDV_THRESH=auto" in panel._result.value
    )
    panel.stop_button.click()
    assert done(panel) == "Stopped: no result."
    panel.size.value = "many"
    panel.tune_button.click()
    says(panel, "many")


def test_what_ucx_refuses_is_said(panel):
    panel.change("RNDV_THRESH", "often")
    panel.measure_button.click()
    assert "UCX knows no such setting" in done(panel)
    assert panel.profiles == []


def test_closing_it_ends_what_it_measures(panel):
    panel.seconds = 30
    panel.measure_button.click()
    eventually(lambda: panel.profiles)
    panel.close()
    assert panel.closed
