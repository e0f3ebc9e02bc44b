"""`RemoteArray` selects what NumPy selects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ucxnb import ArgumentError, RemoteArray, RemoteRangeError, UcxWorker

SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def place():
    with UcxWorker(enable_rma=True) as left, UcxWorker(enable_rma=True) as right:
        there = left.connect(right.create_listener().address)
        with right.allocate(10_000) as memory:
            yield left, there, memory


def made(place, values):
    left, there, memory = place
    array = RemoteArray(left, there, memory.remote_key(), values.dtype, values.shape, offset=16)
    array[...] = values
    array.flush()
    return array, np.ndarray(values.shape, values.dtype, memory, 16)


VALUES = np.arange(60, dtype="<i4").reshape(SHAPE)
INDICES = hnp.basic_indices(SHAPE, allow_ellipsis=True, allow_newaxis=False)


@settings(deadline=None, max_examples=150)
@given(index=INDICES)
def test_getting_is_numpys(place, index):
    array, _ = made(place, VALUES)
    expected = VALUES[index]
    got = array[index]
    assert np.array_equal(got, expected)
    assert np.shape(got) == np.shape(expected)


@settings(deadline=None, max_examples=150)
@given(index=INDICES, value=st.integers(-1000, 1000))
def test_putting_is_numpys(place, index, value):
    array, there = made(place, VALUES)
    expected = VALUES.copy()
    new = np.full(np.shape(expected[index]), value) + np.arange(np.size(expected[index])).reshape(
        np.shape(expected[index])
    )
    expected[index] = new
    array[index] = new
    array.flush()
    assert np.array_equal(there, expected)


def test_what_it_says_of_itself(place):
    array, _ = made(place, VALUES)
    assert (array.shape, array.ndim, array.size, array.nbytes) == (SHAPE, 3, 60, 240)
    assert (array.dtype, len(array)) == (np.dtype("<i4"), 3)
    assert "(3, 4, 5)" in repr(array)
    assert np.asarray(array).sum() == VALUES.sum()
    with pytest.raises(ValueError, match="copy"):
        np.asarray(array, copy=False)


def test_values_are_broadcast_and_converted(place):
    array, there = made(place, VALUES)
    array[1] = 7.0
    array[:, 2] = np.arange(5)
    array.flush()
    assert (there[1, 0] == 7).all()
    assert (there[:, 2] == np.arange(5)).all()
    with pytest.raises(ValueError, match="broadcast"):
        array[0] = np.zeros(3)


def test_any_data_type_without_objects(place):
    for dtype in ("float16", "complex128", "S5", "U3", "datetime64[s]", [("a", "u1"), ("b", "f8")]):
        values = np.zeros(4, dtype)
        array, there = made(place, values)
        assert array[...].dtype == values.dtype
        assert there.dtype == values.dtype
    array, _ = made(place, np.array(5.5))
    assert array[()] == 5.5
    with pytest.raises(TypeError):
        len(array)


def test_the_shape_that_fits(place):
    left, there, memory = place
    assert RemoteArray(left, there, memory.remote_key(), "f8").shape == (1250,)
    assert RemoteArray(left, there, memory.remote_key(), "f8", offset=9_990).shape == (1,)
    with pytest.raises(RemoteRangeError):
        RemoteArray(left, there, memory.remote_key(), "f8", 1251)
    with pytest.raises(RemoteRangeError):
        RemoteArray(left, there, memory.remote_key(), "f8", offset=10_001)


@pytest.mark.parametrize("index", [3, -4, (0, 4), (0, 0, 0, 0), (..., ...)])
def test_there_are_no_such_elements(place, index):
    array, _ = made(place, VALUES)
    with pytest.raises(IndexError):
        array[index]


@pytest.mark.parametrize("index", [None, "a", 1.5, [0, 1], np.array([True, False, True])])
def test_other_ways_to_select_are_refused(place, index):
    array, there = made(place, VALUES)
    with pytest.raises(ArgumentError, match="integers, slices"):
        array[index]
    with pytest.raises(ArgumentError):
        array[index] = 0
    assert np.array_equal(there, VALUES)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(object, 4), ("nonsense", 4), ("V0", 4), ("f8", -1), ("f8", "4"), ("f8", 1.5)],
)
def test_arrays_that_cannot_be(place, dtype, shape):
    left, there, memory = place
    with pytest.raises(ArgumentError):
        RemoteArray(left, there, memory.remote_key(), dtype, shape)
