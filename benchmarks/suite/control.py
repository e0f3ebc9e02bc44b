"""Lines of JSON between the controller and the sides, over a Unix socket."""

from __future__ import annotations

import json
import socket
from typing import Any


class Line:
    """One end of it. A side that waits here uses no processor time.

    Parameters
    ----------
    connection : socket.socket
        Connected; the line closes it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def write(self, **message: Any) -> None:
        """Send a message."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for a message.

        Raises
        ------
        EOFError
            The other end has gone.
        TimeoutError
            None came in time; the line is of no use any more.
        """
        self.socket.settimeout(timeout)
        try:
            line = self._file.readline()
        except ConnectionError:
            line = b""
        finally:
            self.socket.settimeout(None)
        if not line.endswith(b"\n"):
            raise EOFError("the other end has gone")
        message: dict[str, Any] = json.loads(line)
        return message

    def has_ended(self) -> bool:
        """Whether the other end has gone, and there is nothing more to read."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close it; twice is fine."""
        self._file.close()
        self.socket.close()
