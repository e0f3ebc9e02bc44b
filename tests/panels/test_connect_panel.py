"""The panel that connects: real workers, clicks from Python, what it then says."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from driving import Two, says
from eventually import eventually
from relay import Relay

import ucxnb
from ucxnb import UcxWorker
from ucxnb.widgets import (
    ConnectPanel,
)


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
