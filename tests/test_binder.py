"""Binder's files agree with the package."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_takes_packages_from_pypi_and_debian_alone() -> None:
    assert sorted(os.listdir(BINDER)) == ["apt.txt", "postBuild", "runtime.txt"]


def test_its_python_is_one_that_the_package_runs_on() -> None:
    version = re.fullmatch(r"python-(\d+)\.(\d+)\n", (BINDER / "runtime.txt").read_text())
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert version
    assert least
    assert tuple(map(int, version.groups())) >= tuple(map(int, least.groups()))


def test_it_has_the_compiler_that_the_engine_is_built_with() -> None:
    assert (BINDER / "apt.txt").read_text().split() == ["gcc", "libc6-dev"]


def test_every_extra_that_it_installs_exists() -> None:
    (line,) = re.findall(r"^python -m pip install .*", (BINDER / "postBuild").read_text(), re.M)
    extras = re.fullmatch(r"\.\[(.*)\]", shlex.split(line)[-1])
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_it_can_be_run_and_opens_a_notebook_that_exists() -> None:
    assert os.access(BINDER / "postBuild", os.X_OK)
    (settings,) = re.findall(r"^\{.*\}$", (BINDER / "postBuild").read_text(), re.M)
    url = json.loads(settings)["LabApp"]["default_url"]
    assert (ROOT / url.removeprefix("/lab/tree/")).is_file()
