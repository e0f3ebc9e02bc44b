"""``ucxnb lab``: JupyterLab on the quickstart notebook."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import UcxnbError

__all__ = ["copy_notebooks", "open_lab"]

_FIRST = "01_quickstart.ipynb"
_NEEDED = ("jupyterlab", "ipywidgets", "anywidget", "bokeh")


def open_lab(folder: Path, arguments: Sequence[str]) -> int:
    """Become JupyterLab, opened on the quickstart notebook.

    Parameters
    ----------
    folder : Path
        Where the notebooks are copied to, unless this is a source checkout.
    arguments : sequence of str
        Further arguments of ``jupyter lab``.

    Returns
    -------
    int
        Never: the process is replaced by JupyterLab, whose exit code counts.

    Raises
    ------
    UcxnbError
        If something that JupyterLab needs is not installed.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UcxnbError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; "
            'install the notebook extra: pip install "ucxnb[notebook]"'
        )
    notebooks = _checkout_notebooks() or copy_notebooks(folder)
    command = [sys.executable, "-P", "-m", "jupyterlab", str(notebooks / _FIRST)]
    if os.geteuid() == 0 and "--allow-root" not in arguments:
        print("You are root, as in a container: starting JupyterLab with --allow-root.")
        command.append("--allow-root")
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *arguments])


def copy_notebooks(folder: Path) -> Path:
    """Copy the notebooks that came with the package, and keep every copy that is there already.

    Parameters
    ----------
    folder : Path
        Where to; made if need be.

    Returns
    -------
    Path
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundled = importlib.resources.files("ucxnb").joinpath("_notebooks")
    for source in sorted(bundled.iterdir(), key=lambda entry: entry.name):
        if not source.name.endswith(".ipynb"):
            continue
        target = folder / source.name
        try:
            with target.open("xb") as copy:
                copy.write(source.read_bytes())
            print(f"Copied to {target}")
        except FileExistsError:
            print(f"Kept your {target}")
    return folder


def _checkout_notebooks() -> Path | None:
    """Return the folder of a source checkout that this package runs from, if it does."""
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").is_file() and (root / "notebooks" / _FIRST).is_file():
        return root / "notebooks"
    return None
