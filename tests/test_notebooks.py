"""Every notebook runs top to bottom in a real kernel, and is saved without output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

# In a process of its own: nbclient's event loop and sockets end with it.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=90, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


# What each shows of its story.
WORDS = {
    "01_quickstart.ipynb": ["b'hello, UCX'", "bytes came back, the same", "messages/s"],
    "02_client_server.ipynb": [
        "b'the answer to GET /api/data'",
        'b"the answer to the second one\'s question"',
        "2,000 answers, the last one b'the answer to question 1999'",
        "second client b'the answer to me first'",
        "first client b'the answer to now me'",
        "tag 1, 27 bytes: the answer to typed by hand",
        "ms: endpoint 1",
        "1 lost the peer is gone",
    ],
    "03_peer_to_peer.ipynb": [
        "1: connected, the other peer",
        "2: accepted, the other peer",
        "here I am came from endpoint 2",
        "64,000,000 bytes each way",
        "a sum of 16,000,000",
        "the other got a sum of 8000000",
        "cancelled: True",
        "messages a second, the same",
    ],
    "04_async.ipynb": [
        "data=b'the answer to hello'",
        "b'the answer to question 19'",
        "no answer after 1 ms",
        "b'the answer to slow' came later",
        "median",
        "b'the answer to from asyncio.run'",
    ],
    "05_benchmark.ipynb": [
        "2,097,152 bytes: ",
        "BenchRun(name='TCP, by a call'",
        "times the limit",
        "run,transports,nbytes,rounds",
        "p50_us",
    ],
    "06_one_sided.ipynb": [
        "8,000,000 bytes, writable: True",
        "row 3 begins with [1. 2. 3. 0.]",
        "got [1. 2. 3.]",
        "the sum is 1,551.0",
        "[0. 3. 6. 9.]",
        "five times ten: 50",
        "it was 50 and is 7",
        "do not lie within the 8,000,000 bytes",
        "the owner: closed",
        "that memory was closed",
    ],
    "07_cluster.ipynb": [
        "state=<MemberState.READY: 'ready'>",
        "has 4 connections",
        "1,000,000 rows weighed, right: True",
        "the same everywhere: True",
        "'hello, says 1, says 2, says 3'",
        "GB/s",
        "WorkerLostError",
        "True lost the peer is gone",
        "[4.0, 4.0, 4.0]",
        "4 workers and this notebook",
        "<UcxCluster closed>",
    ],
    "08_explorer.ipynb": [
        "8192 bytes: ",
        "8 KiB, tag: rendezvous",
        "UCX_RNDV_THRESH = intra:auto,inter:auto",
        "Measured 12 sizes between two new processes.",
        "100%  {",
        "6 repetitions in new processes",
    ],
    "dashboard.ipynb": ["<LiveView", "<TrafficPanel of 'app', open>"],
}
# Programs that a notebook runs in a second process, and docs/examples has as well.
PROGRAMS = {"02_client_server.ipynb": "server.py", "04_async.ipynb": "async_server.py"}


def test_every_notebook_is_known() -> None:
    assert [path.name for path in NOTEBOOKS] == list(WORDS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_program_is_that_of_the_docs(name: str) -> None:
    folder = NOTEBOOKS[0].parent
    text = (folder.parent / "docs" / "examples" / PROGRAMS[name]).read_text(encoding="utf-8")
    cells = nbformat.read(folder / name, as_version=4).cells
    assert f"SERVER = r'''{text}'''" in [cell.source for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_saved_without_output(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_top_to_bottom(path: Path, tmp_path: Path) -> None:
    executed = tmp_path / path.name
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, str(path), str(executed)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [c for c in nbformat.read(executed, as_version=4).cells if c.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    shown = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs
    )
    for words in WORDS[path.name]:
        assert words in shown
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)
