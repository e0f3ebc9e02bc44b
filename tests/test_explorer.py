"""Settings, measurements in new processes, comparisons and the tuner."""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from ucxnb import ArgumentError, ConfigError, MissingUcxError, UcxnbError, UcxWorker, WorkerConfig
from ucxnb.bench import private_pair
from ucxnb.explorer import (
    Comparison,
    FreshPair,
    Lane,
    StoppedError,
    Tuner,
    candidate_settings,
    compare_settings,
    find_settings,
    measure_profile,
    median_interval,
    probe,
    read_settings,
    settings_code,
)
from ucxnb.explorer.settings import parse_settings
from ucxnb.ucx_programs import find_ucx_program

SHM = {"TLS": "shm,self"}
QUICK = {"seconds": 0.002}


# ---- settings


def test_all_settings_of_this_ucx():
    program, environment = find_ucx_program("ucx_info")
    text = subprocess.run(
        [program, "-c", "-f"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^UCX_(\w+)=", text, re.MULTILINE)
    settings = read_settings()
    assert list(settings) == list(dict.fromkeys(names))
    for setting in settings.values():
        assert setting.syntax, setting.name
        assert setting.section.endswith("configuration"), setting.name
        assert "syntax:" not in setting.description
    described = sum(bool(setting.description) for setting in settings.values())
    assert described > 0.95 * len(settings)


def test_a_setting_in_detail(monkeypatch):
    monkeypatch.setenv("UCX_RNDV_THRESH", "1k")
    setting = read_settings()["RNDV_THRESH"]
    assert setting.default == "intra:auto,inter:auto"  # not what the environment says
    assert "rendezvous" in setting.description
    assert "memory units" in setting.syntax
    assert setting.choices == ()
    assert not setting.of_process
    assert "UCX_RNDV_THRESH = intra:auto" in setting.text
    assert read_settings()["LOG_LEVEL"].of_process
    assert "before Python starts" in read_settings()["LOG_LEVEL"].text
    assert "get_zcopy" in read_settings()["RNDV_SCHEME"].choices
    assert read_settings()["SYSV_ERROR_HANDLING"].choices == ("y", "n")


def test_search():
    assert find_settings("rndv_thresh")[0].name == "RNDV_THRESH"
    assert find_settings("UCX_RNDV_THRESH")[0].name == "RNDV_THRESH"
    assert find_settings("rndv thresh")[0].name == "RNDV_THRESH"
    assert "ZCOPY_THRESH" in [setting.name for setting in find_settings("zero copy")]
    assert find_settings("no such words anywhere") == []
    assert len(find_settings("")) == len(read_settings())
    with pytest.raises(ArgumentError):
        find_settings(3)


def test_a_line_to_copy():
    assert settings_code({"RNDV_THRESH": "8k"}) == (
        'WorkerConfig(ucx_options={"RNDV_THRESH": "8k"})'
    )
    made = eval(settings_code({"RNDV_THRESH": "8k", "MM_ERROR_HANDLING": "n"}))
    assert made == WorkerConfig(ucx_options={"RNDV_THRESH": "8k", "MM_ERROR_HANDLING": "n"})
    assert settings_code({"LOG_LEVEL": "info"}) == "# before Python starts: UCX_LOG_LEVEL=info"
    with pytest.raises(ArgumentError, match="it has RNDV_THRESH"):
        settings_code({"RNDV_TRESH": "8k"})


@pytest.mark.parametrize("wrong", [None, "RNDV_THRESH=8k", {"RNDV_THRESH": 8192}, {1: "8k"}, [1]])
def test_what_is_no_settings(wrong):
    with pytest.raises(ArgumentError, match="no mapping of texts"):
        settings_code(wrong)
    if wrong is not None:
        with pytest.raises(ArgumentError, match="no mapping of texts"):
            FreshPair(wrong)


def test_settings_that_were_not_printed_as_known():
    assert parse_settings("") == {}
    assert parse_settings("UCX_A=1\nnonsense\n# b\nUCX_B=\n")["B"].description == "b"


def test_without_the_program(monkeypatch):
    monkeypatch.setattr("ucxnb.explorer.settings.find_ucx_program", lambda name: None)
    with pytest.raises(MissingUcxError, match="ucx_info"):
        read_settings()


# ---- statistics


@pytest.mark.parametrize(("count", "confidence"), [(6, 0.95), (9, 0.95), (25, 0.95), (12, 0.8)])
def test_the_interval_holds_the_median_as_often_as_it_says(count, confidence):
    chance = random.Random(count)
    tries, hits = 2000, 0
    for _ in range(tries):
        # Skewed, with a median of 1.
        low, high = median_interval(
            [chance.expovariate(math.log(2)) for _ in range(count)], confidence
        )
        hits += low <= 1 <= high
    assert hits / tries > confidence - 0.02


def test_intervals_of_few_values():
    assert median_interval([1.0] * 5, 0.95) == (0.0, math.inf)
    assert median_interval([], 0.95) == (0.0, math.inf)
    assert median_interval([3, 1, 2, 6, 5, 4], 0.95) == (1, 6)
    assert median_interval(range(9), 0.95) == (1, 7)
    for wrong in (0, 1, 2.0, "much", None):
        with pytest.raises(ArgumentError):
            median_interval([1.0], wrong)


@pytest.mark.parametrize(
    ("ratios", "verdict", "words"),
    [
        ([1.2, 1.3, 1.25, 1.3, 1.2, 1.4], "faster", "faster in tag latency of 8 KiB: 1.27"),
        ([0.8, 0.7, 0.75, 0.7, 0.8, 0.9], "slower", "slower"),
        ([1.2, 0.7, 1.1, 0.9, 1.0, 1.3], "no difference", "more than noise"),
        ([1.01, 1.01, 1.012, 1.01, 1.02, 1.011], "no difference", "more than 2 %"),
        ([1.5], "no difference", "interval 0.00 to inf"),
    ],
)
def test_verdicts(ratios, verdict, words):
    comparison = Comparison(
        {"RNDV_THRESH": "inf"}, SHM, "tag", 8192, "latency", tuple(ratios), 0.95
    )
    assert comparison.verdict == verdict
    assert words in str(comparison)
    line = 'WorkerConfig(ucx_options={"TLS": "shm,self", "RNDV_THRESH": "inf"})'
    assert comparison.code == (line if verdict == "faster" else "")


def test_noise_alone_is_seldom_called_faster():
    chance = random.Random(5)
    found = 0
    for _ in range(1000):
        ratios = [math.exp(chance.gauss(0, 0.15)) for _ in range(9)]
        found += Comparison({}, {}, "tag", 8, "latency", tuple(ratios), 0.95).verdict == "faster"
    assert found < 40


# ---- two new processes


def test_what_a_fresh_pair_tells_and_measures():
    with FreshPair(SHM) as pair:
        told = pair.explanation
        assert told.unknown == ()
        for operation in ("tag", "stream", "put", "get"):
            rows = told.of(operation)
            assert all(row.estimates for row in rows), operation
            assert rows[0].expected(1 << 20) or rows[-1].expected(1 << 20)
            for metric in ("latency", "bandwidth"):
                assert pair.measure(operation, 8192, metric=metric, **QUICK) > 0
        assert "UCX expects" in told.why(8192)
        for arguments in (("wish", 8), ("tag", 0), ("tag", 1 << 31), ("tag", 8.5), ("tag", "8")):
            with pytest.raises(ArgumentError):
                pair.measure(*arguments)
        with pytest.raises(ArgumentError):
            pair.measure("tag", 8, metric="colour")
        with pytest.raises(ArgumentError):
            pair.measure("tag", 8, seconds=0)
        assert pair.measure("tag", 8, **QUICK) > 0
    pair.close()
    with pytest.raises(UcxnbError, match="closed"):
        pair.measure("tag", 8)


def test_settings_take_effect_there():
    with FreshPair.together(SHM, {**SHM, "RNDV_THRESH": "4096"}) as (plain, changed):
        assert plain.explanation.at(8192).protocol.startswith("eager")
        assert changed.explanation.at(8192).protocol.startswith("rendezvous")
        assert changed.explanation.at(4095).protocol.startswith("eager")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"NO_SUCH": "1"}, ArgumentError),
        ({"RNDV_THRESH": "often"}, ConfigError),
        ({"TLS": "no_such"}, UcxnbError),
        ({"SYSV_SEG_SIZE": "64k"}, ConfigError),
    ],
)
def test_settings_that_ucx_refuses(settings, error, capfd):
    with pytest.raises(error):
        FreshPair(settings)
    assert capfd.readouterr().out == ""


