"""A real JupyterLab in a real browser: start the server, open a notebook, run cells, click."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import nbformat
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
_CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_CELL = "window.jupyterapp.shell.currentWidget.content.widgets[i]"
_KERNEL_IDLE = """() => {
  const session = window.jupyterapp?.shell.currentWidget?.sessionContext?.session;
  return session?.kernel?.connectionStatus === "connected" && session.kernel.status === "idle";
}"""
_CELL_DONE = f"""(i) => {{
  const cell = {_CELL};
  return cell.model.executionCount !== null && cell.model.executionState !== "running";
}}"""
_RUN_CELL = """(i) => {
  window.jupyterapp.shell.currentWidget.content.activeCellIndex = i;
  window.jupyterapp.commands.execute("notebook:run-cell");
}"""


class LabServer:
    """A JupyterLab or Notebook 7 server on a free port, with all its files in one folder."""

    def __init__(self, folder: Path, program: str = "lab") -> None:
        self.folder = folder
        self.program = program
        self.token = secrets.token_hex(8)
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True, exist_ok=True)
        self.log = folder / "lab.log"
        self.url = f"http://127.0.0.1:{free_port()}"

    @contextlib.contextmanager
    def running(self) -> Iterator[LabServer]:
        """Start the server, wait until it answers, and stop it at the end."""
        home = self.folder / "home"
        self._set_up(home)
        settings = {
            "HOME": home,
            "IPYTHONDIR": home / "ipython",
            "JUPYTER_CONFIG_DIR": home / "config",
            "JUPYTER_DATA_DIR": home / "data",
            "JUPYTER_RUNTIME_DIR": home / "runtime",
        }
        command = [
            *(sys.executable, "-m", "jupyter", self.program, "--no-browser", "--allow-root"),
            f"--port={self.url.rpartition(':')[2]}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.notebooks}",
            *self._options(home),
        ]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.notebooks,
                env={**os.environ, **{key: str(value) for key, value in settings.items()}},
            )
            try:
                wait_until_up(process, f"{self.url}/api/status?token={self.token}", self.log)
                yield self
            finally:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def tidy(self) -> None:
        """End all kernels, delete all notebooks and forget all settings, for the next test."""
        for kernel in self._ask("GET", "/api/kernels"):
            self._ask("DELETE", f"/api/kernels/{kernel['id']}")
        for entry in self.notebooks.iterdir():  # the folder itself is the server's
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self._set_up(self.folder / "home")

    def _ask(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def _set_up(self, home: Path) -> None:
        settings = home / "config" / "lab" / "user-settings"
        shutil.rmtree(settings, ignore_errors=True)
        # Without this JupyterLab puts a question about news over the page.
        folder = settings / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True)
        (folder / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')

    def _options(self, home: Path) -> list[str]:
        if self.program == "notebook":
            return ["--JupyterNotebookApp.expose_app_in_browser=True"]
        return [
            f"--LabApp.workspaces_dir={home / 'workspaces'}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]


class LabPage:
    """A notebook open in JupyterLab in Chromium."""

    def __init__(self, server: LabServer, page: Page) -> None:
        self.server = server
        self.page = page
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))

    def open(self, name: str, cells: Sequence[str]) -> None:
        """Write a notebook of these code cells, open it and wait for its kernel."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell.strip("\n")) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.server.notebooks / name)
        self.page.goto(
            f"{self.server.url}/lab/workspaces/auto-t/tree/{name}?token={self.server.token}&reset"
        )
        self.page.wait_for_function(_KERNEL_IDLE, timeout=60_000)

    def start_cell(self, index: int) -> None:
        """Run a cell without waiting for it."""
        self.page.evaluate(_RUN_CELL, index)
        self.page.wait_for_timeout(200)

    def wait_for_cell(self, index: int, timeout: float = 60) -> str:
        """Wait until a cell has run; return what it printed, or fail with its error."""
        self.page.wait_for_function(_CELL_DONE, arg=index, timeout=timeout * 1000)
        self.page.wait_for_timeout(200)
        outputs = self.page.evaluate(f"(i) => {_CELL}.model.outputs.toJSON()", index)
        for output in outputs:
            if output["output_type"] == "error":
                trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output["traceback"]))
                raise AssertionError(f"cell {index} failed:\n{trace}")
        return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")

    def run_cell(self, index: int, timeout: float = 60) -> str:
        """Run a cell to its end."""
        self.start_cell(index)
        return self.wait_for_cell(index, timeout)

    def panel(self, title: str) -> Locator:
        """The panel with this heading, in whichever cell it is."""
        heading = self.page.locator(".ucxnb-heading", has_text=re.compile(f"^{title}$"))
        return self.page.locator(".ucxnb-panel", has=heading)

    def fill(self, panel: Locator, label: str, text: str) -> None:
        """Type into the field of that label, and let the kernel know."""
        field = panel.get_by_label(label, exact=True).locator("visible=true")
        field.fill(text)
        field.press("Tab")

    def set_theme(self, name: str) -> None:
        """Switch JupyterLab's theme, as a user does from the menu."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        light = "true" if "Light" in name else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        self.page.wait_for_timeout(800)

    def _note_request(self, url: str) -> None:
        if not url.startswith((self.server.url, "data:", "blob:")):
            self.outside.append(url)


def press(panel: Locator, label: str) -> None:
    """Click the visible button of that label."""
    words = re.compile(rf"^\s*{label}\s*$")
    panel.get_by_role("button").filter(has_text=words).locator("visible=true").click()


def serious_faults(page: Page, where: str = ".ucxnb-room") -> list[str]:
    """What axe-core finds in a control room that keeps somebody from using it."""
    found = Axe().run(page, context=where).response["violations"]
    return [
        f"{v['id']}: {v['help']}: {node['html'][:200]} {node['any'][:1]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
    ]


@contextlib.contextmanager
def chromium_page(server: LabServer, width: int = 1280, height: int = 1000) -> Iterator[LabPage]:
    """Open a fresh browser on a server."""
    with browser_page(width, height) as page:
        yield LabPage(server, page)


@contextlib.contextmanager
def flawless_page(server: LabServer, width: int = 1280, height: int = 1000) -> Iterator[LabPage]:
    """Open a fresh browser; at the end nothing may have gone wrong in the page."""
    try:
        with chromium_page(server, width, height) as page:
            yield page
            assert not page.errors
            assert not page.outside, "the page asked for something outside the server"
    finally:
        server.tidy()


@contextlib.contextmanager
def browser_page(
    width: int = 1280, height: int = 1000, color_scheme: Literal["light", "dark"] = "light"
) -> Iterator[Page]:
    """Open a fresh browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(_CHROMIUM_FLAGS)
        )
        try:
            viewport = {"width": width, "height": height}
            yield browser.new_page(viewport=viewport, color_scheme=color_scheme)
        finally:
            browser.close()


def wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until a server answers; fail with what it wrote if it ends, or does not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=2)
            return
        time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
