"""The plots of growth.py: double logarithmic, so that a straight line of slope 1 is "linear"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by the colour-blind; the markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*"
Rows = Mapping[str, Mapping[str, float]]


def draw(part: str, figures: Mapping[str, Any], file: Path) -> None:
    """Draw one of the three parts into a PNG file."""
    columns, rows = SHAPE[part]
    size = (4.6 * columns, 3.5 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    PLOTS[part](figures, list(axes.flat))
    figure.savefig(file, dpi=100)
    plt.close(figure)


def lines(
    axes: Axes, title: str, x: str, y: str, curves: Mapping[str, tuple[Rows, str]], scale: float = 1
) -> None:
    """One panel: for each curve its label, its table and the name of its figure there."""
    for number, (label, (table, name)) in enumerate(curves.items()):
        found = [(int(n), row[name] * scale) for n, row in table.items() if row.get(name, 0) > 0]
        axes.plot(
            *(zip(*found, strict=True) if found else ([], [])),
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=5,
            label=label,
        )
    if not any(len(line.get_xdata()) for line in axes.lines):
        axes.set(title=title, xticks=[], yticks=[], xlabel="nothing measured")
        return
    axes.set(xscale="log", yscale="log", title=title, xlabel=x, ylabel=y)
    low, high = axes.get_ylim()
    if high < 10 * low:  # a flat curve should look flat
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10, middle * 10)
    axes.grid(color="#dddddd")
    axes.legend(fontsize=8)


def _endpoints(table: Rows, axes: list[Axes]) -> None:
    def panel(title: str, y: str, **names: str) -> None:
        curves = {label.replace("_", " "): (table, name) for label, name in names.items()}
        lines(axes.pop(0), title, "endpoints", y, curves)

    panel(
        "8 byte message, two processes",
        "half round trip, us",
        from_one_endpoint="receive from one endpoint, us",
        from_anyone="receive from anyone, us",
    )
    lines(
        axes.pop(0),
        "Calls that do not wait",
        "endpoints",
        "one call, ns",
        {
            "try_receive_tag, nothing there": (table, "try_receive_tag, nothing there, ns"),
            "progress, idle": (table, "progress, idle, ns"),
            "stats()": (table, "stats(), ns"),
        },
    )
    lines(
        axes.pop(0),
        "Calls about every endpoint",
        "endpoints",
        "us",
        {
            "endpoints(), one call": (table, "endpoints(), us"),
            "get_endpoint_ids(), one call": (table, "get_endpoint_ids(), us"),
            "broadcast_tag, for each endpoint": (table, "broadcast_tag, us an endpoint"),
        },
    )
    panel("Idle worker", "% of a core", all_threads="idle worker, % of a core")
    panel("Memory", "kB for each endpoint", resident="memory, kB an endpoint")
    panel("Connecting", "ms for each endpoint", one_after_the_other="connect(), ms an endpoint")


def _waiting(tables: Mapping[str, Rows], axes: list[Axes]) -> None:
    flood = tables["while they come"]
    kinds = {name: table for name, table in tables.items() if table is not flood}

    def panel(title: str, y: str, name: str, scale: float = 1) -> None:
        curves = {kind: (table, name) for kind, table in kinds.items()}
        lines(axes.pop(0), title, "messages that wait", y, curves, scale)

    panel("Receive a late message, from one endpoint", "us", "late")
    panel("The same, with a tag that shares UCX's list", "us", "late, unlucky tag")
    panel("Receive a late message, from anyone", "us", "late, from anyone")
    panel("Receive any of those that wait, by its tag", "us", "any waiting one")
    panel("Receive all, oldest first", "us a message", "drain")
    panel("Memory", "bytes a message", "bytes")
    panel("receive_tag from anyone, timeout=0.05", "s until it gives up", *TIMEOUT)
    panel("try_receive_tag from anyone, tag not there", "us", "absent, from anyone")
    lines(
        axes.pop(0),
        "Other messages come in during a receive",
        "messages that come in",
        "ms until the receive is over",
        {name: (flood, name) for name in ("from one endpoint", "from anyone")},
    )


def _history(tables: Mapping[str, Rows], axes: list[Axes]) -> None:
    history, dashboard = tables["history"], tables["dashboard"]

    def panel(title: str, table: Rows, x: str, y: str, *names: str) -> None:
        curves = {name.rpartition(", ")[0]: (table, name) for name in names}
        lines(axes.pop(0), title, x, y, curves)

    samples = "samples kept"
    panel("Add a sample", history, samples, "us", "append, us", "append when full, us")
    panel("Read all", history, samples, "ms", "snapshots(), ms", "rates(), ms")
    panel("Memory", history, samples, "MB", "memory, MB", "memory after half as many more, MB")
    samples_seen = "samples seen"
    panel("Dashboard, new points", dashboard, samples_seen, "us", "update, us")
    panel("Dashboard, all points", dashboard, samples_seen, "ms", "update with all points, ms")
    panel("Dashboard, all points", dashboard, samples_seen, "kB sent", "all points, kB")


TIMEOUT = ("50 ms timeout, from anyone", 1e-6)
SHAPE = {"endpoints": (3, 2), "waiting": (3, 3), "history": (3, 2)}
PLOTS: Mapping[str, Callable[[Any, list[Axes]], None]] = {
    "endpoints": _endpoints,
    "waiting": _waiting,
    "history": _history,
}
