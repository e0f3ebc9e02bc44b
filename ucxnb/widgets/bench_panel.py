"""The panel that measures connections and lays the runs over each other."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from .choices import offer, offer_endpoints
from .fields import button, buttons, choice, text_field
from .job import Job
from .panel import Panel
from .size_range import SizeRange
from .watch import Sight

if TYPE_CHECKING:
    from ..bench import BenchRun, Measurement
    from ..dashboard.bench_chart import BenchChart

__all__ = ["BenchPanel"]

_NEW_PROCESS = "a new process on this machine"
# Seconds in which the page draws what is new: it would take processor time from the next figures.
_DRAWING = 0.5
_WAYS = {"auto": "UCX's choice", "shm": "shared memory", "tcp": "TCP"}


class BenchPanel(Panel):
    """Measure latency and bandwidth by message size, beside UCX's own limit.

    Runs stay, with their names, until they are removed. The peer is a second process that the
    panel starts for the time of the run, or one of the worker's connections: to a partner
    (``ucxnb bench --serve``), or to an echo (`EchoPeer`, ``ucxnb serve``), which has no bandwidth.

    Parameters
    ----------
    worker : UcxWorker
        The worker whose connections can be measured. Closing the panel does not close it.

    Attributes
    ----------
    peer : ipywidgets.Dropdown
        Whom to measure with: an endpoint id, or 0 for a new process on this machine.
    transport : ipywidgets.Dropdown
        Which way to that new process: ``"auto"``, ``"shm"`` or ``"tcp"``.
    sizes : SizeRange
        Smallest and largest message, bytes, powers of two from 1 to 256 MiB.
    name : ipywidgets.Text
        What the next run is called; empty names it by what it measures.
    limit : ipywidgets.Checkbox
        Whether to run ``ucx_perftest`` as well.
    run : ipywidgets.Dropdown
        The run to remove, or to save as JSON.
    seconds : float
        How long each test of a size takes.
    start_button, cancel_button, remove_button : ipywidgets.Button
        What they say.
    csv_button, json_button, picture_button : ipywidgets.Button
        Hand a file to the browser.
    """

    _title = "Benchmark"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.seconds = 0.3
        self._runs: list[tuple[BenchRun, int]] = []
        self._runs_lock, self._show_lock = threading.Lock(), threading.Lock()
        self._measurement: Measurement | None = None
        self._chart: BenchChart | None = None
        self._make_controls()
        self._starters, self._stoppers = (self.start_button,), (self.cancel_button,)
        for control, action in (
            (self.start_button, self._start_run),
            (self.cancel_button, self._stop),
            (self.remove_button, self._remove),
            (self.csv_button, self._save_csv),
            (self.json_button, self._save_json),
            (self.picture_button, self._save_picture),
        ):
            self._on_click(control, action)
        self.peer.observe(lambda _: self._show_transport(), "value")
        self.python_line.follow(self._code, self.peer, self.transport, self.sizes, self.limit)
        self.python_line.show(self._code)
        offer_endpoints(self.peer, (), _NEW_PROCESS)
        form = ipywidgets.Box([self.peer, self.transport, self.sizes, self.name])
        form.add_class("ucxnb-field-rows")
        start = buttons(self.start_button, self.cancel_button, self.limit)
        progress = ipywidgets.HBox([self._progress, self._time_left])
        progress.add_class("ucxnb-field-row")
        self._progress_row = progress
        self._chart_box = ipywidgets.VBox()
        self._chart_box.add_class("ucxnb-form")
        self._runs_row = buttons(
            self.run, self.remove_button, self.csv_button, self.json_button, self.picture_button
        )
        self._show_progress(None)
        self._show_runs()
        return form, start, progress, self._chart_box, self._runs_row

    def _make_controls(self) -> None:
        self.peer = choice("Peer", "Whom to measure with")
        self.transport = choice("Transport", "Which way the messages may go to a new process")
        offer(self.transport, [(label, way) for way, label in _WAYS.items()])
        self.sizes = SizeRange(8, 4 << 20)
        self.name = text_field(
            "Name", "", "What the run is called in the plots", "named by what it measures"
        )
        self.limit = ipywidgets.Checkbox(
            value=True,
            description="Measure the limit as well (ucx_perftest)",
            tooltip="What UCX's own program reaches over the same transports",
            indent=False,
            layout={"width": "auto"},
        )
        self.start_button = button("Start", "play", "Measure", "primary")
        self.cancel_button = button("Cancel", "stop", "Stop, and keep what was measured")
        self._progress = ipywidgets.FloatProgress(min=0.0, max=1.0, layout={"width": "auto"})
        self._time_left = ipywidgets.HTML()
        self.run = choice("Run", "Which run to remove, or to save as JSON")
        self.remove_button = button("Remove", "trash", "Take this run off the plots")
        self.csv_button = button("CSV", "download", "Save the figures of all runs")
        self.json_button = button("JSON", "download", "Save this run, to load it again")
        self.picture_button = button("Picture", "camera", "Save the plots as PNG")

    # ---- the runs, for cells

    @property
    def runs(self) -> list[BenchRun]:
        """The runs as values, oldest first."""
        with self._runs_lock:
            return [run for run, _ in self._runs]

    def add_run(self, run: BenchRun) -> None:
        """Lay a run over the others, such as one that `BenchRun.from_json` read.

        Parameters
        ----------
        run : BenchRun
            It gets another name if there is one of its name already.
        """
        self._put(run, None)

    def to_pandas(self) -> Any:
        """Give the figures of all runs as a table of pandas.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        UcxnbError
            pandas is not installed.
        """
        from ..bench import runs_to_pandas

        return runs_to_pandas(self.runs)

    # ---- what the watch does

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints and show how far the measurement is.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        offer_endpoints(self.peer, sight.endpoints, _NEW_PROCESS)
        measurement = self._measurement
        if measurement is not None:
            self._show_progress(measurement)

    def end(self, reason: str) -> None:
        """Say why nothing can be measured any more; what was measured can still be saved.

        Parameters
        ----------
        reason : str
            Becomes the status.
        """
        super().end(reason)
        for control in self._runs_row.children:
            control.disabled = False

    # ---- what the buttons do

    def _start_run(self) -> None:
        from ..bench import sizes_between

        endpoint_id, transport = self.peer.value, self.transport.value
        sizes, limit = sizes_between(*self.sizes.value), self.limit.value
        peer = f"endpoint {endpoint_id}" if endpoint_id else _WAYS[transport]
        name = self.name.value.strip() or peer

        def work(job: Job) -> str:
            from ..bench import Measurement, private_pair

            with contextlib.ExitStack() as stack:
                worker, measured = self._worker, endpoint_id
                if not endpoint_id:
                    worker, measured = stack.enter_context(private_pair(transport))
                measurement = Measurement(
                    worker,
                    measured,
                    sizes,
                    seconds=self.seconds,
                    limit=limit,
                    should_stop=lambda: job.stopping,
                    name=name,
                )
                return self._measure(measurement, len(sizes), job)

        self.python_line.show(self._code)
        self._progress.value, self._time_left.value = 0.0, "starting"
        who = peer if endpoint_id else f"a new process, {peer}"
        self._start(f"Measuring with {who} …", work)

    def _code(self, worker: str) -> str:
        low, high = self.sizes.value
        limit = "" if self.limit.value else ", limit=False"
        measured = f"Measurement({{}}, sizes_between({low}, {high}){limit})"
        if self.peer.value:
            names, before = "Measurement", ""
            loop = f"for row in {measured.format(f'{worker}, {self.peer.value}')}:"
        else:
            names, before = (
                "Measurement, private_pair",
                f'with private_pair("{self.transport.value}") as pair:\n    ',
            )
            loop = f"for row in {measured.format('*pair')}:"
        indent = "    " * (2 if before else 1)
        return (
            f"from ucxnb.bench import {names}, sizes_between\n\n{before}{loop}\n{indent}print(row)"
        )

    def _measure(self, measurement: Measurement, count: int, job: Job) -> str:
        self._measurement = measurement
        shown: BenchRun | None = None
        try:
            for _ in measurement:
                shown = self._put(measurement.run, shown)
                job.pause(_DRAWING)
        finally:
            self._measurement = None
            self._show_progress(None)
        done, note = len(measurement.run.rows), measurement.run.note
        over = ", ".join(measurement.run.transports)
        if measurement.stopped:
            kept = f"{done} of {count} sizes are kept" if done else "nothing was measured"
            return f"Cancelled: {kept}."
        return f"Measured {count} sizes over {over}." + (f" Note: {note}." if note else "")

    def _put(self, run: BenchRun, old: BenchRun | None) -> BenchRun:
        """Add a run, or put it in the place of what it was before; returns it as it is shown."""
        from dataclasses import replace

        from ..dashboard.bench_chart import COLORS

        with self._runs_lock:
            places = [i for i, (known, _) in enumerate(self._runs) if known is old]
            names = {known.name for known, _ in self._runs if known is not old}
            run = replace(run, name=old.name if places and old else _unused(run.name, names))
            if places:
                self._runs[places[0]] = run, self._runs[places[0]][1]
            elif old is None:
                used = [color for _, color in self._runs]
                color = min(range(COLORS), key=lambda c: (used.count(c), c))
                self._runs.append((run, color))
        self._show_runs()
        return run

    def _remove(self) -> None:
        with self._runs_lock:
            self._runs = [(run, color) for run, color in self._runs if run.name != self.run.value]
        self._show_runs()

    def _save_csv(self) -> None:
        from ..bench import runs_to_csv

        self._made_chart().download("ucxnb-benchmark.csv", runs_to_csv(self.runs))

    def _save_json(self) -> None:
        chosen = next(run for run in self.runs if run.name == self.run.value)
        file = re.sub(r"[^\w-]+", "-", chosen.name).strip("-") or "run"
        self._made_chart().download(f"ucxnb-{file}.json", chosen.to_json())

    def _save_picture(self) -> None:
        self._made_chart().save_picture("ucxnb-benchmark.png")

    # ---- what is shown

    def _show_transport(self) -> None:
        self.transport.disabled = bool(self.peer.value) or self._ended

    def _show_runs(self) -> None:
        # Any thread may come here: the last one shows what all of them did.
        with self._show_lock:
            if not self._closed:
                self._show_latest_runs()

    def _show_latest_runs(self) -> None:
        with self._runs_lock:
            runs = list(self._runs)
        self._runs_row.layout.display = None if runs else "none"
        self._chart_box.layout.display = None if runs else "none"
        offer(self.run, [(run.name, run.name) for run, _ in runs])
        if runs or self._chart is not None:
            self._made_chart().show(runs)

    def _made_chart(self) -> BenchChart:
        """Return the plots; they cost nothing until there is something to plot."""
        if self._chart is None:
            from ..dashboard.bench_chart import BenchChart

            self._chart = BenchChart()
            self._chart_box.children = (self._chart,)
        return self._chart

    def _show_progress(self, measurement: Measurement | None) -> None:
        self._progress_row.layout.display = "none" if measurement is None else None
        if measurement is not None:
            progress = measurement.progress
            self._progress.value = max(self._progress.value, progress.fraction)
            left = max(1, round(progress.seconds_left))
            if progress.fraction > 0:
                self._time_left.value = f"about {left} s left"


def _unused(name: str, names: set[str]) -> str:
    number, candidate = 1, name
    while candidate in names:
        number += 1
        candidate = f"{name} {number}"
    return candidate
