"""``ucxnb bench``: measure a connection in a terminal, or be the partner of who does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .bench import DEFAULT_SIZES, TRANSPORTS, Measurement, private_pair, serve_measurements
from .bench.table import LiveTable
from .serve import serve_until_stopped
from .text import shortened
from .worker import UcxWorker

__all__ = ["run_bench", "run_partner"]


def run_partner(address: str) -> int:
    """Take part in the measurements of others until SIGINT (Ctrl-C) or SIGTERM.

    Parameters
    ----------
    address : str
        ``host:port`` to listen on; port 0 takes a free one.

    Returns
    -------
    int
        Exit code, 0.

    Raises
    ------
    UcxnbError
        If there is no UCX, or the address cannot be listened on.
    """
    return serve_until_stopped("bench", address, serve_measurements)


def run_bench(
    address: str | None,
    sizes: Sequence[int] = DEFAULT_SIZES,
    *,
    transport: str = "auto",
    seconds: float = 0.3,
    limit: bool = True,
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> int:
    """Measure, print a line for each size as it is done, and save what was measured.

    Parameters
    ----------
    address : str or None
        ``host:port`` of ``ucxnb bench --serve`` or ``ucxnb serve``; None starts a second process
        on this machine.
    sizes, seconds, limit
        As in `Measurement`.
    transport : {"auto", "shm", "tcp"}
        Which way the messages may go.
    json_file, csv_file : Path, optional
        Where to save it; also after Ctrl-C, and when the peer is lost.

    Returns
    -------
    int
        Exit code, 0; Ctrl-C raises ``KeyboardInterrupt``.

    Raises
    ------
    UcxnbError
        As `Measurement` and `private_pair`.
    OSError
        A file cannot be written.
    """
    for file in filter(None, (json_file, csv_file)):
        file.open("a").close()  # better known before than after the measurement
    with _connection(address, transport) as (worker, endpoint_id):
        measurement = Measurement(worker, endpoint_id, sizes, seconds=seconds, limit=limit)
        table = LiveTable(limit=limit)
        print(f"Measuring with {shortened(measurement.run.peer, 60)}", flush=True)
        try:
            for number, row in enumerate(measurement):
                if number == 0:
                    print(f"over {', '.join(measurement.run.transports)}\n\n{table.head}")
                print(table.line(row), flush=True)
        finally:
            run = measurement.run
            if run.rows and json_file is not None:
                run.to_json(json_file)
            if run.rows and csv_file is not None:
                run.to_csv(csv_file)
    if run.note:
        print(f"\n{run.note}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _connection(address: str | None, transport: str) -> Iterator[tuple[UcxWorker, int]]:
    if address is None:
        with private_pair(transport) as pair:
            yield pair
        return
    with UcxWorker(name="bench", ucx_options=TRANSPORTS[transport]) as worker:
        yield worker, worker.connect(address)
