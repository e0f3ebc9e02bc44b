"""Any call with any arguments: it works, or raises an error of its docstring; the worker lives."""

from __future__ import annotations

import time
from collections.abc import Hashable

import pytest
from documented import attempt, attempt_as, documented_errors
from hypothesis import given
from hypothesis import strategies as st
from junk import UNSHOWABLE, examples, is_timeout, may_wait, things, timeouts
from public_calls import (
    CALLS,
    CHANGING,
    IN_ASYNCIO,
    Pair,
    arguments,
    books_agree,
    make_call,
    plain_arguments,
    public_methods,
    settle,
)

import ucxnb
from ucxnb import EchoPeer, StatsHistory, UcxWorker, WorkerConfig
from ucxnb.bench import BenchRun, Measurement, private_pair, sizes_between


def test_no_public_call_is_left_out():
    assert CALLS.keys() | CHANGING | IN_ASYNCIO == public_methods()


@pytest.mark.reliability
@pytest.mark.parametrize("name", sorted(CALLS))
def test_any_arguments(pair, saw, name):
    pair = Pair(*pair)
    tried, seconds, refused = 0, [], set()

    @examples(40)
    @given(arguments(name, pair.to_right))
    def each(chosen):
        nonlocal tried
        began = time.monotonic()
        result = make_call(pair.left, name, *chosen)
        if isinstance(result, Exception):
            seconds.append(time.monotonic() - began)
            refused.add(type(result).__name__)
        settle(pair)
        tried += 1

    each()
    saw(
        "input",
        "wrong arguments to any call of a worker: endpoints, tags, buffers, timeouts, arrays",
        tried=tried,
        sees="an error that the call's docstring names, or the call works; the pair talks on",
        seconds=seconds,
        lost="nothing",
    )


@pytest.mark.parametrize("value", UNSHOWABLE, ids=lambda value: type(value).__name__)
def test_values_that_cannot_be_shown(pair, value):
    pair = Pair(*pair)
    for name, args, named in plain_arguments(pair):
        for i in range(len(args)):
            if name != "run_progress_loop" or not may_wait(value):
                make_call(pair.left, name, (*args[:i], value, *args[i + 1 :]), named)
        for word in named:
            if not may_wait(value):
                make_call(pair.left, name, args, {**named, word: value})
    attempt(WorkerConfig.from_values, {"buffer_size": value})
    attempt(WorkerConfig.from_values, {"ucx_options": {"TLS": value}})
    attempt(WorkerConfig.from_values, {value: 1} if isinstance(value, Hashable) else value)
    settle(pair)


@pytest.mark.reliability
def test_closing_calls_with_any_timeout(saw):
    tried = 0

    @examples(20)
    @given(timeouts)
    def each(timeout):
        nonlocal tried
        with UcxWorker() as worker:
            itself = worker.connect(worker.create_listener().address)
            result = attempt(worker.cleanup_all, timeout=timeout)
            assert isinstance(result, Exception) == worker.is_connected(itself)
            tried += 1

    each()
    saw(
        "input",
        "a timeout that is none, to the calls that close",
        tried=tried,
        sees="ArgumentError, and every connection is still open",
        seconds=[],
        lost="nothing",
    )


def wrong_requests():
    return st.one_of(things, st.lists(things, max_size=3))


@examples(40)
@given(requests=wrong_requests(), timeout=timeouts)
def test_waiting_for_what_is_no_request(requests, timeout):
    attempt(ucxnb.wait_all, requests, timeout)
    attempt(ucxnb.wait_any, requests, timeout)
    attempt_as(ucxnb.as_completed, lambda: list(ucxnb.as_completed(requests, timeout)))


@examples(40)
@given(timeout=timeouts)
def test_waiting_with_a_timeout_that_is_none(pair, timeout):
    left, to_right, right, to_left = pair
    request = right.ireceive_tag(to_left, 1)
    for documented, wait in (
        (request.wait, lambda: request.wait(timeout)),
        (ucxnb.wait_all, lambda: ucxnb.wait_all([request], timeout)),
        (ucxnb.wait_any, lambda: ucxnb.wait_any([request], timeout)),
        (ucxnb.as_completed, lambda: list(ucxnb.as_completed([request], timeout))),
    ):
        assert isinstance(attempt_as(documented, wait), Exception)
    assert not request.done
    left.send_tag(to_right, 1, b"came")
    assert request.wait(30).data == b"came"
    assert books_agree(Pair(*pair))


FIELDS = sorted(WorkerConfig.__dataclass_fields__)


@pytest.mark.reliability
def test_settings_of_any_kind(saw):
    tried = 0
    names = st.one_of(st.sampled_from(FIELDS), st.text(max_size=5), things)

    @examples(150)
    @given(st.one_of(st.dictionaries(st.sampled_from(FIELDS), things, max_size=3), things))
    def each(values):
        nonlocal tried
        attempt(WorkerConfig.from_values, values)
        tried += 1

    @examples(80)
    @given(st.lists(st.tuples(names, st.one_of(st.text(max_size=5), things)), max_size=2))
    def options(pairs):
        nonlocal tried
        chosen = {}
        for name, value in pairs:
            try:
                chosen[name] = value
            except Exception:  # it has no hash
                continue
        attempt(WorkerConfig.from_values, {"ucx_options": chosen})
        tried += 1

    each()
    options()
    saw(
        "input",
        "settings of a worker of any type and value",
        tried=tried,
        sees="ConfigError with the field's name and what it takes",
        seconds=[],
        lost="nothing",
    )


@examples(100)
@given(things)
def test_other_public_makers(thing):
    if not is_timeout(thing):
        assert isinstance(attempt(EchoPeer, start_timeout=thing), Exception)
    attempt(StatsHistory, thing)
    attempt(sizes_between, thing, 100)
    attempt(sizes_between, 8, thing)
    assert isinstance(attempt_as(private_pair, private_pair(thing).__enter__), Exception)
    if not isinstance(thing, str | bytes):
        attempt(BenchRun.from_json, thing)


@examples(100)
@given(sizes=st.one_of(st.lists(things, min_size=1, max_size=2), things), seconds=things)
def test_measurements(pair, sizes, seconds):
    attempt(Measurement, pair[0], pair[1], sizes, seconds=seconds)


@examples(100)
@given(st.text())
def test_what_is_no_saved_measurement(text):
    with pytest.raises((ucxnb.UcxnbError, OSError)):
        BenchRun.from_json("{" + text)
    with pytest.raises((ucxnb.UcxnbError, OSError)):
        BenchRun.from_json("\0" + text)


def test_a_docstring_names_its_errors():
    assert {
        name for name in public_methods() if not documented_errors(getattr(UcxWorker, name))
    } == {
        "endpoints",
        "events",
        "get_endpoint_ids",
        "history",
        "is_connected",
        "refusals",
        "snapshot",
    }
    assert ucxnb.OperationTimeoutError not in documented_errors(UcxWorker.try_receive_tag)
    assert ucxnb.BufferTooSmallError in documented_errors(UcxWorker.try_receive_message)
