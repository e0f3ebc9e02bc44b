"""The panels without a browser: real workers, clicks from Python, what the panels then say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import ipywidgets
import pytest
from eventually import eventually
from relay import Relay

import ucxnb
from ucxnb import UcxWorker
from ucxnb.message import Message
from ucxnb.text import parse_hex, parse_size, parse_tag, preview, safe_html
from ucxnb.widgets import (
    BenchPanel,
    BroadcastPanel,
    ConnectPanel,
    ControlRoom,
    ReceivePanel,
    SendPanel,
)
from ucxnb.widgets.message_log import MessageLog
from ucxnb.widgets.panel import Panel

PANELS = (ConnectPanel, SendPanel, ReceivePanel, BroadcastPanel, BenchPanel)


class Two:
    """Two connected workers; `here` is the one that gets the panels."""

    def __init__(self, here: UcxWorker, there: UcxWorker) -> None:
        self.here, self.there = here, there
        self.address = there.create_listener().address
        self.endpoint_id = here.connect(self.address)
        eventually(lambda: there.get_endpoint_ids())
        self.back = there.get_endpoint_ids()[0]


@pytest.fixture
def two() -> Iterator[Two]:
    with UcxWorker(name="here") as here, UcxWorker(name="<b>there</b>") as there:
        yield Two(here, there)


@pytest.fixture(autouse=True)
def _all_widgets_closed() -> Iterator[None]:
    before = set(ipywidgets.widgets.widget._instances)
    yield
    assert set(ipywidgets.widgets.widget._instances) == before


def says(panel: Panel, *words: str) -> None:
    """Wait until the status line of a panel holds these words."""
    try:
        eventually(lambda: all(word in panel.status for word in words), timeout=10)
    except AssertionError:
        raise AssertionError(f"it says {panel.status!r}, not {words}") from None


def ready(panel: SendPanel | ReceivePanel, endpoint_id: int) -> None:
    """Wait until the panel offers an endpoint, and choose it."""
    eventually(lambda: endpoint_id in [value for _, value in panel.endpoint.options])
    panel.endpoint.value = endpoint_id


# ---- texts


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


def test_the_log_is_bounded_and_escaped() -> None:
    log = MessageLog(3)
    for i in range(10):
        log.add(Message(1, i, 100, b"<script>" + b"x" * 92))
    assert (len(log), log.count, log.nbytes) == (3, 10, 1000)
    html = log.html("auto")
    assert "<script>" not in html
    assert html.count("tag ") == 3
    assert "10 messages, 1 kB, the latest 3 here" in html
    log.clear()
    assert "Nothing received yet" in log.html("auto")


# ---- connecting


def test_connect_and_disconnect_by_clicks(two: Two) -> None:
    panel = ConnectPanel(two.here)
    panel.address.value = two.address
    panel.connect_button.click()
    says(panel, "Connected to", two.address)
    eventually(lambda: len(panel.endpoint.options) == 2)
    eventually(lambda: "open" in panel._table.value)
    assert "&lt;b&gt;there&lt;/b&gt;" in panel._table.value
    assert "<b>" not in panel._table.value
    panel.endpoint.value = two.endpoint_id
    panel.disconnect_button.click()
    says(panel, f"Disconnected endpoint {two.endpoint_id}")
    assert not two.here.is_connected(two.endpoint_id)
    eventually(lambda: "closed" in panel._table.value)
    panel.close()


def test_listen_and_stop_listening_by_clicks(two: Two) -> None:
    panel = ConnectPanel(two.here)
    panel.listen_button.click()
    says(panel, "Listening on 127.0.0.1:")
    listener = two.here.listeners[0]
    eventually(lambda: panel.listener.value is listener)
    two.there.connect(listener.address)
    eventually(lambda: "accepted" in panel._table.value)
    panel.unlisten_button.click()
    says(panel, "No longer listening")
    assert listener.closed
    assert len(two.here.get_endpoint_ids()) == 2
    panel.close()


def test_peers_that_are_refused_are_counted_and_the_latest_named() -> None:
    with UcxWorker(auth_key="one key of sixteen") as here, UcxWorker() as there:
        panel = ConnectPanel(here)
        assert panel._note.layout.display == "none"
        listener = here.create_listener()
        for count in ("1 peer refused", "2 peers refused"):
            with pytest.raises(ucxnb.AuthenticationError):
                there.connect(listener.address)
            eventually(lambda count=count: count in panel._note.value)
        assert here.refusals().latest[-1].peer_address in panel._note.value
        assert "only one side has a key: set the same auth_key" in panel._note.value
        assert panel._note.layout.display is None
        with socket.create_connection((listener.host, listener.port)) as stranger:
            stranger.sendall(b"<script>")
            eventually(lambda: "3 peers refused" in panel._note.value)
        assert "&lt;script&gt;" in panel._note.value
        assert "<script>" not in panel._note.value
        panel.close()


@pytest.mark.filterwarnings("ignore::ucxnb.UnprotectedListenerWarning")
def test_a_listener_that_anyone_can_reach_is_named_while_it_is_open() -> None:
    with UcxWorker() as worker:
        panel = ConnectPanel(worker)
        panel.listen_address.value = "0.0.0.0:0"
        panel.listen_button.click()
        says(panel, "Listening on 0.0.0.0:")
        (listener,) = worker.listeners
        eventually(lambda: listener.warning in panel._note.value)
        eventually(lambda: panel.listener.value is listener)
        panel.unlisten_button.click()
        eventually(lambda: panel._note.value == "")
        panel.close()


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:99999", "127.0.0.1:1"])
def test_a_failed_connect_says_why(two: Two, address: str) -> None:
    panel = ConnectPanel(two.here)
    panel.address.value = address
    panel.connect_button.click()
    eventually(lambda: panel._status.kind == "error")
    assert len(panel.status) > 10
    assert address in panel.status
    panel.close()


def test_an_address_in_use_is_said(two: Two) -> None:
    panel = ConnectPanel(two.here)
    panel.listen_address.value = two.address
    panel.listen_button.click()
    says(panel, two.address, "in use")
    assert panel._status.kind == "error"
    panel.close()


# ---- sending


def test_send_text_hex_and_random_by_clicks(two: Two) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.tag.value = "0x10"
    panel.payload.text.value = "héllo"
    panel.send_button.click()
    assert two.there.receive_tag(two.back, 16, timeout=20) == "héllo".encode()
    says(panel, "Sent 6 B")
    panel.payload.kind.value = "hex"
    panel.payload.digits.value = "00 ff"
    panel.send_button.click()
    assert two.there.receive_tag(two.back, 16, timeout=20) == b"\x00\xff"
    says(panel, "Sent 2 B")
    panel.payload.kind.value = "random"
    panel.payload.size.value = "100 kB"
    panel.send_button.click()
    assert len(two.there.receive_tag(two.back, 16, timeout=20)) == 100_000
    says(panel, "Sent 100 kB")
    panel.close()


def test_only_the_field_of_the_chosen_kind_shows(two: Two) -> None:
    panel = SendPanel(two.here)
    payload = panel.payload
    payload.kind.value = "random"
    assert [f.layout.display for f in (payload.text, payload.digits, payload.size)] == [
        "none",
        "none",
        None,
    ]
    panel.close()


def test_repeat_sends_that_often_and_shows_progress(two: Two) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.repeat.value = 1000
    panel.send_button.click()
    for _ in range(1000):
        assert two.there.receive_tag(two.back, 1, timeout=20) == b"hello"
    says(panel, "Sent 1,000 messages", "5 kB")
    assert panel._progress.value == panel._progress.max == 1000
    panel.close()


def test_a_series_can_be_stopped(two: Two) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.repeat.value = 1_000_000_000
    panel.send_button.click()
    assert panel.send_button.disabled
    for _ in range(10):
        two.there.receive_tag(two.back, 1, timeout=20)
    panel.stop_button.click()
    says(panel, "of 1,000,000,000, then stopped")
    assert not panel.send_button.disabled
    panel.close()


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("tag", "x", "tag"), ("digits", "zz", "hex"), ("size", "x", "size")],
)
def test_what_cannot_be_sent_is_said(two: Two, field: str, value: str, word: str) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.kind.value = {"digits": "hex", "size": "random"}.get(field, "text")
    control = panel.tag if field == "tag" else getattr(panel.payload, field)
    control.value = value
    panel.send_button.click()
    assert word in panel.status
    assert panel._status.kind == "error"
    panel.close()


def test_a_tag_out_of_range_is_said(two: Two) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.tag.value = str(2**64)
    panel.send_button.click()
    eventually(lambda: panel._status.kind == "error")
    assert str(2**64) in panel.status
    panel.close()


def test_nobody_to_send_to_is_said() -> None:
    with UcxWorker() as worker:
        panel = SendPanel(worker)
        panel.send_button.click()
        assert "connect to a peer first" in panel.status
        panel.close()


# ---- receiving


def test_receive_one_from_anyone_with_any_tag(two: Two) -> None:
    panel = ReceivePanel(two.here)
    panel.receive_button.click()
    assert panel.receive_button.disabled
    two.there.send_tag(two.back, 77, b"<i>hi</i>")
    says(panel, "Received one message")
    eventually(lambda: "tag 77" in panel._log_view.value)
    assert "&lt;i&gt;hi&lt;/i&gt;" in panel._log_view.value
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
    eventually(lambda: "five" in panel._log_view.value)
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
    eventually(lambda: "500 messages, 5 kB, the latest 100 here" in panel._log_view.value)
    panel.stop_button.click()
    says(panel, "Stopped after 500 messages")
    two.there.send_tag(two.back, 9, b"kept")
    assert two.here.receive_tag(two.endpoint_id, 9, timeout=20) == b"kept"
    panel.clear_button.click()
    eventually(lambda: "Nothing received yet" in panel._log_view.value)
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


# ---- broadcasting


def test_broadcast_reaches_everybody_and_says_whom(two: Two) -> None:
    with UcxWorker() as third:
        second_id = two.here.connect(third.create_listener().address)
        panel = BroadcastPanel(two.here)
        eventually(lambda: "all 2 open" in panel._audience.value)
        panel.broadcast_button.click()
        assert two.there.receive_tag(None, 1, timeout=20) == b"hello"
        assert third.receive_tag(None, 1, timeout=20) == b"hello"
        says(panel, f"Sent 5 B to endpoints {two.endpoint_id}, {second_id}.")
        panel.close()


def test_broadcast_to_nobody_is_said() -> None:
    with UcxWorker() as worker:
        panel = BroadcastPanel(worker)
        panel.broadcast_button.click()
        says(panel, "connect to a peer first")
        panel.close()


# ---- all of them


def panel_threads() -> list[threading.Thread]:
    """Threads of panels and dashboards; each worker's front door has one of its own."""
    names = [t for t in threading.enumerate() if t.name.startswith("ucxnb-")]
    return [thread for thread in names if thread.name != "ucxnb-frontdoor"]


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_alone_closes_twice_and_keeps_the_worker(kind: type[Panel], two: Two) -> None:
    panel = kind(two.here)
    assert "open" in repr(panel)
    assert "application/vnd.jupyter.widget-view+json" in panel._repr_mimebundle_()
    panel.close()
    panel.close()
    assert panel.closed
    assert "closed" in repr(panel)
    assert two.here.is_connected(two.endpoint_id)
    assert not panel_threads()


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_says_that_its_worker_is_closed(kind: type[Panel]) -> None:
    worker = UcxWorker()
    panel = kind(worker)
    worker.close()
    says(panel, "The worker is closed.")
    assert all(button.disabled for button in panel._starters)
    for button in panel._starters:
        button.click()
    says(panel, "The worker is closed.")
    panel.close()


