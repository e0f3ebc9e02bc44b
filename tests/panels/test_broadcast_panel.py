"""The panel that sends to everybody."""

from __future__ import annotations

from driving import Two, says
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.widgets import (
    BroadcastPanel,
)


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
