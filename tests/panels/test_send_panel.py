"""The panel that sends: real workers, clicks from Python, what it then says."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import Two, ready, says
from eventually import eventually
from relay import Relay

from ucxnb import UcxWorker
from ucxnb.widgets import (
    SendPanel,
)


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


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "which array"),
        ("np.arange(", "is no expression"),
        ("1 / 0", "ZeroDivisionError"),
        ("[1, 2]", "a list, which has no bytes"),
        ("np.arange(9)[::2]", "ascontiguousarray"),
        ("np.array([None])", "Python objects"),
    ],
)
def test_an_expression_that_gives_nothing_to_send_is_said(
    two: Two, expression: str, words: str
) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.kind.value = "array"
    panel.payload.expression.value = expression
    panel.send_button.click()
    assert words in panel.status.lower() + panel.status
    assert two.here.stats().messages_sent == 0
    panel.close()


def test_a_file_is_sent_from_where_the_kernel_runs(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.bin").write_bytes(bytes(3_000_000))
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.kind.value = "file"
    assert panel.payload.path.options == ("data.bin",)
    for path, words in (("", "Which file"), ("none", "No such file"), (".", "Is a directory")):
        panel.payload.path.value = path
        panel.send_button.click()
        assert words in panel.status
    panel.payload.path.value = "data.bin"
    panel.send_button.click()
    assert two.there.receive_tag(two.back, 1, timeout=20) == bytes(3_000_000)
    says(panel, "Sent 3 MB")
    panel.close()


def test_a_draft_waits_for_a_lost_peer(two: Two) -> None:
    """What was typed stays, nobody else gets it, and a kept connection takes it up again."""
    with Relay(two.address) as relay, UcxWorker() as other:
        two.here.connect(other.create_listener().address)
        panel = SendPanel(two.here)
        link = two.here.keep_connected(relay.address, first_delay=0.05)
        lost = link.wait(20)
        ready(panel, lost)
        panel.payload.text.value = "a draft"
        relay.cut()
        eventually(lambda: link.losses)
        again = link.wait(20)
        eventually(lambda: panel.endpoint.value == again)
        assert panel.payload.text.value == "a draft"
        assert lost not in [value for _, value in panel.endpoint.options]
        panel.close()
        link.close()


def test_a_lost_peer_stays_chosen_and_says_so(two: Two) -> None:
    with UcxWorker() as other:
        two.here.connect(other.create_listener().address)
        panel = SendPanel(two.here)
        ready(panel, two.endpoint_id)
        two.there.close()
        eventually(lambda: ": lost" in dict(map(reversed, panel.endpoint.options))[two.endpoint_id])
        assert panel.endpoint.value == two.endpoint_id
        panel.send_button.click()
        eventually(lambda: panel._status.kind == "error")
        assert other.stats().messages_received == other.stats().unreceived_messages == 0
        with UcxWorker(name="<b>there</b>") as returned:
            back = two.here.connect(returned.create_listener().address)
            eventually(lambda: panel.endpoint.value == back)
        panel.close()


def test_a_connection_that_you_close_is_not_waited_for(two: Two) -> None:
    with UcxWorker() as other:
        second = two.here.connect(other.create_listener().address)
        panel = SendPanel(two.here)
        ready(panel, two.endpoint_id)
        two.here.disconnect(two.endpoint_id)
        eventually(lambda: panel.endpoint.value == second)
        panel.close()
