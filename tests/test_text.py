"""Texts from and for people."""

from __future__ import annotations

import pytest

from ucxnb.text import parse_hex, parse_rate, parse_size, parse_sizes, parse_tag, preview, safe_html


def test_tags_are_read_as_typed() -> None:
    assert [parse_tag(text) for text in ("0", " 7 ", "0x1f")] == [0, 7, 31]
    for text in ("", "-1", "1.5", "x"):
        with pytest.raises(ValueError, match="is no tag"):
            parse_tag(text)


def test_sizes_are_read_as_typed() -> None:
    texts = ("64", "64 B", "64 bytes", "64 kB", "64KiB", "1.5 MB", "1 GiB", "0")
    sizes = [64, 64, 64, 64_000, 65_536, 1_500_000, 1 << 30, 0]
    assert [parse_size(text) for text in texts] == sizes
    for text in ("", "many", "-1", "2 GiB", "3 ib", "1 TB"):
        with pytest.raises(ValueError, match=r"size|at most"):
            parse_size(text)


def test_ranges_of_sizes_are_read_as_typed() -> None:
    assert parse_sizes("64 B") == 64
    assert parse_sizes("8 B to 4 KiB") == (8, 4096)
    for text in ("", "8 to", "4 KiB to 8 B"):
        with pytest.raises(ValueError, match="size"):
            parse_sizes(text)


def test_rates_are_read_as_typed() -> None:
    texts = ("1000", "1,000/s", "1.5 / s", "20k/s", "2 M/s")
    assert [parse_rate(text) for text in texts] == [
        (rate, None) for rate in (1000.0, 1000.0, 1.5, 20_000.0, 2e6)
    ]
    assert parse_rate("10 MB/s") == (None, 1e7)
    assert parse_rate("64 KiB / s") == (None, 65536.0)
    assert parse_rate(" ") == (None, None)
    for text in ("0", "-5/s", "fast", "0 B/s", "1.2.3"):
        with pytest.raises(ValueError, match="is no rate"):
            parse_rate(text)


def test_hex_is_read_as_typed() -> None:
    assert parse_hex("48 65:6C,6c\n6f") == b"Hello"
    assert parse_hex("0x48 0x65") == b"He"
    assert parse_hex("") == b""
    with pytest.raises(ValueError, match="two"):
        parse_hex("123")
    with pytest.raises(ValueError, match="'g'"):
        parse_hex("0g")


def test_previews_show_text_or_hex() -> None:
    assert preview(b"hello\nyou", 9, "auto") == "hello you"
    assert preview(b"\x00\xff", 2, "auto") == "00 ff"
    assert preview(b"hi", 2, "hex") == "68 69"
    assert preview(b"\xffhi", 3, "text") == "\ufffdhi"
    assert preview(b"hello", 9, "auto") == "hello…"
    assert preview("é".encode()[:1], 2, "auto") == "…"
    assert preview(b"", 0, "auto") == ""


def test_texts_from_strangers_are_harmless() -> None:
    assert safe_html("<img src=x onerror='a'>") == "&lt;img src=x onerror=&#x27;a&#x27;&gt;"
    assert safe_html("a\u202eb\x00") == "a\ufffdb\ufffd"
    assert len(safe_html("x" * 10_000)) == 300
