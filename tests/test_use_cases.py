"""The use cases that the README shows, between real processes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ucxnb
from ucxnb import EchoPeer, EndpointLostError, UcxWorker

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TIMEOUT = 20


def block(words: str) -> str:
    """The code block of the README that holds these words."""
    (found,) = (code for code in BLOCKS if words in code)
    return found


def run(code: str, **names: object) -> dict[str, object]:
    scope = {name: getattr(ucxnb, name) for name in ucxnb.__all__} | names
    exec(compile(code, "README.md", "exec"), scope)
    return scope


def serve_as_the_readme_does(channel) -> None:
    code = block("buffer_size=128 * 1024").replace(
        'worker.create_listener("127.0.0.1:8080")',
        'announce(worker.create_listener("127.0.0.1:0").address)',
    )
    assert "announce" in code
    run(code, announce=channel.send)


def serve_by_the_loop_of_the_readme(channel) -> None:
    loop = block("for endpoint_id in worker.get_endpoint_ids()")
    with UcxWorker(buffer_size=128 * 1024) as worker:
        channel.send(worker.create_listener().address)
        buffer = bytearray(worker.config.buffer_size)
        while True:
            run(loop, worker=worker, buffer=buffer)
            worker.run_progress_loop(0.001)


@pytest.mark.parametrize("server", [serve_as_the_readme_does, serve_by_the_loop_of_the_readme])
def test_a_client_asks_and_a_server_answers(start_child, capsys, server) -> None:
    child = start_child(server)
    address = child.receive()
    for _ in range(3):
        run(block("GET /api/data").replace("127.0.0.1:8080", address))
        assert capsys.readouterr().out == "b'GET /API/DATA'\n"
    with UcxWorker() as first, UcxWorker() as second:
        ids = [worker.connect(address) for worker in (first, second)]
        for worker, there, text in zip((first, second), ids, (b"one", b"two"), strict=True):
            worker.send_tag(there, 1, text)
        assert second.receive_tag(ids[1], 1, timeout=TIMEOUT) == b"TWO"
        assert first.receive_tag(ids[0], 1, timeout=TIMEOUT) == b"ONE"
    child.kill()


def other_peer(channel) -> None:
    with UcxWorker() as worker:
        channel.send(worker.create_listener().address)
        address = worker.receive_tag(None, 1, timeout=TIMEOUT).decode()
        there = worker.connect(address)
        worker.send_tag(there, 2, b"and back")
        with pytest.raises(EndpointLostError):
            worker.receive_tag(there, 3, timeout=TIMEOUT)


def test_peer_to_peer_one_worker_listens_and_connects(start_child) -> None:
    child = start_child(other_peer)
    code = block("listener.address.encode()").replace("127.0.0.1:8081", child.receive())
    more = (
        "    got = worker.receive_message(None, 2, timeout=20)\n"
        "    ids = worker.get_endpoint_ids()\n"
    )
    scope = run(code + more)
    assert scope["got"].data == b"and back"
    assert len(scope["ids"]) == 2
    child.result()


def test_a_batch_is_pushed_once_at_its_end() -> None:
    batch = [bytes([tag]) * 100 for tag in range(200)]
    with EchoPeer() as peer, UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        run(block("enumerate(batch)"), batch=batch, endpoint_id=endpoint_id, worker=worker)
        got = [worker.receive_tag(endpoint_id, tag, timeout=TIMEOUT) for tag in range(200)]
    assert got == batch


def test_rows_of_an_array_and_requests() -> None:
    with EchoPeer() as peer, UcxWorker() as worker:
        names = {"worker": worker, "endpoint_id": worker.connect(peer.address), "np": np}
        run(block("worker.send_rows(endpoint_id").replace("1_000_000", "1_000"), **names)
        got = np.zeros(1_000, int)
        worker.receive_rows(names["endpoint_id"], 7, got, timeout=TIMEOUT)
        assert np.array_equal(got, np.arange(1_000))
        messages = run(block("worker.ireceive_tag(endpoint_id"), **names)["messages"]
        assert [message.data for message in messages] == [b"question"] * 100


def test_a_server_in_asyncio() -> None:
    code = block("async for message in worker.messages").replace(
        "worker.create_listener(address)", "address.set_result(worker.create_listener().address)"
    )

    def ask(address: str) -> list[bytes]:
        with UcxWorker() as first, UcxWorker() as second:
            ids = [worker.connect(address) for worker in (first, second)]
            for worker, there, text in zip((first, second), ids, (b"one", b"two"), strict=True):
                worker.send_tag(there, 1, text)
            return [
                worker.receive_tag(there, 1, timeout=TIMEOUT)
                for worker, there in zip((first, second), ids, strict=True)
            ]

    async def main() -> list[bytes]:
        address = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(run(code, asyncio=asyncio)["serve"](address))
        answers = await asyncio.to_thread(ask, await address)
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
        return answers

    assert asyncio.run(main()) == [b"ONE", b"TWO"]


def test_commands_in_a_pipe() -> None:
    with program("server.py") as (address, _):
        (line,) = (line for line in README.splitlines() if line.startswith("printf"))
        script = shlex.split(line)[2:-3][:3]  # the server of the example does not echo
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ucxnb", "repl"],
            input="\n".join(script).replace("127.0.0.1:8080", address).replace(" 7", " 1"),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert "the answer to hello" in done.stdout


# ---- the programs in docs/examples


@contextlib.contextmanager
def program(name: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a server; gives its address and process, and ends it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", ROOT / "docs" / "examples" / name, "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip(), process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["server.py", "async_server.py"])
def test_the_example_programs(name) -> None:
    with program(name) as (address, server):
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-P", "-W", "error", ROOT / "docs/examples/client.py", address],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.stderr, done.returncode) == ("", 0)
            assert done.stdout.splitlines() == [
                "the answer to GET /api/data",
                "100 more, the last: the answer to GET /api/data/99",
            ]
        with UcxWorker() as worker:  # larger than the server's buffer
            there = worker.connect(address)
            worker.send_tag(there, 1, bytes(1 << 20), timeout=TIMEOUT)
            assert len(worker.receive_tag(there, 1, timeout=TIMEOUT)) == len(b"the answer to ") + (
                1 << 20
            )
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=TIMEOUT)
        assert (output.splitlines()[-1], server.returncode) == ("stopped", 0)


def test_the_first_example_prints_the_echo(capsys) -> None:
    run(block("with EchoPeer() as peer"))
    assert capsys.readouterr().out == "b'hello'\n"
