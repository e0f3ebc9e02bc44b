"""The code in the documentation runs as it stands there, and its commands exist."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import ipywidgets
import pytest

from ucxnb import UcxWorker, cli, errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# Commands that do nothing of ours.
OTHERS = {
    "apt-get",
    "chmod",
    "export",
    "git",
    "jupyter",
    "kill",
    "npm",
    "printf",
    "cd",
    "rm",
    "ln",
    ".",
}
# What a page's code needs that is not here: other hosts, a batch system, another comm of Dask's.
ELSEWHERE = {"SSHCluster", "dask_jobqueue", "dask_kubernetes", 'protocol="ucxx"'}
TOOLS = {"mypy", "pytest", "ruff", "cython-lint"}


def blocks(page: Path, language: str) -> list[str]:
    found = BLOCK.findall(page.read_text("utf-8"))
    return [textwrap.dedent(code) for _, named, code in found if named == language]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "notebooks"} & {*page.parts})
PROGRAMS = [page for page in PAGES if blocks(page, "python")]
COMMANDS = [
    (page, line)
    for page in [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *PAGES]
    for code in blocks(page, "bash")
    for line in code.splitlines()
    if line
]


@pytest.mark.parametrize("page", PROGRAMS, ids=name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """One block after the other, as a reader would, with what the page says was there before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ucxnb.key").write_text("a key for this test alone\n")
    before = set(ipywidgets.widgets.widget._instances.values())
    scope: dict[str, object] = {"UcxWorker": UcxWorker, "Path": Path, "key": "another key to test"}
    made = []
    for code in blocks(page, "python"):
        if "import cupy" in code:
            pytest.importorskip("cupy", reason="CuPy needs a GPU")
        if any(word in code for word in ELSEWHERE):
            compile(code, str(page), "exec")
            continue
        *_, last = code.strip().splitlines()
        if re.fullmatch(r"[A-Z]\w*\(.*\)", last):
            code = code.replace(last, f"shown = {last}")
        exec(compile(code, str(page), "exec"), scope)
        made += [scope[name] for name in ("shown", "worker") if name in scope]
    for thing in made:
        thing.close()  # twice is fine
    assert set(ipywidgets.widgets.widget._instances.values()) == before


def test_there_are_pages_with_code():
    assert {page.stem for page in PROGRAMS} >= {"quickstart", "concepts", "dashboard", "panels"}
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda value: str(value)[-60:])
def test_a_command_exists_with_its_options(page, line):
    commands = re.split(r"&&|\||&$|;(?! print)|[()](?=cd|$)", line.partition(" #")[0])
    for command in filter(str.strip, commands):
        check_command(page, shlex.split(command.strip()))


def check_command(page: Path, words: list[str]) -> None:
    program, *arguments = words
    match Path(program).name or program:
        case "ucxnb":
            own, _ = cli._split(arguments)
            cli._parser().parse_args(own)
        case "pip":
            for extras in re.findall(r"\[(.*)\]", " ".join(arguments)):
                assert set(extras.split(",")) <= set(project()["optional-dependencies"])
        case "python" | "python3":
            check_program(page, arguments)
        case "bash":
            assert (ROOT / arguments[0]).exists()
        case tool if tool in TOOLS:
            assert any(tool in need for need in needed_by("dev") | needed_by("test"))
        case other:
            assert other in OTHERS or "=" in other, f"unknown command {other} in {name(page)}"


def check_program(page: Path, arguments: list[str]) -> None:
    """The file is there, and knows the options."""
    arguments = [word for word in arguments if word != "-P"]
    if arguments[0] == "-c":
        compile(arguments[1], name(page), "exec")
        return
    if arguments[0] == "-m":
        assert arguments[1] in {"venv", "sphinx"}
        return
    path = next(filter(Path.exists, (base / arguments[0] for base in (ROOT, page.parent))))
    files = [path] if path.is_file() else path.rglob("*.py")
    text = "".join(file.read_text("utf-8") for file in files)
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in text, f"{arguments[0]} has no {option}"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def needed_by(extra: str) -> set[str]:
    return set(project()["optional-dependencies"][extra])


def test_every_error_is_explained_and_no_other():
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    explained = {
        name.strip()
        for terms, _ in re.findall(r"^(\w+Error(?:, \w+Error)*)\n(: )", text, re.MULTILINE)
        for name in terms.split(",")
    }
    assert explained | {"UcxnbError"} == set(errors.__all__)


def test_the_readme_and_the_site_lead_to_each_other():
    assert "docs/index.md" in README.read_text("utf-8")
    listed = " ".join(page.read_text("utf-8") for page in PAGES)
    for page in PAGES:
        assert page.stem == "index" or page.stem in listed, f"no page leads to {name(page)}"
