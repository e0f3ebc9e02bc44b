"""The live dashboard of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import numpy as np

from ..dashboard.cell import close_with_cell, forget
from ..errors import ArgumentError, ClusterError
from ..text import shortened, shown
from ..ticker import Ticker
from ..transports import family_of
from .cluster import UcxCluster
from .membership import MemberState
from .pairs import PairFigures, PairMeasurement
from .poller import Poller
from .rows import rows_of
from .stats import ClusterStats
from .view import ClusterView

__all__ = ["ClusterDashboard", "placed"]

_PATIENCE = 0.8  # of the interval, for answers
_LATEST = 5.0  # seconds for Dask's loop to be there


class ClusterDashboard:
    """A row for each worker, and heat maps of what is between each two, live.

    Display it as the last line of a cell. Stragglers are marked, and workers that were lost stay
    in the table. Latency and bandwidth are measured when the button on the page says so. `close`
    frees its thread; so does running the cell again, and closing the cluster.

    Parameters
    ----------
    cluster : UcxCluster
        What to watch.
    interval : float
        Seconds between two updates, 0.1 to 60.

    Attributes
    ----------
    widget : ClusterView
        What is displayed; it can be put into any ipywidgets layout.
    figures : PairFigures or None
        What the latest measurement has found up to now.

    Raises
    ------
    ArgumentError
        `interval` is out of range, or the cluster is none.
    """

    def __init__(self, cluster: UcxCluster, *, interval: float = 0.5) -> None:
        if not isinstance(cluster, UcxCluster):
            raise ArgumentError(f"cluster={shown(cluster)}: it takes a UcxCluster")
        if not isinstance(interval, (int, float)) or not 0.1 <= interval <= 60:
            raise ArgumentError(f"interval={shown(interval)}: it takes 0.1 to 60 seconds")
        self._cluster = cluster
        self._interval = float(interval)
        self._poller = Poller(cluster._membership)
        self._before: ClusterStats | None = None
        self.figures: PairFigures | None = None
        self._measuring: threading.Thread | None = None
        self._stop_measuring = threading.Event()
        self.widget = ClusterView(self._interval)
        self.widget.on_msg(self._on_message)
        self._ticker = Ticker("ucxnb-cluster-dashboard", self._interval, self._tick)
        close_with_cell(self)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or ended with its cluster."""
        return not self._ticker.running

    def measure(self) -> None:
        """Measure latency and bandwidth of all pairs, in the background; the maps show them."""
        if self._measuring is not None and self._measuring.is_alive():
            return
        self._stop_measuring.clear()
        self._measuring = threading.Thread(
            target=self._measure, name="ucxnb-cluster-measurement", daemon=True
        )
        self._measuring.start()

    def stop_measuring(self) -> None:
        """End a measurement after the pair that it is at. What was measured stays."""
        self._stop_measuring.set()

    def close(self) -> None:
        """Stop the threads, take the view off the page and free it. Twice is fine."""
        self.stop_measuring()
        self._ticker.stop()
        if self._measuring is not None:
            self._measuring.join()
        with contextlib.suppress(OSError, ClusterError, RuntimeError):
            self._cluster._on_loop(self._stop_polling(), _LATEST)
        self.widget.close()
        forget(self)

    async def _stop_polling(self) -> None:
        self._poller.stop()

    def _tick(self) -> bool:
        if self._cluster.closed:
            self.widget.ended = "cluster closed"
            return False
        try:
            patience = _PATIENCE * self._interval
            answers = self._cluster._on_loop(self._poller.poll(patience), patience + _LATEST)
        except (OSError, ClusterError, asyncio.CancelledError):
            return True  # Dask is busy, or closing; the next look sees whether the cluster is
        now = self._cluster._stats_of(answers)
        self.widget.publish(*_shown(self._before, now, self.figures))
        self._before = now
        return True

    def _on_message(self, widget: object, content: Any, buffers: object) -> None:
        word = content.get("kind") if isinstance(content, dict) else None
        if word == "measure":
            self.measure()
        elif word == "stop":
            self.stop_measuring()

    def _measure(self) -> None:
        try:
            measurement = PairMeasurement(self._cluster, should_stop=self._stop_measuring.is_set)
            self.figures = measurement.figures
            self.widget.measuring = True
            for _ in measurement:
                self.widget.progress = f"{measurement.done} of {measurement.rounds} rounds"
            failed = f", {len(measurement.problems)} pairs failed" if measurement.problems else ""
            state = "measured" if measurement.done == measurement.rounds else "stopped"
            self.widget.progress = f"{state} at {time.strftime('%H:%M:%S')}{failed}"
        except ClusterError as error:
            self.widget.progress = str(error)
        finally:
            self.widget.measuring = False

    def __repr__(self) -> str:
        return f"<ClusterDashboard of {self._cluster!r}, {'closed' if self.closed else 'live'}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)


