"""Imports point down the layers, and only `binding` knows UCXX."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucxnb

PACKAGE = Path(ucxnb.__file__).parent

LAYERS = {
    "errors": 0,
    "auth_key": 0,
    "config": 0,
    "address": 0,
    "stats": 0,
    "text": 0,
    "timeouts": 0,
    "message": 0,
    "endpoint_info": 0,
    "histogram": 0,
    "events": 0,
    "snapshot": 0,
    "objects": 0,
    "open_files": 0,
    "refusals": 0,
    "ucx_programs": 0,
    "html_table": 0,
    "transports": 0,
    "protocols": 1,
    "engine": 1,
    "binding": 1,
    "frontdoor": 2,
    "reconnect": 2,
    "remote_array": 3,
    "request": 2,
    "streams": 2,
    "nesting": 2,
    "ticker": 2,
    "worker": 3,
    "peer_process": 3,
    "traffic": 3,
    "bench": 3,
    "console": 4,
    "echo": 4,
    "echopeer": 4,
    "dashboard": 4,
    "cluster": 4,
    "explorer": 4,
    "recording": 4,
    "watching": 4,
    "widgets": 4,
    "ucx_info": 5,
    "diagnosis": 5,
    "terminal": 5,
    "info": 5,
    "demo": 5,
    "lab": 5,
    "metrics": 5,
    "serve": 5,
    "watch_command": 5,
    "bench_command": 5,
    "cli": 5,
    "__main__": 5,
}
# What a part may import besides the standard library. UCXX is `binding`'s alone.
FOREIGN = {
    "bench": {"pandas"},
    "binding": {"ucxx"},
    "cluster": {"bokeh", "distributed", "numpy", "traitlets"},
    "console": {"IPython", "prompt_toolkit"},
    "nesting": {"nest_asyncio2"},
    "dashboard": {
        "anywidget",
        "bokeh",
        "jinja2",
        "tornado",
        "ipywidgets",
        "IPython",
        "numpy",
        "traitlets",
    },
    "recording": {"msgspec", "pandas", "pyarrow"},
    "remote_array": {"numpy"},
    "streams": {"typing_extensions"},
    "watching": {"msgspec"},
    "protocols": {"pandas"},
    "metrics": {"prometheus_client"},
    "widgets": {"anywidget", "ipywidgets", "IPython", "numpy", "traitlets"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a module imports, at its top or in a function."""
    package = ("ucxnb", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in LAYERS, f"{part} has no layer: add it to LAYERS"
    for name in imports(path):
        root, *rest = name.split(".")
        if root == "ucxnb":
            target = rest[0] if rest and rest[0] in LAYERS else "__init__"
            assert target != "__init__", f"{part} imports the package's front: {name}"
            assert LAYERS[target] <= LAYERS[part], f"{part} imports upwards: {name}"
        elif root not in sys.stdlib_module_names:
            assert root in FOREIGN.get(part, set()), f"{part} imports {name}"


def test_no_two_parts_of_a_layer_import_each_other():
    edges = {
        (part_of(path), name.split(".")[1])
        for path in modules()
        for name in imports(path)
        if name.startswith("ucxnb.") and name.split(".")[1] in LAYERS
    }
    assert not [(a, b) for a, b in edges if a < b and (b, a) in edges]


def test_every_layer_named_here_exists():
    parts = {part_of(path) for path in modules()}
    assert set(LAYERS) <= parts
