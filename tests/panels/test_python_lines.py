"""The code that a panel shows does what the panel does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import Two, ready, says
from eventually import eventually
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import ucxnb
from ucxnb import UcxWorker
from ucxnb.widgets import (
    BenchPanel,
    BroadcastPanel,
    ConnectPanel,
    ExplorerPanel,
    ReceivePanel,
    SendPanel,
    TrafficPanel,
)


def execute(code: str, worker: UcxWorker) -> dict[str, Any]:
    names: dict[str, Any] = {"worker": worker}
    exec(compile(code, "<copied>", "exec"), names)
    return names


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield made
    InteractiveShell.clear_instance()


def test_connecting(two: Two) -> None:
    panel = ConnectPanel(two.here)
    assert panel.python_line.text.startswith("# which address")
    panel.address.value = two.address
    assert panel.python_line.text == f"endpoint_id = worker.connect({two.address!r})"
    endpoint_id = execute(panel.python_line.text, two.here)["endpoint_id"]
    assert two.here.is_connected(endpoint_id)
    panel.keep.value = True
    link = execute(panel.python_line.text, two.here)["link"]
    assert two.here.kept_connections == (link,)
    link.close()

    ready(panel, endpoint_id)
    panel.disconnect_button.click()
    says(panel, "Disconnected")
    assert panel.python_line.text == f"worker.disconnect({endpoint_id})"
    assert not two.here.is_connected(endpoint_id)

    panel.listen_address.value = "127.0.0.1:0 "
    listener = execute(panel.python_line.text, two.here)["listener"]
    eventually(lambda: panel.listener.value is listener)
    panel.unlisten_button.click()
    says(panel, "No longer listening")
    again = two.here.create_listener(listener.address)
    execute(panel.python_line.text, two.here)
    assert again.closed
    panel.close()


def test_sending(two: Two, tmp_path: Path) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.tag.value = "0x10"
    payload = panel.payload
    file = tmp_path / "some data.bin"
    file.write_bytes(b"of a file")
    payload.path.value = str(file)
    payload.expression.value = "np.arange(6.0).reshape(2, 3)"
    payload.digits.value = "00:ff"
    payload.size.value = "1 KiB"
    expected = {
        "text": b"hello",
        "hex": b"\x00\xff",
        "random": None,
        "file": b"of a file",
        "array": np.arange(6.0).tobytes(),
    }
    for kind, data in expected.items():
        payload.kind.value = kind
        panel.send_button.click()
        clicked = two.there.receive_tag(two.back, 16, timeout=20)
        eventually(lambda: not panel.send_button.disabled)
        execute(panel.python_line.text, two.here)
        copied = two.there.receive_tag(two.back, 16, timeout=20)
        assert len(clicked) == len(copied)
        if data is not None:
            assert clicked == copied == data
    payload.kind.value = "text"
    payload.text.value = "h\u00e9llo 'you'\n"
    panel.repeat.value = 3
    execute(panel.python_line.text, two.here)
    for _ in range(3):
        assert two.there.receive_tag(two.back, 16, timeout=20).decode() == payload.text.value
    panel.close()


def test_receiving(two: Two) -> None:
    panel = ReceivePanel(two.here)
    assert panel.python_line.text == (
        "message = worker.receive_message(None, 0, tag_mask=0, timeout=10)"
    )
    two.there.send_tag(two.back, 5, b"one")
    assert execute(panel.python_line.text, two.here)["message"].data == b"one"
    ready(panel, two.endpoint_id)
    panel.tag.value = "6"
    two.there.send_tag(two.back, 6, b"two")
    assert execute(panel.python_line.text, two.here)["message"].data == b"two"
    panel.close()


def test_receiving_all(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    panel = ReceivePanel(two.here)
    panel.keep_button.click()
    code = panel.python_line.text
    panel.close()

    def run() -> None:
        with pytest.raises(ucxnb.UcxnbError):
            execute(code, two.here)

    thread = threading.Thread(target=run)
    thread.start()
    for i in range(3):
        two.there.send_tag(two.back, i, b"more")
    eventually(lambda: two.here.stats().messages_received == 3)
    two.here.close()
    thread.join(20)
    assert not thread.is_alive()
    assert capsys.readouterr().out.count("b'more'") == 3


def test_broadcasting(two: Two) -> None:
    panel = BroadcastPanel(two.here)
    panel.payload.kind.value = "random"
    panel.payload.size.value = "64 B"
    execute(panel.python_line.text, two.here)
    assert len(two.there.receive_tag(two.back, 1, timeout=20)) == 64
    panel.close()


def test_traffic(two: Two) -> None:
    panel = TrafficPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.size.value, panel.rate.value = "8 B to 64 B", "50 kB/s"
    panel.duration.value = 0.2
    with execute(panel.python_line.text, two.here)["traffic"] as traffic:
        traffic.wait(20)
        assert 8 <= traffic.nbytes / traffic.messages <= 64
    panel.close()


@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_measuring(two: Two, transport: str, capsys: pytest.CaptureFixture[str]) -> None:
    panel = BenchPanel(two.here)
    panel.sizes.value = (8, 8)
    panel.transport.value = transport
    panel.limit.value = False
    execute(panel.python_line.text, two.here)
    assert "BenchRow(nbytes=8" in capsys.readouterr().out
    panel.close()


def test_measuring_a_connection(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    with ucxnb.EchoPeer() as peer:
        endpoint_id = two.here.connect(peer.address)
        panel = BenchPanel(two.here)
        eventually(lambda: endpoint_id in [value for _, value in panel.peer.options])
        panel.peer.value, panel.sizes.value, panel.limit.value = endpoint_id, (8, 8), False
        execute(panel.python_line.text, two.here)
        panel.close()
    assert "BenchRow(nbytes=8" in capsys.readouterr().out


def test_exploring(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    panel = ExplorerPanel(two.here)
    eventually(lambda: two.endpoint_id in [value for _, value in panel.peer.options])
    panel.peer.value = two.endpoint_id
    # What it would search takes a minute.
    code = panel.python_line.text.replace("base=base", "base=base, candidates=[]")
    execute(code, two.here)
    assert "Nothing was tried" in capsys.readouterr().out
    panel.close()


def test_the_worker_has_the_name_that_the_notebook_gave_it(
    two: Two, shell: InteractiveShell
) -> None:
    shell.user_ns.update(_hidden=two.here, mine=two.here, other=two.there)
    panel = BroadcastPanel(two.here)
    assert panel.python_line.text == "mine.broadcast_tag(1, b'hello')"
    panel.close()


def test_an_expression_has_the_names_of_the_notebook(two: Two, shell: InteractiveShell) -> None:
    shell.user_ns["numbers"] = np.arange(10)
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.kind.value = "array"
    panel.payload.expression.value = "numbers[::-1].copy()"
    panel.send_button.click()
    sent = np.frombuffer(two.there.receive_tag(two.back, 1, timeout=20), int)
    assert list(sent) == list(range(9, -1, -1))
    panel.close()


def test_what_was_typed_is_not_run_before_it_is_sent(two: Two) -> None:
    panel = SendPanel(two.here)
    ready(panel, two.endpoint_id)
    panel.payload.kind.value = "array"
    panel.payload.expression.value = "[].append(1 / 0)"
    assert panel.python_line.text == (f"worker.send_tag({two.endpoint_id}, 1, [].append(1 / 0))")
    panel.send_button.click()
    assert panel.status == "ZeroDivisionError: division by zero"
    panel.close()
