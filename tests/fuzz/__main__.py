"""Fuzz the parsers that strangers reach: ``python tests/fuzz --seconds 3600 [target ...]``."""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ucxnb import address
from ucxnb.frontdoor import handshake, protocol, ucx_ports, worker_address

_WATCHED = [address, handshake, protocol, ucx_ports, worker_address]  # whose branches count


def main() -> int:
    """Run each target for its share of the time; a crash is an exit code that is not 0."""
    parser = argparse.ArgumentParser(prog="tests/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was found")
    parser.add_argument("targets", nargs="*", help="handshake, worker_address, address: all")
    arguments = parser.parse_args()
    from targets import TARGETS

    chosen = arguments.targets or list(TARGETS)
    seconds = max(1, arguments.seconds // len(chosen))
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen:
            corpus = (arguments.corpus or Path(scratch)) / name
            corpus.mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(TARGETS[name].corpus()):
                (corpus / f"real-{number}").write_bytes(data)
            code = subprocess.call(
                [
                    *(sys.executable, "-P", __file__, "--run", name, str(corpus)),
                    f"-max_total_time={seconds}",
                    "-max_len=4096",
                    "-timeout=10",
                    "-rss_limit_mb=2048",
                    f"-artifact_prefix={os.curdir}/crash-{name}-",
                    "-print_final_stats=1",
                ],
                env={**os.environ, "UCX_HANDLE_ERRORS": "none", "UCX_LOG_LEVEL": "fatal"},
            )
            if code:
                print(f"{name}: the input is in {os.curdir}/crash-{name}-*", file=sys.stderr)
                return code
    return 0


def _run(name: str, arguments: list[str]) -> None:
    import atheris
    from targets import TARGETS

    for module in _WATCHED:
        for owner in (module, *filter(inspect.isclass, vars(module).values())):
            for function in filter(inspect.isfunction, vars(owner).values()):
                if function.__module__ == module.__name__:
                    atheris.instrument_func(function)
    TARGETS[name].corpus()  # makes the real addresses before the clock runs
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["--run"]:
        _run(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
