"""Numbers as people read them."""

from __future__ import annotations

__all__ = [
    "BYTES",
    "BYTE_RATES",
    "NANOSECONDS",
    "PERCENT",
    "RATES",
    "human_bytes",
    "human_count",
    "human_rate",
]

# A unit, then those for a thousand of it, a million and so on.
BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
BYTE_RATES = ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")
RATES = ("/s", "k/s", "M/s", "G/s")
NANOSECONDS = ("ns", "µs", "ms", "s")
PERCENT = ("%",)


def human_bytes(nbytes: float) -> str:
    """Bytes with three digits and a decimal unit: ``"1.23 MB"``."""
    return _scaled(nbytes, BYTES)


def human_rate(per_second: float) -> str:
    """Events per second with three digits: ``"4.56 k/s"``."""
    return _scaled(per_second, RATES)


def human_count(count: int) -> str:
    """A count, whole below ten million: ``"1,234,567"``, ``"12.3 M"``."""
    return f"{count:,}" if count < 10_000_000 else _scaled(count, ("", "k", "M", "G", "T"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    # 999.5 would be rounded up to 1000, which belongs to the next unit.
    while abs(value) >= 999.5 and power + 1 < len(units):
        value /= 1000
        power += 1
    if value == int(value) and abs(value) < 1000:
        text = str(int(value))
    else:
        digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
        text = f"{value:.{digits}f}"
    return f"{text} {units[power]}".rstrip()
