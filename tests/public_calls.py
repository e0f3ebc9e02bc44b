"""Every call of a worker and of what it gives, with good and bad arguments to try."""

from __future__ import annotations

import ctypes
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from documented import attempt
from eventually import eventually
from hypothesis import strategies as st
from junk import IntOfItsOwn, LyingLength, samples, things, timeouts

import ucxnb
from ucxnb import Message, Request, UcxWorker

ECHO_TAG = 2**40 - 1
_numbers = itertools.count(1)


class Pair(NamedTuple):
    """What the `pair` fixture gives."""

    left: UcxWorker
    to_right: int
    right: UcxWorker
    to_left: int


tags = st.one_of(
    st.integers(0, 2**40 - 2),
    samples([True, np.uint64(7), np.int8(-1), -1, 2**40, IntOfItsOwn(3)]),
    things,
)
buffers = st.one_of(st.none(), st.builds(bytearray, st.integers(0, 300)), things)
payloads = st.one_of(st.binary(max_size=300), things)
rows = st.one_of(
    st.builds(lambda n, m: np.zeros((n, m), np.uint8), st.integers(0, 5), st.integers(0, 9)),
    samples(
        [
            (ctypes.c_int * 4)(),
            (ctypes.c_int * 3 * 2)(),
            (ctypes.c_int * 0)(),
            np.zeros((4, 4))[::-1],
            np.zeros((4, 4))[:, ::2],
            np.zeros((4, 4), order="F"),
            np.zeros(()),
            np.broadcast_to(np.uint8(1), (5, 8)),
            memoryview(np.array([None, object()])),
        ]
    ),
    things,
)
many_tags = st.one_of(
    tags,
    st.lists(tags, max_size=5),
    samples(
        [
            np.arange(4),
            np.arange(-2, 2),
            np.arange(4).view(LyingLength),
            memoryview(np.zeros((4, 1), np.uint64)),
            (ctypes.c_uint64 * 4)(),
            range(4),
        ]
    ),
)
messages = st.one_of(st.lists(st.one_of(st.tuples(tags, payloads), things), max_size=4), things)

keys = st.one_of(st.just(b"UCXm" + bytes(32)), things)
offsets = st.one_of(st.integers(-9, 300), things)

_timeout = {"timeout": timeouts}
_mask = {"tag_mask": st.one_of(st.none(), tags)}

# Call by call: its arguments by position, and by name.
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "send_tag": (["peer", tags, payloads], _timeout),
    "isend_tag": (["peer", tags, payloads], {}),
    "broadcast_tag": ([tags, payloads], _timeout),
    "send_tags": (["peer", messages], _timeout),
    "send_rows": (["peer", many_tags, rows], _timeout),
    "receive_tag": (["peer", tags, buffers], {**_timeout, **_mask}),
    "try_receive_tag": (["peer", tags, buffers], _mask),
    "receive_message": (["peer", tags, buffers], {**_timeout, **_mask}),
    "try_receive_message": (["peer", tags, buffers], _mask),
    "ireceive_tag": (["peer", tags, buffers], _mask),
    "receive_tags": (["peer", st.one_of(st.lists(tags, max_size=4), things)], _timeout),
    "receive_rows": (["peer", many_tags, rows], _timeout),
    "send_stream": (["peer", payloads], _timeout),
    "isend_stream": (["peer", payloads], {}),
    "receive_stream": (["peer", buffers, st.one_of(st.booleans(), things)], _timeout),
    "try_receive_stream": (["peer", buffers], {}),
    "ireceive_stream": (["peer", buffers, st.booleans()], {}),
    "open_stream": (["peer"], _timeout),
    "send_object": (["peer", tags, things], _timeout),
    "isend_object": (["peer", tags, things], {}),
    "receive_object": (["peer", tags], _timeout),
    "register": ([st.one_of(buffers, payloads)], {"writable": st.one_of(st.booleans(), things)}),
    "allocate": ([st.one_of(st.integers(-2, 5000), things)], {}),
    "open_remote": (["peer", keys], _timeout),
    "put": (["peer", payloads, keys, offsets], _timeout),
    "get": (["peer", buffers, keys, offsets], _timeout),
    "iput": (["peer", payloads, keys, offsets], {}),
    "iget": (["peer", buffers, keys, offsets], {}),
    "atomic_add": (["peer", keys, offsets, tags], {**_timeout, "nbytes": things}),
    "fetch_add": (["peer", keys, offsets, tags], {**_timeout, "nbytes": things}),
    "compare_swap": (["peer", keys, offsets, tags, tags], {**_timeout, "nbytes": things}),
    "flush": (["peer"], _timeout),
    "fence": ([], {}),
    "progress": ([], {}),
    "run_progress_loop": ([timeouts], {}),
    "stats": ([st.one_of(st.none(), things)], {}),
    "explain": (["peer"], {}),
    "endpoints": ([], {"ended": st.booleans()}),
    "get_endpoint_ids": ([], {}),
    "is_connected": ([things], {}),
    "history": ([], {}),
    "refusals": ([], {}),
    "events": ([], {}),
    "snapshot": ([], {}),
    "disconnect": (["stranger"], {"timeout": st.one_of(timeouts, st.none())}),
    "connect": (
        [things.filter(lambda thing: not isinstance(thing, str))],
        {**_timeout, "via": things},
    ),
    "keep_connected": (
        [things.filter(lambda thing: not isinstance(thing, str))],
        {**_timeout, "first_delay": timeouts, "longest_delay": timeouts, "give_up_after": timeouts},
    ),
    "create_listener": (
        [things.filter(lambda thing: not isinstance(thing, str))],
        {"via": things},
    ),
}

