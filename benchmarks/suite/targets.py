"""The targets: each with its figure, and whether it is met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .figures import IN_TWO_PROCESSES, MEASURE_KEYS, OURS, Figures, Ratio
from .peers import PERFTEST
from .plan import BOTH_WAYS, KIB, LATENCY, MIB, ONE_WAY, Cell, size_text

FIVE_MILLION = 5e6
AWAITED = ("ucxx-async", "streams", "starway")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table: what, where, what was found, and whether that is enough."""

    target: str
    where: str
    figure: str
    met: bool


def judge(figures: Figures, costs: Path) -> Iterator[Verdict]:
    """Compare with each target that there are figures for.

    Parameters
    ----------
    figures : Figures
        Of a run.
    costs : Path
        A JSON file with ``dashboard_cost`` (a fraction), ``import_ms`` and
        ``start_ms_beyond_ucx``, written by the benchmarks of those; it may be absent.

    Yields
    ------
    Verdict
    """
    for transport in figures.transports:
        yield from _latency(figures, transport)
        yield from _flow(figures, transport)
        yield from _other_peers(figures, transport)
    if costs.exists():
        yield from _costs(json.loads(costs.read_text()))


def _to_perftest(
    figures: Figures, transport: str, cell: Cell, peers: tuple[str, ...], key: str
) -> Ratio | None:
    limit = figures.repeats(transport, cell, PERFTEST, key)
    return figures.ratio(figures.best(transport, cell, peers, key), limit)


def _latency(figures: Figures, transport: str) -> Iterator[Verdict]:
    for nbytes in figures.sizes(LATENCY):
        cell, where = Cell(LATENCY, nbytes), f"{transport}, {size_text(nbytes)}"
        ratio = _to_perftest(figures, transport, cell, ("ucxnb",), "p50_us")
        if ratio is not None and nbytes == 8:
            target = "half round trip <= 3 times ucx_perftest"
            yield Verdict(target, where, str(ratio), ratio.median <= 3)
        if ratio is not None and nbytes >= 64 * KIB:
            target = "half round trip <= 1.15 times ucx_perftest"
            yield Verdict(target, where, str(ratio), ratio.median <= 1.15)
        ratio = _to_perftest(figures, transport, cell, ("ucxnb",), "p99_us")
        if ratio is not None:
            yield Verdict("p99 <= 3 times ucx_perftest's", where, str(ratio), ratio.median <= 3)


def _flow(figures: Figures, transport: str) -> Iterator[Verdict]:
    small, where = Cell(ONE_WAY, 8), f"{transport}, 8 B"
    rows = _to_perftest(figures, transport, small, ("ucxnb-rows",), "rate")
    if rows is not None:
        target = "message rate by rows >= 0.7 of ucx_perftest"
        yield Verdict(target, where, str(rows), rows.median >= 0.7)
    loop = _to_perftest(figures, transport, small, ("ucxnb",), "rate")
    if loop is not None:
        rate = figures.median(transport, small, "ucxnb", "rate") or 0.0
        yield Verdict(
            "message rate of a `send_tag` loop >= 5 million/s, or 0.2 of ucx_perftest",
            where,
            f"{rate / 1e6:.2f} million/s; {loop}",
            rate >= FIVE_MILLION or loop.median >= 0.2,
        )
    for nbytes in figures.sizes(ONE_WAY):
        if nbytes < MIB:
            continue
        cell, where = Cell(ONE_WAY, nbytes), f"{transport}, {size_text(nbytes)}"
        ratio = _to_perftest(figures, transport, cell, IN_TWO_PROCESSES, "bandwidth")
        if ratio is not None:
            target = "bandwidth one way >= 0.95 of ucx_perftest"
            yield Verdict(target, where, str(ratio), ratio.median >= 0.95)


def _other_peers(figures: Figures, transport: str) -> Iterator[Verdict]:
    others = [name for name in figures.peers if name not in (*OURS, PERFTEST)]
    comparisons = (
        ("half round trip below every other peer's", LATENCY, ("ucxnb",), others),
        ("awaited half round trip below other awaited peers'", LATENCY, ("ucxnb-await",), AWAITED),
        ("flow one way above every other peer's", ONE_WAY, IN_TWO_PROCESSES, others),
        ("flow both ways above every other peer's", BOTH_WAYS, IN_TWO_PROCESSES, others),
    )
    for target, measure, ours, theirs in comparisons:
        key = MEASURE_KEYS[measure]
        lost, compared = [], 0
        for nbytes in figures.sizes(measure):
            cell = Cell(measure, nbytes)
            mine = figures.best(transport, cell, ours, key)
            for peer in theirs:
                ratio = figures.ratio(mine, figures.repeats(transport, cell, peer, key))
                if ratio is None:
                    continue
                compared += 1
                # Above 1 is worse for a time, and better for a rate.
                gain = 1 / ratio.median if measure == LATENCY else ratio.median
                if gain < 1:
                    lost.append(f"{peer} at {size_text(nbytes)} ({ratio.median:.2f})")
        if compared:
            figure = "not: " + ", ".join(lost) if lost else f"all {compared} comparisons"
            yield Verdict(target, transport, figure, not lost)


def _costs(costs: dict[str, float]) -> Iterator[Verdict]:
    dashboard, load, start = (
        costs.get(name) for name in ("dashboard_cost", "import_ms", "start_ms_beyond_ucx")
    )
    if dashboard is not None:
        target = "an open dashboard costs < 3 % of the message rate"
        yield Verdict(target, "", f"{dashboard:.1%}", dashboard < 0.03)
    if load is not None:
        yield Verdict("`import ucxnb` < 150 ms", "", f"{load:.0f} ms", load < 150)
    if start is not None:
        target = "`UcxWorker()` < 100 ms beyond UCX's own start"
        yield Verdict(target, "", f"{start:.0f} ms", start < 100)
