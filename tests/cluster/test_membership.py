"""Workers that come, leave and die, under traffic; and what a closed cluster leaves: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time

import numpy as np
import pytest
from call_in_thread import Call
from distributed import Client, LocalCluster
from eventually import eventually
from leaks import Holdings

from ucxnb.cluster import MemberState, UcxCluster
from ucxnb.errors import ArgumentError, ClusterError, WorkerLostError

TIMEOUT = 60
COUNT = 16 if os.environ.get("UCXNB_THOROUGH") else 5  # as many processes on the cores of a CI
# One that is killed while it writes shared memory can block what others write there: see
# docs/reliability.md.
OVER_TCP = {"ucx_options": {"TLS": "tcp,self"}}
LOCAL = {
    "threads_per_worker": 1,
    "dashboard_address": None,
    "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
}


@pytest.fixture(scope="module")
def dask_client(_quiet_dask):
    with LocalCluster(n_workers=3, **LOCAL) as local, Client(local) as client:
        yield client


def exchange(worker, group, until):
    """Send numbered messages to one neighbour and take the other's, until a file is there."""
    right = group.endpoint_to((group.rank + 1) % group.size)
    left = group.endpoint_to((group.rank - 1) % group.size)
    sent = received = 0
    sending = receiving = True
    trouble = {}
    while sending or receiving:
        time.sleep(0.02)  # sixteen of them share the cores
        done = os.path.exists(until)
        try:
            if sending:
                worker.send_tag(right, 7, (b"last" if done else b"%d" % sent).ljust(2000))
                sent += not done
                sending = not done
        except Exception as error:
            trouble["right"] = type(error).__name__
            sending = False
        try:
            while receiving and (data := worker.try_receive_tag(left, 7)) is not None:
                receiving = data.strip() != b"last"
                if receiving:
                    assert int(data) == received, "a message was lost, or came twice"
                    received += 1
        except Exception as error:
            trouble["left"] = type(error).__name__
            receiving = False
    return sent, received, trouble


@pytest.mark.timeout(180)
def test_one_is_killed_and_one_is_added_and_nobody_else_is_disturbed(tmp_path):
    until = tmp_path / "until"
    with UcxCluster.local(COUNT) as cluster:
        before = [m.address for m in cluster.workers]
        assert len(before) == COUNT
        traffic = Call(cluster.map, exchange, str(until))
        time.sleep(1)
        victim = cluster.workers[2]
        os.kill(victim.pid, signal.SIGKILL)
        # It is noticed, Dask's nanny starts another in its place, and one more is added.
        eventually(lambda: victim.address not in {m.address for m in cluster.workers})
        cluster.client.cluster.scale(COUNT + 1)
        cluster.wait_for_workers(COUNT + 1, timeout=TIMEOUT)
        (lost,) = (m for m in cluster.members if m.state is MemberState.LOST)
        assert lost.address == victim.address
        assert lost.reason
        # All pairs are connected again, and the new ones take part, while the traffic goes on.
        assert traffic.running
        names = {m.address for m in cluster.workers}
        told = cluster.map(lambda worker: {i.peer_name for i in worker.endpoints()})
        assert all(peers == names - {mine} | {cluster.worker.name} for mine, peers in told.items())
        reduced = cluster.map(lambda worker, group: group.allreduce(np.ones(100_000))[0])
        assert list(reduced.values()) == [COUNT + 1.0] * (COUNT + 1)
        stats = cluster.stats()
        assert len(stats.names) == COUNT + 2
        until.touch()
        eventually(lambda: not traffic.running, 90)
        error = traffic.join().error
        assert isinstance(error, ClusterError)
        assert list(error.failed) == [victim.address]
        assert isinstance(error.failed[victim.address], WorkerLostError)
        # Those beside it have lost it, and nothing else; the others nothing at all.
        for address, (sent, received, trouble) in error.results.items():
            rank = before.index(address)
            expected = {1: {"right"}, 3: {"left"}}.get(rank, set())
            assert set(trouble) == expected, (rank, trouble)
            assert sent > 3 or rank == 1  # whose neighbour died
            if rank != 3:
                assert received == error.results[before[rank - 1]][0]


def test_a_worker_that_is_killed_ends_a_collective(dask_client):
    with UcxCluster(dask_client, **OVER_TCP) as cluster:

        def forever(worker, group):
            while True:
                group.allreduce(np.ones(1_000_000))

        call = Call(cluster.map, forever)
        time.sleep(0.5)
        victim = cluster.workers[1]
        os.kill(victim.pid, signal.SIGKILL)
        error = call.join().error
        assert isinstance(error, ClusterError)
        assert isinstance(error.failed[victim.address], WorkerLostError)
        assert len(error.failed) == 3
        cluster.wait_for_workers(3, timeout=TIMEOUT)
        assert set(cluster.map(lambda worker, group: group.size).values()) == {3}
        parts = cluster.broadcast(np.ones(3))
        os.kill(cluster.workers[2].pid, signal.SIGKILL)
        cluster.wait_for_workers(3, timeout=TIMEOUT)
        eventually(lambda: {m.address for m in cluster.workers} != set(parts.workers))
        cluster.wait_for_workers(3, timeout=TIMEOUT)
        with pytest.raises(ArgumentError, match="no worker that takes part"):
            parts.gather()


