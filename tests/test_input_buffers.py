"""Memory of every kind: what is in it arrives exactly, or nothing was moved."""

from __future__ import annotations

import array
import contextlib
import ctypes
import mmap

import numpy as np
import pytest
from documented import attempt
from eventually import eventually
from hypothesis import given
from hypothesis import strategies as st
from junk import InterfaceOnly, examples
from public_calls import Pair, exchange, settle

import ucxnb
from ucxnb import InvalidBufferError, UcxWorker

TIMEOUT = 30
NORESERVE = 0x4000  # Python 3.13 has a name for it
DTYPES = (
    "u1", "i2", ">u4", "f8", "c16", "S5", "U3", "V7", "?", "M8[s]", "m8[D]", "i4,f8",
    [("Oh", "f8"), ("x", "u1")], "O", [("a", "O"), ("b", "i4")],
)  # fmt: skip


@st.composite
def arrays(draw):
    """Arrays of any type, dimensions and strides."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    made = np.zeros(shape, dtype, order=draw(st.sampled_from("CF")))
    if not dtype.hasobject and made.size:
        filling = (bytes(range(1, 128)) * made.nbytes)[: made.nbytes]
        made[...] = np.frombuffer(filling, dtype).reshape(shape)
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape]
    made = made[(..., *(slice(None, None, step) for step in steps))]
    if draw(st.booleans()):
        made = made.T
    if draw(st.integers(0, 4)) == 0:
        made = np.broadcast_to(made, (2, *made.shape))
    if draw(st.integers(0, 4)) == 0:
        made = made.view()
        made.flags.writeable = False
    return made


def has_bytes(made):
    return made.flags.c_contiguous and not made.dtype.hasobject


@pytest.mark.reliability
def test_arrays_of_any_type_and_stride(pair, saw):
    pair = Pair(*pair)
    left, to_right, right, to_left = pair
    tried = 0

    @examples(150)
    @given(arrays(), st.booleans())
    def each(made, as_view):
        nonlocal tried
        tried += 1
        memory = made
        if as_view:
            with contextlib.suppress(ValueError):  # numpy has no such view of dates
                memory = memoryview(made)
        sent = attempt(left.send_tag, to_right, 1, memory, timeout=TIMEOUT)
        assert isinstance(sent, InvalidBufferError) != has_bytes(made)
        if sent is None:
            assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == made.tobytes()
        before, filled = made.tobytes() if not made.dtype.hasobject else b"", b"\x01" * made.nbytes
        left.send_tag(to_right, 2, filled)
        got = attempt(right.receive_tag, to_left, 2, memory, timeout=TIMEOUT)
        if isinstance(got, InvalidBufferError):
            assert not (has_bytes(made) and made.flags.writeable)
            assert right.receive_tag(to_left, 2, timeout=TIMEOUT) == filled
            assert made.dtype.hasobject or made.tobytes() == before
        else:
            assert made.tobytes() == filled
            assert got == made.nbytes

    each()
    settle(pair)
    saw(
        "input",
        "arrays of any type, order, stride and dimension as buffers",
        tried=tried,
        sees="their exact bytes arrive, or InvalidBufferError before anything moves",
        seconds=[],
        lost="nothing",
    )


@examples(80)
@given(arrays())
def test_rows_of_any_array(pair, made):
    left, to_right, right, to_left = pair
    sent = attempt(left.send_rows, to_right, 1, made, timeout=TIMEOUT)
    if sent is not None:
        assert isinstance(sent, InvalidBufferError)
        assert right.try_receive_tag(to_left, 1) is None
        return
    target = np.zeros(made.shape, made.dtype)
    right.receive_rows(to_left, 1, target, timeout=TIMEOUT)
    assert target.tobytes() == made.tobytes()


@pytest.mark.parametrize("shape", [ctypes.c_int * 4, ctypes.c_int * 3 * 2, ctypes.c_int * 0])
def test_rows_of_ctypes_arrays(pair, shape):
    left, to_right, right, to_left = pair
    rows, target = shape(), shape()
    ctypes.memset(rows, 7, ctypes.sizeof(rows))
    left.send_rows(to_right, 1, rows, timeout=TIMEOUT)
    right.receive_rows(to_left, 1, target, timeout=TIMEOUT)
    assert bytes(target) == bytes(rows)
    with pytest.raises(InvalidBufferError, match="no dimension"):
        left.send_rows(to_right, 1, ctypes.c_int(1))


def test_memory_that_holds_objects(pair):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, 1, b"12345678")
    for memory in (
        memoryview(np.array([None, object()])),
        (ctypes.py_object * 2)(None, None),
        memoryview(np.zeros(2, [("a", "O"), ("Oh", "i4")])),
    ):
        with pytest.raises(InvalidBufferError, match="objects"):
            left.send_tag(to_right, 1, memory)
        with pytest.raises(InvalidBufferError, match="objects"):
            right.receive_tag(to_left, 1, memory, timeout=TIMEOUT)
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"12345678"


class Refuses:
    def __buffer__(self, flags):
        raise RuntimeError("not today")


@pytest.mark.parametrize("memory", [InterfaceOnly(), Refuses(), object(), 5, "text"])
def test_what_is_no_memory(pair, memory):
    left, to_right, _, _ = pair
    # Before Python 3.12 nobody asks for __buffer__.
    refused = (InvalidBufferError, RuntimeError)
    for call in (
        lambda: left.send_tag(to_right, 1, memory),
        lambda: left.isend_tag(to_right, 1, memory),
        lambda: left.try_receive_tag(to_right, 1, memory),
        lambda: left.send_rows(to_right, 1, memory),
    ):
        with pytest.raises(refused):
            call()
    exchange(Pair(*pair))


def lendable():
    """Buffers of every kind that can be given back, with what takes them from their owner."""
    view, released = memoryview(bytearray(3_000_000)), memoryview(bytearray(8))
    released.release()
    mapped = mmap.mmap(-1, 3_000_000)
    return [
        (bytearray(3_000_000), lambda data: data.append(1)),
        (array.array("d", bytes(2_400_000)), lambda data: data.append(1.0)),
        (view, memoryview.release),
        (mapped, mmap.mmap.close),
    ], released


@pytest.mark.reliability
def test_memory_cannot_be_taken_away_while_it_is_in_use(pair, saw):
    left, to_right, right, to_left = pair
    kinds, released = lendable()
    with pytest.raises(InvalidBufferError, match="released"):
        left.send_tag(to_right, 1, released)
    tried = 0
    for data, take_away in kinds:
        send = left.isend_tag(to_right, 1, data)
        receive = left.ireceive_tag(to_right, 1, data if not send.done else bytearray(1))
        with pytest.raises(BufferError):
            take_away(data)
        assert len(right.receive_tag(to_left, 1, timeout=TIMEOUT)) == memoryview(data).nbytes
        send.wait(TIMEOUT)
        with pytest.raises(BufferError):  # the receive has it still
            take_away(data)
        assert receive.cancel()
        del send, receive
        take_away(data)
        tried += 3
    assert isinstance(attempt(left.send_tag, to_right, 1, kinds[-1][0]), InvalidBufferError)
    settle(Pair(*pair))
    saw(
        "input",
        "memory released, resized or unmapped before, while and after a request uses it",
        tried=tried,
        sees="before InvalidBufferError, meanwhile Python's BufferError, after it is free",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_memory_larger_than_the_machine(saw):
    size = 1 << 36
    with (
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE) as sea,
        UcxWorker(close_timeout=0.1) as left,
        UcxWorker() as right,
    ):
        to_right = left.connect(right.create_listener().address)
        to_left = right.get_endpoint_ids()[0]
        right.send_tag(to_left, 1, b"a drop")
        assert left.receive_tag(to_right, 1, sea, timeout=TIMEOUT) == 6
        assert sea[:7] == b"a drop\0"
        with pytest.raises(ucxnb.OperationTimeoutError):
            left.send_tag(to_right, 2, sea, timeout=0)
        with pytest.raises(ucxnb.BufferTooSmallError) as caught:
            right.receive_tag(to_left, 2, bytearray(8), timeout=TIMEOUT)
        assert caught.value.needed == size
        exchange(Pair(left, to_right, right, to_left))
        right.disconnect(to_left, timeout=0.1)
        eventually(lambda: not left.is_connected(to_right))
        left.close()
    saw(
        "input",
        "a buffer of 64 GiB: more than there is memory",
        tried=3,
        sees="it works as any other; a receive into less is a BufferTooSmallError",
        seconds=[],
        lost="nothing: the message is kept",
    )
