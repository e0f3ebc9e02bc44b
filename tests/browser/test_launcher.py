"""The tile and the palette entry, clicked in JupyterLab and in Notebook 7."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from lab import CHROMIUM, LabPage, LabServer, chromium_page
from playwright.sync_api import Page, expect

from ucxnb import EchoPeer

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
]

TITLE = "UCX control room"


def use_the_room(page: Page) -> None:
    """Connect the control room of this page to an echo peer, as a user would."""
    expect(page.locator(".ucxnb-room")).to_be_visible(timeout=60_000)
    panel = page.locator(".ucxnb-panel", has=page.locator(".ucxnb-heading", has_text="Connections"))
    with EchoPeer() as peer:
        field = panel.get_by_label("Connect to", exact=True)
        field.fill(peer.address)
        field.press("Tab")
        words = re.compile(r"^\s*Connect\s*$")
        panel.get_by_role("button").filter(has_text=words).click()
        expect(panel).to_contain_text("echo-")
        expect(panel).to_contain_text("open")


def choose_in_palette(page: Page) -> None:
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill(TITLE)
    page.locator(".lm-CommandPalette-item", has_text=TITLE).click()


def test_the_tile_opens_a_control_room_in_the_folder_of_the_launcher(lab: LabPage) -> None:
    (lab.server.notebooks / "deep er").mkdir()
    lab.page.goto(f"{lab.server.url}/lab/tree/deep%20er?token={lab.server.token}&reset")
    lab.page.locator(".jp-LauncherCard", has_text=TITLE).click()
    use_the_room(lab.page)
    assert (lab.server.notebooks / "deep er" / "Untitled.ipynb").is_file()


def test_the_palette_opens_one_after_another(lab: LabPage) -> None:
    lab.page.goto(f"{lab.server.url}/lab?token={lab.server.token}&reset")
    lab.page.wait_for_selector(".jp-LauncherCard")
    for name in ("Untitled.ipynb", "Untitled1.ipynb"):
        choose_in_palette(lab.page)
        lab.page.wait_for_selector(f".lm-TabBar-tab.jp-mod-current:has-text('{name}')")
        expect(lab.page.locator(".ucxnb-room").locator("visible=true")).to_be_visible(
            timeout=60_000
        )


def test_a_notebook_that_is_opened_again_does_not_run_by_itself(lab: LabPage) -> None:
    lab.page.goto(f"{lab.server.url}/lab?token={lab.server.token}&reset")
    lab.page.locator(".jp-LauncherCard", has_text=TITLE).click()
    expect(lab.page.locator(".ucxnb-room")).to_be_visible(timeout=60_000)
    saved = nbformat.read(lab.server.notebooks / "Untitled.ipynb", as_version=4)
    nbformat.validate(saved)
    lab.open("Untitled.ipynb", [saved.cells[0].source])
    lab.page.wait_for_timeout(2000)
    expect(lab.page.locator(".ucxnb-room")).to_have_count(0)


def test_in_notebook_7(tmp_path: Path) -> None:
    with LabServer(tmp_path, "notebook").running() as server, chromium_page(server) as lab:
        lab.page.goto(f"{server.url}/tree?token={server.token}")
        lab.page.wait_for_selector(".jp-DirListing-content")
        with lab.page.expect_popup() as from_palette:
            choose_in_palette(lab.page)
        with lab.page.expect_popup() as from_menu:
            lab.page.locator(".lm-MenuBar-item", has_text="File").click()
            lab.page.locator(".lm-Menu-item", has_text="New").first.hover()
            lab.page.locator(".lm-Menu-item", has_text=TITLE).click()
        # No look at the errors: pages of Notebook 7.6 raise one, with this extension and without.
        use_the_room(from_palette.value)
        expect(from_menu.value.locator(".ucxnb-room")).to_be_visible(timeout=60_000)
        assert not lab.outside, "the page asked for something outside the server"
