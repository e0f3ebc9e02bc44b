from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from ucxnb.config import ThreadMode, WorkerConfig
from ucxnb.errors import ConfigError

NAN = float("nan")


def test_defaults_are_the_guide_s():
    config = WorkerConfig()
    assert config.thread_mode is ThreadMode.SINGLE
    assert config.buffer_size == 64 * 1024
    assert config.enable_tag is True
    assert config.enable_stream is True
    assert config.enable_rma is False
    assert config.progress_interval_us == 100


def test_the_guide_s_tuning_example():
    config = WorkerConfig(
        thread_mode=ThreadMode.MULTI,
        buffer_size=256 * 1024,
        progress_interval_us=50,
        enable_rma=True,
    )
    assert (config.buffer_size, config.enable_rma) == (262144, True)


def test_cannot_be_changed():
    config = WorkerConfig(ucx_options={"TLS": "tcp"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.buffer_size = 1
    with pytest.raises(TypeError):
        config.ucx_options["TLS"] = "all"


def test_later_changes_of_the_mapping_do_not_reach_it():
    options = {"TLS": "tcp"}
    config = WorkerConfig(ucx_options=options)
    options["TLS"] = "all"
    assert config.ucx_options == {"TLS": "tcp"}


WRONG = [
    ("thread_mode", ["single", None, 1]),
    ("buffer_size", [0, -1, 2**41, 1.0, "64", None, True]),
    ("enable_tag", [0, 1, None, "yes"]),
    ("enable_stream", [0, "no"]),
    ("enable_rma", [1]),
    ("progress_interval_us", [0, -5, 1_000_001, 0.5, NAN, False]),
    ("tag_scope", ["Endpoint", "", None, 1, ["endpoint"]]),
    ("name", [None, 3, "a\nb", "x" * 201, b"name"]),
    ("ucx_options", [None, "TLS=tcp", [("TLS", "tcp")]]),
    ("connect_timeout", [0, -1, NAN, float("inf"), "10", True, 86401]),
    ("handshake_timeout", [None, 0, NAN, 3601]),
    ("close_timeout", [None, -0.1, "5"]),
    ("heartbeat_interval", [None, 0, 0.001]),
    ("heartbeat_timeout", [0, 1.0, 2.0, NAN]),
    ("history_interval", [None, 0]),
    ("history_length", [0, 1, 2.0, 10**7]),
]


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in WRONG for v in vs])
def test_an_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(ConfigError) as caught:
        WorkerConfig(**{field: value})
    assert str(caught.value).startswith(f"{field}={value!r}: it takes ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("connect_timeout", None),
        ("heartbeat_timeout", None),
        ("connect_timeout", 1),
        ("close_timeout", 0),
        ("buffer_size", 1),
        ("name", "server 7 ü"),
        ("tag_scope", "worker"),
        ("ucx_options", {}),
        ("progress_interval_us", 1_000_000),
    ],
)
def test_edge_values_are_taken(field, value):
    assert getattr(WorkerConfig(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tls": "tcp"}, "capitals"),
        ({"UCX_TLS": "tcp"}, "write 'TLS'"),
        ({"TLS": 3}, "is a text"),
        ({"TLS": "tcp\n"}, "printable"),
        ({3: "tcp"}, "no UCX setting"),
        ({"TLS ": "tcp"}, "no UCX setting"),
        ({"TLS\n": "tcp"}, "no UCX setting"),
    ],
)
def test_ucx_options_are_checked(options, why):
    with pytest.raises(ConfigError, match=why):
        WorkerConfig(ucx_options=options)


def test_all_features_off_is_refused():
    with pytest.raises(ConfigError, match="one of them"):
        WorkerConfig(enable_tag=False, enable_stream=False)


@pytest.mark.parametrize(
    ("name", "hint"), [("bufer_size", "'buffer_size'"), ("zzz", "known are thread_mode")]
)
def test_an_unknown_name_is_refused_with_a_hint(name, hint):
    with pytest.raises(ConfigError, match=hint):
        WorkerConfig.from_values({name: 1})
    with pytest.raises(ConfigError, match=hint):
        WorkerConfig().replace(**{name: 1})


def test_replace_changes_a_copy():
    config = WorkerConfig(buffer_size=1)
    changed = config.replace(progress_interval_us=7)
    assert (changed.buffer_size, changed.progress_interval_us) == (1, 7)
    assert config.progress_interval_us == 100
    with pytest.raises(ConfigError, match="buffer_size"):
        config.replace(buffer_size=0)


@pytest.mark.parametrize(
    "clone",
    [
        lambda c: pickle.loads(pickle.dumps(c)),
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
        lambda c: WorkerConfig(**dataclasses.asdict(c)),
    ],
    ids=["pickle", "copy", "deepcopy", "replace", "asdict"],
)
def test_a_config_travels(clone):
    config = WorkerConfig(thread_mode=ThreadMode.MULTI, ucx_options={"TLS": "tcp,self"})
    assert clone(config) == config


def test_equal_configs_are_one_in_a_set():
    assert len({WorkerConfig(), WorkerConfig(), WorkerConfig(ucx_options={"TLS": "tcp"})}) == 2
