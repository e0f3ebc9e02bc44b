"""UCX's tables, as UCX 1.19 to 1.22 print them, and as the installed one does."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ucxnb import ArgumentError
from ucxnb.protocols import (
    Explanation,
    ProtocolRange,
    describe_protocol,
    explain_printed,
    read_graphs,
    read_printed,
    time_text,
)

# Printed of a connection that had used everything, by UCX's version and transport.
OUTPUTS = sorted((Path(__file__).parent / "ucx_output").iterdir())
MINE = "ucp_context_1 intra-node cfg#0"


def plain_cells(text: str) -> set[tuple[str, ...]]:
    """Cells of all rows that begin with a range, found in another way than the reader does."""
    rows = re.findall(r"\| *(\d\w*(?:\.\.\w+)?) +\| (.+?) *\| (.*?) *\|$", text, re.MULTILINE)
    return {tuple(cell.strip() for cell in row) for row in rows}


def cells(row: ProtocolRange) -> tuple[str, str, str]:
    return row.sizes, ("(?) " if row.assumed else "") + row.protocol, row.lane


@pytest.mark.parametrize("folder", OUTPUTS, ids=lambda folder: folder.name)
def test_every_cell_of_every_version(folder):
    text = (folder / "printed.txt").read_text()
    read = read_printed(text)
    assert read.unknown == []
    assert list(read.tables) == [MINE]
    assert {cells(row) for row in read.tables[MINE]} == plain_cells(text)
    assert {row.key for row in read.tables[MINE]} >= {
        ("tag", "", "host", ""),
        ("tag", "multi", "host", ""),
        ("stream", "", "host", ""),
        ("put", "", "host", "host"),
        ("get", "", "host", "host"),
        ("rndv fetch", "", "host", "host"),
        ("rndv send", "", "host", "host"),
    }
    way = folder.name.rpartition("-")[2]
    assert read.lanes[0].transport.startswith("sysv/" if way == "shm" else "tcp/")
    assert {"am", "keepalive"} <= set(read.lanes[0].uses)
    assert not any(set("/[>") & set(use) for lane in read.lanes for use in lane.uses)


@pytest.mark.parametrize("folder", OUTPUTS, ids=lambda folder: folder.name)
def test_the_ranges_of_an_operation_meet(folder):
    explanation = explain_printed((folder / "printed.txt").read_text(), 1, "peer", "1.0")
    for operation in ("tag", "stream", "put", "get", "rndv fetch", "rndv send"):
        rows = explanation.of(operation)
        assert rows[0].first == 0
        assert rows[-1].last is None
        for row, after in pairwise(rows):
            assert after.first == row.last + 1
        for row in rows:
            assert describe_protocol(row.protocol), row.protocol
            assert explanation.at(row.first, operation) is row


@pytest.mark.parametrize("folder", OUTPUTS, ids=lambda folder: folder.name)
def test_the_log_has_the_same_tables(folder):
    printed = read_printed((folder / "printed.txt").read_text()).tables[MINE]
    logged = read_printed((folder / "log.txt").read_text())
    assert set(logged.tables[MINE]) <= set(printed)
    assert {row.key for row in logged.tables[MINE]} >= {("put", "", "host", "host")}
    # Other words of a log are no table, and are kept.
    assert all("WARN" in line for line in logged.unknown)


@pytest.mark.parametrize(
    "folder", [f for f in OUTPUTS if f.name.endswith("shm")], ids=lambda folder: folder.name
)
def test_estimates_and_what_else_was_weighed(folder):
    graphs, unknown = read_graphs(folder)
    assert unknown == []
    (large, small) = sorted(graphs["tag_send_from_host_memory"], key=lambda graph: -graph[2].first)
    assert small[:2] == ("eager copy-in copy-out", "sysv/memory")
    assert large[:2] == ("rendezvous fragmented copy-in copy-out", "sysv/memory")
    estimate = small[2]
    assert (estimate.first, estimate.last, large[2].last) == (93, 8232, None)
    assert estimate.chosen.name == "egr/single/bcopy"
    assert [c.chosen for c in estimate.candidates] == [True] + [False] * (
        len(estimate.candidates) - 1
    )
    assert {"egr/multi/bcopy", "RTS + RTR + rndv/am/bcopy"} <= {c.name for c in estimate.candidates}
    # "sum 2850MBs+0.11us" of these versions, and times that grow.
    assert 2.5e-6 < estimate.chosen.time_of(8192) < 3.1e-6
    assert estimate.chosen.time_of(93) < estimate.chosen.time_of(94)


TABLE = """# UCP endpoint
#                 lane[0]:  1:sysv/memory.0 md[1]           -> md[1]/sysv/sysdev[255] seg 1 am
# +-----+----+
# | ucp_context_0 intra-node cfg#0 | tagged message by ucp_tag_send* from cuda memory |
# +-----+----+
# | 0..1K | eager short | sysv/memory |
# | 1025..inf | (?) rendezvous teleport | 60% on a, 40% on b |
# +-----+----+
"""


def test_new_protocols_operations_and_lanes_are_read_as_they_are():
    text = (
        TABLE + "# +-+\n# | ucp_context_0 intra-node cfg#0 | wish by ucp_wish* from host memory |\n"
    )
    text += "# | 0..inf | granted | sysv/memory |\n"
    rows = explain_printed(text, 1, "peer", "9").ranges
    assert [row.memory for row in rows] == ["cuda", "cuda", "host"]
    assert rows[1].lane == "60% on a, 40% on b"
    assert rows[1].last is None
    assert rows[1].assumed
    assert "announces" in describe_protocol(rows[1].protocol)
    assert rows[2].operation == "wish by ucp_wish*"
    assert describe_protocol("granted") == ""


@pytest.mark.parametrize(
    "line",
    [
        "#   color of the endpoint: blue",
        "# | one | two | three | four | five |",
        "# | 0..many | eager short | sysv/memory |",
        "# | ucp_context_0 intra-node cfg#0 | nonsense |",
    ],
)
def test_a_line_of_another_kind_is_kept_and_told(line):
    explanation = explain_printed(TABLE + line + "\n", 1, "peer", "9.9")
    assert line in explanation.unknown
    assert "UCX 9.9 were not understood" in explanation.text
    assert line in explanation.text
    assert "were not understood" in explanation._repr_html_()


def test_tables_of_other_endpoints_are_left_out():
    other = TABLE.replace("UCP endpoint", "UCP endpoint for cuda").replace("cfg#0", "cfg#9")
    assert explain_printed(TABLE + "#\n" + other, 1, "p", "1") == replace(
        explain_printed(TABLE, 1, "p", "1"), printed=TABLE + "#\n" + other
    )
    peers = TABLE + "#\n# UCP worker 'x:1'\n" + TABLE.partition("am\n")[2].replace("#0", "#1")
    assert len(explain_printed(peers, 1, "p", "1").ranges) == 2


def test_nothing_printed_says_why():
    lane = "\n".join(TABLE.splitlines()[:2])
    others = lane + "\n# UCP worker 'x:1'\n" + TABLE.partition("am\n")[2]
    assert explain_printed(others, 1, "p", "1").ranges == ()
    assert "PROTO_ENABLE" in explain_printed(lane, 1, "p", "1").text
    assert "not chosen yet" in explain_printed(lane, 1, "p", "1").why(8)
    for wrong in (-1, 1.5, "8", None, True):
        with pytest.raises(ArgumentError):
            explain_printed(lane, 1, "p", "1").at(wrong)


def with_estimates(name: str) -> Explanation:
    folder = next(folder for folder in OUTPUTS if folder.name == name)
    explanation = explain_printed((folder / "printed.txt").read_text(), 1, "a peer", "1.21.0")
    graphs = read_graphs(folder)[0]["tag_send_from_host_memory"]
    return replace(
        explanation,
        ranges=tuple(
            replace(row, estimates=tuple(g[2] for g in graphs if row.holds(g[2].first)))
            if row.key == ("tag", "", "host", "")
            else row
            for row in explanation.ranges
        ),
    )


def test_text_page_and_table():
    explanation = with_estimates("1.21.0-shm")
    assert "93..8248  eager copy-in copy-out" in explanation.text
    assert str(explanation) == explanation.text
    page = explanation._repr_html_()
    assert ">93..8248</td>" in page
    assert "the sender copies it into the transport&#x27;s buffers" in page
    table = explanation.to_pandas()
    assert len(table) == len(explanation.ranges)
    row = table[(table.operation == "tag") & (table.variant == "") & (table["first"] == 93)]
    assert row["last"].item() == 8248
    assert row["lane"].item() == "sysv/memory"
    assert 0 < row["expected_us_first"].item() < 1
    assert table["last"].isna().sum() == sum(r.last is None for r in explanation.ranges)
    told = explanation.why(8192)
    assert told.startswith("8 KiB, tag: eager copy-in copy-out over sysv/memory.")
    assert "UCX expects 2.8" in told
    assert "of RTS + RTR + rndv/am/bcopy" in told
    assert "depends on what the peer" in explanation.why(1 << 20)


def test_a_name_from_the_peer_is_no_html():
    explanation = explain_printed(TABLE, 1, "<script>x</script>", "1")
    assert "<script>" not in explanation._repr_html_()


def test_a_probe_adds_estimates_only_where_the_same_was_chosen():
    probe = with_estimates("1.21.0-shm")
    live = explain_printed(probe.printed, 1, "live", "1.21.0")
    joined = live.with_probe(probe)
    assert joined.at(8192).estimates == probe.at(8192).estimates
    assert joined.notes == ()

    rows = [
        replace(row, last=row.last and row.last + 1) if row.operation == "tag" else row
        for row in live.ranges
    ]
    other = replace(live, ranges=tuple(rows)).with_probe(probe)
    assert other.at(8192).estimates == ()
    assert "chose otherwise for tag" in other.text

    tags = replace(live, ranges=tuple(row for row in live.ranges if row.operation == "tag"))
    more = tags.with_probe(probe)
    assert {row.key for row in more.ranges} == {row.key for row in probe.ranges}
    assert all(row.probed == (row.operation != "tag") for row in more.ranges)
    assert "seen of two new processes" in more.text


def test_times_for_people():
    assert [time_text(t) for t in (1.9e-7, 1.25e-5, 1.5e-4, 2.2e-2, 3)] == [
        "0.19 us",
        "12.5 us",
        "150 us",
        "22.0 ms",
        "3.00 s",
    ]
