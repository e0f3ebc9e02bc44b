"""The panel for one-sided memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from driving import Two, ready, says

from ucxnb import UcxWorker
from ucxnb.widgets import MemoryPanel


@pytest.fixture
def reaching() -> Iterator[tuple[MemoryPanel, Two]]:
    with UcxWorker(enable_rma=True) as here, UcxWorker(enable_rma=True) as there:
        two = Two(here, there)
        panel = MemoryPanel(here)
        ready(panel, two.endpoint_id)
        yield panel, two
        panel.close()


def test_put_get_and_add(reaching: tuple[MemoryPanel, Two]) -> None:
    panel, two = reaching
    with two.there.allocate(100) as memory:
        panel.key.value = memory.remote_key().hex()
        panel.offset.value = "8"
        panel.payload.text.value = "hello"
        assert f'worker.put(1, {b"hello"!r}, bytes.fromhex("' in panel.python_line.text
        panel.put_button.click()
        says(panel, "Put 5 B at offset 8")
        assert bytes(memory)[8:13] == b"hello"
        panel.count.value = "5"
        panel.get_button.click()
        says(panel, "Got 5 B from offset 8")
        assert "68 65 6c 6c 6f" in panel.content.text
        panel.offset.value, panel.addend.value = "16", "0x10"
        panel.add_button.click()
        says(panel, "was 0", "16 was added")
        assert "fetch_add" in panel.python_line.text
        panel.offset.value = "96"
        panel.put_button.click()
        says(panel, "do not lie within")
    panel.offset.value = "0"
    panel.put_button.click()
    says(panel, "closed")


def test_memory_of_ones_own(reaching: tuple[MemoryPanel, Two]) -> None:
    panel, two = reaching
    panel.size.value = "1 KiB"
    panel.allocate_button.click()
    says(panel, "Allocated 1.02 kB")
    first = panel.memory
    assert first is not None
    two.there.put(two.back, b"there", bytes.fromhex(panel.own_key.text))
    two.there.flush(two.back)
    assert bytes(first)[:5] == b"there"
    panel.allocate_button.click()
    says(panel, "the memory before is closed")
    second = panel.memory
    assert first.closed
    panel.close()
    assert second is not None
    assert second.closed


@pytest.mark.parametrize(
    ("field", "text", "button", "words"),
    [
        ("key", "", "put_button", "key is needed"),
        ("key", "xyz", "put_button", "hex"),
        ("key", "00ff", "get_button", "no remote key"),
        ("offset", "-1", "put_button", "size"),
        ("count", "2 MiB", "get_button", "1 MiB"),
        ("addend", "one", "add_button", "integer"),
        ("size", "much", "allocate_button", "size"),
    ],
)
def test_what_cannot_be_is_said(
    reaching: tuple[MemoryPanel, Two], field: str, text: str, button: str, words: str
) -> None:
    panel, two = reaching
    with two.there.allocate(8) as memory:
        panel.key.value = memory.remote_key().hex()
        getattr(panel, field).value = text
        getattr(panel, button).click()
        says(panel, words)


def test_a_worker_without_it_says_so(two: Two) -> None:
    panel = MemoryPanel(two.here)
    panel.allocate_button.click()
    says(panel, "enable_rma=True")
    panel.close()