def test_a_pair_that_is_killed_and_one_that_is_stopped():
    with FreshPair(SHM) as pair:
        os.kill(pair._process.pid, 9)
        with pytest.raises(UcxnbError, match="exit code -9"):
            pair.measure("tag", 8)
    stop = threading.Event()
    with FreshPair(SHM, should_stop=stop.is_set) as pair:
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        with pytest.raises(StoppedError):
            pair.measure("tag", 8, seconds=30)
        timer.join()


def test_a_segment_of_64_kib_is_refused_before_it_loses_messages():
    for value in ("64k", "65536", "1m", "64KB"):
        with pytest.raises(ConfigError, match="16 bits"):
            WorkerConfig(ucx_options={"POSIX_SEG_SIZE": value})
    options = {**SHM, "SYSV_SEG_SIZE": "65535", "POSIX_SEG_SIZE": "65535"}
    with UcxWorker(ucx_options=options) as left, UcxWorker(ucx_options=options) as right:
        to_right = left.connect(right.create_listener().address)
        for size in (65_000, 65_535, 65_536, 65_537, 1_000_000):
            request = left.isend_tag(to_right, 1, bytes(size))
            assert len(right.receive_tag(1, 1, timeout=30)) == size
            request.wait(30)


def test_probe_of_a_connection():
    with private_pair("tcp") as (worker, endpoint_id):
        told = probe(worker, endpoint_id)
        assert told.peer.startswith("bench-")
        assert told.at(8192).estimates
        assert not told.at(8192).probed
        assert told.at(8, "put").probed
        assert all(lane.transport.startswith("tcp/") for lane in told.lanes)


