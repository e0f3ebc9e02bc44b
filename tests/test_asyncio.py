"""`await`, ``async for`` and ``async with``: on asyncio's loops and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import uvloop
from eventually import eventually

from ucxnb import (
    BufferTooSmallError,
    ConnectRefusedError,
    EchoPeer,
    EndpointLostError,
    NoPeersError,
    PeerClosedError,
    RequestCancelledError,
    ThreadMode,
    UcxWorker,
    WorkerClosedError,
)

TIMEOUT = 30
LARGE = 8 << 20


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine to its end, with a limit."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run_limited(coroutine):
        async def limited():
            return await asyncio.wait_for(coroutine, TIMEOUT)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return run_limited


def test_requests_are_awaited(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        for size in (0, 8, LARGE):
            data = random.Random(size).randbytes(size)
            receive = right.ireceive_tag(to_left, 1)
            sent, message = await asyncio.gather(left.isend_tag(to_right, 1, data), receive)
            assert (sent.nbytes, message.data) == (size, data)
            assert await receive is message  # again and again
        for _ in range(50):  # one that sleeps until the other task sends
            waiting = asyncio.create_task(wait_for(right.ireceive_tag(to_left, 2)))
            await asyncio.sleep(0.001)
            await left.isend_tag(to_right, 2, b"x")
            assert (await waiting).data == b"x"

    run(main())


async def wait_for(request):
    return await request


def test_an_error_is_raised_where_it_is_awaited(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        small = right.ireceive_tag(to_left, 1, bytearray(1))
        left.send_tag(to_right, 1, b"two")
        with pytest.raises(BufferTooSmallError):
            await small
        waiting = asyncio.create_task(wait_for(right.ireceive_tag(to_left, 2)))
        await asyncio.sleep(0.01)
        await left.disconnect_async(to_right)
        with pytest.raises(PeerClosedError):
            await waiting

    run(main())


def test_many_tasks_wait_at_once(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        tasks = [asyncio.create_task(wait_for(right.ireceive_tag(to_left, t))) for t in range(1000)]
        await asyncio.sleep(0)
        left.send_tags(to_right, [(tag, tag.to_bytes(2, "little")) for tag in range(1000)])
        got = await asyncio.gather(*tasks)
        assert [int.from_bytes(m.data, "little") for m in got] == list(range(1000))
        assert len(asyncio.all_tasks()) <= 2  # no task of ours polls

    before = threading.active_count()
    run(main())
    assert threading.active_count() == before


def test_two_tasks_await_one_request(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        request = right.ireceive_tag(to_left, 1)
        one, other = (asyncio.create_task(wait_for(request)) for _ in range(2))
        await asyncio.sleep(0.01)
        one.cancel()
        await asyncio.sleep(0.01)
        assert one.cancelled()
        left.send_tag(to_right, 1, b"for the other")
        assert (await other).data == b"for the other"

    run(main())


def test_a_task_that_lets_others_go_first_keeps_its_request(pair, run):
    left, to_right, right, to_left = pair
    for _ in range(100):
        left.send_tag(to_right, 1, b"plenty")

    async def main():
        request = right.ireceive_tag(to_left, 2)
        sleeping = asyncio.create_task(wait_for(request))
        await asyncio.sleep(0.01)

        async def take_plenty_first(count):
            for _ in range(count):
                await right.ireceive_tag(to_left, 1)
            return await request

        left.send_tag(to_right, 2, b"for both")
        time.sleep(0.02)  # it has come, and the loop has not run
        tasks = [asyncio.create_task(take_plenty_first(1)) for _ in range(80)]
        asyncio.get_running_loop().call_soon(sleeping.cancel)
        assert {message.data for message in await asyncio.gather(*tasks)} == {b"for both"}

    run(main())


def test_a_cancelled_task_loses_no_message(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        request = right.ireceive_tag(to_left, 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(request, 0.02)
        assert request.cancelled
        with pytest.raises(RequestCancelledError):
            await request
        for moment in (None, 0):  # before the message comes; after, and before the task knows
            task = asyncio.create_task(wait_for(right.ireceive_tag(to_left, 1)))
            await asyncio.sleep(0.01)
            if moment is None:
                task.cancel()
            left.send_tag(to_right, 1, b"kept")
            if moment == 0:
                time.sleep(0.02)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await right.ireceive_tag(to_left, 1)).data == b"kept"

    run(main())


def test_a_send_goes_on_when_the_task_that_awaits_it_is_cancelled(pair, run):
    left, to_right, right, to_left = pair

    async def main():
        data = bytearray(b"A" * LARGE)
        request = left.isend_tag(to_right, 1, data)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(request, 0.02)
        assert not request.done  # its buffer is in use
        assert not request.cancelled
        got = right.ireceive_tag(to_left, 1)
        assert (await request).nbytes == LARGE
        assert (await got).data == data

    run(main())


def test_a_flood_of_messages_leaves_other_tasks_their_turns(pair, run):
    left, to_right, right, to_left = pair
    count = 2000
    left.send_rows(to_right, 1, bytearray(count))

    async def main():
        turns = got = 0
        over = False

        async def other():
            nonlocal turns
            while not over:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async for _ in right.messages(1, endpoint_id=to_left):
            got += 1
            if got == count:
                break
        over = True
        await task
        assert turns > count // 100

    run(main())


def test_a_thousand_cancellations_at_random_moments(pair, run):
    left, to_right, right, to_left = pair
    rng = random.Random(7)
    count = 1000

    async def receive(got):
        while True:
            message = await right.ireceive_tag(to_left, 1)
            got.append(int.from_bytes(message.data[:4], "little"))

    async def send():
        for number in range(3 * count):
            size = 20_000 if number % 97 == 0 else 4
            await left.isend_tag(to_right, 1, number.to_bytes(4, "little").ljust(size))
            if number % 3 == 0:
                await asyncio.sleep(rng.random() * 0.0005)

    async def main():
        got: list[int] = []
        sender = asyncio.create_task(send())
        for _ in range(count):
            receiver = asyncio.create_task(receive(got))
            await asyncio.sleep(rng.choice([0, 0, rng.random() * 0.0008]))
            receiver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiver
        receiver = asyncio.create_task(receive(got))
        await sender
        while len(got) < 3 * count:
            await asyncio.sleep(0.01)
        receiver.cancel()
        assert got == list(range(3 * count))

    run(main())
    assert right.stats().messages_received == left.stats().messages_sent == 3 * count


def test_a_thousand_cancellations_of_messages_and_accept(pair, run):
    left, to_right, right, to_left = pair
    rng = random.Random(8)

    async def main():
        got: list[int] = []

        async def follow():
            async for message in right.messages(1):
                got.append(int.from_bytes(message.data, "little"))

        for number in range(1000):
            task = asyncio.create_task(follow())
            await asyncio.sleep(0 if number % 5 else 0.0003)
            left.send_tag(to_right, 1, number.to_bytes(4, "little"))
            await asyncio.sleep(rng.choice([0, 0.0003]))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while (data := right.try_receive_tag(to_left, 1)) is not None:
            got.append(int.from_bytes(data, "little"))
        assert got == list(range(1000))
        assert await right.accept() == to_left
        for _ in range(1000):
            task = asyncio.create_task(right.accept())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        tasks = [asyncio.create_task(right.accept()) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(2):  # without giving the tasks a turn
            left.connect(right.listeners[0].address)
        tasks[0].cancel()  # whose turn it was
        assert len({await task for task in tasks[1:]}) == 2

    run(main())


def test_a_thousand_cancellations_of_sends(pair, run):
    left, to_right, right, to_left = pair
    rng = random.Random(9)
    size = 300_000  # more than UCX sends before the receiver asks for it

    async def main():
        for number in range(1000):
            request = left.isend_tag(to_right, 1, number.to_bytes(4, "little").ljust(size))
            task = asyncio.create_task(wait_for(request))
            await asyncio.sleep(rng.choice([0, rng.random() * 0.0005]))
            if number % 3 == 0:
                taking = right.ireceive_tag(to_left, 1)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if number % 3:
                taking = right.ireceive_tag(to_left, 1)
            data = (await taking).data
            assert (int.from_bytes(data[:4], "little"), len(data)) == (number, size)
            assert (await request).nbytes == size

    run(main())
    assert left.stats().messages_sent == 1000


def test_a_thousand_cancellations_of_connects_and_disconnects():
    rng = random.Random(10)

    async def main():
        async with UcxWorker() as right, UcxWorker() as left:
            address = right.create_listener().address
            for _ in range(1000):
                task = asyncio.create_task(left.connect_async(address))
                await asyncio.sleep(rng.random() * 0.004)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    endpoint_id = await task
                    task = asyncio.create_task(left.disconnect_async(endpoint_id))
                    await asyncio.sleep(rng.random() * 0.002)
                    task.cancel()
                    await task
            while left.get_endpoint_ids() or right.get_endpoint_ids():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_messages_end_with_their_peer(run):
    async def main():
        async with UcxWorker() as right:
            with pytest.raises(NoPeersError):
                async for _ in right.messages(1):
                    pass
            listener = right.create_listener()
            async with UcxWorker() as left:
                to_right = await left.connect_async(listener.address)
                to_left = await right.accept()
                for text in (b"a", b"b", b"c"):
                    await left.isend_tag(to_right, 1, text)
                got = []
                async for message in right.messages(1):
                    got.append(message)
                    if len(got) == 2:
                        break
                assert [m.data for m in got] == [b"a", b"b"]
            rest = [m.data async for m in right.messages(1, endpoint_id=to_left)]
            assert rest == [b"c"]
            ending = asyncio.create_task(anext(right.messages(1), None))
            await asyncio.sleep(0.01)
            listener.close()
            assert await ending is None

    run(main())


def test_accept_and_its_errors(run):
    async def main():
        async with UcxWorker() as right, UcxWorker() as left:
            with pytest.raises(NoPeersError, match="create_listener"):
                await right.accept()
            listener = right.create_listener()
            ids = [await left.connect_async(listener.address) for _ in range(3)]
            eventually(lambda: len(right.get_endpoint_ids()) == 3)
            await left.disconnect_async(ids[1])
            eventually(lambda: len(right.get_endpoint_ids()) == 2)
            assert [await right.accept(), await right.accept()] == right.get_endpoint_ids()
            waiting = asyncio.create_task(right.accept())
            await asyncio.sleep(0.01)
            await asyncio.to_thread(listener.close)
            with pytest.raises(NoPeersError):
                await waiting
            right.create_listener()
            waiting = asyncio.create_task(right.accept())
            await asyncio.sleep(0.01)
            await asyncio.to_thread(right.close)
            with pytest.raises(WorkerClosedError):
                await waiting
            with pytest.raises(WorkerClosedError):
                await right.accept()

    run(main())


def test_every_peer_is_accepted_once(run):
    async def main():
        async with UcxWorker() as server, UcxWorker() as client:
            address = server.create_listener().address
            accepted = []

            async def accept():
                while len(accepted) < 100:
                    accepted.append(await server.accept())

            accepting = asyncio.create_task(accept())
            for _ in range(25):
                await asyncio.gather(*(client.connect_async(address) for _ in range(4)))
            await accepting
            assert sorted(accepted) == sorted(server.get_endpoint_ids())

    run(main())


def test_connecting_does_not_hold_up_the_loop(run):
    async def main():
        async with UcxWorker() as worker:
            with pytest.raises(ConnectRefusedError):
                await worker.connect_async("127.0.0.1:1")
            with EchoPeer() as peer:
                task = asyncio.create_task(worker.connect_async(peer.address))
                await asyncio.sleep(0)
                task.cancel()  # whenever it comes about, it is closed
                with pytest.raises(asyncio.CancelledError):
                    await task
                endpoint_id = await worker.connect_async(peer.address)
                await asyncio.sleep(0.05)
                while worker.get_endpoint_ids() != [endpoint_id]:
                    await asyncio.sleep(0.01)

    run(main())


def test_one_worker_in_two_loops_at_once():
    problems = []

    def serve(right, to_left, tag):
        async def main():
            for _ in range(300):
                assert (await right.ireceive_tag(to_left, tag)).data == bytes([tag])
                await asyncio.sleep(0)

        try:
            asyncio.run(asyncio.wait_for(main(), TIMEOUT))
        except BaseException as error:
            problems.append(error)

    with UcxWorker(thread_mode=ThreadMode.MULTI) as right, UcxWorker() as left:
        listener = right.create_listener()
        to_right = left.connect(listener.address)
        eventually(right.get_endpoint_ids)
        (to_left,) = right.get_endpoint_ids()
        threads = [threading.Thread(target=serve, args=[right, to_left, t]) for t in (1, 2)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            for tag in (2, 1):
                left.send_tag(to_right, tag, bytes([tag]))
            time.sleep(0.0002)
        for thread in threads:
            thread.join()
    assert not problems


def test_a_loop_that_ended_with_requests_under_way(pair):
    left, to_right, right, to_left = pair

    async def begin():
        asyncio.get_running_loop().create_task(wait_for(right.ireceive_tag(to_left, 1)))
        await asyncio.sleep(0.01)

    asyncio.run(begin())  # cancels the task
    gc.collect()
    left.send_tag(to_right, 1, b"kept")
    assert right.receive_tag(to_left, 1, timeout=TIMEOUT) == b"kept"
    asyncio.run(begin())


def echo_until_killed(channel):
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        while True:
            message = worker.receive_message(None, 0, tag_mask=0)
            worker.send_tag(message.endpoint_id, message.tag, message.data)


def test_a_peer_that_is_killed_while_it_is_awaited(start_child, run):
    child = start_child(echo_until_killed)
    address = child.receive()

    async def main():
        async with UcxWorker() as worker:
            peer = await worker.connect_async(address)
            await worker.isend_tag(peer, 1, b"x")
            assert (await worker.ireceive_tag(peer, 1)).data == b"x"
            waiting = [asyncio.create_task(wait_for(worker.ireceive_tag(peer, 1)))]
            waiting.append(asyncio.create_task(anext(worker.messages(2, endpoint_id=peer))))
            await asyncio.sleep(0.01)
            child.kill()
            for task in waiting:
                with pytest.raises(EndpointLostError):
                    await task

    run(main())


INTERRUPTED = """
import asyncio, os, random, signal, sys, threading, time
from ucxnb import UcxWorker

