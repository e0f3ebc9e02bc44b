"""The panel that receives: real workers, clicks from Python, what it then shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from driving import Two, ready, says
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.message import Message
from ucxnb.widgets import ReceivePanel
from ucxnb.widgets.message_store import MessageStore


def rows(panel: ReceivePanel, start: int = 0, stop: int = 200) -> list[list[Any]]:
    """What a page gets when it asks for rows of the table."""
    answers: list[dict[str, Any]] = []
    sent, panel.table.send = panel.table.send, answers.append
    panel.table._answer(panel.table, {"kind": "rows", "start": start, "stop": stop}, [])
    panel.table.send = sent
    return answers[-1]["rows"]


def test_receive_one_from_anyone_with_any_tag(two: Two) -> None:
    panel = ReceivePanel(two.here)
    panel.receive_button.click()
    assert panel.receive_button.disabled
    two.there.send_tag(two.back, 77, b"<i>hi</i>")
    says(panel, "Received one message")
    eventually(lambda: panel.table.count == 1)
    assert rows(panel)[0][3:] == ["77", "9 B", "<i>hi</i>"]
    assert not panel.receive_button.disabled
    panel.close()


def test_receive_one_leaves_other_tags_alone(two: Two) -> None:
    panel = ReceivePanel(two.here)
    ready(panel, two.endpoint_id)
    panel.tag.value = "5"
    two.there.send_tag(two.back, 4, b"four")
    two.there.send_tag(two.back, 5, b"five")
    panel.receive_button.click()
    says(panel, "Received one message")
    eventually(lambda: panel.table.count == 1)
    assert rows(panel)[0][5] == "five"
    assert two.here.receive_tag(two.endpoint_id, 4, timeout=20) == b"four"
    panel.close()


def test_receive_one_gives_up_in_time_and_says_so(two: Two) -> None:
    panel = ReceivePanel(two.here)
    panel.timeout.value = 0.3
    panel.receive_button.click()
    says(panel, "Nothing came within 0.3 s")
    panel.close()


def test_keep_receiving_takes_all_and_a_stop_loses_none(two: Two) -> None:
    panel = ReceivePanel(two.here)
    panel.keep_button.click()
    for i in range(500):
        two.there.send_tag(two.back, i, b"x" * 10)
    eventually(lambda: panel.messages.count == 500)
    eventually(lambda: "500 messages, 5 kB" in panel._total.value)
    eventually(lambda: panel.table.count == 500)  # shown just after the total
    assert [row[3] for row in rows(panel, 480, 500)] == [str(tag) for tag in range(480, 500)]
    panel.stop_button.click()
    says(panel, "Stopped after 500 messages")
    two.there.send_tag(two.back, 9, b"kept")
    assert two.here.receive_tag(two.endpoint_id, 9, timeout=20) == b"kept"
    panel.clear_button.click()
    assert panel.table.count == 0
    assert panel._came.layout.display == "none"
    panel.close()


def test_keep_receiving_waits_for_somebody_to_connect() -> None:
    with UcxWorker() as here, UcxWorker() as there:
        panel = ReceivePanel(here)
        panel.keep_button.click()
        endpoint_id = there.connect(here.create_listener().address)
        there.send_tag(endpoint_id, 1, b"late")
        eventually(lambda: panel.messages.count == 1)
        panel.close()


def test_a_lost_peer_ends_a_receive_from_it_in_words(two: Two) -> None:
    panel = ReceivePanel(two.here)
    ready(panel, two.endpoint_id)
    panel.keep_button.click()
    two.there.close()
    eventually(lambda: panel._status.kind == "error")
    assert not panel.keep_button.disabled
    panel.close()


def received(panel: ReceivePanel, two: Two, *messages: tuple[int, bytes]) -> None:
    """Receive what the peer sends, through the panel."""
    panel.keep_button.click()
    for tag, data in messages:
        two.there.send_tag(two.back, tag, data)
    eventually(lambda: panel.messages.count == len(messages))
    panel.stop_button.click()
    says(panel, "Stopped after")
    eventually(lambda: panel.table.count == len(messages))


def test_the_table_shows_one_endpoint_or_tag(two: Two) -> None:
    with UcxWorker(name="third") as third:
        second = third.connect(two.here.create_listener().address)
        panel = ReceivePanel(two.here)
        panel.keep_button.click()
        for tag in range(10):
            two.there.send_tag(two.back, tag, b"from there")
            third.send_tag(second, tag, b"from third")
        eventually(lambda: panel.table.count == 20)
        eventually(lambda: len(panel.only_endpoint.options) == 3)
        panel.only_endpoint.value = two.endpoint_id
        assert panel.table.count == 10
        assert {row[5] for row in rows(panel)} == {"from there"}
        panel.only_tag.value = "0x3"
        assert [row[3] for row in rows(panel)] == ["3"]
        panel.only_tag.value = "x"
        assert "is no tag" in panel.status
        assert panel.table.count == 1
        panel.only_tag.value, panel.only_endpoint.value = "", 0
        assert panel.table.count == 20
        panel.close()


def test_a_message_is_looked_at_as_text_hex_or_array(two: Two) -> None:
    panel = ReceivePanel(two.here)
    numbers = np.array([1.5, -2.0])
    received(panel, two, (7, "h\u00e9llo\nyou\x07".encode()), (8, numbers.tobytes()), (9, b""))
    assert panel.view.layout.display == "none"
    panel.table.selected = 0
    assert panel.view.content.text == "h\u00e9llo\nyou\ufffd"
    assert "Message 1 at" in panel.view._title.value
    assert "tag 7, 11 bytes" in panel.view._title.value
    panel.table.selected = 1
    panel.view.show_as.value = "hex"
    assert panel.view.content.text == (
        "0000  00 00 00 00 00 00 f8 3f 00 00 00 00 00 00 00 c0  .......?........"
    )
    panel.view.show_as.value = "array"
    assert panel.view.content.text == "[ 1.5, -2. ]"
    panel.view.dtype.value = "uint16"
    assert panel.view.content.text == "[    0,     0,     0, 16376,     0,     0,     0, 49152]"
    panel.table.selected = 2
    assert panel.view.content.text == "[]"
    panel.clear_button.click()
    assert panel.view.layout.display == "none"
    panel.close()


def test_of_a_large_message_the_start_is_kept_and_said(two: Two) -> None:
    panel = ReceivePanel(two.here)
    received(panel, two, (1, b"x" * 100_000))
    panel.table.selected = 0
    assert len(panel.view.content.text) == 16 << 10
    assert "100,000 bytes, the first 16.4 kB here" in panel.view._title.value
    message = panel.messages.get(0)
    assert message is not None
    assert (message.nbytes, len(message.head)) == (100_000, 64 << 10)
    panel.close()


def test_the_preview_is_text_or_hex(two: Two) -> None:
    panel = ReceivePanel(two.here)
    received(panel, two, (1, b"hi"))
    panel.show_as.value = "hex"
    assert rows(panel)[0][5] == "68 69"
    panel.close()


def test_a_page_gets_no_more_rows_than_it_can_show(two: Two) -> None:
    panel = ReceivePanel(two.here)
    for i in range(1000):
        panel.messages.add(Message(1, i, 2, b"hi"))
    eventually(lambda: panel.table.count == 1000)
    assert len(rows(panel, 0, 1000)) == 200
    assert [row[0] for row in rows(panel, 998, 1200)] == [998, 999]
    for nonsense in ("x", {"kind": "rows", "start": -1, "stop": 5}, {"kind": "rows"}, None):
        panel.table._answer(panel.table, nonsense, [])
    panel.close()


def test_the_store_is_bounded_in_messages_and_bytes() -> None:
    store = MessageStore(messages=5, nbytes=1000)
    for i in range(12):
        store.add(Message(1, i, 10, bytes(10)))
    assert (len(store), store.count, store.nbytes, store.dropped) == (5, 12, 120, 7)
    assert list(store.find(None, None)) == [7, 8, 9, 10, 11]
    assert list(store.find(1, 9)) == [9]
    assert list(store.find(2, None)) == []
    assert store.get(6) is None
    store.add(Message(2, 99, 990, bytes(990)))
    assert [store.get(int(i)).tag for i in store.find(None, None)] == [11, 99]  # type: ignore[union-attr]
    assert store.endpoints() == [1, 2]
    store.add(Message(None, 2**64 - 1, 2000, bytes(2000)))
    assert list(store.find(None, 2**64 - 1)) == [13]
    assert store.endpoints() == []
    store.clear()
    assert (len(store), store.count) == (0, 0)
