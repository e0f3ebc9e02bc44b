"""The prompt, in a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from eventually import eventually
from serving import echo_server

from ucxnb import UcxWorker

PATIENCE = 30


class Terminal:
    """A program at a pseudoterminal, driven as by a person."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._descriptor = descriptor
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows a text that was not there at the last call."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; the terminal shows {self._seen!r}"
            if select.select([self._descriptor], [], [], left)[0]:
                try:
                    data = os.read(self._descriptor, 65536)
                except OSError:  # the program has ended
                    data = b""
                assert data, f"{pattern!r} did not come; the terminal showed {self._seen!r}"
                if b"\x1b[6n" in data:  # where is the cursor? prompt_toolkit wants to know
                    os.write(self._descriptor, b"\x1b[1;1R")
                plain = re.sub(rb"\x1b[\[\]()][0-9;?]*[ -/]*[@-~]|\x1b[=>]|\r", b"", data)
                self._seen += plain.decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found

    def interrupt(self, line: str, pattern: str) -> None:
        """Run a command that waits, and type Ctrl-C when it does."""
        self.expect("ucx>")
        while True:
            eventually(lambda: not self._runs_a_command())
            self.type(line + "\r")
            # Between two prompts it looks for a moment as if a command ran.
            eventually(lambda: all(self._runs_a_command() for _ in range(10)))
            self.type("\x03")
            if not self.expect(f"{pattern}|ucx>")[0].startswith("ucx>"):
                return

    def _runs_a_command(self) -> bool:
        """Whether it is not at its prompt, which reads the keyboard itself."""
        time.sleep(0.02)
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ICANON)

    def run(self, line: str, pattern: str) -> re.Match[str]:
        self.expect("ucx>")
        self.type(line + "\r")
        return self.expect(pattern)


@contextlib.contextmanager
def repl(home: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ucxnb", "repl"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm", "XDG_STATE_HOME": home, "COLUMNS": "160"},
        preexec_fn=_own_terminal,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    fcntl.ioctl(0, termios.TIOCSWINSZ, b"\x28\0\xa0\0\0\0\0\0")  # 40 rows of 160


def test_the_whole_grammar_at_a_prompt(tmp_path):
    with echo_server() as (address, server), repl(str(tmp_path)) as terminal:
        terminal.expect("`help` explains the commands")
        terminal.run("help", r"benchmark \[id\] \[sizes\]")
        terminal.run(f"connect {address}", rf"endpoint 1: connected to serve at {address}, over ")
        terminal.run("endpoints", r"1 +serve +" + address)
        terminal.run("send 1 7 hello there", "sent 11 bytes to endpoint 1, tag 7")
        terminal.run("receive 1 7", "endpoint 1, tag 7, 11 bytes: hello there")
        terminal.run("broadcast 8 to all", "sent to endpoint 1")
        terminal.run("receive any 8 20", "endpoint 1, tag 8, 6 bytes: to all")
        terminal.run("benchmark 1 8B", "p50 us")
        terminal.run("stats", "message rate")
        terminal.run("config", "history_length")
        terminal.run("send 1", "usage: send <id> <tag> <message>")
        terminal.run("conect", "did you mean 'connect'")
        # Completion: a command, and a live endpoint.
        terminal.expect("ucx>")
        terminal.type("rec\t")
        terminal.expect("receive")
        terminal.type(" \t")
        terminal.expect("from anyone")
        terminal.type("\x03")
        # Ctrl-C ends what waits, and not the prompt.
        terminal.interrupt("receive any 99 60", "interrupted; no message is lost")
        # Lines that are pasted together are commands one by one.
        terminal.expect("ucx>")
        terminal.type("\x1b[200~help quit\nhelp stats\x1b[201~\r")
        terminal.expect("close everything and leave")
        terminal.expect("show the worker's counters")
        # Somebody comes, and goes.
        found = terminal.run("listen 127.0.0.1:0", r"listening on (127\.0\.0\.1:\d+)")
        with UcxWorker(name="visitor") as visitor:
            visitor.connect(found[1])
            terminal.expect(r"endpoint 2: accepted visitor at 127\.0\.0\.1:\d+")
        terminal.expect(r"endpoint 2 \(visitor\) closed: the peer closed the connection")
        server.kill()
        terminal.expect(r"endpoint 1 \(serve\) lost: ")
        terminal.run("disconnect 1", "endpoint 1: closed")
        terminal.run("quit", "")
        assert terminal.process.wait(PATIENCE) == 0


def test_history_is_kept_and_ctrl_d_leaves(tmp_path):
    for _ in range(2):
        with repl(str(tmp_path)) as terminal:
            terminal.expect("ucx>")
            terminal.type("\x1b[A" if _ else "help stats")
            terminal.expect("help stats" if _ else "stats")
            terminal.type("\r")
            terminal.expect("show the worker's counters")
            terminal.expect("ucx>")
            terminal.type("\x04")
            assert terminal.process.wait(PATIENCE) == 0
    assert "help stats" in (tmp_path / "ucxnb" / "history").read_text()


def test_without_a_place_for_the_history_there_is_a_prompt(tmp_path):
    (tmp_path / "ucxnb").write_text("not a folder")
    with repl(str(tmp_path)) as terminal:
        terminal.expect("The history of this session is not kept")
        terminal.run("help stats", "show the worker's counters")
        terminal.run("quit", "")
        assert terminal.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("words", ["prompt_toolkit is not installed"])
def test_without_prompt_toolkit_it_says_what_to_install(tmp_path, words):
    code = (
        "import sys; sys.modules['prompt_toolkit'] = None; sys.stdin.isatty = lambda: True;"
        "from ucxnb.cli import main; sys.exit(main(['repl']))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert 'pip install "ucxnb[console]"' in done.stderr
