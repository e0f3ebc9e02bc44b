"""Plots of a run: a time or a flow by message size, one curve for each peer."""

from __future__ import annotations

from pathlib import Path

from .figures import Figures
from .peers import PERFTEST
from .plan import BOTH_WAYS, LATENCY, ONE_WAY, Cell, size_text

# Okabe and Ito's colours, told apart by colour-blind people too: one for each library.
COLOURS = {
    PERFTEST: "#000000",
    "ucxnb": "#0072B2",
    "ucxx": "#E69F00",
    "openmpi": "#009E73",
    "mpich": "#56B4E9",
    "pyzmq": "#D55E00",
    "sockets": "#CC79A7",
    "streams": "#CC79A7",
    "starway": "#999999",
}
MARKERS = "osD^vP"  # one for each way of using a library
FIGURES = (
    (LATENCY, "p50_us", 1.0, "half round trip, median, us"),
    (ONE_WAY, "rate", 1e6, "messages one way, millions a second"),
    (ONE_WAY, "bandwidth", 1e9, "bandwidth one way, GB/s"),
    (BOTH_WAYS, "bandwidth", 1e9, "bandwidth of each way, both at once, GB/s"),
)
WORDS = {"shm": "shared memory (Unix sockets for pyzmq and sockets)", "tcp": "TCP"}


def write_plots(figures: Figures, folder: Path) -> list[Path]:
    """Write one PNG for each transport and figure.

    Parameters
    ----------
    figures : Figures
        Of a run.
    folder : Path
        Where to.

    Returns
    -------
    list of Path
        Empty if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return []
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    for transport in figures.transports:
        for measure, key, unit, label in FIGURES:
            figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
            sizes = [n for n in figures.sizes(measure) if n > 0]  # the axis has no zero
            for peer in figures.peers:
                points = [
                    (n, value / unit)
                    for n in sizes
                    if (value := figures.median(transport, Cell(measure, n), peer, key))
                ]
                if points:
                    axes.plot(*zip(*points, strict=True), label=peer, **_style(peer, figures))
            axes.set(xscale="log", yscale="log", xlabel="message size", ylabel=label)
            axes.set_xticks(sizes, [size_text(n) for n in sizes], rotation=30)
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_title(f"{WORDS[transport]}, two processes", fontsize=10)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
            path = folder / f"{transport}-{measure.replace('_', '-')}-{key.partition('_')[0]}.png"
            figure.savefig(path, dpi=90)
            plt.close(figure)
            written.append(path)
    return written


def _style(peer: str, figures: Figures) -> dict[str, object]:
    library = peer if peer == PERFTEST else peer.partition("-")[0]
    family = [name for name in figures.peers if name.partition("-")[0] == library]
    place = family.index(peer) if peer in family else 0
    return {
        "color": COLOURS.get(library, "#999999"),
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5,
        "linewidth": 2.2 if library in ("ucxnb", PERFTEST) else 1.2,
        "linestyle": "-" if library in ("ucxnb", PERFTEST) else "--",
    }
