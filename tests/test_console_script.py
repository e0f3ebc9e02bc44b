"""The command grammar, and commands from a pipe."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from IPython.lib.pretty import pretty
from serving import echo_server

from ucxnb import (
    EchoPeer,
    EndpointInfo,
    Message,
    UcxWorker,
    UsageError,
    WorkerConfig,
    WorkerStats,
)
from ucxnb.console import Session
from ucxnb.console.completion import complete
from ucxnb.console.grammar import COMMANDS, parse_line
from ucxnb.errors import UnknownEndpointError

NAMES = (
    "connect listen disconnect endpoints send receive broadcast stats benchmark config help quit"
)


def run_repl(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ucxnb", "repl"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_are_those_of_the_guide():
    assert list(COMMANDS) == NAMES.split()


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("connect 127.0.0.1:8080", ("127.0.0.1:8080",)),
        ("  listen   [::1]:0 ", ("[::1]:0",)),
        ("disconnect 12", (12,)),
        ("endpoints", ()),
        ("send 1 7 two  words ", (1, 7, b"two  words")),
        ("send 1 0x1f ' kept '", (1, 31, b" kept ")),
        ("send 1 7 grüße", (1, 7, "grüße".encode())),
        ("send 1 7 hex:00 ff", (1, 7, b"\x00\xff")),
        ('send 1 7 ""', (1, 7, b"")),
        ('send 1 7 "one" and "two"', (1, 7, b'"one" and "two"')),
        ("send\t1\t7\tx", (1, 7, b"x")),
        ("send 1 7 \udcff", (1, 7, b"\xff")),  # a byte that is no text
        ("receive any 7", (None, 7, None)),
        ("receive 3 7 2.5", (3, 7, 2.5)),
        ("broadcast 7 all of you", (7, b"all of you")),
        ("benchmark", (None, ())),
        ("benchmark 2", (2, ())),
        ("benchmark 2 8B,1KiB 64kB", (2, (8, 1024, 64000))),
        ("benchmark 8B", (None, (8,))),
        ("help", (None,)),
        ("help send", ("send",)),
    ],
)
def test_a_line_is_read(line, arguments):
    command, got = parse_line(line)
    assert command.name == line.split()[0]
    assert got == arguments


@pytest.mark.parametrize("line", ["", "   ", "# a comment", "  # another"])
def test_a_line_that_says_nothing(line):
    assert parse_line(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "connect",
        "connect a b",
        "disconnect any",
        "disconnect -1",
        "endpoints now",
        "send 1",
        "send 1 7",
        "send one 7 x",
        "send 1 seven x",
        "send 1 -7 x",
        "send 1 7 hex:0g",
        "receive 1",
        "receive 1 7 soon",
        "receive 1 7 nan",
        "receive 1 7 -1",
        "broadcast",
        "broadcast 7",
        "benchmark 1 huge",
        "benchmark ,",
        "benchmark 1 " + 400 * "9",
        "disconnect " + 5000 * "9",
        "send 1 " + 5000 * "9" + " x",
        "stats please",
        "help nothing",
        "quit now",
    ],
)
def test_a_wrong_line_gets_its_usage(line):
    with pytest.raises(UsageError) as caught:
        parse_line(line)
    usage = COMMANDS[line.split()[0]].usage
    assert caught.value.usage == usage
    assert str(caught.value).endswith(f"usage: {usage}")
    assert len(str(caught.value)) < 300


def test_an_unknown_command_gets_the_closest():
    with pytest.raises(UsageError, match="did you mean 'receive'"):
        parse_line("recieve 1 1")
    with pytest.raises(UsageError, match="known are connect, listen") as caught:
        parse_line(1000 * "xyzzy")
    assert len(str(caught.value)) < 300


def test_results_are_values(pair):
    left, to_right, right, to_left = pair
    here, there = Session(left), Session(right)
    listener = here.run("listen 127.0.0.1:0")
    assert there.run(f"connect {listener.address}") == 2
    assert here.run(f"send {to_right} 7 hello") == 5
    got = there.run(f"receive {to_left} 7")
    assert isinstance(got, Message)
    assert got == (to_left, 7, 5, b"hello")
    assert sorted(there.run("broadcast 8 all")) == [to_left, 2]
    assert here.run("receive any 8 5").data == b"all"
    (first, *_) = here.run("endpoints")
    assert isinstance(first, EndpointInfo)
    assert isinstance(here.run("stats"), WorkerStats)
    assert isinstance(here.run("config"), WorkerConfig)
    assert "receive <id|any> <tag> [timeout]" in here.run("help receive")
    for line in ("endpoints", "stats", "config", "help", f"send {to_right} 9 <b>", "endpoints"):
        assert here.run(line)._repr_html_().startswith("<")
    there.run(f"receive {to_left} 9")
    sent = here.run(f"send {to_right} 9 x")
    assert pickle.loads(pickle.dumps(here.run("help"))) == here.run("help")
    assert pickle.loads(pickle.dumps(sent)).text == copy.copy(sent).text == sent.text
    there.run(f"receive {to_left} 9")
    assert here.run(f"disconnect {to_right}") == to_right
    with pytest.raises(UnknownEndpointError):
        here.run("disconnect 99")
    with pytest.raises(UsageError, match="needs a unit, as in 64B"):
        here.run("benchmark 1024")
    with pytest.raises(UsageError, match="say which"):
        Session(UcxWorkerWithout()).run("benchmark")
    assert here.run("quit") is None
    assert here.left


class UcxWorkerWithout:
    """No endpoints."""

    def get_endpoint_ids(self):
        return []


def test_a_result_is_short_where_a_notebook_would_store_it(pair):
    left, to_right, right, to_left = pair
    for data, start in ((bytes(5000), "00 00"), (b"\xfeA" * 200, "fe 41"), (b"a" * 999, "aaa")):
        left.send_tag(to_right, 1, data)
        text = pretty(Session(right).run(f"receive {to_left} 1"))
        assert f"{len(data):,} bytes: {start}" in text
        assert len(text) < 1000
    assert pretty(Session(right).run("endpoints")).startswith("id  peer")
    assert pretty(Session(left).run(f"send {to_right} 1 x")).startswith("sent 1 byte to")


def test_what_a_stranger_sent_is_text_in_html(pair):
    left, to_right, right, to_left = pair
    left.send_tag(to_right, 1, b"<script>alert(1)</script>")
    page = Session(right).run(f"receive {to_left} 1")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_completion_knows_commands_and_live_endpoints(pair):
    left, to_right, right, to_left = pair
    assert [c.word for c in complete("", None)] == NAMES.split()
    assert [c.word for c in complete("re", None)] == ["receive"]
    assert [c.word for c in complete("help be", None)] == ["benchmark"]
    assert [c.word for c in complete("send ", left)] == [str(to_right)]
    assert right.name in complete("send ", left)[0].meaning
    assert [c.word for c in complete("receive ", right)] == [str(to_left), "any"]
    assert complete("send 1 ", left) == complete("stats ", left) == complete("what ", left) == []
    left.disconnect(to_right)
    assert complete("send ", left) == complete("send ", None) == []


def test_a_script_goes_through_the_whole_grammar():
    with echo_server() as (address, _):
        done = run_repl(
            f"""# everything once
            help
            listen 127.0.0.1:0
            connect {address}
            endpoints
            send 1 7 hello there

            receive 1 7
            send 1 8 hex:00ff
            receive any 8 20
            broadcast 9 to all
            receive 1 9
            benchmark 1 8B,1KiB
            stats
            config
            disconnect 1
            endpoints
            quit
            this line is never read
            """
        )
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "receive <id|any> <tag> [timeout]",
        "listening on 127.0.0.1:",
        f"endpoint 1: connected to serve at {address}, over ",
        "id  peer   address",
        "sent 11 bytes to endpoint 1, tag 7",
        "endpoint 1, tag 7, 11 bytes: hello there",
        "endpoint 1, tag 8, 2 bytes: 00 ff",
        "sent to endpoint 1",
        "endpoint 1, tag 9, 6 bytes: to all",
        "p99.9 us",
        "messages sent",
        "progress_interval_us   100",
        "endpoint 1: closed",
        "no endpoint is open",
    ):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("send 1", "usage: send <id> <tag> <message>"),
        ("recieve 1 1", "did you mean 'receive'?"),
        ("send 5 1 x", "there is no endpoint 5"),
        ("connect 127.0.0.1:1", "127.0.0.1:1"),
        ("receive any 1 0.1", "connect or listen first"),
    ],
)
def test_a_script_ends_at_its_first_error(line, words):
    done = run_repl(f"stats\n\n{line}\nconfig\n")
    assert done.returncode == 1
    assert done.stderr.startswith("line 3: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "messages sent" in done.stdout
    assert "buffer_size" not in done.stdout


def silent(channel):
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        channel.receive()


def test_a_benchmark_needs_a_peer_that_echoes(start_child):
    child = start_child(silent)
    done = run_repl(f"connect {child.receive()}\nbenchmark\n")
    assert done.returncode == 1
    assert "a peer that echoes, such as `ucxnb serve`" in done.stderr
    child.send("enough")
    child.result()


def interruptible(channel):
    with EchoPeer() as peer, UcxWorker() as worker:
        session = Session(worker)
        session.run(f"connect {peer.address}")
        channel.send(None)
        interrupted = 0
        while interrupted < 20:
            try:
                session.run("benchmark 1 1MiB,64KiB,8B")
            except KeyboardInterrupt:
                interrupted += 1
                channel.send(interrupted)
        # What was under way then is not taken for an answer now.
        for timing, nbytes in zip(session.run("benchmark 1 8B,64KiB"), (8, 65536), strict=True):
            assert timing.nbytes == nbytes


def test_an_interrupted_benchmark_does_not_spoil_the_next(start_child):
    child = start_child(interruptible)
    child.receive()
    for i in range(20):
        time.sleep(0.003 * i)
        child.kill(signal.SIGINT)
        child.receive()
    child.result()


def test_bytes_that_are_no_text_pass_through_a_pipe():
    with echo_server() as (address, _):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ucxnb", "repl"],
            input=b"\xef\xbb\xbfconnect %s\r\nsend 1 7 \xff\xfe\r\nreceive 1 7\r\n"
            % address.encode(),
            capture_output=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"tag 7, 2 bytes: ff fe" in done.stdout


@pytest.mark.parametrize(("redirection", "code"), [("<&-", 0), ("</dev/null >&-", 0)])
def test_a_closed_stream_is_no_reason_for_a_traceback(redirection, code):
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -P -m ucxnb repl {redirection}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
