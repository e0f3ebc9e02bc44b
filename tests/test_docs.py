"""The code in the documentation runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import ipywidgets
import pytest

from ucxnb import UcxWorker

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [page for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """One block after the other, as a reader would, with what the page says was there before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ucxnb.key").write_text("a key for this test alone\n")
    before = set(ipywidgets.widgets.widget._instances.values())
    scope: dict[str, object] = {"UcxWorker": UcxWorker, "Path": Path, "key": "another key to test"}
    made = []
    for code in BLOCK.findall(page.read_text("utf-8")):
        *_, last = code.strip().splitlines()
        if re.fullmatch(r"\w+\(.*\)", last) and not last.startswith("print"):
            code = code.replace(last, f"shown = {last}")
        exec(compile(code, str(page), "exec"), scope)
        made += [scope[name] for name in ("shown", "worker") if name in scope]
    for thing in made:
        thing.close()  # twice is fine
    assert set(ipywidgets.widgets.widget._instances.values()) == before


def test_there_are_pages_with_code():
    assert {page.stem for page in PAGES} >= {"dashboard", "security"}
