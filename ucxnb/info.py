"""``ucxnb info``: versions, transports and devices, what is missing and what that means."""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap
from collections.abc import Iterable

from .diagnosis import Finding, diagnose
from .errors import MissingUcxError
from .transports import describe_transport
from .ucx_info import UcxInfo, read_ucx_info

__all__ = ["print_info"]

_NOTEBOOK = ("jupyterlab", "ipywidgets", "anywidget", "bokeh")


def print_info() -> int:
    """Print the report.

    Returns
    -------
    int
        Exit code: 0, or 1 if there is no UCX and so no worker.
    """
    ucx = read_ucx_info()
    versions, missing = _versions(ucx)
    print("Versions")
    for name, version in versions:
        print(f"  {name:<11} {version}")
    print("\nTransports and devices")
    for line in _transport_lines(ucx):
        print(f"  {line}")
    print("\nWhat was found")
    for finding in [*missing, *diagnose(ucx)]:
        for line in _finding_lines(finding):
            print(line)
    return 1 if any(finding.topic == "UCX" for finding in missing) else 0


def _versions(ucx: UcxInfo | None) -> tuple[list[tuple[str, str]], list[Finding]]:
    from .binding import ucx_versions

    missing = []
    try:
        loaded, ucxx = ucx_versions()
    except MissingUcxError as error:
        loaded, ucxx = "not installed", "not installed"
        missing.append(
            Finding("UCX", False, "not installed", "No worker can be started.", f"{error}.")
        )
    if ucx is not None and not missing and ucx.version != loaded:
        loaded += f" (ucx_info, and so the transports below: {ucx.version})"
    rows = [
        ("ucxnb", _version("ucxnb")),
        ("UCX", loaded),
        ("UCXX", ucxx),
        ("Python", platform.python_version()),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *((name, _version(name)) for name in _NOTEBOOK),
    ]
    absent = [name for name in _NOTEBOOK if _version(name) == "not installed"]
    if absent:
        missing.append(
            Finding(
                "Notebook",
                False,
                f"{', '.join(absent)} not installed",
                "Workers run; panels, plots and `ucxnb lab` do not.",
                'pip install "ucxnb[notebook]"',
            )
        )
    return rows, missing


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _transport_lines(ucx: UcxInfo | None) -> Iterable[str]:
    if ucx is None:
        return [
            "unknown: UCX's program ucx_info is neither in the UCX wheel nor on PATH.",
            "`ucxnb demo` prints the transports of a real connection.",
        ]
    devices: dict[str, list[str]] = {}
    for transport in ucx.transports:
        devices.setdefault(transport.name, []).append(transport.device)
    return [
        f"{name:<10} {', '.join(where):<16} {describe_transport(name)}".rstrip()
        for name, where in devices.items()
    ]


def _finding_lines(finding: Finding) -> Iterable[str]:
    yield f"  {'[ok]  ' if finding.good else '[note]'} {finding.topic}: {finding.found}"
    for label, text in (("Means", finding.meaning), ("Next", finding.advice)):
        if text:
            yield textwrap.fill(
                text,
                width=96,
                initial_indent=f"         {label + ':':<7}",
                subsequent_indent=" " * 16,
                break_long_words=False,
                break_on_hyphens=False,
            )
