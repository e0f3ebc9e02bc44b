"""The panel that sends at a set rate."""

from __future__ import annotations

import pytest
from driving import Two, ready, says
from eventually import eventually

from ucxnb.widgets import TrafficPanel


def test_traffic_runs_until_it_is_stopped_and_says_how_fast(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.tag.value, panel.size.value, panel.rate.value = "9", "100 B", "500/s"
    panel.start_button.click()
    assert panel.start_button.disabled
    for _ in range(100):
        assert len(two.there.receive_tag(two.back, 9, timeout=20)) == 100
    says(panel, "Sending:", "messages/s")
    panel.stop_button.click()
    says(panel, "Sent", "messages/s")
    assert not panel.start_button.disabled
    panel.close()


def test_traffic_for_a_time_and_of_a_range_of_sizes(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.size.value, panel.rate.value, panel.duration.value = "8 B to 64 B", "100 kB/s", 0.3
    panel.start_button.click()
    says(panel, "Sent", "messages")
    count = two.here.stats(two.endpoint_id).messages_sent
    sizes = [len(two.there.receive_tag(two.back, 1, timeout=20)) for _ in range(count)]
    assert all(8 <= size <= 64 for size in sizes)
    panel.close()


def test_a_peer_that_receives_nothing_is_said_and_a_stop_works(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.size.value, panel.rate.value = "10 MB", ""
    panel.start_button.click()
    says(panel, "64 wait for the peer")
    panel.stop_button.click()
    says(panel, "Sent 64 messages")
    panel.close()


def test_closing_the_panel_stops_the_traffic(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.start_button.click()
    two.there.receive_tag(two.back, 1, timeout=20)
    panel.close()
    sent = two.here.stats().messages_sent
    assert two.here.is_connected(two.endpoint_id)
    eventually(lambda: two.there.stats().messages_received <= sent)
    assert two.here.stats().messages_sent == sent


def test_a_lost_peer_ends_the_traffic_in_words(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.start_button.click()
    two.there.receive_tag(two.back, 1, timeout=20)
    two.there.close()
    eventually(lambda: panel._status.kind == "error")
    assert str(two.endpoint_id) in panel.status
    panel.close()


@pytest.mark.parametrize(
    ("field", "text", "word"), [("tag", "x", "tag"), ("size", "x", "size"), ("rate", "x", "rate")]
)
def test_what_cannot_be_sent_is_said(two: Two, field: str, text: str, word: str) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    getattr(panel, field).value = text
    assert panel.python_line.text.startswith("# ")
    panel.start_button.click()
    assert word in panel.status
    assert panel._status.kind == "error"
    panel.close()
