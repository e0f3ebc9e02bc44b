"""The measuring process of a `FreshPair`: it starts its partner, and does what it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..bench import BenchPartner
from ..bench.operations import OPERATIONS
from ..bench.protocol import patience_for
from ..bench.session import Session
from ..errors import OperationTimeoutError, UcxnbError
from ..worker import UcxWorker

__all__ = ["use_everything"]

_LARGE = 8 << 20  # bytes; beyond any threshold that UCX chooses by itself


def serve(task: dict[str, Any], say: Any) -> None:
    """Connect two workers, tell what UCX chose, and measure until the parent has enough."""
    options = task["ucx_options"]
    shown = options | {"PROTO_INFO": "y", "PROTO_INFO_DIR": task["graphs"]}
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(1) as thread:  # the two take a second each to start
            starting = thread.submit(BenchPartner, ucx_options=options, enable_rma=True)
            worker = stack.enter_context(
                UcxWorker(name="explorer", ucx_options=shown, enable_rma=True)
            )
            partner = stack.enter_context(starting.result())
        endpoint_id = worker.connect(partner.address)
        session = Session(worker, endpoint_id, lambda: False)
        use_everything(session)
        explanation = worker.explain(endpoint_id)
        say(printed=explanation.printed, version=explanation.ucx_version)
        for line in sys.stdin.buffer:
            order = json.loads(line)
            operation = OPERATIONS[order["operation"]]
            nbytes, seconds = order["nbytes"], order["seconds"]
            if order["metric"] == "latency":
                say(value=operation.time_latency(session, nbytes, seconds).p50_us / 1e6)
            else:
                say(value=operation.time_rate(session, nbytes, seconds) * nbytes)


def use_everything(session: Session) -> None:
    """Use each operation once: UCX chooses, and tells of it, only then."""
    worker, endpoint_id = session.worker, session.endpoint_id
    patience = patience_for(_LARGE)
    session.ask("take", _LARGE, 1)
    worker.send_tag(endpoint_id, session.data_tag, bytes(_LARGE), timeout=patience)
    session.expect("done", _LARGE)
    session.ask("take stream", 1, 1)
    worker.send_stream(endpoint_id, b"u", timeout=patience)
    session.expect("done", 1)
    key = bytes.fromhex(session.ask("expose", 8)["key"])
    worker.put(endpoint_id, bytes(8), key, timeout=patience)
    worker.flush(endpoint_id, timeout=patience)
    worker.get(endpoint_id, bytearray(8), key, timeout=patience)


def main() -> None:
    """Run: orders come as lines of JSON, and so do the answers go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the parent's terminal is the parent's
    with os.fdopen(int(sys.argv[1]), "w") as pipe:

        def say(**answer: Any) -> None:
            print(json.dumps(answer), file=pipe, flush=True)

        try:
            serve(json.loads(sys.stdin.buffer.readline()), say)
        except OperationTimeoutError as error:
            words = "with these settings messages between two new processes do not arrive"
            say(error=type(error).__name__, message=f"{words}: {error}")
        except UcxnbError as error:
            say(error=type(error).__name__, message=str(error))


if __name__ == "__main__":
    main()
