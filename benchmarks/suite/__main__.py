"""Lets ``python benchmarks/suite`` run the suite from any folder."""

import sys
from pathlib import Path

# The folder above, so that this one is the package `suite`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from suite.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
