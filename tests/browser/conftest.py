"""What the tests in a browser share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import LabPage, LabServer, flawless_page


@pytest.fixture(scope="session")
def lab_server(
    _libraries_are_warm: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabServer]:
    """One JupyterLab for all tests; each leaves it as it was."""
    with LabServer(tmp_path_factory.mktemp("lab")).running() as server:
        yield server


@pytest.fixture
def lab(lab_server: LabServer) -> Iterator[LabPage]:
    with flawless_page(lab_server) as page:
        yield page
