"""Interpreters that exit, and kernels that are restarted, at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

THOROUGH = bool(os.environ.get("UCXNB_THOROUGH"))
TRIES = 180 if THOROUGH else 12  # of each of two programs at once
RESTARTS = 10 if THOROUGH else 1
FOLDER = Path(__file__).parent


@pytest.mark.reliability
@pytest.mark.timeout(30 * TRIES)
def test_the_interpreter_exits_at_any_moment(saw):
    runs = []
    for seed in (random.randrange(2**32), random.randrange(2**32)):
        print(f"again: python tests/exits.py {seed} {TRIES}")
        command = [sys.executable, "-P", str(FOLDER / "exits.py"), str(seed), str(TRIES)]
        pipe = subprocess.PIPE
        runs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, text=True))
    tries = []
    for run in runs:
        tries += [json.loads(line) for line in run.communicate()[0].splitlines()]
    assert [run.returncode for run in runs] == [0, 0]
    assert len(tries) == 2 * TRIES
    assert not [one for one in tries if one["wrong"]]
    seconds = defaultdict(list)
    for one in tries:
        seconds[one["scene"]].append(one["seconds"])
    for scene, each in seconds.items():
        saw(
            "faults",
            f"Exit of the interpreter, SIGINT or SIGTERM at any moment: {scene}",
            tried=len(each),
            sees="it ends, with the right exit code and no process left",
            seconds=each,
            lost="what was under way",
        )


# In a process of its own: the client's event loop and sockets end with it.
RESTART = """
import json, os, random, sys, time
from pathlib import Path
from jupyter_client.manager import start_new_kernel

seed, times, moment = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
chance = random.Random(seed)
manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
for _ in range(times):
    pids = []

    def note(message):
        if message["msg_type"] == "stream":
            pids.extend(int(word) for word in message["content"]["text"].split())

    reply = client.execute_interactive(
        SCENE + ("" if moment == "busy" else BUSY[moment]),
        timeout=60, output_hook=note, allow_stdin=False)
    assert reply["content"]["status"] == "ok", reply
    assert len(pids) == 2 and pids[0] == manager.provisioner.pid, pids
    if moment == "busy":
        client.execute(BUSY[moment])
    time.sleep(chance.uniform(0, 0.5))
    began = time.perf_counter()
    manager.restart_kernel()
    seconds = time.perf_counter() - began
    deadline = time.monotonic() + 20
    left = pids
    while left and time.monotonic() < deadline:
        left = [pid for pid in pids if Path("/proc", str(pid)).exists()]
        time.sleep(0.01)
    assert not left, left
    client.wait_for_ready(timeout=60)
    print(json.dumps(seconds))
client.stop_channels()
manager.shutdown_kernel(now=True)
"""
SCENE = """
import os, threading
from ucxnb import EchoPeer, ThreadMode, UcxWorker
from ucxnb.widgets import ControlRoom
peer, worker = EchoPeer(), UcxWorker(thread_mode=ThreadMode.MULTI)
endpoint_id = worker.connect(peer.address)
room = ControlRoom(worker)
room.receive_panel.keep_button.click()
room.send_panel.send_button.click()
print(os.getpid(), peer.pid)
def transfer():
    while True:
        worker.send_tag(endpoint_id, 1, bytes(1 << 30))
        worker.receive_tag(endpoint_id, 1)
"""
BUSY = {
    "in a thread": "threading.Thread(target=transfer, daemon=True).start(); room",
    "busy": "transfer()",
}


@pytest.mark.reliability
@pytest.mark.timeout(60 + 20 * RESTARTS)
@pytest.mark.parametrize("moment", BUSY)
def test_a_kernel_is_restarted_at_any_moment(tmp_path, saw, moment):
    if moment == "busy" and not THOROUGH:
        pytest.skip("Jupyter waits 5 s before it kills a busy kernel: with UCXNB_THOROUGH")
    seed, times = random.randrange(2**32), RESTARTS
    print(f"seed {seed}")
    program = f"SCENE = {SCENE!r}\nBUSY = {BUSY!r}\n{RESTART}"
    run = subprocess.run(
        [sys.executable, "-P", "-c", program, str(seed), str(times), moment],
        capture_output=True,
        text=True,
        timeout=60 + 20 * times,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,  # where the kernel finds no source code in the place of the package
    )
    assert run.returncode == 0, run.stderr[-5000:]
    assert "Fatal" not in run.stderr, run.stderr[-5000:]
    saw(
        "faults",
        f"Kernel restart in 1 GiB, with the control room open: {moment}",
        tried=times,
        sees="a new kernel, and no process left of the old one",
        seconds=[float(line) for line in run.stdout.splitlines()],
        lost="the kernel's state, as always",
    )
