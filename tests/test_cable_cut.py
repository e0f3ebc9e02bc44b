"""A cable that is cut: two workers in network namespaces of their own, and every packet dropped."""

from __future__ import annotations

import os
import random
import time

import pytest
from cable import Cable, NoNamespacesError
from call_in_thread import Call
from eventually import eventually
from fault_peers import MOMENTS, TIMEOUT, fault_peer, prepare

import ucxnb
from ucxnb import EndpointState, ThreadMode, UcxWorker

LOST_AFTER = 1.5
FIELDS = {
    "ucx_options": {"TLS": "tcp", "NET_DEVICES": Cable.device},
    "heartbeat_interval": 0.1,
}
THOROUGH = bool(os.environ.get("UCXNB_THOROUGH"))
CUT = [["idle", "in 1 GiB from it"]]
if THOROUGH:
    CUT += [["while it sends", "in 1 GiB to it"], ["while it is sent to", "in 1 GiB from it"]]


@pytest.fixture
def cable(_no_leaks):
    try:
        with Cable() as cable:
            yield cable
    except NoNamespacesError as error:
        pytest.skip(f"no network namespaces: {error}")


def near_side(channel, address, fields):
    """Listens, with a connection on its own host too; does its part of each moment it is told."""
    with (
        UcxWorker(thread_mode=ThreadMode.MULTI, **fields) as server,
        UcxWorker(**fields) as neighbour,
    ):
        listener = server.create_listener(address)
        to_server = neighbour.connect(listener.address)
        channel.send(listener.address)
        while (moment := channel.receive()) is not None:
            far = server.get_endpoint_ids()[-1]
            server.receive_tag(far, 77, timeout=TIMEOUT)

            def state(far=far):
                return next(i for i in server.endpoints(ended=True) if i.endpoint_id == far).state

            def at(condition):
                eventually(condition)
                return time.perf_counter()

            prepare(moment)
            call = Call(MOMENTS[moment][1], server, far)
            time.sleep(random.uniform(0.05, 0.2))
            channel.send(True)
            unresponsive = at(lambda: state() is not EndpointState.OPEN)
            assert state() is EndpointState.UNRESPONSIVE
            channel.send(unresponsive)
            ended = at(lambda: state() is not EndpointState.UNRESPONSIVE)
            channel.send((state().value, ended))
            call.join()
            neighbour.send_tag(to_server, 9, b"here")
            assert server.receive_tag(None, 9, timeout=TIMEOUT) == b"here"
            channel.send((call.value, None if call.error is None else type(call.error)))


def start_both(cable, start_child, fields):
    near = start_child(near_side, f"{cable.addresses[0]}:0", fields, prefix=cable.prefixes[0])
    address = near.receive()
    far = start_child(fault_peer, address, fields, prefix=cable.prefixes[1])
    far.receive()
    return near, far, address


def begin(near, far, moment):
    far.send(("send_tag", 77, b"hello"))
    far.receive()
    far.send(("begin", moment))
    far.receive()
    near.send(moment)
    near.receive()


def finish(near, far):
    for child in (far, near):
        child.send(None)
        child.result()


@pytest.mark.reliability
@pytest.mark.parametrize("moments", CUT, ids=", ".join)
def test_both_sides_notice(cable, start_child, saw, moments):
    fields = {**FIELDS, "heartbeat_timeout": LOST_AFTER}
    near, far, address = start_both(cable, start_child, fields)
    for moment in moments:
        begin(near, far, moment)
        began = time.perf_counter()
        cable.cut()
        unresponsive = near.receive() - began
        state, at = near.receive()
        assert state == EndpointState.LOST.value
        _, error = near.receive()
        assert error is ucxnb.EndpointLostError or moment in ("idle", "while it sends")
        far.send(("outcome",))
        _, error = far.receive()
        assert error is ucxnb.EndpointLostError or moment == "idle"
        cable.mend()
        far.send(("connect", address))
        far.receive()
        under_way = "nothing" if moment == "idle" else "what was under way"
        for sees, seconds, lost in (
            ("`EndpointState.UNRESPONSIVE`", unresponsive, "nothing"),
            ("`EndpointLostError` on both sides; mended, it connects", at - began, under_way),
        ):
            saw(
                "faults",
                f"Cable cut, {moment}, tcp",
                tried=1,
                sees=sees,
                seconds=[seconds],
                lost=lost,
            )
    finish(near, far)


@pytest.mark.skipif(not THOROUGH, reason="1 GiB through a switch takes long: with UCXNB_THOROUGH")
@pytest.mark.reliability
def test_a_cable_that_is_mended_in_time(cable, start_child, saw):
    near, far, _ = start_both(cable, start_child, FIELDS)
    begin(near, far, "in 1 GiB from it")
    cable.cut()
    near.receive()
    began = time.perf_counter()
    cable.mend()
    state, at = near.receive()
    assert state == EndpointState.OPEN.value
    assert near.receive() == (True, None)
    finish(near, far)
    saw(
        "faults",
        "Cable cut in 1 GiB, mended before `heartbeat_timeout`",
        tried=1,
        sees="`EndpointState.OPEN` again, and the message, whole",
        seconds=[at - began],
        lost="nothing",
    )
