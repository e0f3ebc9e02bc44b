"""Lines for the console, of any text: each is a command, or a UsageError that shows the usage."""

from __future__ import annotations

import time

import pytest
from eventually import eventually
from hypothesis import assume, given
from hypothesis import strategies as st
from junk import examples
from public_calls import Pair, books_agree, drain, exchange
from test_input_addresses import addresses, stays_here

from ucxnb import UcxnbError
from ucxnb.console.grammar import COMMANDS, Command, parse_line
from ucxnb.console.session import Session
from ucxnb.errors import UsageError

words = st.one_of(
    st.sampled_from([
        "1", "0", "-1", "any", "99", "٣", "0x10", "0x" + "f" * 5000, "1" * 5000, "1_0", "nan",
        "inf", "0.0", "1e400", "hex:00ff", "hex:0", "hex:", '""', "'", "'a b'", '"', "8B", "1KiB,",
        "1e9GB", "²", "1.5.5", "2GiB", "#", "connect",
    ]),
    st.text(max_size=10),
    st.integers().map(str),
)  # fmt: skip
lines = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda name, rest: " ".join([name, *rest]),
        st.one_of(st.sampled_from(sorted(COMMANDS)), st.text(max_size=10)),
        st.lists(words, max_size=4),
    ),
)


@examples(400)
@given(lines)
def test_any_line_is_a_command_or_is_refused(line):
    try:
        parsed = parse_line(line)
    except UsageError as error:
        assert len(str(error)) < 2000
        assert "\x1b" not in str(error)
        return
    assert parsed is None or isinstance(parsed[0], Command)


OTHERS = {"benchmark", "receive", "quit", "disconnect", "connect", "listen"}
QUICK = sorted(COMMANDS.keys() - OTHERS)


@pytest.mark.reliability
def test_any_line_runs_or_says_why_not(pair, saw):
    pair = Pair(*pair)
    session = Session(pair.left)
    tried, seconds = 0, []

    @examples(100)
    @given(
        st.one_of(
            st.builds(lambda n, w: " ".join([n, *w]), st.sampled_from(QUICK), st.lists(words)),
            st.builds("receive {} {} 0".format, words, words),
            st.builds("disconnect {}".format, words.filter(lambda word: word.strip() != "1")),
            st.builds("benchmark {} {}".format, st.sampled_from(["", "2", "x"]), words).filter(
                lambda line: len(line.split()) > 1
            ),
            st.builds("connect {}".format, addresses),
        )
    )
    def each(line):
        nonlocal tried
        assume(not line.startswith("connect") or stays_here(line.removeprefix("connect").strip()))
        assume(not line.startswith("receive") or len(line.split()) > 3)  # so the 0 is its timeout
        assume(not line.startswith("benchmark") or " 1 " not in f"{line} ")
        began = time.monotonic()
        try:
            session.run_and_describe(line)
        except UcxnbError as error:
            assert len(str(error)) < 5000
            seconds.append(time.monotonic() - began)
        eventually(lambda: (drain(pair.right), books_agree(pair))[-1])
        tried += 1

    each()
    exchange(pair)
    saw(
        "input",
        "lines of any text for the console",
        tried=tried,
        sees="UsageError with the usage, or the error of the call",
        seconds=seconds,
        lost="nothing",
    )
