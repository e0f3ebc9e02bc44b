"""Two connected workers for each test of the panels, and no widget left behind."""

from __future__ import annotations

from collections.abc import Iterator

import ipywidgets
import pytest
from driving import Two

from ucxnb import UcxWorker


@pytest.fixture
def two() -> Iterator[Two]:
    with UcxWorker(name="here") as here, UcxWorker(name="<b>there</b>") as there:
        yield Two(here, there)


@pytest.fixture(autouse=True)
def _all_widgets_closed() -> Iterator[None]:
    before = set(ipywidgets.widgets.widget._instances)
    yield
    assert set(ipywidgets.widgets.widget._instances) == before
