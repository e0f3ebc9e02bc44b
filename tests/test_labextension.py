"""The JupyterLab extension: what its sources give is what is committed, and what is installed."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "labextension"
BUILT = SOURCE / "built"
INSTALLED = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "ucxnb"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def different(one: Path, other: Path) -> list[str]:
    names = sorted({*files(one), *files(other)} - {"install.json"})
    _, unequal, missing = filecmp.cmpfiles(one, other, names, shallow=False)
    return unequal + missing


def test_it_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for path in (SOURCE / "package.json", BUILT / "package.json"):
        assert json.loads(path.read_text())["version"] == project["version"]


def test_the_lockfile_names_no_registry() -> None:
    packages = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]


def test_it_is_installed_as_it_is_committed() -> None:
    assert not different(BUILT, INSTALLED), "install again: pip install, as in CONTRIBUTING.md"


@pytest.mark.timeout(420)
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: apt-get install npm")
def test_its_sources_give_what_is_committed(tmp_path: Path) -> None:
    copy = tmp_path / "labextension"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("node_modules", "lib", "built"))
    for command in (["npm", "ci", "--prefer-offline"], ["npm", "run", "build"]):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not different(BUILT, copy / "built"), "build it again and commit it: CONTRIBUTING.md"
