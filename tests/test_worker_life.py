"""Threads, closing, forking, dropping, exiting."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import ucxnb
from ucxnb import EchoPeer, ThreadMode, UcxWorker

TIMEOUT = 30


def blocked_receive(worker, endpoint_id, tag=1):
    """A thread inside `receive_tag`, and the list that will hold how it ended."""
    outcome = []
    entered = threading.Event()

    def receive():
        entered.set()
        try:
            outcome.append(worker.receive_tag(endpoint_id, tag, timeout=TIMEOUT))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    entered.wait()
    time.sleep(0.2)
    return thread, outcome


@pytest.fixture(params=list(ThreadMode), ids=str)
def pair(request):
    with UcxWorker(thread_mode=request.param) as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        yield left, to_right, right, right.get_endpoint_ids()[0]


def test_a_second_thread_in_a_single_worker_is_told_so():
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        thread, outcome = blocked_receive(left, to_right)
        for call in (
            lambda: left.send_tag(to_right, 1, b""),
            lambda: left.try_receive_tag(to_right, 1),
            lambda: left.broadcast_tag(1, b""),
            lambda: left.connect(right.listeners[0].address),
            lambda: left.disconnect(to_right),
            lambda: left.progress(),
            lambda: left.create_listener(),
        ):
            with pytest.raises(ucxnb.ThreadModeError, match=r"ThreadMode\.MULTI"):
                call()
        assert left.stats().connections == 1  # snapshots are for everyone
        assert left.endpoints()
        right.send_tag(right.get_endpoint_ids()[0], 1, b"done")
        thread.join()
        assert outcome == [b"done"]
        left.send_tag(to_right, 1, b"")  # one after the other is fine


def test_a_second_thread_in_a_multi_worker_is_welcome():
    with UcxWorker(thread_mode=ThreadMode.MULTI) as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        thread, outcome = blocked_receive(left, to_right)
        left.send_tag(to_right, 1, b"meanwhile")
        right.receive_tag(None, 1, timeout=TIMEOUT)
        right.send_tag(1, 1, b"done")
        thread.join()
        assert outcome == [b"done"]


def test_closing_ends_blocked_calls(pair):
    left, to_right, _, _ = pair
    thread, outcome = blocked_receive(left, to_right)
    left.close()
    thread.join(10)
    assert isinstance(outcome[0], ucxnb.WorkerClosedError)


def test_disconnecting_ends_blocked_receives():
    with UcxWorker(thread_mode=ThreadMode.MULTI) as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        thread, outcome = blocked_receive(left, to_right)
        left.disconnect(to_right)
        thread.join(10)
        assert isinstance(outcome[0], ucxnb.EndpointClosedError)


def test_closing_while_a_large_send_waits_for_its_receiver():
    left, right = UcxWorker(close_timeout=0.2), UcxWorker()
    to_right = left.connect(right.create_listener().address)
    data = bytearray(50_000_000)
    with pytest.raises(ucxnb.OperationTimeoutError):
        left.send_tag(to_right, 1, data, timeout=0.1)
    left.close()
    data.clear()  # given back
    right.close()


def test_a_closed_worker_refuses_everything():
    worker = UcxWorker()
    worker.close()
    worker.close()
    assert worker.closed
    assert "closed" in repr(worker)
    assert worker.get_endpoint_ids() == []
    assert not worker.is_connected(1)
    worker.stats()
    for call in (
        lambda: worker.connect("127.0.0.1:1"),
        lambda: worker.create_listener(),
        lambda: worker.send_tag(1, 1, b""),
        lambda: worker.receive_tag(1, 1),
        lambda: worker.try_receive_message(None, 1),
        lambda: worker.broadcast_tag(1, b""),
        lambda: worker.progress(),
        lambda: worker.run_progress_loop(),
        lambda: worker.cleanup_all(),
    ):
        with pytest.raises(ucxnb.WorkerClosedError):
            call()


def test_a_worker_that_is_dropped_open_warns_and_cleans_up():
    worker, other = UcxWorker(), UcxWorker()
    worker.connect(other.create_listener().address)
    worker.create_listener()
    with pytest.warns(ResourceWarning, match="close"):
        del worker
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deadline = time.monotonic() + 10
        while other.get_endpoint_ids() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert other.get_endpoint_ids() == []
    other.close()


def test_a_worker_in_a_cycle_is_collected():
    worker = UcxWorker()
    worker.itself = worker
    with pytest.warns(ResourceWarning):
        del worker
        gc.collect()


def test_the_child_of_a_fork_has_no_worker():
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        pid = os.fork()
        if pid == 0:
            try:
                left.send_tag(to_right, 1, b"")
            except ucxnb.WorkerClosedError as error:
                os._exit(0 if "parent" in str(error) and left.closed else 2)
            except BaseException:
                os._exit(3)
            os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        left.send_tag(to_right, 1, b"parent goes on")
        assert right.receive_tag(None, 1, timeout=TIMEOUT) == b"parent goes on"


EXITS = {
    "idle": "",
    "blocked thread": """
