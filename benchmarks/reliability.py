"""Run the tests of faults, and write what they saw into docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->"
CHAPTERS = ("faults", "input", "strangers", "load", "threads")
HEAD = "| what happens | tried | what you see | after | lost |\n|---|---:|---|---|---|\n"


def main() -> int:
    """Run pytest with the given arguments; then write the tables if all tests passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="how often the tests are run")
    options, pytest_arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.jsonl")
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-m", "reliability"]
        command += pytest_arguments
        environment = {**os.environ, "UCXNB_RELIABILITY_ROWS": str(rows)}
        for _ in range(options.repeats):
            code = subprocess.run(command, cwd=ROOT, env=environment).returncode
            if code:
                return code
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    text = DOCUMENT.read_text()
    for chapter in CHAPTERS:
        table = _table([row for row in found if row["chapter"] == chapter])
        if table:
            text = _replaced(text, chapter, table)
    DOCUMENT.write_text(text)
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["fault"], row["sees"], row["lost"]), []).append(row)
    lines = [
        f"| {fault} | {sum(row['tried'] for row in group):,} | {sees} | "
        f"{_span([s for row in group for s in row['seconds']])} | {lost} |\n"
        for (fault, sees, lost), group in sorted(groups.items())
    ]
    return HEAD + "".join(lines) if lines else ""


def _span(seconds: list[float]) -> str:
    if not seconds:
        return ""
    if len(seconds) == 1:
        return _text(seconds[0])
    return f"{_text(statistics.median(seconds))} ({_text(min(seconds))} to {_text(max(seconds))})"


def _text(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _replaced(text: str, chapter: str, table: str) -> str:
    begin, end = BEGIN.format(chapter), END.format(chapter)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + table + end + after


if __name__ == "__main__":
    sys.exit(main())
