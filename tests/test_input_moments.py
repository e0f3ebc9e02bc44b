"""Calls at moments when they cannot work, or should not: each ends at once, and says why."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from documented import attempt, documented_errors
from eventually import eventually
from hypothesis import given
from hypothesis import strategies as st
from junk import examples
from public_calls import Pair, exchange, make_call, plain_arguments, settle

import ucxnb
from ucxnb import ThreadModeError, UcxWorker, WorkerClosedError

TIMEOUT = 30
LARGE = 3_000_000  # is sent only while somebody receives it


def outcomes(pair: Pair) -> dict[str, object]:
    """How each call of the left worker ends."""
    return {
        f"{name}{args}": make_call(pair.left, name, args, named)
        for name, args, named in plain_arguments(pair)
    }


def refused(pair: Pair, kind: type[Exception]) -> int:
    """How many calls end with an error that is theirs to raise now; the others must work."""
    count = 0
    for name, args, named in plain_arguments(pair):
        result = make_call(pair.left, name, args, named)
        if kind in documented_errors(getattr(pair.left, name)):
            assert isinstance(result, kind), name
            count += 1
        else:
            assert not isinstance(result, Exception), name
    return count


@pytest.mark.reliability
def test_from_another_thread_in_single_mode(pair, saw):
    pair = Pair(*pair)
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(pair.left.receive_tag(pair.to_right, 5, timeout=TIMEOUT))
    )
    request = pair.left.ireceive_tag(pair.to_right, 6)
    thread.start()
    eventually(lambda: isinstance(attempt(pair.left.progress), ThreadModeError))
    count = refused(pair, ThreadModeError)
    for call in (request.wait, lambda: ucxnb.wait_any([request]), request.__await__().__next__):
        with pytest.raises((ThreadModeError, RuntimeError)):
            call()
    assert request.cancel()
    pair.right.send_tag(pair.to_left, 5, b"done")
    thread.join()
    assert ended == [b"done"]
    settle(pair)
    saw(
        "input",
        "a call from a second thread with ThreadMode.SINGLE",
        tried=count,
        sees="ThreadModeError, which names ThreadMode.MULTI; the first thread's call goes on",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_after_close(saw):
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        requests = [left.ireceive_tag(to_right, 1), left.isend_tag(to_right, 1, bytes(8))]
        left.close()
        pair = Pair(left, to_right, right, 1)
        count = 0
        for name, args, named in plain_arguments(pair):
            result = make_call(left, name, args, named)
            if WorkerClosedError in documented_errors(getattr(left, name)):
                assert isinstance(result, WorkerClosedError), name
                count += 1
        assert all(request.done for request in requests)
        assert not requests[0].cancel()
        with pytest.raises(WorkerClosedError):
            ucxnb.wait_all(requests)

        async def asynchronous():
            for call in (left.accept(), left.connect_async("127.0.0.1:1"), anext(left.messages(1))):
                with pytest.raises((WorkerClosedError, ucxnb.NoPeersError)):
                    await call

        asyncio.run(asynchronous())
    saw(
        "input",
        "a call after close()",
        tried=count,
        sees="WorkerClosedError",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_in_the_child_of_a_fork(pair, saw):
    pair = Pair(*pair)
    tried = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
        for turn in range(10):
            receive = pair.left.ireceive_tag(pair.to_right, 2)
            traffic = [pair.left.isend_tag(pair.to_right, 3, bytes(LARGE)) for _ in range(2)]
            arriving = pair.right.ireceive_tag(pair.to_left, 3)
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # whatever hangs ends with a signal
                os._exit(in_the_child(pair, [receive, arriving, *traffic]))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"turn {turn}"
            arriving.wait(TIMEOUT)
            pair.right.receive_tag(pair.to_left, 3, timeout=TIMEOUT)
            pair.right.send_tag(pair.to_left, 2, b"the parent's")
            assert receive.wait(TIMEOUT).data == b"the parent's"
            del receive, traffic, arriving
            tried += 1
    settle(pair)
    saw(
        "input",
        "every call in the child of a fork, while messages are on their way",
        tried=tried,
        sees="WorkerClosedError, which says that the worker is the parent's; nothing waits",
        seconds=[],
        lost="nothing: the parent goes on",
    )


def in_the_child(pair: Pair, requests: list[ucxnb.Request]) -> int:
    """Exit code: 0 if all is as it should be."""
    try:
        for name, args, named in plain_arguments(pair):
            result = make_call(pair.left, name, args, named)
            if WorkerClosedError in documented_errors(getattr(pair.left, name)):
                assert "parent" in str(result), name
            else:
                assert not isinstance(result, Exception), name
        assert pair.left.closed
        assert pair.left.endpoints(ended=True)[0].transports == ()
        for request in requests:
            assert not request.cancel()
            if not request.done:
                with pytest.raises(WorkerClosedError):
                    request.wait()
        for listener in pair.right.listeners:
            listener.close()
        pair.left.close()
        requests.clear()
        gc.collect()
    except BaseException as error:
        os.write(2, repr(error).encode())
        return 1
    return 0


@pytest.mark.reliability
def test_from_a_signal_handler_inside_a_blocking_call(pair, saw):
    pair = Pair(*pair)
    left, to_right, right, to_left = pair
    seen = []

    def handler(number, frame):
        seen.append(outcomes(pair))
        with pytest.raises(ThreadModeError):
            left.close()

    def ring():  # while it waits in one of its calls, in one after the other
        for _ in range(10):
            if stop.wait(0.02):
                return
            os.kill(os.getpid(), signal.SIGUSR1)

    stop = threading.Event()
    before = signal.signal(signal.SIGUSR1, handler)
    ringing = threading.Thread(target=ring)
    try:
        ringing.start()
        for call in (
            lambda: left.receive_tag(to_right, 77, timeout=0.1),
            lambda: left.send_tag(to_right, 78, bytes(LARGE), timeout=0.1),
            lambda: left.receive_tags(to_right, [77, 77], timeout=0.1),
            lambda: left.ireceive_tag(to_right, 77).wait(0.1),
        ):
            with pytest.raises(ucxnb.OperationTimeoutError):
                call()
        left.run_progress_loop(0.1)
    finally:
        stop.set()
        ringing.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen
    assert len(right.receive_tag(to_left, 78, timeout=TIMEOUT)) == LARGE
    settle(pair)
    saw(
        "input",
        "every call from a signal handler that interrupts a blocking call",
        tried=sum(map(len, seen)),
        sees="it works; close() is a ThreadModeError",
        seconds=[],
        lost="nothing",
    )


class Reentrant:
    """An argument whose methods call the worker."""

    def __init__(self, action):
        self._action = action

    def __index__(self):
        self._action()
        return 3

    def __float__(self):
        self._action()
        return 0.0

    def __iter__(self):
        self._action()
        return iter([(3, b"x")])

    def __len__(self):
        self._action()
        return 1

    def __hash__(self):
        self._action()
        return 0

    def __eq__(self, other):
        self._action()
        return False


@pytest.mark.reliability
def test_from_within_the_arguments_of_a_call(saw):
    with UcxWorker() as right:
        address = right.create_listener().address
        left, tried = UcxWorker(), 0

        @examples(150)
        @given(st.data())
        def each(data):
            nonlocal left, tried
            if left.closed:  # a call that had not begun yet does not keep it open
                left = UcxWorker()
            shifting = left.connect(address)
            plain = plain_arguments(Pair(left, shifting, right, 0))
            name, args, named = plain[data.draw(st.integers(0, len(plain) - 1))]
            inner, inner_args, inner_named = plain[data.draw(st.integers(0, len(plain) - 1))]
            acts = {
                "call": lambda: make_call(left, inner, inner_args, inner_named),
                "disconnect": lambda: left.disconnect(shifting),
                "close": lambda: attempt(left.close),
            }
            wicked = Reentrant(acts[data.draw(st.sampled_from(sorted(acts)))])
            place = data.draw(st.integers(0, 3)) % max(len(args) + len(named), 1)
            if place < len(args):
                args = (*args[:place], wicked, *args[place + 1 :])
            elif named:
                named = {**named, sorted(named)[place - len(args)]: wicked}
            make_call(left, name, args, named)
            if not left.closed:
                left.disconnect(shifting)
            tried += 1

        each()
        left.close()
        eventually(lambda: not right.get_endpoint_ids())
        with UcxWorker() as left:
            exchange(Pair(left, left.connect(address), right, *right.get_endpoint_ids()))
    saw(
        "input",
        "arguments whose own methods call the worker, disconnect or close it",
        tried=tried,
        sees="both calls work, or raise an error that their docstrings name",
        seconds=[],
        lost="nothing",
    )


class Buffer(bytearray):
    """Memory that does something when it is let go of."""

    on_end = None
    request = None

    def __del__(self):
        if self.on_end is not None:
            self.on_end()


@pytest.mark.reliability
def test_from_the_finalizer_of_a_buffer(pair, saw):
    pair = Pair(*pair)
    left, to_right, right, to_left = pair
    seen = []
    for call in plain_arguments(pair):
        data = Buffer(LARGE)
        data.on_end = lambda call=call: seen.append(make_call(left, *call))
        left.isend_tag(to_right, 9, data)
        del data
        assert len(right.receive_tag(to_left, 9, timeout=TIMEOUT)) == LARGE
        eventually(lambda: (left.stats(), len(seen))[1] > 0)
        seen.clear()
    settle(pair)
    saw(
        "input",
        "every call from the finalizer of a buffer that was sent",
        tried=len(plain_arguments(pair)),
        sees="it works",
        seconds=[],
        lost="nothing",
    )


def hold_their_requests(channel):
    """Buffers that hold the last reference to the request that holds them."""
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        for kind in ("send", "receive") * 6:
            data = Buffer(LARGE)
            if kind == "send":
                data.request = left.isend_tag(to_right, 1, data)
                del data
                right.receive_tag(1, 1, timeout=TIMEOUT)
            else:
                data.request = right.ireceive_tag(1, 1, data)
                del data
                left.send_tag(to_right, 1, bytes(LARGE), timeout=TIMEOUT)
                gc.collect()
            left.stats()
            right.stats()
        counted = left.stats().messages_sent, right.stats().messages_received
        channel.send(counted)


def test_a_buffer_that_holds_its_request(start_child, monkeypatch):
    monkeypatch.setenv("MALLOC_PERTURB_", "165")  # memory that was freed is overwritten
    assert start_child(hold_their_requests).receive() == (12, 12)


@pytest.mark.reliability
def test_from_a_finalizer_on_the_worker_s_own_thread(saw):
    """The front door ends an endpoint, and with it the last use of a buffer."""
    for action in ("disconnect", "connect", "close"):
        left, right = UcxWorker(close_timeout=0.2), UcxWorker(close_timeout=0.2)
        to_right = left.connect(right.create_listener().address)
        listener = left.create_listener()
        ended, seen = threading.Event(), []

        calls = {
            "disconnect": lambda left=left, peer=to_right: left.disconnect(peer),
            "connect": lambda left=left, to=listener.address: left.connect(to),
            "close": left.close,
        }

        def finalize(call=calls[action], seen=seen, ended=ended):
            try:
                seen.append((threading.current_thread().name, call()))
            except Exception as error:
                seen.append((threading.current_thread().name, error))
            ended.set()

        data = Buffer(LARGE)
        data.on_end = finalize
        left.isend_tag(to_right, 1, data)
        del data, finalize
        right.close()
        assert ended.wait(TIMEOUT), action
        ((thread, result),) = seen
        assert thread == "ucxnb-frontdoor"
        assert isinstance(result, ThreadModeError) == (action != "close")
        left.close()
        with pytest.raises(WorkerClosedError):
            left.create_listener()
    saw(
        "input",
        "a finalizer that runs on the worker's own thread connects, disconnects or closes",
        tried=3,
        sees="ThreadModeError; close() closes, without goodbyes to the peers",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_from_the_garbage_collector_inside_any_call(pair, saw):
    pair = Pair(*pair)
    calls = plain_arguments(pair)
    seen = []

    class Cycle:
        def __init__(self, call):
            self.itself, self.call = self, call

        def __del__(self):
            seen.append(make_call(pair.left, *self.call))

    threshold = gc.get_threshold()
    try:
        for name, args, named in calls:
            for other in calls:
                Cycle(other)
                gc.set_threshold(1)
                make_call(pair.left, name, args, named)
                gc.set_threshold(*threshold)
            gc.collect()
    finally:
        gc.set_threshold(*threshold)
    eventually(lambda: len(seen) == len(calls) ** 2)
    settle(pair)
    saw(
        "input",
        "every call from the garbage collector inside every other call",
        tried=len(seen),
        sees="both work",
        seconds=[],
        lost="nothing",
    )


@pytest.mark.reliability
def test_from_callbacks_of_an_event_loop(pair, saw):
    pair = Pair(*pair)
    left, to_right, right, to_left = pair
    seen = []

    async def main():
        for call in plain_arguments(pair):
            future = asyncio.ensure_future(receive(left.ireceive_tag(to_right, 50)))
            future.add_done_callback(lambda _, call=call: seen.append(make_call(left, *call)))
            asyncio.get_running_loop().call_soon(lambda call=call: make_call(left, *call))
            await asyncio.sleep(0)
            right.send_tag(to_left, 50, b"x")
            await future
            await asyncio.sleep(0)

    async def receive(request):
        assert (await request).data == b"x"

    asyncio.run(main())
    assert len(seen) == len(plain_arguments(pair))
    settle(pair)
    saw(
        "input",
        "every call from the callback of a future and from one of the event loop",
        tried=2 * len(seen),
        sees="it works",
        seconds=[],
        lost="nothing",
    )


SHUTDOWN = """
import atexit, sys, threading, warnings, weakref
warnings.simplefilter("ignore", ResourceWarning)
calls, allowed = [], []