what, rounds = sys.argv[1], int(sys.argv[2])
left, right = UcxWorker(), UcxWorker()
address = right.create_listener().address
to_right = left.connect(address)
to_left = right.get_endpoint_ids()[0]
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = random.Random(1)
made, got = [], []
LARGE = bytes(300_000)

class Messages:
    def before(self):
        for _ in range(rng.randrange(4)):
            left.send_tag(to_right, 1, len(made).to_bytes(4, "little"))
            made.append(len(made))
    async def point(self):
        async for message in right.messages(1, endpoint_id=to_left):
            got.append(int.from_bytes(message.data, "little"))
    def after(self):
        pass
    def end(self):
        while (data := right.try_receive_tag(to_left, 1)) is not None:
            got.append(int.from_bytes(data, "little"))

class Receive(Messages):
    async def point(self):
        while True:
            message = await right.ireceive_tag(None, 1)
            got.append(int.from_bytes(message.data, "little"))

class Send:
    def before(self):
        pass
    async def point(self):
        request = left.isend_tag(to_right, 1, LARGE)
        made.append(LARGE)
        await request
    def after(self):
        while len(got) < len(made):
            got.append(right.receive_tag(to_left, 1, timeout=20))
    def end(self):
        pass

class Accept:
    def before(self):
        if rng.random() < 0.2:
            left.connect(address)
            made.append(right.get_endpoint_ids()[-1])
    async def point(self):
        while True:
            got.append(await right.accept())
    def after(self):
        if len(got) > 10 and got == made:
            left.cleanup_all()
            made.clear()
            got.clear()
    def end(self):
        async def rest():
            while len(got) < len(made):
                got.append(await right.accept())
        asyncio.run(rest())