def holdings(dask_worker):
    gc.collect()
    now = Holdings.now()
    sockets = sum(count for name, count in now.descriptors.items() if "socket" in name)
    return {
        "plugins": sorted(dask_worker.plugins),
        "handlers": sorted(dask_worker.handlers),
        "threads": sorted(t.name for t in now.python_threads if t.name.startswith("ucxnb")),
        "native": sum(name.startswith("ucxnb") for name in now.native_threads.values()),
        "descriptors": sum(now.descriptors.values()) - sockets,
    }


def test_two_clusters_on_one_and_closing_them_leaves_dask_as_it_was(dask_client):
    with UcxCluster(dask_client):
        pass  # what is loaded once stays
    before = dask_client.run(holdings)
    with UcxCluster(dask_client) as one, UcxCluster(dask_client, topology="ring") as other:
        assert dask_client.run(holdings) != before
        parts = one.broadcast(np.ones(5))
        assert list(other.map(lambda worker, group: group.rank).values()) == [0, 1, 2]
        with pytest.raises(ArgumentError, match="another cluster"):
            other.gather(parts)
        one.close()
        one.close()
        assert one.closed
        with pytest.raises(ClusterError, match="was closed"):
            one.map(len)
        with pytest.raises(ClusterError, match="was closed"):
            parts.gather()
        with pytest.raises(ClusterError, match="was closed"):
            one.stats()
        assert list(other.map(lambda worker: 1).values()) == [1, 1, 1]
        assert "closed" in repr(one)
    eventually(lambda: dask_client.run(holdings) == before)
    assert dask_client.submit(sum, [1, 2]).result() == 3


def test_a_cluster_that_is_dropped_open_says_so(dask_client):
    cluster = UcxCluster(dask_client)
    with pytest.warns(ResourceWarning, match="dropped open"):
        del cluster
        gc.collect()
    eventually(lambda: not any("ucxnb" in n for n in plugin_names(dask_client)))


def plugin_names(client):
    names = client.run(lambda dask_worker: list(dask_worker.plugins))
    return [name for each in names.values() for name in each]


def test_a_notebook_that_takes_no_part(dask_client):
    with UcxCluster(dask_client, take_part=False) as cluster:
        assert cluster.worker is None
        array = np.arange(10.0)
        parts = cluster.scatter(array)
        assert (np.concatenate(parts.gather()) == array).all()
        everywhere = cluster.broadcast(array)
        assert (cluster.allreduce(everywhere, "max").gather()[2] == array).all()
        there = cluster.send("a word", cluster.workers[1].address)
        assert cluster.send(there, cluster.workers[2].address).gather() == ["a word"]
        assert len(cluster.stats().names) == 3
        victim = cluster.workers[1]
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: MemberState.LOST in {m.state for m in cluster.members})
        cluster.wait_for_workers(3, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("topology", "counts"),
    [
        ("all pairs", [3, 3, 3]),
        ("ring", [2, 2, 2]),
        ("on demand", [0, 0, 0]),
        (lambda all_: [(all_[0], all_[1])], [1, 1, 0]),
    ],
)
def test_others_than_the_chosen_pairs_connect_on_demand(dask_client, topology, counts):
    with UcxCluster(dask_client, topology=topology) as cluster:
        told = cluster.map(lambda worker: len(worker.endpoints()))
        assert list(told.values()) == counts

        def ask(worker, group):
            # Only one of the two wants it: the other is asked over Dask, if it is who dials.
            return group.endpoint_to(2) if group.rank == 0 else None

        first = cluster.map(ask)
        assert first == cluster.map(ask)
        ends = list(cluster.map(lambda worker, group: len(worker.endpoints())).values())
        assert ends[0] == max(counts[0], 1 + counts[0] * (topology not in ("all pairs", "ring")))
        assert (cluster.broadcast(np.ones(10)).gather()[1] == 1).all()


def test_idle_connections_are_closed_and_made_again(dask_client):
    def count(cluster):
        return sum(cluster.map(lambda worker: len(worker.endpoints()), timeout=TIMEOUT).values())

    def left(worker, group):
        """Let a message lie at rank 1, or take it."""
        there = group.endpoint_to(1 - group.rank)
        if group.rank == 0:
            worker.send_tag(there, 5, b"it lies here for a while")

    def take(worker, group):
        if group.rank == 1:
            return worker.receive_tag(group.endpoint_to(0), 5, timeout=TIMEOUT)
        return None

    with UcxCluster(dask_client, topology="on demand", idle_close=0.3, take_part=False) as cluster:
        for _ in range(3):
            assert (cluster.broadcast(np.arange(5)).gather()[1] == np.arange(5)).all()
            eventually(lambda: count(cluster) == 0)
        # Nothing is lost: a message that nobody has received keeps the connection.
        pair = [member.address for member in cluster.workers[:2]]
        cluster.map(left, workers=pair)
        time.sleep(1.5)
        assert count(cluster) == 2
        assert list(cluster.map(take, workers=pair).values())[1] == b"it lies here for a while"
        eventually(lambda: count(cluster) == 0)
    with UcxCluster(dask_client, topology="ring", idle_close=0.1, take_part=False) as cluster:
        time.sleep(0.5)
        assert count(cluster) == 6  # of the topology: they stay


