"""The panel that shows what UCX chose, and measures what other settings would do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..text import parse_size, size_text
from .choices import offer, offer_endpoints
from .copy_text import CopyText
from .fields import button, buttons, choice, text_field
from .job import Job
from .panel import Panel
from .size_range import SizeRange
from .watch import Sight

if TYPE_CHECKING:
    from ..dashboard.explorer_chart import ExplorerChart
    from ..explorer import Profile

__all__ = ["ExplorerPanel"]

_NEW_PROCESSES = "two new processes with the worker's settings"
# Seconds in which the page draws what is new.
_DRAWING = 0.5
_FOUND = 12  # settings that a search shows
_STEPS_SHOWN = 12


class ExplorerPanel(Panel):
    """Show which protocol UCX takes for each message size, and what other settings would change.

    What is measured runs between two new processes of this machine, with the worker's settings and
    yours on top: no connection of the worker's is disturbed. Profiles stay until they are removed.

    Parameters
    ----------
    worker : UcxWorker
        The worker whose connections are explained. Closing the panel does not close it.

    Attributes
    ----------
    peer : ipywidgets.Dropdown
        The connection to explain: an endpoint id, or 0 for two new processes.
    operation : ipywidgets.Dropdown
        ``"tag"``, ``"stream"``, ``"put"`` or ``"get"``.
    memory : ipywidgets.Dropdown
        Where the buffers lie, of the kinds UCX told of. What is measured is host memory.
    sizes : SizeRange
        Smallest and largest message to measure.
    search : ipywidgets.Text
        Words to search UCX's settings for.
    setting : ipywidgets.Dropdown
        The setting to change, of those found.
    value : ipywidgets.Text
        What to set it to.
    changed : ipywidgets.Dropdown
        The settings that are changed; one can be taken back.
    size : ipywidgets.Text
        The message size that is compared and tuned for, as ``"8 KiB"``.
    metric : ipywidgets.Dropdown
        ``"latency"`` or ``"bandwidth"``.
    profile : ipywidgets.Dropdown
        The profile whose protocols are shown, and which Remove removes.
    seconds : float
        How long each figure is measured.
    repeats : int
        How often a comparison starts new processes.
    explain_button, measure_button, compare_button, tune_button, stop_button : ipywidgets.Button
        What they say; also ``set_button``, ``unset_button`` and ``remove_button``.
    """

    _title = "Explorer"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        from ..dashboard.explorer_chart import ExplorerChart

        self.seconds, self.repeats = 0.05, 9
        self._profiles: list[tuple[Profile, int]] = []
        self._settings: dict[str, str] = {}
        self._lock = threading.Lock()
        self._chart: ExplorerChart = ExplorerChart()
        self._make_controls()
        self._starters = (
            self.explain_button,
            self.measure_button,
            self.compare_button,
            self.tune_button,
        )
        self._stoppers = (self.stop_button,)
        for control, action in (
            (self.explain_button, self._explain),
            (self.measure_button, self._measure),
            (self.compare_button, self._compare),
            (self.tune_button, self._tune),
            (self.stop_button, self._stop),
            (self.set_button, self._set),
            (self.unset_button, self._unset),
            (self.remove_button, self._remove),
        ):
            self._on_click(control, action)
        self.search.observe(lambda _: self._search(), "value")
        self.setting.observe(lambda _: self._show_setting(), "value")
        for control in (self.profile, self.memory):
            control.observe(lambda _: self._draw(), "value")
        self.python_line.follow(self._code, self.peer, self.operation, self.size, self.metric)
        self.python_line.show(self._code)
        offer_endpoints(self.peer, (), _NEW_PROCESSES)
        form = ipywidgets.Box([self.peer, self.operation, self.memory, self.sizes])
        form.add_class("ucxnb-field-rows")
        self._profile_row = buttons(self.profile, self.remove_button)
        what_if = ipywidgets.Box([self.search, self.setting, self.value])
        what_if.add_class("ucxnb-field-rows")
        target = ipywidgets.Box([self.size, self.metric])
        target.add_class("ucxnb-field-rows")
        self._chart_box = ipywidgets.VBox([self._chart])
        self._chart_box.add_class("ucxnb-form")
        self._progress = ipywidgets.FloatProgress(min=0.0, max=1.0, layout={"width": "auto"})
        self._draw()
        self._show_settings()
        return (
            form,
            buttons(self.explain_button, self.measure_button, self.stop_button),
            self._progress,
            self._chart_box,
            self._profile_row,
            self._table,
            _subheading("What if"),
            what_if,
            self._about,
            buttons(self.set_button, self.changed, self.unset_button),
            target,
            buttons(self.compare_button, self.tune_button),
            self._result,
            self._line,
        )

    def _make_controls(self) -> None:
        from ..bench.operations import OPERATIONS

        self.peer = choice("Connection", "The connection to explain")
        self.operation = choice("Operation", "What is done with it")
        offer(self.operation, [(name, name) for name in OPERATIONS])
        self.memory = choice("Memory", "Where the buffers lie; what is measured is host memory")
        offer(self.memory, [("host", "host")])
        self.sizes = SizeRange(8, 4 << 20)
        self.profile = choice("Profile", "Whose protocols are shown")
        self.explain_button = button("Explain", "question", "Show what UCX chose, and its estimate")
        self.measure_button = button(
            "Measure", "play", "Measure between two new processes, with what is changed", "primary"
        )
        self.stop_button = button("Stop", "stop", "Stop, and keep what was measured")
        self.remove_button = button("Remove", "trash", "Take this profile off the plots")
        self._table = ipywidgets.HTML()
        self._table.add_class("ucxnb-explanation")
        self.search = text_field(
            "Search", "rndv thresh", "Words of a setting's name, or of UCX's words about it"
        )
        self.setting = choice("Setting", "One of UCX's settings")
        self.value = text_field("Value", "", "What to set it to")
        self._about = ipywidgets.HTML()
        self._about.add_class("ucxnb-setting")
        self.set_button = button("Set", "plus", "Change this setting in what is measured next")
        self.changed = choice("Changed", "What is changed in what is measured next")
        self.unset_button = button("Take back", "undo", "Leave this setting as it is")
        self.size = text_field("Size", "8 KiB", "The message size to compare and to tune for")
        self.metric = choice("Figure", "What should become better")
        offer(self.metric, [("latency", "latency"), ("bandwidth", "bandwidth")])
        self.compare_button = button(
            "Compare", "balance-scale", "Measure with and without the changes, again and again"
        )
        self.tune_button = button(
            "Tune", "magic", "Search thresholds for this size by measurement: about a minute"
        )
        self._result = ipywidgets.HTML()
        self._result.add_class("ucxnb-explanation")
        self._line = CopyText("the settings as Python")
        self._line.add_class("ucxnb-python-line")

    # ---- for cells

    @property
    def profiles(self) -> list[Profile]:
        """What was measured, in its order."""
        with self._lock:
            return [profile for profile, _ in self._profiles]

    @property
    def settings(self) -> dict[str, str]:
        """What is changed in what is measured next, without ``UCX_``."""
        return dict(self._settings)

    def change(self, name: str, value: str) -> None:
        """Change a setting in what is measured next, as Set does.

        Parameters
        ----------
        name : str
            As in `WorkerConfig.ucx_options`.
        value : str
            What UCX takes for it.

        Raises
        ------
        ArgumentError
            This UCX has no such setting.
        MissingUcxError
            There is no ``ucx_info`` to ask.
        """
        from ..explorer.settings import split_settings

        split_settings({name: value})
        self._settings[name] = value
        self._show_settings()

    # ---- what the watch does

    def refresh(self, sight: Sight) -> None:
        """Offer the open endpoints.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        offer_endpoints(self.peer, sight.endpoints, _NEW_PROCESSES)
        if not self.setting.options:
            self._search()

    # ---- what the buttons do

    def _base(self) -> dict[str, str]:
        from ..explorer.profile import settings_of_connection

        explanation = self._worker.explain(self.peer.value) if self.peer.value else None
        return settings_of_connection(self._worker, explanation)

    def _explain(self) -> None:
        from ..explorer import FreshPair, Profile

        base, changed, peer = self._base(), self.settings, self.peer.value
        operation, name = self.operation.value, self._name("explained")

        def work(job: Job) -> str:
            with FreshPair({**base, **changed}, should_stop=lambda: job.stopping) as pair:
                explanation = pair.explanation
            if peer and not changed:
                explanation = self._worker.explain(peer).with_probe(explanation)
            self._put(Profile(name, changed, operation, explanation), None)
            return self._in_words(explanation)

        self._begin("Asking UCX …", work)

    def _measure(self) -> None:
        from ..explorer import measure_profile

        base, changed = self._base(), self.settings
        operation, name = self.operation.value, self._name("as it is")
        low, high = self.sizes.value
        sizes = [1 << p for p in range(low.bit_length() - 1, high.bit_length())]

        def work(job: Job) -> str:
            shown: Profile | None = None
            profiles = measure_profile(
                {**base, **changed},
                operation,
                sizes,
                seconds=self.seconds,
                name=name,
                should_stop=lambda: job.stopping,
            )
            latest: Profile | None = None
            for done, latest in enumerate(profiles):
                self._progress.value = done / (3 * len(sizes))
                if done % len(sizes) == 0:
                    # Not more often: what draws takes the cores from what is measured.
                    shown = self._put(latest, shown)
                    job.pause(_DRAWING if done else 0)
            if latest is None or not latest.points:
                return "Stopped: nothing was measured."
            if job.stopping:
                self._put(latest, shown)
                return f"Stopped: {len(latest.points)} of {len(sizes)} sizes are kept."
            return f"Measured {len(sizes)} sizes between two new processes."

        self._begin(f"Measuring {operation}, {name} …", work)

    def _compare(self) -> None:
        from ..explorer import compare_settings

        if not self._settings:
            raise ValueError("Nothing is changed: choose a setting, type a value, and press Set.")
        base, changed, nbytes = self._base(), self.settings, parse_size(self.size.value)
        operation, metric = self.operation.value, self.metric.value

        def work(job: Job) -> str:
            comparison = compare_settings(
                changed,
                base=base,
                operation=operation,
                nbytes=nbytes,
                metric=metric,
                repeats=self.repeats,
                seconds=self.seconds,
                should_stop=lambda: job.stopping,
            )
            self._show_result(comparison.text, comparison.code)
            return f"Compared: {comparison.verdict}."

        self._begin(f"Comparing {metric} of {size_text(nbytes)} …", work)

    def _tune(self) -> None:
        from ..explorer import Tuner

        base, nbytes = {**self._base(), **self._settings}, parse_size(self.size.value)
        operation, metric = self.operation.value, self.metric.value

        def work(job: Job) -> str:
            tuner = Tuner(
                operation,
                nbytes,
                metric,
                base=base,
                repeats=self.repeats,
                seconds=self.seconds,
                should_stop=lambda: job.stopping,
            )
            lines: list[str] = []
            for step in tuner:
                tried = ", ".join(f"{name}={value}" for name, value in step.settings.items())
                figure = step.note if step.ratio is None else f"{step.ratio:.2f} times as fast"
                lines.append(f"{tried}: {figure}")
                self._progress.value = step.fraction
                self._show_result("\n".join(lines[-_STEPS_SHOWN:]), "")
            result = tuner.result
            self._show_result(
                "\n".join([*lines[-_STEPS_SHOWN:], tuner.text]), result.code if result else ""
            )
            return tuner.text if result is None else f"Tuned: {result.verdict}."

        self._begin(f"Tuning {metric} of {size_text(nbytes)} …", work)

    def _begin(self, doing: str, work: Any) -> None:
        from ..explorer.fresh_pair import StoppedError

        def run(job: Job) -> str:
            try:
                return str(work(job))
            except StoppedError:
                return "Stopped."

        self._progress.value = 0.0
        self._start(doing, run)

    def _set_busy(self, busy: bool) -> None:
        super()._set_busy(busy)
        self._progress.layout.display = None if busy else "none"

    def _set(self) -> None:
        name, value = self.setting.value, self.value.value.strip()
        if not name or not value:
            raise ValueError("Choose a setting and type a value for it.")
        self.change(name, value)

    def _unset(self) -> None:
        self._settings.pop(self.changed.value, None)
        self._show_settings()

    def _remove(self) -> None:
        with self._lock:
            self._profiles = [p for p in self._profiles if p[0].name != self.profile.value]
        self._draw()

    # ---- what is shown

    def _name(self, plain: str) -> str:
        changes = ", ".join(f"{name}={value}" for name, value in self._settings.items())
        return f"{self.operation.value}, {changes or plain}"

    def _put(self, profile: Profile, old: Profile | None) -> Profile:
        """Add a profile, or put it in the place of what it was before."""
        from dataclasses import replace

        from ..dashboard.bench_chart import COLORS

        with self._lock:
            names = {known.name for known, _ in self._profiles if known is not old}
            number, name = 1, profile.name
            while name in names:
                number += 1
                name = f"{profile.name} {number}"
            profile = replace(profile, name=name)
            places = [i for i, (known, _) in enumerate(self._profiles) if known is old]
            if places:
                self._profiles[places[0]] = profile, self._profiles[places[0]][1]
            elif old is None:
                used = [color for _, color in self._profiles]
                color = min(range(COLORS), key=lambda c: (used.count(c), c))
                self._profiles.append((profile, color))
            offered = [(known.name, known.name) for known, _ in self._profiles]
        offer(self.profile, offered, None if places else name)
        self._draw()
        return profile

    def _draw(self) -> None:
        from dataclasses import replace

        from ..bench.operations import OPERATIONS

        with self._lock:
            profiles = list(self._profiles)
        offer(self.profile, [(known.name, known.name) for known, _ in profiles])
        of = next((known for known, _ in profiles if known.name == self.profile.value), None)
        self._profile_row.layout.display = None if profiles else "none"
        self._chart_box.layout.display = None if profiles else "none"
        if of is None:
            self._table.value = ""
            self._chart.show((), None, "", "host")
            return
        kinds = dict.fromkeys(
            ["host", *(row.memory for row in of.explanation.ranges if row.memory)]
        )
        offer(self.memory, [(kind, kind) for kind in kinds])
        self._chart.show(profiles, of, OPERATIONS[of.operation].latency_of, self.memory.value)
        rows = of.explanation.of(of.operation, self.memory.value)
        self._table.value = replace(of.explanation, ranges=rows)._repr_html_()

    def _in_words(self, explanation: Any) -> str:
        row = explanation.at(8192, self.operation.value)
        return "Explained." if row is None else f"8 KiB goes as {row.protocol}."

    def _show_result(self, text: str, code: str) -> None:
        import html

        self._result.value = f"<pre>{html.escape(text)}</pre>" if text else ""
        self._line.text = code

    def _search(self) -> None:
        from ..errors import MissingUcxError
        from ..explorer import find_settings

        try:
            found = find_settings(self.search.value)[:_FOUND]
        except MissingUcxError as error:
            self._about.value = str(error)
            return
        offer(self.setting, [(setting.name, setting.name) for setting in found])
        self._show_setting()

    def _show_setting(self) -> None:
        import html

        from ..explorer import read_settings

        if not self.setting.value:
            self._about.value = "No setting has these words."
            return
        setting = read_settings()[self.setting.value]
        self.value.placeholder = setting.default
        self._about.value = f"<pre>{html.escape(setting.text)}</pre>"

    def _show_settings(self) -> None:
        pairs = [(f"{name} = {value}", name) for name, value in self._settings.items()]
        offer(self.changed, pairs or [("nothing", "")])
        self.unset_button.disabled = not pairs
        self.python_line.renew()

    def _code(self, worker: str) -> str:
        changed = "".join(f", {name!r}: {value!r}" for name, value in self._settings.items())
        nbytes = parse_size(self.size.value)
        lines = ["from ucxnb.explorer import Tuner, probe", ""]
        if self.peer.value:
            lines.append(f"print(probe({worker}, {self.peer.value}))")
        lines += [
            f"base = {{**{worker}.config.ucx_options{changed}}}",
            f'tuner = Tuner("{self.operation.value}", {nbytes}, "{self.metric.value}", base=base)',
            "for step in tuner:",
            "    print(step)",
            "print(tuner.text)",
        ]
        return "\n".join(lines)


def _subheading(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f'<div class="ucxnb-heading" role="heading" aria-level="4">{text}</div>')
