"""Worker addresses as strangers would forge them."""

from __future__ import annotations

import random
from collections.abc import Iterator

_BYTES = (0x00, 0x01, 0x02, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xA0, 0xC0, 0xFE, 0xFF)


def forgeries(real: bytes, others: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Every byte of `real` set to values that mean something, then `count` random ones."""
    for at in range(len(real)):
        for value in {*_BYTES, real[at] ^ 0x01, real[at] ^ 0x40, real[at] ^ 0x80}:
            yield _with(real, at, value)
        yield real[:at]
        yield real[:at] + real[at + 1 :]
    rng = random.Random(seed)
    for _ in range(count):
        yield _random(real, others, rng)


def _random(real: bytes, others: list[bytes], rng: random.Random) -> bytes:
    forged = real
    kind = rng.choice(["bits", "bits", "bytes", "splice", "cut", "other"])
    if kind == "splice":
        start, end = sorted(rng.choices(range(len(real) + 1), k=2))
        at = rng.randrange(len(real) + 1)
        forged = real[:at] + real[start:end] * rng.choice([1, 1, 1, 40]) + real[at:]
    elif kind == "cut":
        start, end = sorted(rng.choices(range(len(real) + 1), k=2))
        forged = real[:start] + real[end:]
    elif kind == "other":
        other = rng.choice(others)
        forged = real[: rng.randrange(len(real))] + other[rng.randrange(len(other)) :]
    else:
        for _ in range(rng.choice([1, 1, 2, 3, 8])):
            at = rng.randrange(len(real))
            bit = 1 << rng.randrange(8)
            value = real[at] ^ bit if kind == "bits" else rng.choice([*_BYTES, rng.randrange(256)])
            forged = _with(forged, at, value)
    return forged


def _with(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]
