"""Instructions that the hot calls take: repeatable, unlike times.

Counted by callgrind in the calling thread, UCX's and Python's own included. A count that grows past
the margin is a regression, unless a new UCX, Python or compiler explains it; then, and after an
improvement, the record below is brought up to date.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest
from hot_calls import CALLS, PARTS, ROUNDS

MARGIN = 0.10
# Of a call, or of a message of a batch, with 8 bytes over shared memory.
RECORD = {
    (3, 11): {
        "send_tag": 964,
        "receive_tag": 1854,
        "try_receive_tag": 1857,
        "try_receive_tag, nothing there": 1712,
        "send_rows": 250,
        "receive_rows": 797,
        "ireceive_tag": 2271,
        "isend_tag": 1470,
        "wait_all of receives": 3111,
        "wait_all of sends": 1230,
    },
}

pytestmark = [
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind: apt-get install it"),
    pytest.mark.skipif(
        platform.machine() != "x86_64" or sys.version_info[:2] not in RECORD,
        reason="no instruction counts are on record for this processor and Python",
    ),
]


@pytest.fixture(scope="module")
def counts(tmp_path_factory) -> dict[str, float]:
    """Instructions of one call, by its name: the median of the rounds."""
    folder = tmp_path_factory.mktemp("callgrind")
    subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--separate-threads=yes",
            "--fair-sched=yes",  # or a thread may starve inside UCX, and all count as not alone
            "--dump-before=getppid",
            f"--callgrind-out-file={folder / 'out'}",
            sys.executable,
            "-P",
            Path(__file__).with_name("hot_calls.py"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=100,
    )
    rounds = defaultdict(list)
    for number, part in enumerate(PARTS * ROUNDS, 2):  # the first is what came before
        dump = (folder / f"out.{number}-01").read_text()
        total = int(re.search(r"^totals: (\d+)", dump, re.MULTILINE)[1])
        rounds[part].append(total / CALLS)
    return {part: median(totals) for part, totals in rounds.items()}


@pytest.mark.parametrize("call", sorted(set(PARTS)))
def test_no_call_takes_more_instructions_than_before(counts, call):
    known = RECORD[sys.version_info[:2]][call]
    assert counts[call] <= known * (1 + MARGIN), f"{counts[call]:.0f} instructions, were {known}"