def use(when, calls=calls, allowed=allowed, print=print):
    for call, *args in calls:
        try:
            call(*args)
        except allowed[0]:
            pass
    print(when, "fine", flush=True)

atexit.register(use, "atexit, registered before")
import ucxnb
a = ucxnb.UcxWorker(close_timeout=0.5); b = ucxnb.UcxWorker(close_timeout=0.5)
address = b.create_listener().address
i = a.connect(address)
r = a.ireceive_tag(i, 1)
big = a.isend_tag(i, 2, bytes(3_000_000))
allowed.append(ucxnb.UcxnbError)
calls += [(a.send_tag, i, 1, b"x"), (a.try_receive_tag, i, 1), (a.stats,), (a.connect, address),
          (a.endpoints,), (r.cancel,), (r.wait, 0), (a.disconnect, i), (a.close,)]

class Last:
    def __del__(self, use=use):
        use("finalizer")

class Cycle:
    def __init__(self): self.itself = self
    def __del__(self, use=use): use("cycle")

last, cycle = Last(), Cycle()
weakref.finalize(Last, use, "weakref")
"""
MORE = {
    "at the end": "",
    "after close": "a.close(); b.close()",
    "registered after": "atexit.register(use, 'atexit, registered after')",
    "from a thread": "threading.Thread(target=lambda: (threading.main_thread().join(), "
    "use('thread'))).start()",
    "an error": "raise RuntimeError('the script failed')",
}


@pytest.mark.reliability
@pytest.mark.parametrize("moment", MORE)
def test_while_the_interpreter_ends(moment, saw):
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", SHUTDOWN + MORE[moment]],
        timeout=60,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == (1 if moment == "an error" else 0), run.stderr
    assert run.stdout.count("fine") >= 3, run.stdout + run.stderr
    assert "Fatal" not in run.stderr
    assert run.stderr.count("Traceback") == (moment == "an error"), run.stderr
    saw(
        "input",
        "calls from atexit, finalizers, weak references and threads while the interpreter ends",
        tried=run.stdout.count("fine"),
        sees="they work, or raise WorkerClosedError; the interpreter ends",
        seconds=[time.monotonic() - began],
        lost="nothing",
    )
