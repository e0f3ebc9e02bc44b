"""What `UcxWorker.connect` raises where no worker answers, and after how long."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from ucxnb import UcxnbError, UcxWorker


@contextlib.contextmanager
def tcp_server(answer: bytes | None) -> Iterator[str]:
    """Accept one connection; send `answer`, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if answer is not None:
                    connection.sendall(answer)
                done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def closed_port() -> str:
    """Give an address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def main() -> None:
    """Print a line for each."""
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(UcxWorker())
        cases = {
            "closed port": closed_port(),
            "name that does not resolve": "no-such-host.invalid:9000",
            "never answers": stack.enter_context(tcp_server(None)),
            "answers junk": stack.enter_context(tcp_server(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        }
        for name, address in cases.items():
            start = time.perf_counter()
            try:
                worker.connect(address)
            except UcxnbError as error:
                seconds = time.perf_counter() - start
                print(f"{name:28} {seconds:9.4f} s  {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