def test_workers_close_when_nobody_is_heard_and_start_anew_when_somebody_is(dask_client):
    with UcxCluster(dask_client, orphaned_after=1) as cluster:
        tokens = [member.ucx_address for member in cluster.workers]
        time.sleep(1.5)  # it is heard now and then
        assert [member.ucx_address for member in cluster.workers] == tokens
        heard = cluster._idle_work
        cluster._membership._idle_work = lambda: None  # as if the process slept

        def alive(dask_worker):
            return [p._member is not None for n, p in dask_worker.plugins.items() if "ucxnb" in n]

        eventually(lambda: set(map(tuple, dask_client.run(alive).values())) == {(False,)})
        with pytest.raises(ClusterError, match="it is closed"):
            cluster.map(lambda worker: 1)
        cluster._membership._idle_work = heard
        eventually(
            lambda: (
                all(map(tuple, dask_client.run(alive).values()))
                and len(cluster.workers) == 3
                and [member.ucx_address for member in cluster.workers] != tokens
            )
        )
        assert list(cluster.map(lambda worker: 1, timeout=TIMEOUT).values()) == [1, 1, 1]


def test_workers_that_cannot_start_say_why(dask_client):
    with pytest.raises(ClusterError, match="no-such-device"):
        UcxCluster(dask_client, interface="no-such-device")
    with pytest.raises(ClusterError, match="TLS"):
        UcxCluster(dask_client, take_part=False, ucx_options={"TLS": "no_such_transport"})
    assert not any("ucxnb" in name for name in plugin_names(dask_client))


def hide(dask_worker, hidden):
    """Let the package not be there, for what comes from now on."""
    name = "ucxnb.cluster.plugin"
    if hidden:
        dask_worker.kept_aside = sys.modules.get(name)
        sys.modules[name] = None
    else:
        sys.modules[name] = dask_worker.kept_aside


def test_workers_without_ucxnb_say_what_to_install(dask_client):
    with UcxCluster(dask_client):
        pass
    dask_client.run(hide, hidden=True)
    try:
        with pytest.raises(ClusterError, match="install there"):
            UcxCluster(dask_client)
    finally:
        dask_client.run(hide, hidden=False)
    with UcxCluster(dask_client) as cluster:
        assert len(cluster.workers) == 3


def test_dask_workers_that_are_threads_of_this_process():
    with UcxCluster.local(3, dask={"processes": False}) as cluster:
        parts = cluster.scatter(np.arange(9.0))
        assert cluster.allreduce(parts).gather()[0].tolist() == [9.0, 12.0, 15.0]
        assert {m.pid for m in cluster.workers} == {os.getpid()}


def test_workers_that_are_retired_have_left_and_dask_may_go_first():
    with LocalCluster(n_workers=2, **LOCAL) as local, Client(local) as client:
        cluster = UcxCluster(client)
        retired, stays = cluster.workers
        client.retire_workers([retired.address])
        eventually(lambda: len(cluster.workers) == 1)
        gone = next(m for m in cluster.members if m.address == retired.address)
        assert (gone.state, gone.reason) == (MemberState.LEFT, "it closed in order")
        assert cluster.map(lambda worker: len(worker.endpoints())) == {stays.address: 1}
        call = Call(cluster.map, lambda worker: time.sleep(20))
        time.sleep(0.3)
        client.retire_workers([stays.address])
        error = call.join().error
        assert isinstance(error, ClusterError)
        assert isinstance(error.failed[stays.address], WorkerLostError)
        eventually(lambda: not cluster.workers)
        with pytest.raises(ClusterError, match="there is no worker"):
            cluster.broadcast(1)
        with pytest.raises(ClusterError, match="0 of 1 workers take part"):
            cluster.wait_for_workers(1, timeout=0.3)
    cluster.close()
    assert cluster.closed


def test_a_client_that_is_closed_ends_what_waits_for_it(dask_client):
    client = Client(dask_client.scheduler.address)
    cluster = UcxCluster(client)
    call = Call(cluster.map, lambda worker: time.sleep(5))
    time.sleep(0.3)
    client.close()
    assert isinstance(call.join().error, ClusterError)
    with pytest.raises(ClusterError, match="client was closed"):
        cluster.stats()
    cluster.close()
    eventually(lambda: not open_members(dask_client))


def open_members(client):
    """What is left of clusters whose client could not take it out any more."""
    names = {name for name in plugin_names(client) if "ucxnb" in name}
    for name in names:
        client.unregister_worker_plugin(name)
    return names


def test_an_asynchronous_client_is_refused(dask_client):
    async def make():
        async with Client(dask_client.scheduler.address, asynchronous=True) as client:
            with pytest.raises(ArgumentError, match="asynchronous"):
                UcxCluster(client)

    asyncio.run(make())
