"""Four workers of a real Dask cluster: what they send, share, reduce and tell."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from call_in_thread import Call
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.cluster import Group, MemberState, UcxCluster
from ucxnb.errors import (
    ArgumentError,
    ClusterError,
    ConfigError,
    ObjectError,
    OperationTimeoutError,
)

TIMEOUT = 60
VALUES = {
    "array": np.arange(24.0).reshape(2, 3, 4),
    "fortran order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "every other": np.arange(10)[::2],
    "no axis": np.array(7.5),
    "empty": np.empty((0, 3), "i2"),
    "records": np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")]),
    "objects": np.array([{"a": 1}, None], object),
    "three segments": np.random.default_rng(1).integers(0, 256, 5 << 20, "u1"),
    "a dict": {"name": "x", "arrays": [np.arange(3), "text"]},
    "nothing": None,
}


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    if isinstance(one, dict):
        return one.keys() == other.keys() and str(one) == str(other)
    return one == other


def test_every_dask_worker_has_a_ucx_worker_and_all_are_connected(cluster):
    assert len(cluster.workers) == 4
    assert {m.address for m in cluster.workers} == set(cluster.client.nthreads())
    assert {m.state for m in cluster.members} == {MemberState.READY}
    assert {m.host for m in cluster.workers} == {"127.0.0.1"}

    def who(worker):
        return (
            os.getpid(),
            isinstance(worker, UcxWorker),
            sorted(info.peer_name for info in worker.endpoints()),
        )

    told = cluster.map(who, timeout=TIMEOUT)
    assert list(told) == [m.address for m in cluster.workers]
    names = {*told, cluster.worker.name}
    for member in cluster.workers:
        pid, is_worker, peers = told[member.address]
        assert is_worker
        assert pid == member.pid
        assert peers == sorted(names - {member.address})
    assert cluster.problems == {}


def test_a_function_gets_the_worker_the_group_and_its_parts(cluster):
    parts = cluster.scatter([10, 20, 30, 40])

    def second(worker, group, factor, *, plus):
        assert isinstance(group, Group)
        return group.rank, group.size, factor * plus

    def by_name(worker, factor, *, group):
        return group.addresses[group.rank] == worker.name, factor

    assert list(cluster.map(second, 2, plus=parts).values()) == [
        (0, 4, 20), (1, 4, 40), (2, 4, 60), (3, 4, 80),
    ]  # fmt: skip
    assert list(cluster.map(by_name, parts).values()) == [
        (True, 10), (True, 20), (True, 30), (True, 40),
    ]  # fmt: skip
    some = [cluster.workers[3].address, cluster.workers[1].address]
    assert cluster.map(second, 0, plus=1, workers=some) == {
        some[0]: (0, 2, 0),
        some[1]: (1, 2, 0),
    }
    kept = cluster.map(by_name, 5, keep=True)
    assert kept.workers == tuple(m.address for m in cluster.workers)
    assert kept.gather() == [(True, 5)] * 4


@pytest.mark.parametrize("name", VALUES)
def test_a_broadcast_gives_each_the_same(cluster, name):
    value = VALUES[name]
    got = cluster.broadcast(value, timeout=TIMEOUT).gather(timeout=TIMEOUT)
    assert len(got) == 4
    assert all(same(value, each) for each in got)


def test_a_broadcast_goes_over_ucx_and_down_a_tree(cluster):
    value = np.ones(8 << 20, "u1")
    before = cluster.stats()
    cluster.broadcast(value)
    after = cluster.stats()
    sent = after.bytes_sent - before.bytes_sent
    here = after.names.index(cluster.worker.name)
    # This process and four workers: it sends to two, and one of them to two more.
    assert sorted(sent.sum(axis=1) // value.nbytes) == [0, 0, 0, 2, 2]
    assert sent[here].sum() // value.nbytes == 2


def test_a_part_is_a_copy_that_can_be_written(cluster):
    parts = cluster.broadcast(np.zeros(10))

    def write(worker, array, group):
        array[:] = group.rank

    cluster.map(write, parts)
    assert [part[0] for part in parts.gather()] == [0, 1, 2, 3]


def test_scatter_and_gather_give_back_what_was_there(cluster):
    array = np.arange(1003 * 7.0).reshape(1003, 7)
    parts = cluster.scatter(array)
    assert list(cluster.map(lambda worker, part: len(part), parts).values()) == [251, 251, 251, 250]
    assert (np.concatenate(cluster.gather(parts)) == array).all()
    values = ["a", {"b": np.arange(3)}, None, np.arange(2 << 20)]
    assert str(cluster.scatter(values).gather()) == str(values)


@pytest.mark.parametrize("op", ["sum", "prod", "min", "max", np.hypot])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (70_001,), (1500, 1001)])
def test_an_allreduce_is_what_numpy_gives(cluster, op, shape):
    rng = np.random.default_rng(2)
    arrays = [rng.random(shape) for _ in range(4)]
    parts = cluster.scatter(arrays)
    reduced = cluster.allreduce(parts, op, timeout=TIMEOUT).gather()
    ufunc = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}.get(op, op)
    wanted = arrays[0]
    for array in arrays[1:]:
        wanted = ufunc(wanted, array)
    assert all(each.shape == shape for each in reduced)
    assert np.allclose(reduced[0], wanted, rtol=1e-12)
    assert all(each.tobytes() == reduced[0].tobytes() for each in reduced)
    assert all((a == b).all() for a, b in zip(parts.gather(), arrays, strict=True))


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "f4", "c16", "?", ">f8"])
def test_an_allreduce_keeps_the_type(cluster, dtype):
    for size in (10, 200_000):
        array = (np.arange(size) % 2).astype(dtype)
        reduced = cluster.allreduce(cluster.broadcast(array), "max").gather()
        assert {each.dtype for each in reduced} == {np.dtype(dtype)}
        assert all((each == array).all() for each in reduced)


@pytest.mark.parametrize("sizes", [(10, 10, 10, 11), (10**6, 10**6, 10**6, 10**6 + 1)])
def test_arrays_that_differ_are_an_error_and_nobody_hangs(cluster, sizes):
    parts = cluster.scatter([np.zeros(size) for size in sizes])
    with pytest.raises(ClusterError, match="the arrays differ") as caught:
        cluster.allreduce(parts, timeout=TIMEOUT)
    assert any(isinstance(error, ArgumentError) for error in caught.value.failed.values())
    nothing_is_left(cluster)


def nothing_is_left(cluster):
    def unreceived(worker):
        return worker.stats().unreceived_messages

    cluster.map(lambda worker, group: group.barrier(), timeout=TIMEOUT)
    eventually(lambda: set(cluster.map(unreceived, timeout=TIMEOUT).values()) == {0})


def test_a_value_is_sent_from_here_to_one_and_on_to_another(cluster):
    first, second = cluster.workers[2].address, cluster.workers[0].address
    there = cluster.send(np.arange(5), first)
    assert there.workers == (first,)
    onwards = cluster.send(there, second)
    assert onwards.workers == (second,)
    assert cluster.map(lambda worker, part: part.sum(), onwards) == {second: 10}
    assert (there.gather()[0] == np.arange(5)).all()
    assert (cluster.send(there, first).gather()[0] == np.arange(5)).all()
    with pytest.raises(ArgumentError, match="has no part"):
        cluster.map(lambda worker, part: None, there, workers=[second])
    with pytest.raises(ArgumentError, match="lie in one worker"):
        cluster.send(cluster.broadcast(1), second)


def test_the_collectives_of_a_group(cluster):
    def work(worker, group):
        last = group.size - 1
        gathered = group.gather(group.rank * 10, root=last)
        mine = group.scatter([i * i for i in range(4)] if group.rank == 1 else None, root=1)
        word = group.broadcast(b"from two" if group.rank == 2 else None, root=2)
        group.barrier()
        right, left = (group.rank + 1) % group.size, (group.rank - 1) % group.size
        worker.send_tag(group.endpoint_to(right), 5, bytes([group.rank]))
        heard = worker.receive_tag(group.endpoint_to(left), 5, timeout=TIMEOUT)
        return gathered, mine, word, heard == bytes([left])

    told = list(cluster.map(work, timeout=TIMEOUT).values())
    assert [t[0] for t in told] == [None, None, None, [0, 10, 20, 30]]
    assert [t[1] for t in told] == [0, 1, 4, 9]
    assert {t[2:] for t in told} == {(b"from two", True)}


def test_collectives_into_arrays_that_are_there(cluster):
    def work(worker, group, size):
        mine, out = np.full(size, float(group.rank)), np.zeros(size)
        assert group.broadcast(mine if group.rank == 1 else None, 1, out=out) is (
            mine if group.rank == 1 else out
        )
        assert (out == (group.rank != 1)).all()
        assert group.allreduce(mine, out=out) is out
        assert (out == 6).all()
        for wrong in (out[:-1], out.astype("f4"), np.zeros(2 * size)[::2], mine, [0.0] * size):
            try:
                group.allreduce(mine, out=wrong)
            except ArgumentError as error:
                assert "out=" in str(error)
            else:
                raise AssertionError("it was taken")
        return True

    for size in (10, 300_000):
        assert set(cluster.map(work, size, timeout=TIMEOUT).values()) == {True}
    with pytest.raises(ClusterError, match="out="):
        cluster.map(
            lambda worker, group: group.broadcast(
                np.ones(3) if group.rank == 0 else None, out=np.ones(4)
            ),
            timeout=TIMEOUT,
        )
    nothing_is_left(cluster)


def test_an_error_in_one_is_told_with_what_the_others_gave(cluster):
    bad = cluster.workers[1].address

    def work(worker, group):
        if group.rank == 1:
            raise KeyError("what is missing")
        return group.rank

    with pytest.raises(ClusterError, match="KeyError: 'what is missing'") as caught:
        cluster.map(work, timeout=TIMEOUT)
    assert list(caught.value.failed) == [bad]
    assert isinstance(caught.value.failed[bad], KeyError)
    assert sorted(caught.value.results.values()) == [0, 2, 3]
    assert bad in "".join(caught.value.failed[bad].__notes__)
    assert "in work" in "".join(caught.value.failed[bad].__notes__)


def test_an_error_in_one_ends_the_collectives_of_the_others(cluster):
    def work(worker, group):
        if group.rank == 2:
            raise ValueError("no")
        group.allreduce(np.ones(1_000_000))

    call = Call(cluster.map, work).join()
    assert isinstance(call.error, ClusterError)
    assert len(call.error.failed) == 4
    assert "ValueError: no" in str(call.error)
    nothing_is_left(cluster)


def test_a_timeout_ends_it_for_all(cluster):
    def work(worker, group):
        if group.rank:
            group.barrier()

    call = Call(cluster.map, work, timeout=0.5).join()
    assert isinstance(call.error, ClusterError)
    assert "not done in 0.5 s" in str(call.error)
    assert len(call.error.failed) == 3
    nothing_is_left(cluster)


def test_a_function_that_goes_on_after_its_timeout_is_left_behind(cluster):
    slow = cluster.workers[0].address
    with pytest.raises(ClusterError) as caught:
        cluster.map(lambda worker: time.sleep(6), workers=[slow], timeout=0.2)
    assert isinstance(caught.value.failed[slow], OperationTimeoutError)
    assert cluster.map(lambda worker: 1, timeout=TIMEOUT)[slow] == 1


def test_ctrl_c_ends_it_and_the_cluster_goes_on(cluster):
    def wait(worker, group):
        group.broadcast(root=0) if group.rank else time.sleep(1)
        group.barrier()

    for interrupted in (
        lambda: cluster.map(wait),
        lambda: cluster.map(lambda worker: time.sleep(1)),
    ):
        main = threading.main_thread().ident
        timer = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        timer.join()
    nothing_is_left(cluster)


def test_operations_of_many_threads_do_not_meet(cluster):
    def work(worker, group, number):
        for turn in range(5):
            array = group.allreduce(np.full(20_000, number + turn))
            assert (array == 4 * (number + turn)).all()
            assert group.broadcast(number if group.rank == 0 else None) == number
        return number

    calls = [Call(cluster.map, work, number, timeout=TIMEOUT) for number in range(6)]
    calls += [Call(cluster.broadcast, np.full(1 << 20, number)) for number in range(3)]
    for number, call in enumerate(calls):
        assert call.join().error is None, call.error
        if number < 6:
            assert set(call.value.values()) == {number}
        else:
            assert all((part == number - 6).all() for part in call.value.gather())


def test_workers_let_go_of_parts_that_nobody_has(cluster):
    def kept(dask_worker):
        (plugin,) = [p for n, p in dask_worker.plugins.items() if n.startswith("ucxnb")]
        return len(plugin.member().values)

    def count():
        return sum(cluster.client.run(kept).values())

    gc.collect()  # tracebacks of other tests hold some
    eventually(lambda: count() == 0)
    one, other = cluster.broadcast(1), cluster.broadcast(2)
    assert count() == 8
    one.release()
    eventually(lambda: count() == 4)
    assert one.released
    with pytest.raises(ArgumentError, match="let go"):
        one.gather()
    one.release()
    del other
    eventually(lambda: count() == 0)


def test_stats_tell_what_went_between_each_two(cluster):
    first, second = cluster.workers[:2]

    def send(worker, group):
        if group.rank == 0:
            worker.send_tag(group.endpoint_to(1), 3, bytes(1000))
        else:
            worker.receive_tag(group.endpoint_to(0), 3, timeout=TIMEOUT)

    before = cluster.stats()
    cluster.map(send, workers=[first.address, second.address])
    after = cluster.stats()
    assert after.names == (*(m.address for m in cluster.workers), cluster.worker.name)
    moved = after.bytes_sent - before.bytes_sent
    assert moved[0, 1] == 1000
    assert moved.sum() == 1000
    assert (after.messages_sent - before.messages_sent)[0, 1] == 1
    for row, line in enumerate(after.transports):
        assert [bool(word) for word in line] == [row != column for column in range(5)]


def test_a_worker_that_does_not_answer_is_a_straggler(cluster):
    member = cluster.workers[3]
    os.kill(member.pid, signal.SIGSTOP)
    try:
        stats = cluster.stats(timeout=0.5)
        assert len(stats.names) == 4
        assert stats.stragglers()[member.address] == "it does not answer"
    finally:
        os.kill(member.pid, signal.SIGCONT)
    eventually(lambda: cluster.stats().stragglers() == {})


def test_a_worker_that_makes_others_wait_is_a_straggler(cluster):
    slow = cluster.workers[2].address

    def work(worker, group):
        if group.rank == 2:
            time.sleep(0.5)
        group.barrier()

    cluster.map(work)

    def nobody_lags() -> bool:
        cluster.map(lambda worker, group: group.barrier())
        return cluster.stats().stragglers() == {}

    cluster.map(work)
    assert slow in cluster.stats().stragglers()
    # More than once if need be: a busy machine may keep anyone waiting.
    eventually(nobody_lags)


def test_latency_and_bandwidth_of_all_pairs(cluster):
    figures = cluster.measure(seconds=0.005)
    assert figures.names == tuple(m.address for m in cluster.workers)
    others = ~np.eye(4, dtype=bool)
    for square in (figures.latency_us, figures.bandwidth):
        assert (square[others] > 0).all()
        assert np.isnan(square[~others]).all()
    assert (figures.latency_us == figures.latency_us.T)[others].all()
    nothing_is_left(cluster)


def unpicklable(worker):
    return threading.Lock()


def strange(worker):
    class StrangeError(Exception):
        def __reduce__(self):
            raise TypeError("no pickle")

    raise StrangeError("of its own kind")


def leave(worker):
    sys.exit("enough")


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (leave, "SystemExit('enough')"),
        (unpicklable, "cannot be sent back"),
        (strange, "of its own kind"),
    ],
)
def test_what_cannot_be_brought_back_is_an_error(cluster, function, what):
    call = Call(cluster.map, function, timeout=TIMEOUT).join()
    assert isinstance(call.error, ClusterError)
    assert len(call.error.failed) == 4
    assert what in str(call.error)


WRONG = [
    (ArgumentError, lambda c: c.scatter([1, 2, 3]), "there are 3, for 4"),
    (ArgumentError, lambda c: c.scatter(np.array(1)), "without an axis"),
    (ArgumentError, lambda c: c.send(1, "tcp://nowhere:1"), "no worker that takes part"),
    (ArgumentError, lambda c: c.map(print, workers="tcp://nowhere:1"), "it takes addresses"),
    (ArgumentError, lambda c: c.map(print, workers=[7]), "it takes addresses"),
    (ArgumentError, lambda c: c.map(print, workers=[c.workers[0].address] * 2), "once"),
    (ArgumentError, lambda c: c.map(print, timeout=-1), "timeout"),
    (ArgumentError, lambda c: c.map(lambda w, lock: 0, threading.Lock()), "cannot be sent"),
    (ArgumentError, lambda c: c.map(7), "it takes a function"),
    (ArgumentError, lambda c: c.allreduce(c.broadcast(np.ones(3)), "mean"), "it takes 'sum'"),
    (ArgumentError, lambda c: c.allreduce(7), "it takes Parts"),
    (ArgumentError, lambda c: c.gather([1]), "it takes Parts"),
    (ObjectError, lambda c: c.broadcast(threading.Lock()), "cannot be sent"),
    (ArgumentError, lambda c: c.measure(seconds=0), "seconds=0"),
    (ArgumentError, lambda c: c.stats(timeout="soon"), "timeout"),
    (ArgumentError, lambda c: c.wait_for_workers(1, timeout=-1), "timeout"),
    (ArgumentError, lambda _: UcxCluster("tcp://127.0.0.1:8786"), "distributed.Client"),
    (ArgumentError, lambda c: UcxCluster(c.client, topology="star"), "topology"),
    (ArgumentError, lambda c: UcxCluster(c.client, orphaned_after=0), "orphaned_after"),
    (ArgumentError, lambda c: UcxCluster(c.client, idle_close=0), "idle_close"),
    (ArgumentError, lambda c: UcxCluster(c.client, name="mine"), "set already"),
    (ArgumentError, lambda c: UcxCluster(c.client, auth_key=7), "text or bytes"),
    (ConfigError, lambda c: UcxCluster(c.client, buffer_sise=7), "buffer_size"),
    (ArgumentError, lambda _: UcxCluster.local(0), "n_workers=0"),
]


@pytest.mark.parametrize(("kind", "call", "what"), WRONG, ids=range(len(WRONG)))
def test_bad_input_is_an_error_that_says_what_is_wrong(cluster, kind, call, what):
    with pytest.raises(kind) as caught:
        call(cluster)
    assert what in str(caught.value)
