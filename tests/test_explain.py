"""`UcxWorker.explain` beside what UCX itself prints of the same run, and its edges."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest
from eventually import eventually
from test_protocols import cells

from ucxnb import (
    ArgumentError,
    EndpointClosedError,
    EndpointLostError,
    PeerClosedError,
    UcxWorker,
    UnknownEndpointError,
    WorkerClosedError,
)
from ucxnb.bench import BenchPartner

WAYS = {
    "shm": {"TLS": "shm,self"},
    "tcp": {"TLS": "tcp,self"},
    "thresholds": {"TLS": "shm,self", "RNDV_THRESH": "8192", "SYSV_SEG_SIZE": "32k"},
}


def explain_after_use(channel, options, log):
    """Use tags, the stream, put and get of a connection to another process, and explain it."""
    os.environ["UCX_LOG_FILE"] = log  # read when UCX is loaded
    with (
        BenchPartner(ucx_options=options, enable_rma=True) as partner,
        UcxWorker(ucx_options={**options, "PROTO_INFO": "y"}, enable_rma=True) as worker,
    ):
        endpoint_id = worker.connect(partner.address)
        # The explorer's own child uses everything in the same way.
        from ucxnb.bench.session import Session
        from ucxnb.explorer.pair_child import use_everything

        use_everything(Session(worker, endpoint_id, lambda: False))
        explanation = worker.explain(endpoint_id)
        transports = worker.endpoints()[0].transports
    return explanation, transports


def tables_of_the_log(text: str) -> dict[str, list[tuple[str, ...]]]:
    """Rows by title, found in another way than the reader does."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    title = ""
    for line in text.splitlines():
        if found := re.search(r"\| (?:ucp_context_\d+ .*? cfg#\d+ \| )?(.* memory.*?) +\|$", line):
            title = found[1]
            tables[title] = []
        elif found := re.search(r"\| +(\d\S*) \| (.+?) +\| (.*?) *\|$", line):
            tables[title].append(found.groups())
    return tables


@pytest.mark.parametrize("way", WAYS)
def test_each_cell_is_that_of_ucx_proto_info(start_child, tmp_path, way):
    log = tmp_path / "ucx.%p.txt"
    child = start_child(explain_after_use, WAYS[way], str(log))
    explanation, transports = child.result()
    text = (tmp_path / f"ucx.{child.pid}.txt").read_text()
    theirs = tables_of_the_log(text)
    names = {
        "tagged message by ucp_tag_send* from host memory": ("tag", "", "host", ""),
        "tagged message by ucp_tag_send*(multi) from host memory": ("tag", "multi", "host", ""),
        "tagged message by ucp_tag_send*(fast-completion) from host memory": (
            *("tag", "fast-completion", "host", ""),
        ),
        "stream message by ucp_stream_send* from host memory": ("stream", "", "host", ""),
        "remote memory write by ucp_put* from host memory to host": ("put", "", "host", "host"),
        "remote memory read by ucp_get* into host memory from host": ("get", "", "host", "host"),
    }
    assert set(names) <= set(theirs)
    for title, key in names.items():
        ours = [cells(row) for row in explanation.ranges if row.key == key]
        assert ours == theirs[title], title
    assert explanation.unknown == ()
    assert {lane.transport for lane in explanation.lanes} == set(transports)
    assert explanation.at(8192).protocol.startswith("rendezvous") == (way == "thresholds")


def test_nothing_is_printed(pair, capfd):
    left, to_right, _, _ = pair
    explanation = left.explain(to_right)
    assert explanation.of("tag")
    assert "UCP endpoint" in explanation.printed
    assert capfd.readouterr() == ("", "")


def test_the_stream_is_told_once_it_was_used(pair):
    left, to_right, right, to_left = pair
    before = left.explain(to_right)
    assert before.of("stream") == ()
    left.send_stream(to_right, b"x")
    right.receive_stream(to_left, bytearray(1), timeout=30)
    assert left.explain(to_right).of("stream")
    assert before.of("stream") == ()  # a value does not change


def test_endpoints_that_are_not_there(pair):
    left, to_right, right, to_left = pair
    with pytest.raises(UnknownEndpointError):
        left.explain(to_right + 1)
    for wrong in ("1", None):
        with pytest.raises((ArgumentError, UnknownEndpointError)):
            left.explain(wrong)
    left.disconnect(to_right)
    with pytest.raises(EndpointClosedError):
        left.explain(to_right)
    eventually(lambda: not right.is_connected(to_left))
    with pytest.raises(PeerClosedError):
        right.explain(to_left)
    left.close()
    with pytest.raises(WorkerClosedError):
        left.explain(to_right)


def test_a_peer_that_was_killed(pair):
    left = pair[0]
    with BenchPartner() as partner:
        endpoint_id = left.connect(partner.address)
        assert left.explain(endpoint_id).of("tag")
        os.kill(partner.pid, 9)
        eventually(lambda: not left.is_connected(endpoint_id))
    with pytest.raises(EndpointLostError):
        left.explain(endpoint_id)


def test_while_messages_move_and_the_connection_ends(pair):
    left, to_right, right, to_left = pair
    enough = threading.Event()

    def traffic():
        while not enough.is_set():
            for _ in range(100):
                left.send_tag(to_right, 1, b"x" * 64)
                right.receive_tag(to_left, 1, timeout=30)
            time.sleep(0.0005)  # a thread in a loop without any rest leaves others nothing
        left.disconnect(to_right)

    thread = threading.Thread(target=traffic)
    thread.start()
    told = 0
    try:
        while True:
            assert left.explain(to_right).of("tag")[0].first == 0
            told += 1
            if told == 50:
                enough.set()
    except EndpointClosedError:
        assert told >= 50
    finally:
        enough.set()
        thread.join()
