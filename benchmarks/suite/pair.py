"""The two processes of a peer, as the controller sees them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic as now
from typing import Any

from .control import Line
from .peers import PEERS
from .peers.base import Setup

START_TIMEOUT = 30.0
CLOSE_TIMEOUT = 3.0
# Of a process whose connections were seen to end.
DEATH_TIMEOUT = 0.5


class PeerError(Exception):
    """A peer failed, died or hung; its processes are gone."""


class Pair:
    """Two connected processes of one peer, or one process with two threads.

    Parameters
    ----------
    name : str
        Of the peer, see `suite.peers.PEERS`.
    transport, ucx_tls, links
        As in `Setup`.

    Raises
    ------
    PeerError
        It did not start; nothing is left of it.
    """

    def __init__(self, name: str, transport: str, ucx_tls: str, links: int) -> None:
        self.name = name
        self.about = ""
        self._kind = PEERS[name]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lines: list[Line] = []
        self._pids: list[int] = []
        self._words = tempfile.TemporaryFile()  # what they print  # noqa: SIM115
        try:
            self._start(Setup(0, transport, ucx_tls, links))
        except BaseException:
            self.kill()
            raise

    def _start(self, setup: Setup) -> None:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = f"{folder}/control"
            listener.bind(path)
            listener.listen(2)
            launched = self._kind.launcher(setup)
            side = ["-P", "-m", "suite.side", path, self.name, setup.transport, setup.ucx_tls]
            side.append(str(setup.links))
            count = 1 if self._kind.in_one_process else 2
            if launched is not None:
                command, extra = launched
                self._popen([*command, *side, "0"], extra)
            else:
                for rank in range(count):
                    self._popen([sys.executable, *side, str(rank)], {})
            end = now() + START_TIMEOUT
            while len(self._lines) < count:
                self._lines.append(Line(self._accept(listener, end)))
        hellos = [self._read(line, end - now()) for line in self._lines]
        self._pids = [hello["pid"] for hello in hellos]
        order = sorted(range(count), key=lambda i: hellos[i]["rank"])
        self._lines = [self._lines[i] for i in order]
        hellos = [hellos[i] for i in order]
        for line, hello in zip(self._lines, reversed(hellos), strict=True):
            line.write(address=hello["address"])
        answers = [self._read(line, end - now()) for line in self._lines]
        self.about = answers[0]["about"]
        self._pause()

    def _popen(self, command: list[str], extra: dict[str, str]) -> None:
        environment = {**os.environ, **extra, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._processes.append(
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                start_new_session=True,  # Ctrl-C is the controller's
            )
        )

    def _accept(self, listener: socket.socket, end: float) -> socket.socket:
        listener.settimeout(0.1)
        while now() < end:
            with contextlib.suppress(TimeoutError):
                connection = listener.accept()[0]
                connection.settimeout(None)
                return connection
            if any(process.poll() is not None for process in self._processes):
                raise self._failure("ended before it connected")
        raise self._failure(f"did not start in {START_TIMEOUT:g} s")

    def _read(self, line: Line, timeout: float) -> dict[str, Any]:
        try:
            message = line.read(max(0.0, timeout))
        except EOFError:
            raise self._failure("died") from None
        except TimeoutError:
            raise self._failure("hung and was ended") from None
        if "error" in message:
            raise self._failure("died" if self._another_died(line) else message["error"])
        return message

    def _another_died(self, failed: Line) -> bool:
        """Whether that is why this side failed."""
        others = [line for line in self._lines if line is not failed]
        select.select([line.socket for line in others], [], [], DEATH_TIMEOUT)
        return any(line.has_ended() for line in others)

    def _failure(self, what: str) -> PeerError:
        """Say what happened, with the last words of its processes; ends them."""
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        self.kill()
        last = f": {lines[-1].strip()[:200]}" if lines and lines[-1].strip() not in what else ""
        return PeerError(f"{what}{last}")

    @staticmethod
    def first_count(nbytes: int) -> int:
        """Give the rounds of a first pilot: it may be slow, and the message large."""
        return 1

    def try_out(self, measure: str, nbytes: int, count: int, timeout: float) -> float:
        """Measure once, for the seconds that it takes.

        Raises
        ------
        PeerError
            As `measure`.
        """
        return self.measure(measure, nbytes, count, timeout)["seconds"]

    def measure(self, measure: str, nbytes: int, count: int, timeout: float) -> dict[str, float]:
        """Have both sides measure.

        Raises
        ------
        PeerError
            It failed, died or took too long; its processes are gone.
        """
        end = now() + timeout
        self._signal(signal.SIGCONT)
        try:
            for line in self._lines:
                line.write(do="measure", measure=measure, nbytes=nbytes, count=count)
        except OSError:
            raise self._failure("died") from None
        # Should one side fail, the other waits for it for ever: take who speaks first.
        results: dict[Line, dict[str, float]] = {}
        while len(results) < len(self._lines):
            waiting = [line for line in self._lines if line not in results]
            left = max(0.0, end - now())
            ready = select.select([line.socket for line in waiting], [], [], left)[0]
            if not ready:
                raise self._failure(f"hung: it took over {timeout:.0f} s")
            line = next(line for line in waiting if line.socket in ready)
            results[line] = self._read(line, CLOSE_TIMEOUT)["result"]
        self._pause()
        return results[self._lines[0]]

    def _pause(self) -> None:
        if self._kind.spins:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        """Let both sides leave in order; what does not in time is ended."""
        self._signal(signal.SIGCONT)
        try:
            for line in self._lines:
                line.write(do="close")
            for line in self._lines:
                self._read(line, CLOSE_TIMEOUT)
            for process in self._processes:
                process.wait(CLOSE_TIMEOUT)
        except (OSError, PeerError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        """End all processes of this pair; twice is fine."""
        for line in self._lines:
            line.close()  # a side ends itself when this happens
        for process in self._processes:
            if process.poll() is None:
                # A launcher ends its ranks when asked politely.
                process.terminate()
        if any(process.poll() is None for process in self._processes):
            self._signal(signal.SIGKILL)
        for process in self._processes:
            try:
                process.wait(CLOSE_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes, self._lines, self._pids = [], [], []
