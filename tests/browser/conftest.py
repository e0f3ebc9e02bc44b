"""What the tests in a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import LabPage, opened_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabPage]:
    with opened_lab(tmp_path) as page:
        yield page
