"""The two kinds of files a recording can be: JSON lines and Parquet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ArgumentError, RecordingError
from ..snapshot import Snapshot
from ..stats import WorkerStats

__all__ = ["SnapshotWriter", "decoded", "open_writer", "read_lines"]

ROW_GROUP = 600  # snapshots
LONGEST_LINE = 64 << 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Snapshot).decode
_COUNTERS = [f.name for f in fields(WorkerStats)]


class SnapshotWriter(ABC):
    """Appends snapshots to a file."""

    @abstractmethod
    def write(self, snapshots: Iterable[Snapshot]) -> None:
        """Append snapshots."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left, and close the file."""


def decoded(line: bytes) -> Snapshot:
    """Read a snapshot, strictly.

    Raises
    ------
    RecordingError
        It is none.
    """
    try:
        return _decode(line)
    except (msgspec.DecodeError, ValueError) as error:
        raise RecordingError(f"that is no snapshot: {error}") from None


def open_writer(path: Path) -> SnapshotWriter:
    """Create a file, of the kind that its name ends with.

    Raises
    ------
    ArgumentError
        It ends with neither ``.jsonl`` nor ``.parquet``.
    RecordingError
        There is no pyarrow.
    OSError
        The file cannot be made.
    """
    if path.suffix == ".jsonl":
        return _LineWriter(path)
    if path.suffix == ".parquet":
        return _ParquetWriter(path)
    raise ArgumentError(f"path={str(path)!r}: its name must end with .jsonl or .parquet")


def read_lines(path: Path) -> Iterator[bytes]:
    """Read the snapshots of a file, as JSON.

    Raises
    ------
    ArgumentError, RecordingError, OSError
        As `open_writer`, or the file is damaged.
    """
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return  # the recorder was killed in the middle of it
                yield line
    elif path.suffix == ".parquet":
        pq = _parquet()
        try:
            file = pq.ParquetFile(path, pre_buffer=False)
        except Exception as error:
            raise RecordingError(
                f"{path}: {error}; a Parquet file whose recorder was killed cannot be read: record "
                "to .jsonl where that may happen"
            ) from None
        with file:
            for group in file.iter_batches(ROW_GROUP, columns=["snapshot"], use_threads=False):
                for text in group.column(0).to_pylist():
                    yield text.encode()
    else:
        raise ArgumentError(f"path={str(path)!r}: its name must end with .jsonl or .parquet")


class _LineWriter(SnapshotWriter):
    """Whole lines, each in the file before the next is begun: a crash costs the last one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, snapshots: Iterable[Snapshot]) -> None:
        self._file.write(b"".join(_encode(snapshot) + b"\n" for snapshot in snapshots))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _ParquetWriter(SnapshotWriter):
    """Counters as columns, which any tool can read, and the whole snapshot as JSON beside them."""

    def __init__(self, path: Path) -> None:
        self._pa = pa = _arrow()
        kinds = {"elapsed": pa.float64()}
        self._schema = pa.schema(
            [
                ("time", pa.float64()),
                ("worker", pa.string()),
                *((name, kinds.get(name, pa.int64())) for name in _COUNTERS),
                ("snapshot", pa.string()),
            ]
        )
        self._writer = _parquet().ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Snapshot] = []

    def write(self, snapshots: Iterable[Snapshot]) -> None:
        self._rows.extend(snapshots)
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        columns: dict[str, list[Any]] = {
            "time": [snapshot.time for snapshot in rows],
            "worker": [snapshot.name for snapshot in rows],
            **{name: [getattr(s.stats, name) for s in rows] for name in _COUNTERS},
            "snapshot": [_encode(snapshot).decode() for snapshot in rows],
        }
        self._writer.write_table(self._pa.table(columns, schema=self._schema))

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise RecordingError(
            "Parquet files need pyarrow: pip install 'ucxnb[record]', or record to .jsonl"
        ) from None
    return pa


def _parquet() -> Any:
    _arrow()
    import pyarrow.parquet as pq

    return pq
