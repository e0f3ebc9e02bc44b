"""What the tuner finds: two cases in which a setting is faster, and one in which none is.

``python benchmarks/explorer.py [--repeats 15] [--runs 3] [--cases TCP]`` prints a table for
EXPLORER.md. Each run is a whole search, with its own final repetitions in new processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from machine import machine

from ucxnb.explorer import FreshPair, Tuner

# What it shows, the settings there are, and the size of the messages.
CASES = {
    "TCP, with the threshold of UCXX and UCX-Py": (
        {"TLS": "tcp,self", "RNDV_THRESH": "8192"},
        8192,
    ),
    "shared memory, 8 KiB and a header of 64 bytes": ({"TLS": "shm,self"}, 8192 + 64),
    "shared memory, 64 bytes: nothing to find": ({"TLS": "shm,self"}, 64),
}


def rows(repeats: int, runs: int, cases: str) -> Iterator[str]:
    """Search each case several times."""
    yield "| case | without | run | best candidate | times as fast | 95 % interval | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for name, (base, nbytes) in CASES.items():
        if cases not in name:
            continue
        with FreshPair(base) as pair:
            row = pair.explanation.at(nbytes)
        assert row is not None
        for run in range(1, runs + 1):
            tuner = Tuner("tag", nbytes, base=base, repeats=repeats)
            for step in tuner:
                print(f"{name}, run {run}: {step}", file=sys.stderr)
            result = tuner.result
            assert result is not None
            low, high = result.interval
            best = ", ".join(f"{key}={value}" for key, value in result.settings.items())
            yield (
                f"| {name} | {row.protocol} | {run} | `{best}` | {result.ratio:.2f} "
                f"| {low:.2f} to {high:.2f} | {result.verdict} |"
            )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", default="", help="only those with these words in their names")
    arguments = parser.parse_args()
    print(machine())
    for row in rows(arguments.repeats, arguments.runs, arguments.cases):
        print(row, flush=True)


if __name__ == "__main__":
    main()
