"""Bytes as people read them."""

from __future__ import annotations

__all__ = ["hex_dump", "printable_text"]


def printable_text(data: bytes) -> str:
    """As UTF-8; what turns the writing direction, or rings a bell, is shown as what it is."""
    text = data.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def hex_dump(data: bytes) -> str:
    """As lines of offset, 16 bytes in hex digits, and what of them is ASCII."""
    lines = (
        f"{start:04x}  {part.hex(' '):<47}  "
        + "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        for start in range(0, len(data), 16)
        for part in (data[start : start + 16],)
    )
    return "\n".join(lines)
