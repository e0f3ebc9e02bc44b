"""How cost grows: with endpoints, with messages that wait, with a long history. JSON and plots."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import growth_endpoints
import growth_history
import growth_waiting
from machine import machine

PARTS = ("endpoints", "waiting", "history")


def main() -> None:
    """Measure what was asked for, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--draw", action="store_true", help="only draw the JSON that is there")
    parser.add_argument("--endpoints", type=int, nargs="+", default=growth_endpoints.COUNTS)
    parser.add_argument("--idle-seconds", type=float, default=5.0)
    parser.add_argument("--waiting", type=int, nargs="+", default=growth_waiting.COUNTS)
    parser.add_argument("--lengths", type=int, nargs="+", default=growth_history.LENGTHS)
    parser.add_argument("--samples", type=int, nargs="+", default=growth_history.SAMPLES)
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("the plots need matplotlib: pip install 'ucxnb[bench]'")
    from growth_plots import draw

    options.out.mkdir(parents=True, exist_ok=True)
    measure = {
        "endpoints": lambda: growth_endpoints.run(tuple(options.endpoints), options.idle_seconds),
        "waiting": lambda: growth_waiting.run(tuple(options.waiting)),
        "history": lambda: growth_history.run(tuple(options.lengths), tuple(options.samples)),
    }
    for part in options.only:
        file = options.out / f"growth-{part}.json"
        if not options.draw:
            start = time.perf_counter()
            figures = {"machine": machine(), "figures": measure[part]()}
            file.write_text(json.dumps(figures, indent=1) + "\n")
            print(f"{part}: {time.perf_counter() - start:.0f} s, {file}", flush=True)
        draw(part, json.loads(file.read_text())["figures"], file.with_suffix(".png"))


if __name__ == "__main__":
    main()
