"""Values on their way between workers: a small header, and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..errors import ArgumentError
from ..objects import pack, unpack
from ..text import shown

__all__ = ["Header", "make_room", "packed", "unpacked"]


@dataclass(frozen=True, slots=True)
class Header:
    """What the bytes that follow stand for.

    Attributes
    ----------
    nbytes : int
        How many there are.
    dtype : numpy.dtype or None
        Of an array; None for an object.
    shape : tuple of int
        Of an array.
    """

    nbytes: int
    dtype: Any = None
    shape: tuple[int, ...] = ()


def packed(value: Any) -> tuple[Header, memoryview]:
    """Take a value apart. An array that is contiguous is not copied, and must not change.

    Raises
    ------
    ObjectError
        It cannot be pickled.
    """
    if type(value) is np.ndarray and not value.dtype.hasobject:
        array = np.asarray(value, order="C")
        return Header(array.nbytes, array.dtype, array.shape), _bytes_of(array)
    data = bytearray().join(pack(value))
    return Header(len(data)), memoryview(data)


def make_room(header: Header, out: np.ndarray | None = None) -> memoryview:
    """Allocate memory for the bytes of a value, or take that of an array.

    Raises
    ------
    ArgumentError
        The array does not have room for just that.
    """
    if out is not None:
        fits = isinstance(out, np.ndarray) and out.flags.c_contiguous and out.flags.writeable
        if not fits or (out.dtype, out.shape) != (header.dtype, header.shape):
            raise ArgumentError(
                f"out={shown(out)}: it takes a contiguous array of {header.dtype}, {header.shape}"
            )
        return _bytes_of(out)
    if header.dtype is None:
        return memoryview(bytearray(header.nbytes))
    return _bytes_of(np.empty(header.shape, header.dtype))


def unpacked(header: Header, data: memoryview) -> Any:
    """Make the value; an array lies in the memory that was made for it.

    Raises
    ------
    ObjectError
        It cannot be made here.
    """
    if header.dtype is None:
        return unpack(cast("bytearray", data.obj))
    return np.asarray(data).view(header.dtype).reshape(header.shape)


def _bytes_of(array: np.ndarray) -> memoryview:
    # Not through the array's own buffer: Python has no format for every type of NumPy's.
    return memoryview(array.reshape(-1).view(np.uint8))
