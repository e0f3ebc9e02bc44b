"""The panel for byte streams."""

from __future__ import annotations

from driving import Two, ready, says
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.widgets import ControlRoom, StreamPanel

WAIT = 20.0


def test_what_is_sent_arrives(two: Two) -> None:
    panel = StreamPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.text.value = "héllo"
    panel.send_button.click()
    says(panel, "Sent 6 B")
    assert "send_stream(1, " in panel.python_line.text
    buffer = bytearray(6)
    two.there.receive_stream(two.back, buffer, True, timeout=WAIT)
    assert buffer.decode() == "héllo"
    panel.close()


def test_what_comes_is_shown_while_one_sends(two: Two) -> None:
    panel = StreamPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.read_button.click()
    assert panel.read_button.disabled
    assert "open_stream(1)" in panel.python_line.text
    two.there.send_stream(two.back, b"line\x07\n<b>", timeout=WAIT)
    eventually(lambda: panel.content.text == "line\ufffd\n<b>")
    panel.payload.text.value = "answer"
    panel.send_button.click()
    buffer = bytearray(6)
    two.there.receive_stream(two.back, buffer, True, timeout=WAIT)
    assert buffer == b"answer"
    says(panel, "Sent 6 B", "Reading")
    panel.show_as.value = "hex"
    eventually(lambda: panel.content.text.startswith("0000  6c 69 6e 65 07"))
    two.there.send_stream(two.back, b"x" * 1_000_000, timeout=WAIT)
    eventually(lambda: two.here.stats().stream_bytes_received == 1_000_009)
    assert len(panel.latest) == 64 * 1024
    panel.stop_button.click()
    says(panel, "Stopped after 1")
    two.there.send_stream(two.back, b"kept", timeout=WAIT)
    kept = bytearray(4)
    two.here.receive_stream(two.endpoint_id, kept, True, timeout=WAIT)
    assert kept == b"kept"
    panel.close()


def test_the_end_of_the_peer_is_said(two: Two) -> None:
    panel = StreamPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.read_button.click()
    two.there.send_stream(two.back, b"bye", timeout=WAIT)
    two.there.disconnect(two.back)
    says(panel, "The peer closed", "3 B")
    panel.send_button.click()
    says(panel, "closed")
    panel.close()


def test_with_nobody_there_it_says_so() -> None:
    with UcxWorker() as worker:
        panel = StreamPanel(worker)
        for button in (panel.send_button, panel.read_button):
            button.click()
            assert "connect to a peer first" in panel.status
        panel.close()


def test_a_control_room_has_the_panels_of_what_is_switched_on() -> None:
    with UcxWorker(enable_rma=True) as worker:
        room = ControlRoom(worker)
        assert room.stream_panel in room.children
        assert room.memory_panel in room.children
        room.close()
    with UcxWorker(enable_stream=False) as worker:
        room = ControlRoom(worker)
        assert room.stream_panel is None
        assert room.memory_panel is None
        room.close()