def test_clicks_return_at_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(UcxWorker, "connect", lambda *_, **__: go_on.wait(20) and 1)
    panel = ConnectPanel(two.here)
    panel.address.value = two.address
    began = time.monotonic()
    panel.connect_button.click()
    panel.connect_button.click()
    assert time.monotonic() - began < 5
    assert panel.connect_button.disabled
    go_on.set()
    says(panel, "Connected")
    assert not panel.connect_button.disabled
    panel.close()


def test_the_connect_panel_shows_a_kept_connection(two: Two) -> None:
    with Relay(two.address) as relay:
        panel = ConnectPanel(two.here)
        link = two.here.keep_connected(relay.address, first_delay=60, longest_delay=60)
        eventually(lambda: f"{relay.address}: connected, endpoint" in panel._kept.value)
        relay.cut()
        eventually(lambda: "attempt 1 in" in panel._kept.value)
        assert "0 messages (0 bytes) sent" in panel._kept.value
        link.close()
        eventually(lambda: panel._kept.value == "")
        panel.close()


def test_the_control_room_joins_the_panels(two: Two) -> None:
    room = ControlRoom(two.here)
    ready(room.send_panel, two.endpoint_id)
    room.receive_panel.keep_button.click()
    room.send_panel.send_button.click()
    assert two.there.receive_tag(two.back, 1, timeout=20) == b"hello"
    two.there.send_tag(two.back, 2, b"answer")
    eventually(lambda: "answer" in room.receive_panel._log_view.value)
    assert room._watch.error is None
    assert "open" in repr(room)
    room.close()
    room.close()
    assert room.closed
    assert room.dashboard.closed
    assert not panel_threads()


def test_a_second_control_room_on_the_same_worker(two: Two) -> None:
    ControlRoom(two.here).close()
    room = ControlRoom(two.here)
    ready(room.send_panel, two.endpoint_id)
    room.close()


def test_the_control_room_ends_with_its_worker() -> None:
    worker = UcxWorker()
    room = ControlRoom(worker)
    room.receive_panel.keep_button.click()
    worker.close()
    for panel in (room.connect_panel, room.send_panel, room.receive_panel, room.broadcast_panel):
        says(panel, "The worker is closed.")
    eventually(lambda: room.dashboard.closed)
    room.close()
