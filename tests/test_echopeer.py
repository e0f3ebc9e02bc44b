from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ucxnb import (
    EchoPeer,
    EndpointLostError,
    MissingUcxError,
    OperationTimeoutError,
    UcxnbError,
    UcxWorker,
)

WAIT = 30.0


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT} s: {what}"
        time.sleep(0.01)


def echo(worker: UcxWorker, endpoint_id: int, tag: int, payload: bytes) -> bytes:
    worker.send_tag(endpoint_id, tag, payload, timeout=WAIT)
    return worker.receive_tag(endpoint_id, tag, timeout=WAIT)


@pytest.fixture(scope="module")
def peer():
    with EchoPeer() as peer:
        yield peer


def test_is_another_process_on_loopback(peer):
    assert peer.address == f"127.0.0.1:{peer.port}"
    assert peer.pid != os.getpid()
    assert alive(peer.pid)
    assert not peer.closed
    assert peer.address in repr(peer)


@pytest.mark.parametrize("size", [0, 1, 8, 1000, 8192, 64 * 1024 + 1, 1 << 20, 20_000_000])
def test_every_size_comes_back(peer, size):
    payload = os.urandom(size)
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        assert echo(worker, endpoint_id, 3, payload) == payload
        assert echo(worker, endpoint_id, 3, b"after it") == b"after it"


@pytest.mark.parametrize("tag", [0, 1, 2**31, 2**40 - 1])
def test_every_tag_comes_back(peer, tag):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        worker.send_tag(endpoint_id, tag, b"x")
        message = worker.receive_message(endpoint_id, 0, timeout=WAIT, tag_mask=0)
        assert (message.tag, message.data) == (tag, b"x")


def test_order_is_kept(peer):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        for i in range(1000):
            worker.send_tag(endpoint_id, 5, i.to_bytes(2, "little"))
        came = [worker.receive_tag(endpoint_id, 5, timeout=WAIT) for _ in range(1000)]
        assert came == [i.to_bytes(2, "little") for i in range(1000)]


def test_two_clients_get_their_own(peer):
    with UcxWorker() as one, UcxWorker() as two:
        first, second = one.connect(peer.address), two.connect(peer.address)
        for i in range(200):
            one.send_tag(first, 1, b"one %d" % i)
            two.send_tag(second, 1, b"two %d" % i)
        for i in range(200):
            assert one.receive_tag(first, 1, timeout=WAIT) == b"one %d" % i
            assert two.receive_tag(second, 1, timeout=WAIT) == b"two %d" % i


def test_a_client_may_send_much_before_it_receives(peer):
    payloads = [os.urandom(2 << 20) for _ in range(5)]
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        for tag, payload in enumerate(payloads):
            worker.send_tag(endpoint_id, tag, payload, timeout=WAIT)
        for tag, payload in enumerate(payloads):
            assert worker.receive_tag(endpoint_id, tag, timeout=WAIT) == payload


def dying_client(channel, address: str, size: int) -> None:
    with UcxWorker() as worker:
        endpoint_id = worker.connect(address)
        echo(worker, endpoint_id, 1, b"hello")
        with contextlib.suppress(OperationTimeoutError):
            worker.send_tag(endpoint_id, 1, bytes(size), timeout=1)
        channel.send("sent")
        time.sleep(WAIT)


@pytest.mark.parametrize("size", [8, 50_000_000])
def test_survives_a_client_that_dies_with_an_answer_on_its_way(peer, start_child, size):
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        child = start_child(dying_client, peer.address, size)
        assert child.receive() == "sent"
        child.kill()
        assert echo(worker, endpoint_id, 1, b"still there?") == b"still there?"


def test_closing_ends_the_child_and_its_clients_hear_of_it():
    peer = EchoPeer()
    with UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        peer.close()
        assert peer.closed
        assert not alive(peer.pid)
        with pytest.raises(EndpointLostError):
            worker.receive_tag(endpoint_id, 1, timeout=WAIT)
    peer.close()
    assert repr(peer) == "<EchoPeer closed>"


