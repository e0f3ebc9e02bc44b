"""A function of a test module, run in a process of its own, whose traceback reaches the test."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any


class ChildError(AssertionError):
    """The child raised; the message is its traceback."""


class Channel:
    """The child's end: what the function gets as its first argument."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: Any) -> None:
        self._connection.send(("value", value))

    def receive(self, timeout: float = 60) -> Any:
        if not self._connection.poll(timeout):
            raise TimeoutError(f"the test sent nothing for {timeout} s")
        return self._connection.recv()


class Child:
    """A running child process.

    ``function(channel, *args)`` is a function at the top of a test module. The child is killed
    when the ``with`` block ends, and a traceback of its own is raised there unless the test
    fetched it before, or killed the child itself. `prefix` is a command that becomes the child
    in the end, as ``["ip", "netns", "exec", "name"]`` does.
    """

    def __init__(
        self, function: Callable[..., Any], *args: Any, prefix: Sequence[str] = ()
    ) -> None:
        ours, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = ours
        self._done: tuple[str, Any] | None = None
        ours.send((sys.path, function.__module__, function.__qualname__, args))

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, value: Any) -> None:
        self._connection.send(value)

    def receive(self, timeout: float = 60) -> Any:
        """Return the next value that the child sends; its traceback is raised here."""
        kind, value = self._next(timeout)
        if kind == "value":
            return value
        self._done = (kind, value)
        if kind == "error":
            raise ChildError(value)
        raise AssertionError(f"the child returned {value!r} without sending anything more")

    def result(self, timeout: float = 60) -> Any:
        """Wait for the function to return and give what it returned."""
        while self._done is None:
            kind, value = self._next(timeout)
            if kind != "value":
                self._done = (kind, value)
        self.process.wait(timeout)
        kind, value = self._done
        if kind == "error":
            raise ChildError(value)
        assert self.process.returncode == 0, f"the child exited with {self.process.returncode}"
        return value

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL also reap."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)
            self._done = ("killed", None)

    def _next(self, timeout: float) -> tuple[str, Any]:
        if not self._connection.poll(timeout):
            raise TimeoutError(f"child {self.pid} sent nothing for {timeout} s")
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            code = self.process.wait(10)
            self._done = ("killed", None)
            raise ChildError(f"the child ended with {code} and no word") from None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self._done is None:
                self._raise_late_error()
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(10)
            self._connection.close()

    def _raise_late_error(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self._connection.poll(0):
                kind, value = self._connection.recv()
                if kind == "error":
                    raise ChildError(value)


@contextlib.contextmanager
def children() -> Iterator[Callable[..., Child]]:
    """Start children by calling what this yields; all of them end with the block."""
    with contextlib.ExitStack() as stack:
        yield lambda function, *args, **keywords: stack.enter_context(
            Child(function, *args, **keywords)
        )


def _main(fd: int) -> int:
    connection = Connection(fd)
    sys.path[:], module, name, args = connection.recv()
    try:
        function = getattr(importlib.import_module(module), name)
        outcome = ("result", function(Channel(connection), *args))
        code = 0
    except BaseException:  # every end of a child is reported, a SystemExit too
        outcome = ("error", f"in child {os.getpid()}:\n{traceback.format_exc()}")
        code = 1
    with contextlib.suppress(BrokenPipeError):
        connection.send(outcome)
    connection.close()
    return code


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1])))
