"""Child processes that serve this one: start one, find its address, end it with its parent."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from typing import IO, Any, Self

from . import errors
from .auth_key import AuthKey
from .errors import OperationTimeoutError, UcxnbError
from .timeouts import checked_timeout

__all__ = ["PeerProcess"]

_GOODBYE = 5.0  # seconds for the child to close its worker before it is killed


class PeerProcess:
    """A child process whose worker listens on loopback and serves whoever connects.

    It ends with this process, however this process ends. It may be used and closed from any
    thread.

    Parameters
    ----------
    what : str
        What it is, for error messages: ``"the echo peer"``.
    name : str
        Start of its worker's name.
    serve : str
        ``"module:function"`` to run there, with the worker and ``until``, a callable that says
        whether the parent is gone.
    ucx_options : mapping of str to str
        Of its worker, as in `WorkerConfig`.
    auth_key : AuthKey, str or bytes, optional
        Of its worker, as in `WorkerConfig`. It goes to the child through a pipe.
    enable_rma : bool
        Of its worker, as in `WorkerConfig`.
    start_timeout : float or None
        How long the child may take until it listens, seconds; None waits for ever.

    Attributes
    ----------
    address : str
        Where it listens, ``"127.0.0.1:port"``: what `UcxWorker.connect` takes.
    port : int
        The port alone.
    pid : int
        The child's process id.

    Raises
    ------
    OperationTimeoutError
        The child did not listen in time; it is gone.
    ArgumentError
        `start_timeout` is none.
    UcxnbError
        The child failed to start, with its own words. An error that ucxnb itself raised there,
        such as `MissingUcxError`, keeps its class.
    """

    def __init__(
        self,
        what: str,
        name: str,
        serve: str,
        *,
        ucx_options: Mapping[str, str] | None = None,
        auth_key: AuthKey | str | bytes | None = None,
        enable_rma: bool = False,
        start_timeout: float | None = 30.0,
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        start_timeout = checked_timeout(start_timeout)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        task = {
            "name": name,
            "serve": serve,
            "parent": self._owner,
            "ucx_options": dict(ucx_options or {}),
            "enable_rma": enable_rma,
            "auth_key": None if auth_key is None else AuthKey(auth_key).reveal().hex(),
        }
        ready, child_ready = os.pipe()
        with tempfile.TemporaryFile() as words, open(ready, "rb", buffering=0) as pipe:
            try:
                # UCX and threads do not survive a fork. -P: no imports from the current folder.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "ucxnb.peer_process", str(child_ready)],
                    stdin=subprocess.PIPE,
                    stdout=words,
                    stderr=words,
                    pass_fds=[child_ready],
                )
            finally:
                os.close(child_ready)
            try:
                _tell(self._process, task)  # not as an argument: those are seen by everybody
                started = _read_start(pipe, start_timeout, what)
                if "address" not in started:
                    raise _start_error(started, self._process, words, what)
            except BaseException:
                self._process.kill()
                self.close()
                raise
        self.address: str = started["address"]
        self.port: int = started["port"]
        self.pid: int = self._process.pid

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._process is None

    def close(self) -> None:
        """End the child; its clients see it say goodbye. Closing again does nothing."""
        with self._lock:
            process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None and os.getpid() == self._owner:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        where = "closed" if self.closed else getattr(self, "address", "starting")
        return f"<{type(self).__name__} {where}>"


def _tell(process: subprocess.Popen[bytes], task: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended already, and `_start_error` says why
        os.write(process.stdin.fileno(), json.dumps(task).encode() + b"\n")


def _read_start(pipe: IO[bytes], timeout: float | None, what: str) -> dict[str, Any]:
    """Return what the child tells about its start, {} if it ended without a word."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            raise OperationTimeoutError(
                f"{what} did not listen within {timeout:g} s; give it a longer start_timeout"
            )
        piece = pipe.read(65536)
        if not piece:
            return json.loads(told) if told else {}
        told += piece


def _start_error(
    started: dict[str, Any], process: subprocess.Popen[bytes], words: IO[bytes], what: str
) -> UcxnbError:
    if "error" in started:
        kind = getattr(errors, started["error"], UcxnbError)
        with contextlib.suppress(TypeError):
            return kind(started["message"])
        return UcxnbError(started["message"])
    code = process.wait(_GOODBYE)
    words.seek(0)
    said = words.read()[-10_000:].decode(errors="replace").strip() or "nothing"
    return UcxnbError(f"{what} ended with exit code {code} before it listened; it said:\n{said}")


def _run_child(ready: int, task: dict[str, Any]) -> None:
    """Say where the child listens, then serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the parent's terminal is the parent's
    from .worker import UcxWorker

    key = task["auth_key"]
    with open(ready, "w") as pipe:
        try:
            worker = UcxWorker(
                name=f"{task['name']}-{os.getpid()}",
                ucx_options=task["ucx_options"],
                enable_rma=task["enable_rma"],
                auth_key=None if key is None else bytes.fromhex(key),
            )
            listener = worker.create_listener("127.0.0.1:0")
        except UcxnbError as error:
            json.dump({"error": type(error).__name__, "message": str(error)}, pipe)
            return
        json.dump({"address": listener.address, "port": listener.port}, pipe)
    threading.Thread(target=_close_with_parent, args=[worker], daemon=True).start()
    module, _, function = task["serve"].partition(":")
    with worker:
        # Another child of the parent's may hold the pipe open, so its life is looked at as well.
        getattr(importlib.import_module(module), function)(
            worker, until=lambda: os.getppid() != task["parent"]
        )


def _close_with_parent(worker: Any) -> None:
    from .engine import mark_toolkit_thread

    mark_toolkit_thread()
    while os.read(0, 4096):
        pass
    last = threading.Timer(_GOODBYE, os._exit, [1])
    last.daemon = True
    last.start()
    worker.close()


if __name__ == "__main__":
    _run_child(int(sys.argv[1]), json.loads(sys.stdin.buffer.readline()))