# Calls that change a worker: they have tests of their own.
CHANGING = {"cleanup_all", "close"}
IN_ASYNCIO = {
    "accept",
    "connect_async",
    "disconnect_async",
    "messages",
    "open_stream_async",
    "receive_object_async",
}


def public_methods() -> set[str]:
    """Names of the methods that a worker has for users."""
    return {
        name
        for name, member in inspect.getmembers(UcxWorker)
        if not name.startswith("_") and callable(member)
    }


def arguments(name: str, peer: int) -> st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of a call, good and bad ones mixed."""
    special = {
        "peer": st.one_of(st.just(peer), st.just(peer), st.none(), things),
        # A number that is equal to an endpoint's id is that id.
        "stranger": things.filter(lambda thing: not _is(thing, peer)),
    }
    positional, named = CALLS[name]
    return st.tuples(
        st.tuples(*(special[one] if isinstance(one, str) else one for one in positional)),
        st.fixed_dictionaries({}, optional=named) if "timeout" not in named else
        st.fixed_dictionaries({"timeout": named["timeout"]},
                              optional={k: v for k, v in named.items() if k != "timeout"}),
    )  # fmt: skip


def _is(thing: object, peer: int) -> bool:
    try:
        return bool(thing == peer)
    except Exception:
        return False


def plain_arguments(pair: Pair) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """One good call of each kind, all of them by the left worker."""
    peer = pair.to_right
    return [
        ("send_tag", (peer, 1, b"x"), {}),
        ("isend_tag", (peer, 1, b"x"), {}),
        ("broadcast_tag", (1, b"x"), {}),
        ("send_tags", (peer, [(1, b"x")]), {}),
        ("send_rows", (peer, 1, np.zeros((1, 1), np.uint8)), {}),
        ("receive_tag", (peer, 1), {"timeout": 0}),
        ("try_receive_tag", (peer, 1), {}),
        ("receive_message", (None, 1, bytearray(4)), {"timeout": 0}),
        ("try_receive_message", (None, 1), {}),
        ("ireceive_tag", (peer, 2**39), {}),
        ("receive_tags", (peer, [1]), {"timeout": 0}),
        ("receive_rows", (peer, 1, np.zeros((1, 1), np.uint8)), {"timeout": 0}),
        ("send_stream", (peer, b"x"), {}),
        ("isend_stream", (peer, b"x"), {}),
        ("receive_stream", (peer, bytearray(4)), {"timeout": 0}),
        ("try_receive_stream", (peer, bytearray(4)), {}),
        ("ireceive_stream", (peer, bytearray(4)), {}),
        ("open_stream", (peer,), {}),
        ("send_object", (peer, 1, [1]), {}),
        ("isend_object", (peer, 1, [1]), {}),
        ("receive_object", (peer, 1), {"timeout": 0}),
        ("register", (bytearray(8),), {}),
        ("allocate", (8,), {}),
        ("open_remote", (peer, b""), {}),
        ("put", (peer, b"x", b""), {}),
        ("get", (peer, bytearray(1), b""), {}),
        ("iput", (peer, b"x", b""), {}),
        ("iget", (peer, bytearray(1), b""), {}),
        ("atomic_add", (peer, b"", 0, 1), {}),
        ("fetch_add", (peer, b"", 0, 1), {}),
        ("compare_swap", (peer, b"", 0, 0, 1), {}),
        ("flush", (peer,), {"timeout": 30}),
        ("fence", (), {}),
        ("progress", (), {}),
        ("run_progress_loop", (0,), {}),
        ("stats", (), {}),
        ("stats", (peer,), {}),
        ("explain", (peer,), {}),
        ("endpoints", (), {"ended": True}),
        ("get_endpoint_ids", (), {}),
        ("is_connected", (peer,), {}),
        ("history", (), {}),
        ("refusals", (), {}),
        ("events", (), {}),
        ("snapshot", (), {}),
        ("disconnect", (2**23,), {}),
        ("connect", ("127.0.0.1:1",), {}),
        ("keep_connected", ("127.0.0.1:1",), {}),
        ("create_listener", ("127.0.0.1:1",), {}),
    ]


def drain(worker: UcxWorker) -> list[Message]:
    """Receive all that has arrived, messages and streams."""
    got = []
    buffer = bytearray(4096)
    for info in worker.endpoints():
        while worker.try_receive_stream(info.endpoint_id, buffer):
            pass
    while (message := worker.try_receive_message(None, 0, tag_mask=0)) is not None:
        got.append(message)
    return got


def exchange(pair: Pair) -> None:
    """Messages pass both ways, whole."""
    data = next(_numbers).to_bytes(8, "little")
    pair.left.send_tag(pair.to_right, ECHO_TAG, data, timeout=30)
    assert pair.right.receive_tag(pair.to_left, ECHO_TAG, timeout=30) == data
    pair.right.send_tag(pair.to_left, ECHO_TAG, data * 2000, timeout=30)
    assert pair.left.receive_tag(pair.to_right, ECHO_TAG, timeout=30) == data * 2000


def books_agree(pair: Pair) -> bool:
    """Whether what each side has counted fits: all that was sent has been received."""
    here, there = pair.left.stats(), pair.right.stats()
    for worker, total in ((pair.left, here), (pair.right, there)):
        parts = [info.stats for info in worker.endpoints(ended=True)]
        assert sum(part.messages_sent for part in parts) == total.messages_sent
        assert sum(part.bytes_sent for part in parts) == total.bytes_sent
        assert sum(part.messages_received for part in parts) == total.messages_received
    sent = (here.messages_sent, here.bytes_sent, there.messages_sent, there.bytes_sent)
    return sent == (
        there.messages_received,
        there.bytes_received,
        here.messages_received,
        here.bytes_received,
    )


def settle(pair: Pair) -> None:
    """Everything that was sent arrives, once; and the two talk on."""
    eventually(lambda: (drain(pair.right), drain(pair.left), books_agree(pair))[-1])
    exchange(pair)


def make_call(worker: UcxWorker, name: str, args: Any, named: Any) -> Any:
    """Make a call, which works or raises an error of its docstring."""
    call: Callable[..., Any] = getattr(worker, name)
    result = attempt(call, *args, **named)
    if isinstance(result, ucxnb.Listener | ucxnb.RegisteredMemory):
        result.close()
    elif isinstance(result, Request) and not result.is_send:
        result.cancel()
    return result
