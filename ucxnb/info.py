"""``ucxnb info`` and its page: what UCX can use here, what is missing, what that means."""

from __future__ import annotations

import html
import importlib.metadata
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from .diagnosis import Finding, diagnose
from .errors import MissingUcxError
from .html_table import html_table
from .transports import describe_transport
from .ucx_info import MemoryDomain, UcxInfo, read_ucx_info

__all__ = ["MachineInfo", "machine_info", "print_info"]

_NO_PROGRAM = (
    "unknown: UCX's program ucx_info is neither in the UCX wheel nor on PATH.",
    "`ucxnb demo` prints the transports of a real connection.",
)
_NOTEBOOK = ("jupyterlab", "ipywidgets", "anywidget", "bokeh")


@dataclass(frozen=True, repr=False)
class MachineInfo:
    """What UCX can use on this machine. A page in a notebook, `text` in a terminal.

    Attributes
    ----------
    versions : tuple of (str, str)
        Names and versions of what takes part.
    ucx : UcxInfo or None
        Transports, devices and memory domains; None without ``ucx_info``.
    findings : tuple of Finding
        What was looked at: what is there, what is missing, what that costs, what to do next.
    """

    versions: tuple[tuple[str, str], ...]
    ucx: UcxInfo | None
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether there is a UCX, and so can be a worker."""
        return not any(finding.topic == "UCX" for finding in self.findings)

    @property
    def text(self) -> str:
        """As the command ``ucxnb info`` prints it."""
        lines = ["Versions", *(f"  {name:<11} {version}" for name, version in self.versions)]
        lines += ["", "Transports and devices"]
        if self.ucx is None:
            lines += [f"  {line}" for line in _NO_PROGRAM]
        else:
            rows = _transport_rows(self.ucx)
            widths = [max(len(row[column]) for row in rows) for column in range(4)]
            for row in rows:
                cells = "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=False)
                )
                lines.append(f"  {cells}  {row[4]}".rstrip())
            lines += ["", "Memory domains"]
            lines += [f"  {d.name:<10} {_memory_of(d)}" for d in self.ucx.memory_domains]
            lines += [f"  {line}" for line in self.ucx.failed]
        lines += ["", "What was found"]
        lines += [line for finding in self.findings for line in _finding_lines(finding)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [html_table("Versions", ("", ""), self.versions)]
        if self.ucx is None:
            parts.append(f"<p>{html.escape(' '.join(_NO_PROGRAM))}</p>")
        else:
            head = ("transport", "device", "UCX takes it for", "", "")
            parts.append(html_table("Transports and devices", head, _transport_rows(self.ucx)))
            domains = [(d.name, _memory_of(d)) for d in self.ucx.memory_domains]
            domains += [("", line) for line in self.ucx.failed]
            parts.append(html_table("Memory domains", ("", "memory"), domains))
        rows = [
            ("✓" if f.good else "✗", f.topic, f.found, f.meaning, f.advice) for f in self.findings
        ]
        head = ("", "looked at", "found", "what that means", "next step")
        parts.append(html_table("What was found", head, rows))
        return "".join(parts)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        good = sum(finding.good for finding in self.findings)
        return f"<MachineInfo: {good} of {len(self.findings)} things looked at are good>"


def machine_info() -> MachineInfo:
    """Look at everything that decides which transports UCX can use here.

    Returns
    -------
    MachineInfo
        As the last line of a cell it is a page. It takes about half a second: ``ucx_info`` runs,
        and a child process tries CMA.
    """
    ucx = read_ucx_info()
    versions, missing = _versions(ucx)
    return MachineInfo(tuple(versions), ucx, (*missing, *diagnose(ucx)))


def print_info() -> int:
    """Print the report.

    Returns
    -------
    int
        Exit code: 0, or 1 if there is no UCX and so no worker.
    """
    info = machine_info()
    print(info)
    return 0 if info.usable else 1


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


def _transport_rows(ucx: UcxInfo) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            transport.name,
            transport.device,
            f"{transport.bandwidth / 1e6:,.0f} MB/s" if transport.bandwidth else "",
            f"{transport.latency * 1e6:,.2f} us" if transport.bandwidth else "",
            describe_transport(transport.name),
        )
        for transport in ucx.transports
    ]


def _memory_of(domain: MemoryDomain) -> str:
    return domain.memory_types or "needs to know nothing of memory"


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
