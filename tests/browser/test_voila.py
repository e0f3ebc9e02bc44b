"""The notebook of the dashboard, served by voila as an application."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import CHROMIUM, browser_page, free_port, wait_until_up
from playwright.sync_api import expect
from plots import latest_point, wait_for_plots

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("voila") is None, reason="no voila"),
    pytest.mark.timeout(180),
]

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "dashboard.ipynb"


@pytest.fixture
def application(tmp_path: Path) -> Iterator[str]:
    """Serve the notebook; gives the address."""
    port = free_port()
    command = [sys.executable, "-m", "voila", str(NOTEBOOK), "--no-browser", f"--port={port}"]
    log = tmp_path / "voila.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_up(process, f"http://127.0.0.1:{port}/voila/static/voila.js", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def test_the_dashboard_is_an_application_without_code(application: str) -> None:
    with browser_page() as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(application, timeout=90_000)
        wait_for_plots(page)
        page.locator(".ucxnb-live").scroll_into_view_if_needed()
        expect(page.get_by_text("Sending: ")).to_be_visible()
        expect(page.get_by_text(re.compile(r"[1-9]\d* messages, "))).not_to_have_count(0)
        page.wait_for_timeout(1500)
        assert latest_point(page, "message_rate")["greatest"] > 0
        expect(page.get_by_text("from ucxnb.dashboard import")).to_have_count(0)
        assert not errors
