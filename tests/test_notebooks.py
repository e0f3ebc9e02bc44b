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


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS][:1] == ["01_quickstart.ipynb"]


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
    # The last cell closes everything, if the reader says so.
    assert all(cell.outputs for cell in cells[4:-1]), "a cell shows nothing"
    views = [o.data for c in cells for o in c.outputs if o.output_type == "execute_result"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in views)
