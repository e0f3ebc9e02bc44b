"""Build the engine with a sanitizer of the compiler's, and run the threads' stress under it.

``python tests/sanitize.py thread`` or ``python tests/sanitize.py address``; needs GCC, what the
README's build needs, and the `test` extra. UCX and Python are not instrumented. ThreadSanitizer
still sees their locks, the GIL among them, but not all that their threads share; so only what
happens in the engine's own code counts: both accesses of a race, or the one of a wrong address.
docs/threads.md says more.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {"thread": "thread", "address": "address,undefined"}
LIBRARIES = {"thread": ["libtsan.so"], "address": ["libasan.so", "libubsan.so"]}
# A frame of the report: its number, function and where that is.
FRAME = re.compile(r"^ +#(\d+) (?:0x[0-9a-f]+ in )?(\S+) (\S+)", re.MULTILINE)
OURS = re.compile(r"ucxnb/engine/|_engine\.(c|cpython)")
NOT_OURS = re.compile(r"libtsan|libasan|libubsan|sanitizer_common|interceptors")


def main() -> int:
    """Build, run, and print the reports that count; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--environment", type=Path, help="to build in, or built in before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = options.environment or Path(folder, "environment")
        if not environment.exists():
            build(environment, CHECKS[options.check])
        logs = Path(folder, "logs")
        logs.mkdir()
        code = run(options, environment, logs / "log")
        reports = [
            report
            for log in logs.iterdir()
            for report in re.split(r"^={10,}$", log.read_text(errors="replace"), flags=re.MULTILINE)
            if "WARNING: " in report or "ERROR: " in report or "runtime error: " in report
        ]
    counted = Counter(short(report) for report in reports if counts(report, options.check))
    for report, times in counted.items():
        print(f"\n== {times} times:\n{report}")
    print(f"{len(reports)} reports, of these {sum(counted.values())} about the engine; exit {code}")
    return 1 if counted or code else 0


def build(environment: Path, sanitizers: str) -> None:
    """An environment with this engine, and all else from the one that runs this."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    # A folder that a .pth file names is searched, but its own .pth files are not read: an editable
    # ucxnb in it stays out of the way.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    settings = [
        f"--config-settings=cmake.define.UCXNB_SANITIZE={sanitizers}",
        "--config-settings=install.strip=false",
    ]
    subprocess.run([*command, *settings, f"--target={packages}", ROOT], check=True)


def run(options: argparse.Namespace, environment: Path, log: Path) -> int:
    """Run the stress; returns how it ended."""
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in LIBRARIES[options.check]
    ]
    common = f"log_path={log} exitcode=0"
    variables = {
        "LD_PRELOAD": " ".join(libraries),
        # Python keeps its own pools of memory otherwise, whose reuse no sanitizer sees.
        "PYTHONMALLOC": "malloc",
        # UCX would put its own functions in the place of the system's, and the sanitizer would be
        # called by threads that it no longer knows.
        "UCX_MEM_EVENTS": "n",
        "UCX_MEM_MMAP_HOOK_MODE": "none",
        # And the sanitizer fails in a system call of that wire's.
        "UCX_TLS": "^cma",
        "TSAN_OPTIONS": f"{common} history_size=4 ignore_noninstrumented_modules=0",
        "ASAN_OPTIONS": f"{common} detect_leaks=0 use_sigaltstack=0",
        "UBSAN_OPTIONS": f"{common} print_stacktrace=1",
    }
    command = [
        "setarch",
        "--addr-no-randomize",  # the sanitizers want their own places in memory
        environment / "bin" / "python",
        ROOT / "tests" / "thread_stress.py",
        f"--seconds={options.seconds}",
        f"--threads={options.threads}",
    ]
    return subprocess.run(command, env={**os.environ, **variables}).returncode


def counts(report: str, check: str) -> bool:
    """Whether the engine's own code did it: in a race, both accesses."""
    tops = [top_frame(stack) for stack in accesses(report)]
    wanted = 2 if check == "thread" and "data race" in report else 1
    return sum(bool(OURS.search(top)) for top in tops[:2]) >= wanted


def accesses(report: str) -> list[str]:
    """The stacks of a report, in its order."""
    stacks = [part for part in report.split("\n\n") if FRAME.search(part)]
    return [stack for stack in stacks if "created by" not in stack and "Mutex " not in stack]


def top_frame(stack: str) -> str:
    """Where the innermost function is that is none of the sanitizer's."""
    places = [match[3] for match in FRAME.finditer(stack)]
    return next((place for place in places if not NOT_OURS.search(place)), "")


def short(report: str) -> str:
    """A report without what differs from one time to the next."""
    text = re.sub(r"0x[0-9a-f]+|\b(pid|tid)=\d+|\bT\d+\b|M\d+", "_", report)
    return "\n".join(line for line in text.splitlines() if line.strip())


if __name__ == "__main__":
    sys.exit(main())