class Connect:
    def before(self):
        pass
    async def point(self):
        while True:
            await left.disconnect_async(await left.connect_async(address))
    def after(self):
        pass
    def end(self):
        left.disconnect(to_right)
        for i in left.get_endpoint_ids():  # interrupted between the two
            left.disconnect(i)
        deadline = time.monotonic() + 20
        while right.get_endpoint_ids():
            assert time.monotonic() < deadline, right.endpoints()
            time.sleep(0.01)

if what == "accept":
    async def first():
        await right.accept()
    asyncio.run(first())
task = {"messages": Messages, "receive": Receive, "send": Send, "accept": Accept,
        "connect": Connect}[what]()

def disturb(ready, over):
    while not ready.wait(1):
        pass
    time.sleep(rng.random() * 0.002)
    os.kill(os.getpid(), signal.SIGINT)
    while not over.wait(2):  # asyncio may sleep through one that comes just as it begins to poll
        os.kill(os.getpid(), signal.SIGINT)

async def run(ready):
    ready.set()
    await task.point()
    await asyncio.sleep(10)

for _ in range(rounds):
    ready, over = threading.Event(), threading.Event()
    task.before()
    thread = threading.Thread(target=disturb, args=[ready, over])
    thread.start()
    try:
        asyncio.run(run(ready))
    except KeyboardInterrupt:
        pass
    over.set()
    thread.join()
    task.after()
task.end()
assert got == made, (len(made), got[-5:])
left.close()
right.close()
assert threading.active_count() == 1, threading.enumerate()
print("kept all")
"""


@pytest.mark.parametrize("what", ["messages", "receive", "send", "accept", "connect"])
def test_ctrl_c_at_an_await_a_thousand_times(what):
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", INTERRUPTED, what, "1000"],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("kept all"), done.stdout
    assert signal.getsignal(signal.SIGINT) is not None
