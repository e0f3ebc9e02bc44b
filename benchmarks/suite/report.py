"""The report of a run: RESULTS.md, the results as JSON, and plots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .figures import Figures
from .plan import BOTH_WAYS, BROADCAST, ENDPOINT_RATE, KIB, LATENCY, ONE_WAY, Cell, size_text
from .plots import write_plots
from .quiet import MUCH
from .targets import judge

SMALL, LARGE = (0, 64 * KIB), (KIB, 1 << 40)
TABLES = (
    ("Half round trip, median, us", LATENCY, "p50_us", 1.0, (0, 1 << 40)),
    ("Half round trip, p99, us", LATENCY, "p99_us", 1.0, (0, 1 << 40)),
    ("Half round trip, p99.9, us", LATENCY, "p999_us", 1.0, (0, 1 << 40)),
    ("Messages one way, millions a second", ONE_WAY, "rate", 1e6, SMALL),
    ("Bandwidth one way, GB/s", ONE_WAY, "bandwidth", 1e9, LARGE),
    ("Messages each way, both at once, millions a second", BOTH_WAYS, "rate", 1e6, SMALL),
    ("Bandwidth each way, both at once, GB/s", BOTH_WAYS, "bandwidth", 1e9, LARGE),
)
LINK_TABLES = (
    ("Messages of 8 B over many endpoints, millions a second", ENDPOINT_RATE, "rate", 1e6),
    ("Broadcast of 8 B until the last has answered, median, us", BROADCAST, "p50_us", 1.0),
)
WORDS = {"shm": "Shared memory", "tcp": "TCP"}


def write_report(results: dict[str, Any], out: Path) -> list[Path]:
    """Write ``RESULTS.md``, ``results/results.json`` and ``results/*.png`` into a folder.

    Parameters
    ----------
    results : dict
        As `suite.run.run_suite` gives them.
    out : Path
        The folder. ``notes.md`` there goes into the report as it is, and
        ``results/costs.json`` into its targets.

    Returns
    -------
    list of Path
        What was written.
    """
    folder = out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    figures = Figures(results)
    plots = write_plots(figures, folder)
    data = folder / "results.json"
    data.write_text(_json(results))
    report = out / "RESULTS.md"
    report.write_text("\n".join(_lines(figures, plots, out)) + "\n")
    return [report, data, *plots]


def _json(results: dict[str, Any]) -> str:
    """Write one measurement a line: small, and readable in a diff."""
    rows = [json.dumps(_short(entry)) for entry in results["measurements"]]
    rest = json.dumps({**results, "measurements": "HERE"}, indent=1)
    return rest.replace('"HERE"', "[\n" + ",\n".join(rows) + "\n]") + "\n"


def _short(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in entry.items()}


def _lines(figures: Figures, plots: Sequence[Path], out: Path) -> Iterator[str]:
    results = figures.results
    yield "# Results"
    yield ""
    yield "Written by `python benchmarks/suite`; `benchmarks/README.md` says how to repeat it."
    yield ""
    yield from _machine(results)
    yield from _targets(figures, out)
    notes = out / "notes.md"
    if notes.exists():
        yield notes.read_text().rstrip()
        yield ""
    yield from _who(results)
    for transport in figures.transports:
        yield f"## {WORDS[transport]}"
        yield ""
        for path in plots:
            if path.name.startswith(transport):
                yield f"![{path.stem}](results/{path.name})"
                yield ""
        for title, measure, key, unit, (low, high) in TABLES:
            cells = [Cell(measure, n) for n in figures.sizes(measure) if low <= n <= high]
            names = [size_text(cell.nbytes) for cell in cells]
            yield from _table(figures, transport, title, cells, names, key, unit)
        for title, measure, key, unit in LINK_TABLES:
            cells = [
                Cell(measure, n, links)
                for links in figures.links(measure)
                for n in figures.sizes(measure)
            ]
            names = [str(cell.links) for cell in cells]
            yield from _table(figures, transport, title, cells, names, key, unit)


def _machine(results: dict[str, Any]) -> Iterator[str]:
    machine, plan = results["machine"], results["plan"]
    virtual = " (virtual machine)" if machine["virtual"] else ""
    changed = " with changes" if machine["changed"] else ""
    yield (
        f"{results['date']}: {machine['cpu']}{virtual}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}, Python {machine['python']}, commit "
        f"{machine['commit']}{changed}; load at start {machine['load_at_start']}. "
        f"repeats: {plan['repeats']}, of {plan['seconds']:g} s each, {results['minutes']} minutes."
    )
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items()) + "."
    yield ""
    yield (
        "In each repeat every peer takes its turn at a size before the next one comes. A figure is "
        "the median of the repeats. A ratio is taken within each repeat; its median is given, with "
        "the smallest and the largest."
    )
    yield ""
    if results["others"] > MUCH:
        yield (
            f"**The machine was not quiet: other processes took {results['others']:.0%} of the "
            "processors' time during the run. These figures do not count.**"
        )
        yield ""
    if results.get("interrupted"):
        yield "**This run was interrupted.**"
        yield ""


def _targets(figures: Figures, out: Path) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "| target | where | figure | |"
    yield "|---|---|---|---|"
    for verdict in judge(figures, out / "results" / "costs.json"):
        met = "met" if verdict.met else "**not met**"
        yield f"| {verdict.target} | {verdict.where} | {verdict.figure} | {met} |"
    yield ""


def _who(results: dict[str, Any]) -> Iterator[str]:
    yield "## Peers"
    yield ""
    yield "| peer | shared memory | TCP |"
    yield "|---|---|---|"
    for name, used in results["peers"].items():
        yield f"| {name} | {used.get('shm', '')} | {used.get('tcp', '')} |"
    yield ""
    for entry in results["skipped"]:
        yield f"- skipped {entry['peer']}: {entry['reason']}"
    for entry in results["failures"]:
        yield (
            f"- **failed** {entry['peer']} over {entry['transport']}, {entry['at']}: "
            f"{entry['reason']}"
        )
    if results["skipped"] or results["failures"]:
        yield ""
    yield "`ucx_perftest` has no test of both ways at once."
    yield ""


def _table(
    figures: Figures,
    transport: str,
    title: str,
    cells: Sequence[Cell],
    names: Sequence[str],
    key: str,
    unit: float,
) -> Iterator[str]:
    rows = []
    for peer in figures.peers:
        values = [figures.median(transport, cell, peer, key) for cell in cells]
        if any(value is not None for value in values):
            rows.append(f"| {peer} | " + " | ".join(_number(v, unit) for v in values) + " |")
    if not rows:
        return
    yield f"### {title}"
    yield ""
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    yield from rows
    yield ""


def _number(value: float | None, unit: float) -> str:
    if value is None:
        return ""
    value /= unit
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