def _shown(
    before: ClusterStats | None, now: ClusterStats, figures: PairFigures | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Give what the view shows of a moment."""
    rows = rows_of(before, now)
    words = list(dict.fromkeys(word for row in now.transports for word in row if word))
    number = {"": np.nan, **{word: i for i, word in enumerate(words)}}
    kinds = np.array([[number[w] for w in row] for row in now.transports], "f4")
    size = len(now.names)
    maps = {
        "traffic": _rates(before, now),
        "transports": kinds.reshape(size, size),
        "latency": _placed(figures, now.names, "latency_us") * 1e3,
        "bandwidth": _placed(figures, now.names, "bandwidth"),
    }
    titles = {status.member.address: status.member.name for status in now.workers}
    content = {
        "rows": [{"state": row.state, "cells": list(row.cells)} for row in rows],
        "names": [
            shortened(f"{rank}: {titles[name] or name}", 60) for rank, name in enumerate(now.names)
        ],
        "words": words,
        "families": [family_of(word.split(", ")) for word in words],
        "summary": _summary(now, sum(row.state == "straggler" for row in rows)),
    }
    return content, maps


def _summary(now: ClusterStats, stragglers: int) -> str:
    states = [status.member.state for status in now.workers]
    hosts = {s.member.host for s in now.workers if s.sample is not None and s.member.host}
    ready = sum(s.sample is not None and bool(s.member.host) for s in now.workers)
    texts = [
        f"{ready} workers on {len(hosts)} host{'' if len(hosts) == 1 else 's'}",
        *(
            f"{count} {word}"
            for count, word in (
                (states.count(MemberState.STARTING), "starting"),
                (stragglers, "straggler" if stragglers == 1 else "stragglers"),
                (states.count(MemberState.LOST), "lost"),
                (states.count(MemberState.FAILED), "failed"),
            )
            if count
        ),
    ]
    return ", ".join(texts)


def _rates(before: ClusterStats | None, now: ClusterStats) -> np.ndarray:
    """Bytes a second between each two; nan where there were none."""
    size = len(now.names)
    rates = np.full((size, size), np.nan)
    if before is None or now.time <= before.time:
        return rates
    earlier = placed(before.bytes_sent.astype("f8"), before.names, now.names)
    moved = (now.bytes_sent - np.nan_to_num(earlier)) / (now.time - before.time)
    # A connection that was made again has counted from 0 since.
    known = np.isfinite(earlier) & (moved > 0)
    rates[known] = moved[known]
    return rates


def _placed(figures: PairFigures | None, names: tuple[str, ...], what: str) -> np.ndarray:
    if figures is None:
        return np.full((len(names), len(names)), np.nan)
    return placed(getattr(figures, what), figures.names, names)


def placed(square: np.ndarray, old: tuple[str, ...], new: tuple[str, ...]) -> np.ndarray:
    """Sort rows and columns as `new` wants them; nan for names that are not in `old`."""
    if old == new:
        return square
    place = {name: i for i, name in enumerate(old)}
    padded = np.pad(square, ((0, 1), (0, 1)), constant_values=np.nan)
    order = [place.get(name, len(old)) for name in new]
    return padded[np.ix_(order, order)]
