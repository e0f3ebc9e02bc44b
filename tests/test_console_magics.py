"""The magics, in a real kernel."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from serving import echo_server

# In a process of its own: the client's sockets and threads end with it.
DRIVE = """
import json, sys, time
from queue import Empty
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")

def run(code, interrupt_after=None):
    message = client.execute(code)
    got = {"text": "", "html": "", "stdout": "", "error": ""}
    if interrupt_after:
        time.sleep(interrupt_after)
        manager.interrupt_kernel()
    while True:
        reply = client.get_iopub_msg(timeout=40)
        if reply["parent_header"].get("msg_id") != message:
            continue
        content = reply["content"]
        if reply["msg_type"] == "status" and content["execution_state"] == "idle":
            client.get_shell_msg(timeout=40)
            return got
        if reply["msg_type"] in ("execute_result", "display_data"):
            got["text"] += content["data"].get("text/plain", "")
            got["html"] += content["data"].get("text/html", "")
        elif reply["msg_type"] == "stream":
            got["stdout"] += content["text"]
        elif reply["msg_type"] == "error":
            got["error"] = content["ename"]
            got["traceback"] = content["traceback"]

def complete(code):
    client.complete(code, len(code))
    while True:
        reply = client.get_shell_msg(timeout=40)
        if reply["msg_type"] == "complete_reply":
            return reply["content"]["matches"]

try:
    answers = []
    for code, after in json.loads(sys.argv[1]):
        answers.append(complete(code[1:]) if code.startswith("?") else run(code, after))
    print(json.dumps(answers))
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""


def drive(*cells):
    given = [cell if isinstance(cell, tuple) else (cell, None) for cell in cells]
    with tempfile.TemporaryDirectory() as elsewhere:  # a kernel imports from where it is
        done = subprocess.run(
            [sys.executable, "-P", "-c", DRIVE, json.dumps(given)],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=elsewhere,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_whole_grammar_in_a_notebook():
    with echo_server() as (address, _):
        answers = drive(
            "%load_ext ucxnb",
            f"server = %ucx connect {address}",
            "server + 0",
            "%ucx endpoints",
            "?%ucx rec",
            "?%ucx receive ",
            "%ucx send 1 7 hello <b>",
            "got = %ucx receive 1 7\ngot",
            "got.data, got.tag, got.nbytes",
            "%%ucx\nsend 1 8 one\n# a comment\nsend 1 8 two\nreceive any 8",
            "%%ucx\nsend 1 8 x\nsend 1\nstats",
            "%ucx benchmark 8B",
            "%ucx config",
            "%ucx stats",
            "%ucx",
            "%ucx send 1",
            "%ucx receive 9 9",
            ("%ucx receive 1 99 60", 1.5),
            "%ucx broadcast 9 all",
            "%ucx receive 1 9",
            "from ucxnb import UcxWorker\nmine = UcxWorker(name='mine')",
            "%ucx -w mine listen 127.0.0.1:0",
            "?%ucx -w ",
            f"%ucx -w mine connect {address}",
            "?%ucx -w mine disconnect ",
            "?%%ucx -w mine\ndisconnect ",
            "?x = %ucx conn",
            "%%ucx -w mine\nquit\nstats",
            "mine.closed",
            "%ucx -w nobody stats",
            "%ucx disconnect 1",
            "%ucx quit",
            "%unload_ext ucxnb",
            "%ucx stats",
        )
    (
        load, connect, value, endpoints, commands, ids, sent, got, fields, cell, wrong_cell,
        benchmark, config, stats, usage, wrong, unknown, interrupted, broadcast, received, _,
        listening, workers, _, mine, mine_in_cell, assigned, quit_mine, is_closed, nobody,
        closed, left, unload, gone,
    ) = answers  # fmt: skip
    assert not load["error"]
    assert not connect["error"]
    assert value["text"] == "1"
    assert "<table>" in endpoints["html"]
    assert address in endpoints["html"]
    assert commands == ["receive"]
    assert ids == ["1", "any"]
    assert "sent 9 bytes" in sent["html"]
    assert "hello &lt;b&gt;" in got["html"]
    assert fields["text"] == "(b'hello <b>', 7, 9)"
    assert cell["html"].index("sent 3 bytes") < cell["html"].index("tag 8, 3 bytes: one")
    assert "UsageError: line 3: it takes an endpoint id" in wrong_cell["traceback"][0]
    assert "<th>p50 us</th>" in benchmark["html"]
    assert "progress_interval_us" in config["html"]
    assert "messages sent" in stats["html"]
    assert "broadcast &lt;tag&gt; &lt;message&gt;" in usage["html"]
    (shown,) = wrong["traceback"]
    assert shown.endswith("usage: send <id> <tag> <message>")
    assert unknown["error"] == "UnknownEndpointError"
    assert len(unknown["traceback"]) == 1  # no way down to where it was raised
    assert interrupted["error"] == "KeyboardInterrupt"
    assert "sent to endpoint 1" in broadcast["html"]
    assert "3 bytes: all" in received["html"]
    assert "Listener" in listening["text"]
    assert workers == ["mine"]
    assert mine == mine_in_cell == ["1"]
    assert assigned == ["connect"]
    assert not quit_mine["error"]
    assert is_closed["text"] == "True"
    assert "nobody: there is no UcxWorker of that name" in nobody["traceback"][0]
    assert "closed" in closed["html"]
    assert not left["error"]
    assert not unload["error"]
    assert "not found" in gone["stdout"] + gone["error"]


def test_a_kernel_that_ends_takes_its_worker_with_it():
    answers = drive("%load_ext ucxnb", "%ucx listen 127.0.0.1:0")
    assert "Listener" in answers[1]["text"]