threading.Thread(target=lambda: a.receive_tag(i, 1), daemon=True).start(); time.sleep(0.2)""",
    "traffic in a thread": """
def traffic():
    while True:
        a.send_tag(i, 1, bytes(100)); b.receive_tag(None, 1)
threading.Thread(target=traffic, daemon=True).start(); time.sleep(0.2)""",
    "large send waiting": """
threading.Thread(target=lambda: a.send_tag(i, 1, bytes(10**8)), daemon=True).start()
time.sleep(0.2)""",
    "exception": "raise SystemExit(0)",
    "closed": "a.close(); b.close()",
}


@pytest.mark.parametrize("moment", EXITS)
def test_the_interpreter_exits_cleanly(moment):
    program = (
        "import threading, time, ucxnb\n"
        "a = ucxnb.UcxWorker(close_timeout=0.5); b = ucxnb.UcxWorker(close_timeout=0.5)\n"
        "i = a.connect(b.create_listener().address)\n"
        "a.send_tag(i, 9, b'x'); b.receive_tag(None, 9)\n" + EXITS[moment]
    )
    run = subprocess.run(
        [sys.executable, "-P", "-W", "ignore::ResourceWarning", "-c", program],
        timeout=30,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    noise = [line for line in run.stderr.splitlines() if "WorkerClosedError" not in line]
    assert run.returncode == 0, run.stderr
    assert not [line for line in noise if "Fatal" in line or "UCX  ERROR" in line], run.stderr


def test_ctrl_c_ends_a_blocked_receive_and_loses_nothing():
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            right.receive_tag(1, 1, bytearray(8), timeout=TIMEOUT)
        timer.join()
        left.send_tag(to_right, 1, b"whole")
        assert right.receive_tag(1, 1, timeout=TIMEOUT) == b"whole"


def test_ctrl_c_ends_a_progress_loop():
    with UcxWorker() as worker:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            worker.run_progress_loop()
        timer.join()


def test_a_signal_handler_may_use_the_worker_but_not_close_it():
    with UcxWorker() as left, UcxWorker() as right:
        to_right = left.connect(right.create_listener().address)
        seen = []

        def handler(number, frame):
            left.send_tag(to_right, 2, b"from the handler")
            with pytest.raises(ucxnb.ThreadModeError, match="signal handler"):
                left.close()
            seen.append(right.receive_tag(1, 2, timeout=TIMEOUT))

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(ucxnb.OperationTimeoutError):
                left.receive_tag(to_right, 1, timeout=0.6)
            timer.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [b"from the handler"]


def cpu_seconds_over(seconds):
    start = time.process_time()
    time.sleep(seconds)
    return time.process_time() - start


def test_an_idle_worker_sleeps():
    with UcxWorker() as server, UcxWorker() as client:
        address = server.create_listener().address
        for _ in range(10):
            client.connect(address)
        client.broadcast_tag(1, b"some traffic first")
        time.sleep(0.3)
        # A thread that spins would take all of the second, or half of it on a busy machine.
        assert cpu_seconds_over(1.0) < 0.3


def test_a_blocked_receive_sleeps():
    with UcxWorker() as server, UcxWorker() as client:
        endpoint_id = client.connect(server.create_listener().address)
        thread, outcome = blocked_receive(client, endpoint_id)
        used = cpu_seconds_over(1.0)
        server.send_tag(1, 1, b"done")
        thread.join()
        assert outcome == [b"done"]
        assert used < 0.3


def test_settings_reach_the_worker():
    with pytest.raises(ucxnb.ConfigError, match=r"bufer_size.*buffer_size"):
        UcxWorker(bufer_size=1)
    with pytest.raises(ucxnb.ConfigError, match="config"):
        UcxWorker("fast")
    with pytest.raises(ucxnb.ConfigError, match="NO_SUCH_OPTION"):
        UcxWorker(ucx_options={"NO_SUCH_OPTION": "1"})
    with UcxWorker(buffer_size=128 * 1024, name="mine", ucx_options={"TLS": "tcp"}) as worker:
        assert worker.config.buffer_size == 128 * 1024
        assert worker.name == "mine"
        worker.connect(worker.create_listener().address)
        assert all("tcp" in name for info in worker.endpoints() for name in info.transports)


def test_ctrl_c_in_close_ends_the_wait_and_closes_all_the_same():
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with EchoPeer() as peer:
        worker = UcxWorker()
        worker.connect(peer.address)
        os.kill(peer.pid, signal.SIGSTOP)  # so that it never says goodbye
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                worker.close()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.kill(peer.pid, signal.SIGCONT)
        assert worker.closed
        worker.close()


def test_dropped_open_where_warnings_are_errors():
    code = "from ucxnb import UcxWorker; w = UcxWorker(); w.create_listener(); del w; print('on')"
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert "ResourceWarning" in done.stderr


def test_a_worker_that_cannot_start_leaves_nothing(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        UcxWorker()
