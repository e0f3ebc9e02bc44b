"""The command ``ucxnb``: lab, demo, serve, dashboard, repl, bench and info."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .auth_key import KEY_VARIABLE, AuthKey
from .errors import UcxnbError, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; those of this process by default.

    Returns
    -------
    int
        Exit code: 0 if all went well, 1 if not, 2 for wrong arguments, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    own, passed_on = _split(given)
    parser = _parser()
    options = parser.parse_args(own)
    if passed_on and options.command != "lab":
        parser.error("only `ucxnb lab` takes arguments after --")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(options, passed_on)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be written to it at exit either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UcxnbError, OSError) as error:
        print(f"ucxnb {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nucxnb {options.command}: interrupted", file=sys.stderr)
        return 130
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"Warning: {message}", file=sys.stderr, flush=True)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ucxnb", description="See UCX move: a Jupyter toolkit for UCX workers."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    lab = commands.add_parser(
        "lab",
        help="open JupyterLab on the quickstart notebook",
        description="Open JupyterLab on the quickstart notebook. Arguments after -- go to it, "
        "as in `ucxnb lab -- --no-browser --port 9999`.",
    )
    lab.add_argument(
        "--folder",
        type=Path,
        default=Path("ucxnb-notebooks"),
        help="where your copies of the notebooks go (default: ./%(default)s; "
        "a source checkout uses its own notebooks)",
    )
    demo = commands.add_parser(
        "demo",
        help="the same in a terminal: traffic with an embedded peer, live figures",
        description="Exchange messages of many sizes with an embedded peer and show live figures.",
    )
    demo.add_argument(
        "--seconds", type=_seconds, default=5.0, help="how long (default: %(default)g)"
    )
    serve = commands.add_parser(
        "serve",
        help="run an echo server until Ctrl-C, with live figures",
        description="Listen, and send every message back with the tag it came with, until Ctrl-C.",
    )
    serve.add_argument(
        "address",
        nargs="?",
        default="127.0.0.1:0",
        help="host:port to listen on (default: %(default)s, a free port of this machine only)",
    )
    for name, text in (
        ("dashboard", "show a dashboard in a browser"),
        ("metrics", "serve metrics to Prometheus, at /metrics"),
        ("publish", "let dashboards of other processes watch"),
    ):
        serve.add_argument(
            f"--{name}",
            nargs="?",
            const="127.0.0.1:0",
            metavar="host:port",
            help=f"{text} (default: %(const)s, a free port of this machine only)",
        )
    dashboard = commands.add_parser(
        "dashboard",
        help="watch workers of other processes in a browser",
        description="Serve a dashboard to a browser on this machine, until Ctrl-C: of workers that "
        "publish what they do (`ucxnb serve --publish`, or ucxnb.watching.Publisher).",
    )
    dashboard.add_argument("address", nargs="+", help="host:port of each that publishes")
    dashboard.add_argument(
        "--at",
        default="127.0.0.1:0",
        metavar="host:port",
        help="where the page is served (default: %(default)s, a free port of this machine only)",
    )
    _add_bench(commands)
    repl = commands.add_parser(
        "repl",
        help="drive a worker by commands: connect, send, receive, ...",
        description="Drive a worker by commands, typed at a prompt or read from a pipe: `help` "
        "lists them. A script ends with exit code 1 at the first error.",
    )
    for command in (serve, dashboard, repl, commands.choices["bench"]):
        command.add_argument(
            "--auth-key-file",
            type=Path,
            metavar="FILE",
            help="file whose first line is the key that peers must have too (default: the "
            f"environment variable {KEY_VARIABLE}, if it is set)",
        )
    commands.add_parser(
        "info",
        help="versions, transports, devices, and what is missing",
        description="Print versions, transports and devices, what is missing and what that means.",
    )
    return parser


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure latency and bandwidth by message size, beside UCX's own limit",
        description="Measure latency (half a round trip) and bandwidth (one way) by message size, "
        "and beside them what ucx_perftest reaches over the same transports. Without an address "
        "a second process on this machine is measured. Ctrl-C keeps what was measured.",
    )
    bench.add_argument(
        "address",
        nargs="?",
        help="host:port of `ucxnb bench --serve`, or of `ucxnb serve` (latency only)",
    )
    bench.add_argument(
        "--sizes", type=_sizes, metavar="8B,1KiB,...", help="message sizes (default: 8 B to 4 MiB)"
    )
    bench.add_argument(
        "--transport",
        choices=("auto", "shm", "tcp"),
        default="auto",
        help="way of the messages: UCX's choice, shared memory, TCP (default: %(default)s)",
    )
    bench.add_argument(
        "--seconds",
        type=_seconds,
        default=0.3,
        help="how long each test of a size takes (default: %(default)g)",
    )
    bench.add_argument("--no-limit", action="store_true", help="do not run ucx_perftest")
    bench.add_argument("--json", type=Path, metavar="FILE", help="save the run, to load it again")
    bench.add_argument("--csv", type=Path, metavar="FILE", help="save the figures")
    bench.add_argument(
        "--serve",
        nargs="?",
        const="127.0.0.1:0",
        metavar="address",
        help="be the partner of who measures, until Ctrl-C (default: %(const)s, a free port of "
        "this machine only)",
    )


def _sizes(text: str) -> tuple[int, ...]:
    from .text import parse_size

    try:
        return tuple(parse_size(word) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _run(options: argparse.Namespace, passed_on: list[str]) -> int:
    # Each command is imported when it is used: `ucxnb --help` and `info` start no UCX.
    if options.command == "lab":
        from .lab import open_lab

        return open_lab(options.folder, passed_on)
    if getattr(options, "auth_key_file", None) is not None:
        _take_key(options.auth_key_file)
    if options.command == "demo":
        from .demo import run_demo

        return run_demo(options.seconds)
    if options.command == "serve":
        from .serve import run_server

        return run_server(
            options.address,
            dashboard=options.dashboard,
            metrics=options.metrics,
            publish=options.publish,
        )
    if options.command == "dashboard":
        from .watch_command import run_dashboard

        return run_dashboard(options.address, options.at)
    if options.command == "repl":
        from .console.repl import run_repl

        return run_repl()
    if options.command == "bench":
        return _bench(options)
    from .info import print_info

    return print_info()


def _take_key(file: Path) -> None:
    """Have the workers of this process, and of those that it starts, use the key in a file."""
    first, *_ = file.read_bytes().splitlines() or [b""]
    AuthKey(first, str(file))
    if b"\0" in first:
        raise UsageError(f"{file}: a key in a file holds no zero bytes")
    os.environb[KEY_VARIABLE.encode()] = first


def _bench(options: argparse.Namespace) -> int:
    from .bench import DEFAULT_SIZES
    from .bench_command import run_bench, run_partner

    if options.serve is not None:
        if options.address is not None:
            raise UsageError(
                "with --serve nobody is measured: write its address after it, as in "
                f"--serve {options.address}"
            )
        return run_partner(options.serve)
    return run_bench(
        options.address,
        options.sizes or DEFAULT_SIZES,
        transport=options.transport,
        seconds=options.seconds,
        limit=not options.no_limit,
        json_file=options.json,
        csv_file=options.csv,
    )