def test_profiles_grow():
    profiles = list(measure_profile(SHM, "tag", (64, 8192), name="mine", **QUICK))
    assert [len(profile.points) for profile in profiles] == [0, 1, 2, 2, 2, 2, 2]
    assert [point.nbytes for point in profiles[-1].points] == [64, 8192]
    assert all(point.latency > 0 and point.bandwidth > 0 for point in profiles[-1].points)
    assert {profile.name for profile in profiles} == {"mine"}
    assert list(measure_profile(SHM, should_stop=lambda: True)) == []


# ---- comparing and tuning


def test_a_comparison():
    comparison = compare_settings(
        {"RNDV_THRESH": "8192"}, base=SHM, nbytes=8192, repeats=2, confidence=0.5, **QUICK
    )
    assert len(comparison.ratios) == 2
    low, high = comparison.interval
    assert 0 < low <= comparison.ratio <= high < math.inf
    assert comparison.base == SHM
    with pytest.raises(ArgumentError):
        compare_settings({}, nbytes=8, repeats=0)
    with pytest.raises(ArgumentError):
        compare_settings({"NO_SUCH": "1"}, nbytes=8)
    with pytest.raises(UcxnbError, match="stopped"):
        compare_settings({}, nbytes=8, should_stop=lambda: True)


def test_candidates_change_what_happens_to_a_size():
    with FreshPair(SHM) as pair:
        small = candidate_settings(pair.explanation, "tag", 8192)
        large = candidate_settings(pair.explanation, "tag", 4 << 20)
        assert {"RNDV_THRESH": "8192"} in small
        assert {"SYSV_SEG_SIZE": "32768"} in small
        assert {"RNDV_THRESH": "inf"} in large
        assert not any("RNDV_SCHEME" in settings for settings in large)
        rdma = replace(pair.explanation, lanes=(Lane(0, "rc_mlx5/mlx5_0:1", ("rma",), ""),))
        assert {"RNDV_SCHEME": "get_zcopy"} in candidate_settings(rdma, "tag", 4 << 20)
        for settings in candidate_settings(pair.explanation, "put", 8192):
            assert not any("RNDV" in name for name in settings)


def test_the_tuner_tries_all_and_measures_the_best_again():
    candidates = [{"RNDV_THRESH": "8192"}, {"RNDV_THRESH": "often"}, {"SYSV_SEG_SIZE": "32k"}]
    tuner = Tuner("tag", 8256, base=SHM, candidates=candidates, repeats=1, **QUICK)
    assert "Not done" in tuner.text or "no candidate" in tuner.text
    steps = list(tuner)
    assert [step.settings for step in steps[:3]] == candidates
    assert [step.ratio is None for step in steps[:3]] == [False, True, False]
    assert "RNDV_THRESH" in steps[1].note
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    assert steps[-1].fraction == 1
    result = tuner.result
    assert len(result.ratios) == 1
    assert result.verdict == "no difference"  # one decides nothing
    assert result.settings in (candidates[0], candidates[2])
    assert result.text == tuner.text
    # The last one, and none of those with which it was chosen.
    assert list(result.ratios) == [step.ratio for step in steps[-1:]]
    assert not tuner.stopped


def test_a_tuner_that_is_stopped_and_ones_without_candidates():
    stop = threading.Event()
    tuner = Tuner("tag", 8192, base=SHM, should_stop=stop.is_set, **QUICK)
    began = time.monotonic()
    for _ in tuner:
        stop.set()
    assert tuner.stopped
    assert tuner.result is None
    assert "Stopped" in tuner.text
    assert time.monotonic() - began < 60

    nothing = Tuner("tag", 8192, base=SHM, candidates=[], **QUICK)
    assert list(nothing) == []
    assert "no candidate" in nothing.text
    bad = Tuner("tag", 8192, base=SHM, candidates=[{"RNDV_THRESH": "often"}], **QUICK)
    assert [step.ratio for step in bad] == [None]
    assert "None of the candidates" in bad.text


def test_wrong_arguments_of_a_tuner():
    for arguments in (
        {"nbytes": 0},
        {"metric": "colour"},
        {"repeats": 0},
        {"confidence": 2},
        {"base": {"NO_SUCH": "1"}},
        {"candidates": [{"NO_SUCH": "1"}]},
        {"operation": "wish"},
    ):
        with pytest.raises(ArgumentError):
            Tuner(**{"operation": "tag", "nbytes": 8, **arguments})