def test_closing_one_that_was_killed():
    with EchoPeer() as peer:
        os.kill(peer.pid, signal.SIGKILL)
        wait_until(lambda: not alive(peer.pid), "the killed child is gone")
    assert peer.closed


def test_closing_one_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("ucxnb.peer_process._GOODBYE", 0.2)
    with EchoPeer() as peer:
        os.kill(peer.pid, signal.SIGSTOP)
    assert not alive(peer.pid)


def test_closing_from_many_threads():
    peer = EchoPeer()
    threads = [threading.Thread(target=peer.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peer.close()
    wait_until(lambda: not alive(peer.pid), "the child is gone")


def test_outlives_the_thread_that_made_it():
    made = []
    thread = threading.Thread(target=lambda: made.append(EchoPeer()))
    thread.start()
    thread.join()
    with made[0] as peer, UcxWorker() as worker:
        assert echo(worker, worker.connect(peer.address), 1, b"there?") == b"there?"


def test_dropping_an_open_one_warns_and_ends_it():
    peer = EchoPeer()
    pid = peer.pid
    with pytest.warns(ResourceWarning, match="never closed"):
        del peer
        gc.collect()
    assert not alive(pid)


def parent_of_a_peer(channel) -> None:
    peer = EchoPeer()
    # A process that was forked, and never ran another program, keeps every descriptor open.
    holder = os.fork()
    if holder == 0:
        time.sleep(WAIT)
        os._exit(0)
    channel.send((peer.pid, holder))
    time.sleep(WAIT)


def test_dies_with_a_killed_parent_even_if_a_fork_of_it_lives(start_child):
    child = start_child(parent_of_a_peer)
    pid, holder = child.receive()
    try:
        assert alive(pid)
        child.kill()
        wait_until(lambda: not alive(pid), "the orphaned peer is gone")
    finally:
        os.kill(holder, signal.SIGKILL)


def forgetful_parent(channel) -> int:
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)
    peer = EchoPeer()
    sys.modules["kept"] = peer  # until the interpreter is gone
    return peer.pid


def test_dies_with_a_parent_that_ends_without_closing(start_child):
    pid = start_child(forgetful_parent).result()
    wait_until(lambda: not alive(pid), "the peer is gone")


def test_ctrl_c_is_for_the_parent():
    with EchoPeer() as peer, UcxWorker() as worker:
        os.kill(peer.pid, signal.SIGINT)
        assert echo(worker, worker.connect(peer.address), 1, b"there?") == b"there?"


def test_a_child_without_ucx_says_so(monkeypatch, tmp_path):
    (tmp_path / "ucxx.py").write_text("raise ImportError('no ucxx here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingUcxError, match=r"no ucxx here.*pip install"):
        EchoPeer()


def test_a_child_that_crashes_is_quoted(monkeypatch, tmp_path):
    (tmp_path / "ucxx.py").write_text("raise SystemExit('out of luck')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UcxnbError, match=r"exit code 1 [\s\S]*out of luck"):
        EchoPeer()


def test_a_child_that_hangs_is_given_up(monkeypatch, tmp_path):
    (tmp_path / "ucxx.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OperationTimeoutError, match="start_timeout"):
        EchoPeer(start_timeout=1.5)


def test_finds_the_package_whatever_lies_in_the_current_folder(monkeypatch, tmp_path):
    (tmp_path / "ucxnb").mkdir()
    (tmp_path / "ucxnb" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    EchoPeer().close()


def test_the_example_in_its_docstring():
    code = EchoPeer.__doc__.partition("Examples\n")[2]
    lines = [line.strip()[4:] for line in code.splitlines() if line.strip()[:3] in (">>>", "...")]
    lines[-1] = lines[-1].replace("worker.receive", "print(worker.receive") + ")"
    done = subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(["from ucxnb import *", *lines])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("b'hello'\n", "")
