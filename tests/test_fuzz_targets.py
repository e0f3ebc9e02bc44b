"""The fuzzer's targets on what it begins with, and on simple changes of that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from forgery import forgeries

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_raises_nothing(name):
    target = TARGETS[name]
    corpus = target.corpus()
    assert corpus
    for data in corpus:
        target.run(data)
    for data in forgeries(corpus[0], corpus, 5, 500):
        target.run(data)
