"""Whether one setting is faster than another, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError, UcxnbError
from ..text import shown, size_text
from .fresh_pair import FreshPair, StoppedError, check_order
from .settings import settings_code

__all__ = ["Comparison", "check_statistics", "compare_settings", "median_interval", "speed_ratio"]

_TURNS = 3  # of each side, in each pair of processes
_MATTERS = 1.02  # what a user would not notice is no difference, however sure


@dataclass(frozen=True, slots=True)
class Comparison:
    """Settings measured beside others, again and again in new processes.

    Attributes
    ----------
    settings : dict of str to str
        What was tried, on top of `base`.
    base : dict of str to str
        What it was compared with.
    operation : str
        ``"tag"``, ``"stream"``, ``"put"``, ``"get"``.
    nbytes : int
        Size of each message.
    metric : str
        ``"latency"`` or ``"bandwidth"``.
    ratios : tuple of float
        Of each repetition, how many times as fast it was: over 1 is faster.
    confidence : float
        How sure the interval is to hold the median that endless repetitions would have.
    """

    settings: dict[str, str]
    base: dict[str, str]
    operation: str
    nbytes: int
    metric: str
    ratios: tuple[float, ...]
    confidence: float

    @property
    def ratio(self) -> float:
        """Median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of the median, see `median_interval`."""
        return median_interval(self.ratios, self.confidence)

    @property
    def verdict(self) -> str:
        """``"faster"``, ``"slower"`` or ``"no difference"``.

        There is a difference if the whole interval lies on one side of 1 and the median is 2 % or
        more away from it.
        """
        low, high = self.interval
        if low > 1 and self.ratio >= _MATTERS:
            return "faster"
        if high < 1 and self.ratio <= 1 / _MATTERS:
            return "slower"
        return "no difference"

    @property
    def code(self) -> str:
        """The settings as a line to copy; empty unless they are faster."""
        return settings_code({**self.base, **self.settings}) if self.verdict == "faster" else ""

    @property
    def text(self) -> str:
        """The result in words."""
        low, high = self.interval
        tried = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        figures = (
            f"{self.ratio:.2f} times as fast ({self.confidence:.0%} interval {low:.2f} to "
            f"{high:.2f}, {len(self.ratios)} repetitions in new processes)"
        )
        verdict = self.verdict
        if verdict == "no difference":
            noise = low <= 1 <= high
            verdict += f" that is more than {'noise' if noise else '2 %'}"
        what = f"{self.operation} {self.metric} of {size_text(self.nbytes)}"
        return f"{tried}: {verdict} in {what}: {figures}"

    def __str__(self) -> str:
        return self.text


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Give an interval that holds the median of what the values are drawn from.

    It lies between two of the values, and assumes nothing of how they are spread: outliers of a
    busy machine make it no wider than they must.

    Parameters
    ----------
    values : sequence of float
        Independent of each other.
    confidence : float
        At least so sure, 0 to 1. Too few values give an interval without ends: 6 are enough for
        0.95.

    Returns
    -------
    tuple of float
        Its ends; ``(0.0, inf)`` if there are too few values.

    Raises
    ------
    ArgumentError
        `confidence` is none.
    """
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise ArgumentError(f"confidence={shown(confidence)}: it takes a number between 0 and 1")
    count = len(values)
    best = -1
    outside = 0.0
    # The median lies below the k-th value as seldom as a coin falls heads fewer than k times.
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if outside > 1 - confidence:
            break
        best = k
    if best < 0:
        return 0.0, math.inf
    ordered = sorted(values)
    return ordered[best], ordered[count - 1 - best]


def compare_settings(
    settings: Mapping[str, str],
    *,
    base: Mapping[str, str] | None = None,
    operation: str = "tag",
    nbytes: int,
    metric: str = "latency",
    repeats: int = 9,
    seconds: float = 0.05,
    confidence: float = 0.95,
    should_stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Measure settings beside those there are, in new processes each time.

    Parameters
    ----------
    settings : mapping of str to str
        What to try, on top of `base`; without ``UCX_``.
    base : mapping of str to str, optional
        What holds on both sides. ``UCX_*`` environment variables hold as well.
    operation, nbytes, metric, seconds
        As for `FreshPair.measure`; each side is measured 3 times in a repetition.
    repeats : int
        How many times two new pairs are started, up to 100; fewer than 6 decide nothing.
    confidence : float
        As for `median_interval`.
    should_stop : callable, optional
        As for `FreshPair`.

    Returns
    -------
    Comparison

    Raises
    ------
    ArgumentError
        One of the arguments is impossible.
    UcxnbError
        As `FreshPair`. A `UcxnbError` is also raised if it was told to stop.
    """
    check_order(operation, nbytes, metric, seconds)
    check_statistics(repeats, confidence)
    old = dict(base or {})
    ratios = []
    try:
        for turn in range(repeats):
            with FreshPair.together(old, {**old, **settings}, should_stop=should_stop) as pairs:
                a, b = pairs
                ratios.append(speed_ratio(a, b, operation, nbytes, metric, seconds, turn))
    except StoppedError:
        raise UcxnbError(f"stopped after {len(ratios)} of {repeats} repetitions") from None
    return Comparison(dict(settings), old, operation, nbytes, metric, tuple(ratios), confidence)


def check_statistics(repeats: object, confidence: float) -> None:
    """Raise an `ArgumentError` unless so many repetitions can give such an interval."""
    if type(repeats) is not int or not 1 <= repeats <= 100:
        raise ArgumentError(f"repeats={shown(repeats)}: it takes 1 to 100")
    median_interval((), confidence)


def speed_ratio(
    old: FreshPair,
    new: FreshPair,
    operation: str,
    nbytes: int,
    metric: str,
    seconds: float,
    turn: int,
) -> float:
    """Measure two pairs in turns; return how many times as fast the second one is."""
    figures: tuple[list[float], list[float]] = ([], [])
    sides = [(old, figures[0]), (new, figures[1])]
    for number in range(_TURNS):
        # Neither is always first.
        for pair, values in sides if (number + turn) % 2 else reversed(sides):
            values.append(pair.measure(operation, nbytes, metric=metric, seconds=seconds))
    before, after = map(statistics.median, figures)
    return before / after if metric == "latency" else after / before
