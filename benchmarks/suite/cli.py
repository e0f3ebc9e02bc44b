"""The command line of the suite."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from .peers import PEERS, PERFTEST
from .plan import (
    BROADCASTS,
    ENDPOINTS,
    QUICK_BROADCASTS,
    QUICK_ENDPOINTS,
    QUICK_SIZES,
    SIZES,
    TRANSPORTS,
    Plan,
    parse_size,
)

NAMES = (PERFTEST, *PEERS)
HERE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the suite, or write a report of results that are there."""
    parser = argparse.ArgumentParser(prog="benchmarks/suite", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="measure, then report (the default)")
    report = commands.add_parser("report", help="write table and plots from results")
    report.add_argument("results", type=Path, help="results.json of a run")
    for command in (run, report):
        command.add_argument(
            "--out", type=Path, help="folder for what is written; benchmarks/ is the committed one"
        )
    run.add_argument("--quick", action="store_true", help="some sizes, once, in a few minutes")
    run.add_argument("--sizes", type=_sizes, help="message sizes, as in 8,4KiB,1MiB")
    run.add_argument("--transports", type=_choice(TRANSPORTS), help=",".join(TRANSPORTS))
    run.add_argument("--peers", type=_choice(NAMES), default=NAMES, help=",".join(NAMES))
    run.add_argument("--endpoints", type=_numbers, help="numbers of endpoints, as in 1,4,64")
    run.add_argument("--broadcasts", type=_numbers, help="numbers of receivers, as in 2,8")
    run.add_argument("--repeats", type=int, help="turns of every peer")
    run.add_argument("--seconds", type=float, help="time of one measurement")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in {"run", "report", "-h", "--help"}:
        arguments = ["run", *arguments]
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing behind
    if options.command == "report":
        results = json.loads(options.results.read_text())
        out = options.out or HERE
    else:
        results = _run(options)
        out = options.out or Path("ucxnb-benchmarks")
    from .report import write_report

    for path in write_report(results, out):
        print(path)
    return 1 if results.get("interrupted") else 0


def _run(options: argparse.Namespace) -> dict:
    from .run import run_suite

    def pick(given: tuple | None, quick: tuple, full: tuple) -> tuple:
        return given if given is not None else quick if options.quick else full

    plan = Plan(
        sizes=pick(options.sizes, QUICK_SIZES, SIZES),
        transports=options.transports or TRANSPORTS,
        endpoints=pick(options.endpoints, QUICK_ENDPOINTS, ENDPOINTS),
        broadcasts=pick(options.broadcasts, QUICK_BROADCASTS, BROADCASTS),
        repeats=options.repeats or (1 if options.quick else 3),
        seconds=options.seconds or (0.1 if options.quick else 0.2),
    )
    return run_suite(plan, options.peers, lambda line: print(line, file=sys.stderr, flush=True))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(parse_size(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers, as in 1,4,64") from None


def _choice(known: tuple[str, ...]):
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return parse
