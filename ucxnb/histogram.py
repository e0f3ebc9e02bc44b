"""Counts of values by magnitude: message sizes and latencies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Histogram", "total_of"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values fell into each bucket; buckets widen with the values.

    Each power of two is split into `steps` buckets of equal width. Bucket 0 holds zeros. Counts
    only grow, so that the difference of two moments tells what came between.

    Attributes
    ----------
    counts : tuple of int
        By bucket; those after the last one that is not 0 are left out.
    steps : int
        Buckets of a power of two: 1, or a larger power of two.
    """

    counts: tuple[int, ...] = ()
    steps: int = 1

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def bounds(self, bucket: int) -> tuple[float, float]:
        """Tell what a bucket holds.

        Parameters
        ----------
        bucket : int
            Its number, 0 or more.

        Returns
        -------
        tuple of float and float
            The smallest value that it holds, and the smallest that is too large for it.
        """
        if bucket == 0:
            return 0.0, 1.0
        power, step = divmod(bucket - 1, self.steps)
        width = 2.0**power / self.steps
        low = 2.0**power + step * width
        return low, low + width

    def since(self, earlier: Histogram) -> Histogram:
        """Tell what came after an earlier moment.

        Parameters
        ----------
        earlier : Histogram
            Of the same values, with as many steps; taken before this one.

        Returns
        -------
        Histogram
        """
        before = earlier.counts + (0,) * (len(self.counts) - len(earlier.counts))
        return Histogram(
            tuple(max(0, now - then) for now, then in zip(self.counts, before, strict=False)),
            self.steps,
        )

    def percentiles(self, percents: Sequence[float]) -> list[float | None]:
        """Estimate percentiles, within the width of a bucket.

        Parameters
        ----------
        percents : sequence of float
            From 0 to 100, rising.

        Returns
        -------
        list of float or None
            One for each; None if there are no values.
        """
        total = self.total
        if not total:
            return [None] * len(percents)
        found: list[float | None] = []
        below, bucket = 0, 0
        for percent in percents:
            rank = max(1, math.ceil(total * percent / 100 - 1e-9))
            while below + self.counts[bucket] < rank:
                below += self.counts[bucket]
                bucket += 1
            low, high = self.bounds(bucket)
            share = (rank - below) / self.counts[bucket]
            found.append(0.0 if bucket == 0 else low + share * (high - low))
        return found


def total_of(histograms: Sequence[Histogram]) -> Histogram:
    """Add up histograms with as many steps.

    Parameters
    ----------
    histograms : sequence of Histogram
        At least one.

    Returns
    -------
    Histogram
    """
    columns = itertools.zip_longest(*(h.counts for h in histograms), fillvalue=0)
    return Histogram(tuple(map(sum, columns)), histograms[0].steps)
