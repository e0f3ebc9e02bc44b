"""Objects as messages: what comes out, that nothing is copied, and whom they are taken from."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucxnb import (
    ObjectError,
    OperationTimeoutError,
    RequestCancelledError,
    ThreadMode,
    UcxWorker,
    UntrustedPeersError,
)
from ucxnb.objects import pack, unpack

WAIT = 30.0
KEY = {"auth_key": "0123456789abcdef", "thread_mode": ThreadMode.MULTI}


@pytest.fixture(params=["shm", "tcp"])
def trusted(request):
    options = {"TLS": "tcp,self"} if request.param == "tcp" else {}
    with (
        UcxWorker(**KEY, ucx_options=options) as left,
        UcxWorker(**KEY, ucx_options=options) as right,
    ):
        there = left.connect(right.create_listener().address)
        yield left, there, right, right.get_endpoint_ids()[0]


def joined(parts):
    return bytearray(b"".join(parts))


objects = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(objects)
def test_any_object_comes_out_as_it_went_in(value):
    assert pickle.dumps(unpack(joined(pack(value)))) == pickle.dumps(value)


def test_the_bytes_of_arrays_are_beside_the_pickle_and_aligned():
    arrays = [np.arange(n, dtype=np.float64) for n in (0, 1, 9, 100_000)]
    parts = pack(arrays)
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), arrays[3]) for part in parts)
    message = joined(parts)
    copies = unpack(message)
    for array, copy in zip(arrays, copies, strict=True):
        assert np.array_equal(array, copy)
    assert np.shares_memory(copies[3], np.frombuffer(message, np.uint8))
    copies[3][0] = 5.0
    start = copies[3].__array_interface__["data"][0]
    assert (start - np.frombuffer(message, np.uint8).__array_interface__["data"][0]) % 64 == 0


@pytest.mark.parametrize("rows", [3, 200_000])
def test_a_table_goes_over(trusted, rows):
    left, there, right, here = trusted
    table = pd.DataFrame({"x": np.arange(rows), "y": np.random.default_rng(1).random(rows)})
    sending = left.isend_object(there, 7, table)
    got = right.receive_object(here, 7, timeout=WAIT)
    sending.wait(WAIT)
    pd.testing.assert_frame_equal(got, table)
    got["x"] += 1
    left.send_object(there, 7, {"small": (1, None)}, timeout=WAIT)
    assert right.receive_object(None, 7, timeout=WAIT) == {"small": (1, None)}


def test_in_asyncio(trusted):
    left, there, right, here = trusted

    async def exchange():
        waiting = asyncio.create_task(right.receive_object_async(here, 1))
        value = np.ones(100_000)
        await left.isend_object(there, 1, value)
        return np.array_equal(await waiting, value)

    assert asyncio.run(asyncio.wait_for(exchange(), WAIT))


def test_a_timeout_loses_nothing(trusted):
    left, there, right, here = trusted
    with pytest.raises(OperationTimeoutError):
        right.receive_object(here, 1, timeout=0.01)
    with pytest.raises(OperationTimeoutError):
        left.send_object(there, 1, np.zeros(4_000_000), timeout=0.05)
    assert not right.receive_object(here, 1, timeout=WAIT).any()


def test_objects_of_strangers_are_not_taken():
    with UcxWorker() as left, UcxWorker() as right:
        there = left.connect(right.create_listener().address)
        left.send_object(there, 1, "object", timeout=WAIT)
        with pytest.raises(UntrustedPeersError, match="auth_key"):
            right.receive_object(None, 1, timeout=WAIT)
        with pytest.raises(UntrustedPeersError):
            asyncio.run(right.receive_object_async(None, 1))
        assert unpack(bytearray(right.receive_tag(None, 1, timeout=WAIT))) == "object"
    with UcxWorker() as left, UcxWorker(unpickle_from_anyone=True) as right:
        there = left.connect(right.create_listener().address)
        left.send_object(there, 1, "object", timeout=WAIT)
        assert right.receive_object(None, 1, timeout=WAIT) == "object"


class Stubborn:
    def __reduce__(self):
        raise RuntimeError("not me")


class Unmade:
    def __reduce__(self):
        return int, ("no number",)


def test_what_cannot_be_pickled_is_not_sent(trusted):
    left, there, right, here = trusted
    for value in (Stubborn(), lambda: None, (x for x in ())):
        with pytest.raises(ObjectError, match="cannot be sent") as caught:
            left.send_object(there, 1, value)
        assert caught.value.__cause__ is not None
    assert right.try_receive_tag(here, 1) is None


def test_what_cannot_be_made_is_an_error_with_the_bytes(trusted):
    left, there, right, here = trusted
    left.send_object(there, 1, Unmade())
    with pytest.raises(ObjectError, match="ValueError") as caught:
        right.receive_object(here, 1, timeout=WAIT)
    assert caught.value.data == joined(pack(Unmade()))
    left.send_tag(there, 1, b"no object")
    with pytest.raises(ObjectError, match="holds no object") as caught:
        right.receive_object(here, 1, timeout=WAIT)
    assert caught.value.data == b"no object"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_messages_are_errors(data):
    message = joined(pack([1, b"x" * 100, np.arange(20)]))
    how = data.draw(st.sampled_from(["cut", "longer", "header", "junk"]))
    if how == "cut":
        del message[data.draw(st.integers(0, len(message) - 1)) :]
    elif how == "longer":
        message += bytes(data.draw(st.integers(1, 200)))
    elif how == "header":
        at = data.draw(st.integers(0, 4))
        struct.pack_into("<Q", message, 8 * at, data.draw(st.integers(0, 2**64 - 1)))
        with contextlib.suppress(ObjectError):  # what lies in the padding does no harm
            assert len(unpack(message)) == 3
        return
    else:
        message = bytearray(data.draw(st.binary(max_size=300)))
    with pytest.raises(ObjectError):
        unpack(message)


def test_a_cancelled_receive_loses_nothing(trusted):
    left, there, right, here = trusted

    async def give_up():
        with pytest.raises((TimeoutError, RequestCancelledError)):
            await asyncio.wait_for(right.receive_object_async(here, 1), 0.02)

    asyncio.run(give_up())
    left.send_object(there, 1, [5])
    assert right.receive_object(here, 1, timeout=WAIT) == [5]
