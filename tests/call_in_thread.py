"""A call on a thread of its own, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

_TIMEOUT = 30


class Call:
    """Begins at once; `value` or `error` is set when it has ended."""

    def __init__(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self._call = lambda: function(*args, **keywords)
        self.value: Any = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._call()
        except Exception as error:
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> Self:
        self._thread.join(_TIMEOUT)
        assert not self.running, "the call did not end"
        return self
