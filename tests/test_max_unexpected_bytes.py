"""What arrives and is not received is bounded: the peer's sends are held, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest
from eventually import eventually

import ucxnb
from ucxnb import UcxWorker
from ucxnb.console.results import EndpointTable
from ucxnb.frontdoor.budget import LEAST_WINDOW, Allowance, Budget
from ucxnb.widgets.endpoint_table import endpoint_table

BOUND = 1024 * 1024
TIMEOUT = 30
SOON = 0.2
MOST = 40_000
TRANSPORTS = [{}, {"TLS": "tcp"}]


def numbered(number: int, size: int) -> bytes:
    return number.to_bytes(8, "little").ljust(size, b".")[:size]


def send_until_full(worker, endpoint_id, size):
    """Send numbered messages with tag 1; returns the number of the first that was not sent."""
    for number in range(MOST):
        try:
            worker.send_tag(endpoint_id, 1, numbered(number, size), timeout=SOON)
        except ucxnb.PeerFullError:
            return number
    raise AssertionError(f"{MOST:,} messages were sent and none was held")


def receive_numbered(worker, endpoint_id, size, numbers):
    for number in numbers:
        assert worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == numbered(number, size)


@pytest.fixture(params=TRANSPORTS, ids=["shm", "tcp"])
def options(request):
    return {"ucx_options": request.param}


@pytest.fixture
def ends(_no_leaks):
    """A sender, its id for the receiver, the receiver with the bound, its id for the sender."""
    config = ucxnb.WorkerConfig(thread_mode=ucxnb.ThreadMode.MULTI, close_timeout=SOON)
    with UcxWorker(config, max_unexpected_bytes=BOUND) as receiver, UcxWorker(config) as sender:
        to_receiver = sender.connect(receiver.create_listener().address)
        yield sender, to_receiver, receiver, receiver.get_endpoint_ids()[0]


# ---- a flood ----


def flood(channel, address, options, size, count):
    with UcxWorker(**options) as worker:
        endpoint_id = worker.connect(address)
        sent = send_until_full(worker, endpoint_id, size)
        channel.send(sent)
        for number in range(sent, count):
            worker.send_tag(endpoint_id, 1, numbered(number, size), timeout=TIMEOUT)
        channel.receive()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.reliability
@pytest.mark.parametrize("size", [0, 1000, 60_000])
def test_a_flood_is_held_at_the_sender_and_nothing_is_lost(start_child, saw, options, size):
    bound = 16 * BOUND
    with UcxWorker(max_unexpected_bytes=bound, **options) as receiver:
        before = resident()
        count = MOST if size == 0 else 3000
        address = receiver.create_listener().address
        child = start_child(flood, address, options, size, count)
        begun = time.monotonic()
        sent = child.receive()
        seconds = time.monotonic() - begun
        assert 0 < sent < count
        eventually(lambda: receiver.stats().unreceived_messages == sent)
        assert receiver.stats().unreceived_bytes == sent * size
        assert resident() - before < bound
        (here,) = receiver.get_endpoint_ids()
        assert receiver.stats(here).unreceived_messages == sent
        receive_numbered(receiver, here, size, range(count))
        assert receiver.stats().unreceived_messages == 0
        child.send("done")
        child.result()
    saw(
        "load",
        "A flood of messages to a worker that does not receive",
        tried=1,
        sees="Memory within `max_unexpected_bytes`; the sender waits, or gets `PeerFullError`",
        seconds=[max(0.0, seconds - SOON)],
        lost="nothing",
    )


def test_two_that_flood_each_other_both_go_on(options):
    with (
        UcxWorker(max_unexpected_bytes=BOUND, **options) as left,
        UcxWorker(max_unexpected_bytes=BOUND, **options) as right,
    ):
        there = left.connect(right.create_listener().address)
        here = right.get_endpoint_ids()[0]
        sends = [
            worker.isend_tag(endpoint_id, 1, numbered(number, 100))
            for number in range(500)
            for worker, endpoint_id in ((left, there), (right, here))
        ]
        assert left.stats().sends_held > 0
        assert right.stats().sends_held > 0
        with pytest.raises(ucxnb.PeerFullError):
            left.send_tag(there, 1, b"", timeout=0)
        for number in range(500):
            receive_numbered(left, there, 100, [number])
            receive_numbered(right, here, 100, [number])
        ucxnb.wait_all(sends, TIMEOUT)
        assert left.stats().sends_held == right.stats().sends_held == 0


@pytest.mark.parametrize("size", [BOUND // 2, 3 * BOUND])
def test_a_message_larger_than_the_bound_is_delivered(options, size):
    with (
        UcxWorker(max_unexpected_bytes=LEAST_WINDOW, **options) as receiver,
        UcxWorker(**options) as sender,
    ):
        there = sender.connect(receiver.create_listener().address)
        here = receiver.get_endpoint_ids()[0]
        small = [sender.isend_tag(there, 1, numbered(number, 500)) for number in range(20)]
        large = [sender.isend_tag(there, 2, bytes([number]) * size) for number in range(3)]
        assert sender.stats().sends_held > 0
        receive_numbered(receiver, here, 500, range(20))
        for number in range(3):
            assert receiver.receive_tag(here, 2, timeout=TIMEOUT) == bytes([number]) * size
        ucxnb.wait_all(small + large, TIMEOUT)


def test_large_messages_that_wait_hold_up_no_small_one(options):
    with (
        UcxWorker(max_unexpected_bytes=LEAST_WINDOW, **options) as receiver,
        UcxWorker(**options) as sender,
    ):
        there = sender.connect(receiver.create_listener().address)
        here = receiver.get_endpoint_ids()[0]
        large = [sender.isend_tag(there, 1, bytes(2 * BOUND)) for _ in range(3)]
        sender.send_tag(there, 2, b"which to take first", timeout=TIMEOUT)
        assert receiver.receive_tag(here, 2, timeout=TIMEOUT) == b"which to take first"
        for _ in large:
            assert receiver.receive_tag(here, 1, timeout=TIMEOUT) == bytes(2 * BOUND)
        ucxnb.wait_all(large, TIMEOUT)


# ---- every way to send ----


def test_sends_of_all_kinds_keep_their_order(ends):
    sender, there, receiver, here = ends
    rows = np.frombuffer(b"".join(numbered(i, 100) for i in range(300, 900)), "u1")
    held = [sender.isend_tag(there, 1, numbered(i, 100)) for i in range(300)]

    def send_the_rest():
        sender.send_rows(there, 1, rows.reshape(-1, 100), timeout=TIMEOUT)
        sender.send_tags(there, [(1, numbered(i, 100)) for i in range(900, 1000)], timeout=TIMEOUT)
        sender.send_tag(there, 1, numbered(1000, 100), timeout=TIMEOUT)

    thread = threading.Thread(target=send_the_rest)
    thread.start()
    receive_numbered(receiver, here, 100, range(1001))
    thread.join()
    ucxnb.wait_all(held, TIMEOUT)
    assert sender.stats(there).sends_held == 0
    assert sender.stats(there).messages_sent == 1001


def test_a_small_message_does_not_overtake_one_that_is_held(ends):
    sender, there, receiver, here = ends
    sent = send_until_full(sender, there, 100)
    held = sender.isend_tag(there, 1, numbered(sent, 100))
    small = sender.isend_tag(there, 1, b"small")  # for which there is room
    assert sender.stats(there).sends_held == 2
    receive_numbered(receiver, here, 100, range(sent + 1))
    assert receiver.receive_tag(here, 1, timeout=TIMEOUT) == b"small"
    ucxnb.wait_all([held, small], TIMEOUT)


def test_a_batch_says_how_much_of_it_was_sent(ends):
    sender, there, receiver, here = ends
    rows = np.frombuffer(b"".join(numbered(i, 100) for i in range(600)), "u1").reshape(-1, 100)
    with pytest.raises(ucxnb.PeerFullError, match="of 600 messages were sent") as caught:
        sender.send_rows(there, 1, rows, timeout=SOON)
    sent = sender.stats(there).messages_sent
    assert f": {sent:,} of 600" in str(caught.value)
    assert 0 < sent < 600
    receive_numbered(receiver, here, 100, range(sent))
    sender.send_tag(there, 1, numbered(7, 100), timeout=TIMEOUT)
    receive_numbered(receiver, here, 100, [7])


def test_batches_and_single_sends_of_two_threads_hold_each_other_up_no_longer_than_needed():
    rows, size = 200, 1000
    with (
        UcxWorker(max_unexpected_bytes=LEAST_WINDOW) as receiver,
        UcxWorker(thread_mode=ucxnb.ThreadMode.MULTI) as sender,
    ):
        there = sender.connect(receiver.create_listener().address)
        here = receiver.get_endpoint_ids()[0]
        array = np.zeros((rows, size), np.uint8)

        def send_batches():
            for _ in range(5):
                sender.send_rows(there, 1, array, timeout=TIMEOUT)

        batches = threading.Thread(target=send_batches)
        batches.start()
        single = [sender.isend_tag(there, 2, numbered(number, 100)) for number in range(1000)]
        numbers = []
        for _ in range(5 * rows + len(single)):
            message = receiver.receive_message(here, 0, tag_mask=0, timeout=TIMEOUT)
            if message.tag == 2:
                numbers.append(message.data)
        assert numbers == [numbered(number, 100) for number in range(1000)]
        batches.join(TIMEOUT)
        assert not batches.is_alive()
        ucxnb.wait_all(single, TIMEOUT)


def test_a_broadcast_reaches_the_others_at_once(ends):
    sender, slow, slow_receiver, here = ends
    with UcxWorker() as quick_receiver:
        quick = sender.connect(quick_receiver.create_listener().address)
        sent = send_until_full(sender, slow, 100)
        with pytest.raises(ucxnb.BroadcastError) as caught:
            sender.broadcast_tag(1, numbered(0, 100), timeout=SOON)
        assert caught.value.delivered == (quick,)
        assert isinstance(caught.value.failed[slow], ucxnb.PeerFullError)
        receive_numbered(quick_receiver, None, 100, [0])
        receive_numbered(slow_receiver, here, 100, range(sent))
        assert sender.broadcast_tag(1, b"again", timeout=TIMEOUT) == [slow, quick]
        assert slow_receiver.receive_tag(here, 1, timeout=TIMEOUT) == b"again"


def test_awaited_sends_wait_their_turn(ends):
    sender, there, receiver, here = ends

    async def send():
        for number in range(2000):
            await sender.isend_tag(there, 1, numbered(number, 64))

    async def receive():
        for number in range(2000):
            message = await receiver.ireceive_tag(here, 1)
            assert message.data == numbered(number, 64)

    async def both():
        sending = asyncio.create_task(send())
        while not sender.stats().sends_held:
            await asyncio.sleep(0.001)
        await asyncio.wait_for(asyncio.gather(sending, receive()), TIMEOUT)

    asyncio.run(both())


def test_ctrl_c_gets_through_and_nothing_was_sent(ends):
    sender, there, receiver, here = ends

    def interrupt(number, frame):
        raise KeyboardInterrupt

    sent = send_until_full(sender, there, 100)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            sender.send_tag(there, 1, b"never".ljust(100), timeout=TIMEOUT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    receive_numbered(receiver, here, 100, range(sent))
    sender.send_tag(there, 1, b"next", timeout=TIMEOUT)
    assert receiver.receive_tag(here, 1, timeout=TIMEOUT) == b"next"


def test_closing_in_order_sends_what_is_held(ends):
    sender, there, receiver, here = ends
    sends = [sender.isend_tag(there, 1, numbered(i, 100)) for i in range(300)]
    thread = threading.Thread(target=sender.disconnect, args=(there,), kwargs={"timeout": TIMEOUT})
    thread.start()
    receive_numbered(receiver, here, 100, range(300))
    thread.join()
    ucxnb.wait_all(sends, 0)
    with pytest.raises(ucxnb.PeerClosedError):
        receiver.receive_tag(here, 1, timeout=TIMEOUT)


# ---- the end, while a send waits ----


def never_receive(channel, address):
    with UcxWorker(max_unexpected_bytes=BOUND) as worker:
        worker.connect(address)
        channel.receive()


def held_send(worker, endpoint_id):
    """Have another thread wait in a send; returns it, and where its error will be."""
    errors: list[BaseException] = []

    def send():
        try:
            while True:
                worker.send_tag(endpoint_id, 1, b"x" * 100)
        except ucxnb.UcxnbError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    eventually(lambda: worker.stats(endpoint_id).sends_held == 1)
    return thread, errors


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda sender, there, receiver: sender.disconnect(there, timeout=SOON), "EndpointClosed"),
        (lambda sender, there, receiver: receiver.cleanup_all(), "PeerClosed"),
        (lambda sender, there, receiver: sender.close(), "WorkerClosed"),
    ],
    ids=["disconnect", "the peer closes", "close"],
)
def test_a_held_send_ends_with_its_connection(ends, end, error):
    sender, there, receiver, _ = ends
    thread, errors = held_send(sender, there)
    request = sender.isend_tag(there, 2, b"x" * 100)
    end(sender, there, receiver)
    thread.join(TIMEOUT)
    assert [type(each) for each in errors] == [getattr(ucxnb, f"{error}Error")]
    with pytest.raises(ucxnb.UcxnbError):
        request.wait(TIMEOUT)


@pytest.mark.reliability
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_held_send_ends_when_the_peer_dies(start_child, saw, number):
    with UcxWorker(
        heartbeat_interval=0.1, heartbeat_timeout=1.0, thread_mode=ucxnb.ThreadMode.MULTI
    ) as sender:
        child = start_child(never_receive, sender.create_listener().address)
        eventually(sender.get_endpoint_ids)
        (there,) = sender.get_endpoint_ids()
        thread, errors = held_send(sender, there)
        begun = time.monotonic()
        child.kill(number)
        thread.join(TIMEOUT)
        seconds = time.monotonic() - begun
        assert [type(error) for error in errors] == [ucxnb.EndpointLostError]
        assert sender.stats().sends_held == 0
        child.kill()
    saw(
        "load",
        f"{number.name} of a peer while a send waits for it to receive",
        tried=1,
        sees="`EndpointLostError`"
        + (" after `heartbeat_timeout`, here 1 s" if number is signal.SIGSTOP else ""),
        seconds=[seconds],
        lost="what the peer had not received",
    )


# ---- what is guaranteed ----


def unreceived_cost(worker):
    """What the documentation says that messages of 100 bytes count."""
    return worker.stats().unreceived_messages * (100 + 8192)


def test_all_peers_together_keep_to_the_bound():
    with UcxWorker(max_unexpected_bytes=BOUND) as receiver:
        address = receiver.create_listener().address
        for _ in range(2):  # what those of the first round left counts in the second
            with UcxWorker() as sender:
                there = [sender.connect(address) for _ in range(6)]
                for endpoint_id in there:
                    send_until_full(sender, endpoint_id, 100)
        total = receiver.stats().unreceived_messages
        assert total > 12
        assert BOUND / 2 < unreceived_cost(receiver) <= BOUND + 12 * (LEAST_WINDOW + 8292)
        for _ in range(total):
            receiver.receive_tag(None, 1, timeout=TIMEOUT)
        assert receiver.stats().unreceived_messages == 0


def test_windows_shrink_for_others_and_grow_again():
    budget = Budget(BOUND)
    first = Allowance(budget)
    assert first.window == BOUND // 2
    others = [Allowance(budget) for _ in range(3)]
    assert first.next_window() == BOUND // 8
    assert first.offer(0) == BOUND // 8
    assert first.reserved == BOUND // 2  # it may have sent so much already
    first.kept(BOUND // 4)
    assert first.reserved == BOUND // 4
    first.next_window()
    assert first.offer(BOUND // 4) == BOUND // 4 + BOUND // 8
    assert first.reserved == BOUND // 8
    for other in others:
        other.end()
        other.left(0)
    assert first.next_window() == BOUND // 2


def test_many_windows_are_never_more_than_the_budget():
    budget = Budget(BOUND)
    allowances = [Allowance(budget) for _ in range(200)]
    assert all(allowance.window >= LEAST_WINDOW for allowance in allowances)
    assert budget.reserved <= BOUND + 200 * LEAST_WINDOW
    for allowance in allowances:
        allowance.end()
        allowance.left(0)
    assert budget.reserved == budget.connections == 0


@pytest.mark.parametrize(
    ("sender_config", "config"),
    [
        ({}, {"max_unexpected_bytes": None}),
        (
            {"tag_scope": "worker"},
            {"tag_scope": "worker", "max_unexpected_bytes": LEAST_WINDOW},
        ),
    ],
    ids=["None", "tag_scope=worker"],
)
def test_no_bound(sender_config, config):
    with UcxWorker(**config) as receiver, UcxWorker(**sender_config) as sender:
        there = sender.connect(receiver.create_listener().address)
        for number in range(1000):
            sender.send_tag(there, 1, numbered(number, 1000), timeout=TIMEOUT)
        eventually(lambda: receiver.stats().unreceived_messages == 1000)
        assert receiver.stats().unreceived_bytes == 1_000_000
        receive_numbered(receiver, None, 1000, range(1000))
        assert receiver.stats().unreceived_bytes == 0


def test_people_see_it(ends):
    sender, there, receiver, here = ends
    sends = [sender.isend_tag(there, 1, b"x" * 100) for _ in range(300)]
    held = sender.stats(there).sends_held
    eventually(lambda: receiver.stats(here).unreceived_messages == 300 - held)
    assert f"{held} held: it receives too slowly" in endpoint_table(sender.endpoints(), [])
    assert f"{300 - held} messages" in endpoint_table(receiver.endpoints(), [])
    assert EndpointTable(sender.endpoints()).text.splitlines()[1].split()[-3] == str(held)
    assert EndpointTable(receiver.endpoints()).text.split()[-1] == str(300 - held)
    for _ in range(300):
        receiver.receive_tag(here, 1, timeout=TIMEOUT)
    ucxnb.wait_all(sends, TIMEOUT)
