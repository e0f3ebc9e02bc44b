"""Wrong values of every kind, as hypothesis strategies, and how many of them a test tries."""

from __future__ import annotations

import array
import ctypes
import decimal
import fractions
import math
import os
from typing import Any

import numpy as np
from documented import WickedError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# Examples of a test by hand: this many times more, and each time others.
_FACTOR = int(os.environ.get("UCXNB_EXAMPLES", "0"))


def examples(count: int, **more: Any) -> settings:
    """Try so many examples, the same ones each time."""
    return settings(
        max_examples=count * (_FACTOR or 1),
        derandomize=not _FACTOR,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def _raise(self: object, *args: object) -> Any:
    raise WickedError(type(self).__name__)


def _wicked(name: str, *methods: str, base: type = object) -> Any:
    """An object of a class whose methods raise."""
    cls = type(name, (base,), dict.fromkeys(methods, _raise))
    return cls()


class IntOfItsOwn(int):
    """An integer that lies when it is compared."""

    def __lt__(self, other: object) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__
    __hash__ = int.__hash__


class LyingLength(np.ndarray):
    """An array that claims to have more items."""

    def __len__(self) -> int:
        return 10_000


class InterfaceOnly:
    """Memory by numpy's own protocol, and no buffer."""

    __array_interface__ = np.zeros(4).__array_interface__


def samples(values: list[Any]) -> st.SearchStrategy[Any]:
    """`hypothesis.strategies.sampled_from`, which does not touch the values."""
    return st.integers(0, len(values) - 1).map(values.__getitem__)


wicked = samples(
    [
        _wicked("Indexed", "__index__"),
        _wicked("Real", "__float__"),
        _wicked("Hashed", "__hash__"),
        _wicked("Compared", "__eq__", "__lt__", "__gt__", "__hash__"),
        _wicked("Sized", "__len__"),
        _wicked("Iterated", "__iter__", "__getitem__"),
        _wicked("Truth", "__bool__"),
        _wicked("Number", "__eq__", "__hash__", base=int),
        _wicked("Bytes", "__len__", base=bytes),
        _wicked("Array", "__array_interface__", "__array__"),
    ]
)

# hypothesis cannot show these either.
UNSHOWABLE = [
    10**5000,
    -(10**5000),
    [10**5000],
    _wicked("Shown", "__repr__", "__str__"),
    _wicked("Text", "__repr__", base=str),
    _wicked("Number", "__repr__", base=int),
    _wicked("Bytes", "__repr__", base=bytes),
]

huge = st.sampled_from([2**63, 2**64 - 1, 2**64, 10**40, -(10**400), 10**400])

things = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    huge,
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.complex_numbers(),
    samples(
        [
            decimal.Decimal("NaN"),
            decimal.Decimal("sNaN"),
            decimal.Decimal(-1),
            fractions.Fraction(1, 3),
            b"x" * 100_000,
            "x" * 100_000,
            list(range(10_000)),
            {},
            {"a": 1},
            set(),
            object(),
            object,
            len,
            Ellipsis,
            NotImplemented,
            np.int64(-1),
            np.float32("nan"),
            np.bool_(True),
            np.array([1, 2]),
            np.array(["a"]),
            np.array(object()),
            np.array([object(), None]),
            np.datetime64("2026-01-01"),
            memoryview(b"abc"),
            array.array("d", [1.0]),
            ctypes.c_int(3),
            IntOfItsOwn(10**30),
            IntOfItsOwn(-5),
            InterfaceOnly(),
        ]
    ),
    wicked,
)

timeouts = st.one_of(
    samples([0, 0.0, -0.0, False, np.float32(0), np.int8(0), decimal.Decimal(0), 1e-9]),
    samples([-1, -math.inf, math.nan, "1", b"1", -(10**400), [0], np.array([0, 1])]),
    things.filter(lambda thing: not may_wait(thing)),
)


def seconds_of(timeout: Any) -> float:
    """How long a timeout is; -1 if it is none."""
    try:
        return math.inf if timeout is None else math.ldexp(timeout, 0)
    except OverflowError:
        return math.inf if timeout > 0 else -1.0
    except Exception:
        return -1.0


def is_timeout(thing: object) -> bool:
    """Whether it is a timeout."""
    return seconds_of(thing) >= 0


def may_wait(thing: object) -> bool:
    """Whether it is a timeout that is not over at once."""
    return seconds_of(thing) > 0.001
