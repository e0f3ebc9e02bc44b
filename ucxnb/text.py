"""Texts from and for people: fields parsed, and what strangers sent made safe to show."""

from __future__ import annotations

import codecs
import html
import re
import reprlib

__all__ = [
    "count_bytes",
    "parse_hex",
    "parse_rate",
    "parse_size",
    "parse_sizes",
    "parse_tag",
    "preview",
    "safe_html",
    "shortened",
    "shown",
    "size_text",
]

LARGEST_PAYLOAD = 1 << 30
_WORD = 40  # characters of a wrong word that are shown

_VALUE = 300  # characters of a wrong value that are shown

_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = _VALUE

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b?|bytes?)\Z", re.IGNORECASE)
_RATE = re.compile(r"([\d.,_ ]*\d)\s*([kM]?)\s*(?:/\s*s)?\Z")
_FACTORS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
}


def parse_tag(text: str) -> int:
    """Read a tag written as ``"7"`` or ``"0x1f"``.

    Raises
    ------
    ValueError
        In words for the person who typed it.
    """
    try:
        tag = int(text.strip(), 0)
    except ValueError:
        tag = -1
    if tag < 0:
        word = shortened(text.strip(), _WORD)
        raise ValueError(f"{word!r} is no tag: write a whole number such as 7 or 0x1f")
    return tag


def parse_size(text: str) -> int:
    """Read a number of bytes written as ``"64"``, ``"64 kB"`` or ``"64 KiB"``, up to 1 GiB.

    Raises
    ------
    ValueError
        In words for the person who typed it.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        word = shortened(text.strip(), _WORD)
        raise ValueError(f"{word!r} is no size: write it as 64, 64 kB or 64 KiB")
    unit = match[2].lower()
    unit = "" if unit in ("byte", "bytes") else unit.removesuffix("b")
    if unit not in _FACTORS:
        raise ValueError(f"{match[2]!r} is no unit of size: write kB, MB, KiB or MiB")
    nbytes = float(match[1]) * _FACTORS[unit]
    if nbytes > LARGEST_PAYLOAD:
        word = shortened(text.strip(), _WORD)
        raise ValueError(f"{word} is too much for one message by hand: at most 1 GiB")
    return round(nbytes)


def parse_sizes(text: str) -> int | tuple[int, int]:
    """Read a size, or the smallest and largest of a range: ``"64 B"``, ``"8 B to 4 KiB"``.

    Raises
    ------
    ValueError
        In words for the person who typed it.
    """
    low, to, high = text.partition(" to ")
    if not to:
        return parse_size(low)
    sizes = parse_size(low), parse_size(high)
    if sizes[0] > sizes[1]:
        raise ValueError(f"{text.strip()}: write the smaller size first")
    return sizes


def parse_rate(text: str) -> tuple[float | None, float | None]:
    """Read a rate written as ``"1000"``, ``"1,000/s"``, ``"20k/s"`` or ``"10 MB/s"``.

    Returns
    -------
    tuple of (float or None, float or None)
        Messages a second, and bytes a second, one of them; neither if the text is empty, which
        stands for as fast as possible.

    Raises
    ------
    ValueError
        In words for the person who typed it.
    """
    text = text.strip()
    if not text:
        return None, None
    match = _RATE.match(text)
    try:
        if match is not None:
            number = float(re.sub(r"[,_ ]", "", match[1])) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]
            rates: tuple[float | None, float | None] = number, None
        else:
            number = float(parse_size(re.sub(r"\s*/\s*s\Z", "", text)))
            rates = None, number
    except ValueError:
        number = 0.0
    if number <= 0:
        word = shortened(text, _WORD)
        raise ValueError(
            f"{word!r} is no rate: write messages as in 1000/s, bytes as in 10 MB/s, or nothing "
            "for as fast as possible"
        )
    return rates


def parse_hex(text: str) -> bytes:
    """Read bytes written as hex digits; spaces, colons, line ends and ``0x`` are skipped.

    Raises
    ------
    ValueError
        In words for the person who typed it.
    """
    digits = re.sub(r"0x|[\s:,]", "", text, flags=re.IGNORECASE)
    wrong = re.search(r"[^0-9a-f]", digits, flags=re.IGNORECASE)
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no hex digit: write bytes as in 48 65 6c 6c 6f")
    if len(digits) % 2:
        raise ValueError("an odd number of hex digits: each byte takes two")
    return bytes.fromhex(digits)


def count_bytes(count: int) -> str:
    """Write a number of bytes: ``"1 byte"``, ``"1,024 bytes"``."""
    return "1 byte" if count == 1 else f"{count:,} bytes"


def size_text(nbytes: int) -> str:
    """Write a message size as `parse_size` reads it: ``"64 B"``, ``"4 KiB"``, ``"1 MiB"``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes and nbytes % factor == 0:
            return f"{nbytes // factor} {unit}"
    return f"{nbytes} B"


def shortened(text: str, most: int) -> str:
    """Cut a text to `most` characters, the last being an ellipsis; show what cannot be printed.

    Control characters and those that turn the writing direction appear as ``U+FFFD``, so that a
    name from a stranger cannot rearrange what stands around it.
    """
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def shown(value: object) -> str:
    """Write a wrong value for an error message: its ``repr``, of what is large only a part."""
    try:
        return _short.repr(value[:_VALUE] if isinstance(value, bytes | bytearray) else value)
    except Exception:  # an integer of thousands of digits, or whatever its class raises
        return f"<{type(value).__name__}>"


def safe_html(text: str, most: int = 300) -> str:
    """`shortened`, and with every character that means something in HTML escaped."""
    return html.escape(shortened(text, most))


def preview(head: bytes, nbytes: int, show_as: str) -> str:
    """Show the start of a message.

    Parameters
    ----------
    head : bytes
        Its first bytes.
    nbytes : int
        Its whole size.
    show_as : {"auto", "text", "hex"}
        ``"auto"`` takes text if it is printable text, and hex otherwise.

    Returns
    -------
    str
        Not escaped.
    """
    cut = len(head) < nbytes
    if show_as != "hex":
        # A character cut in half by the end of `head` is no reason to call it binary.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, final=not cut)
        plain = text.replace("\n", " ").replace("\t", " ")
        if show_as == "text" or (plain.isprintable() and "\ufffd" not in plain):
            return shortened(plain, len(plain) or 1) + ("…" if cut else "")
    return head.hex(" ") + (" …" if cut else "")
