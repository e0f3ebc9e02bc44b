"""Counts by magnitude: which bucket holds a value, and what can be told from the counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucxnb import Histogram


def bucket_of(value: int, steps: int) -> int:
    """Find it by the bounds alone."""
    histogram = Histogram(steps=steps)
    bucket = 0
    while value >= histogram.bounds(bucket)[1]:
        bucket += 1
    return bucket


def histogram_of(values: list[int], steps: int) -> Histogram:
    buckets = [bucket_of(value, steps) for value in values]
    counts = [buckets.count(bucket) for bucket in range(max(buckets, default=-1) + 1)]
    return Histogram(tuple(counts), steps)


@pytest.mark.parametrize(
    ("bucket", "bounds"), [(0, (0, 1)), (1, (1, 2)), (2, (2, 4)), (11, (1024, 2048))]
)
def test_a_bucket_for_each_power_of_two(bucket, bounds):
    assert Histogram().bounds(bucket) == bounds


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 200))
def test_buckets_leave_no_gap(steps, bucket):
    histogram = Histogram(steps=steps)
    low, high = histogram.bounds(bucket)
    assert low < high == histogram.bounds(bucket + 1)[0]


@given(
    st.lists(st.integers(0, 1 << 40), min_size=1, max_size=40),
    st.sampled_from([1, 4]),
    st.lists(st.floats(0, 100), min_size=1, max_size=5).map(sorted),
)
def test_percentiles_are_right_within_a_bucket(values, steps, percents):
    found = histogram_of(values, steps).percentiles(percents)
    exact = np.percentile(values, percents, method="inverted_cdf")
    for estimate, value in zip(found, exact, strict=True):
        low, high = Histogram(steps=steps).bounds(bucket_of(int(value), steps))
        assert low <= estimate <= high


def test_nothing_has_no_percentiles():
    assert Histogram().percentiles([50, 99]) == [None, None]
    assert Histogram((0, 0)).percentiles([50]) == [None]


@given(st.lists(st.integers(0, 1 << 20), max_size=20), st.lists(st.integers(0, 1 << 20)))
def test_the_difference_of_two_moments_is_what_came_between(before, after):
    earlier, later = histogram_of(before, 4), histogram_of(before + after, 4)
    between = later.since(earlier)
    assert between.total == len(after)
    assert between.percentiles([50]) == histogram_of(after, 4).percentiles([50])
