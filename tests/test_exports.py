"""What `import ucxnb` gives, and that it costs nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ucxnb

NAMES = {
    "EchoPeer",
    "EndpointInfo",
    "EndpointState",
    "EngineHealth",
    "Event",
    "EventKind",
    "Histogram",
    "KeptConnection",
    "Listener",
    "Loss",
    "Message",
    "Rates",
    "Refusal",
    "Refusals",
    "RegisteredMemory",
    "RemoteArray",
    "RemoteMemory",
    "Request",
    "Snapshot",
    "StatsHistory",
    "ThreadMode",
    "TrafficGenerator",
    "TrafficStats",
    "UcxStream",
    "UcxWorker",
    "UcxListenerWarning",
    "UnprotectedListenerWarning",
    "WorkerConfig",
    "WorkerStats",
    "Explanation",
    "MachineInfo",
    "as_completed",
    "machine_info",
    "enable_nested_asyncio",
    "wait_all",
    "wait_any",
}
HEAVY = {"ucxx", "libucx", "numpy", "bokeh", "ipywidgets", "anywidget", "IPython", "asyncio"}


def fresh(code: str) -> dict:
    """Run code in a new interpreter; it prints one line of JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_public_names():
    errors = set(ucxnb.errors.__all__)
    assert set(ucxnb.__all__) - {"__version__"} == NAMES | errors
    assert len(set(ucxnb.__all__)) == len(ucxnb.__all__)


def test_every_name_is_there_and_listed():
    for name in ucxnb.__all__:
        assert getattr(ucxnb, name) is not None
    assert set(ucxnb.__all__) <= set(dir(ucxnb))


def test_classes_say_that_they_come_from_the_package():
    for name in NAMES:
        assert getattr(ucxnb, name).__module__.startswith("ucxnb"), name


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(ucxnb, "UcxWroker")


def test_importing_has_no_effect():
    code = (
        "import json, os, sys, threading\n"
        "before = dict(os.environ)\n"
        "import ucxnb\n"
        "print(json.dumps({\n"
        "    'modules': sorted({n.partition('.')[0] for n in sys.modules}),\n"
        "    'threads': threading.active_count(),\n"
        "    'tasks': len(os.listdir('/proc/self/task')),\n"
        "    'same': before == dict(os.environ)}))\n"
    )
    seen = fresh(code)
    assert not HEAVY & set(seen["modules"])
    assert (seen["threads"], seen["tasks"], seen["same"]) == (1, 1, True)


def test_a_worker_leaves_the_environment_and_loads_no_notebook_parts():
    code = (
        "import json, os, sys\n"
        "before = dict(os.environ)\n"
        "from ucxnb import UcxWorker\n"
        "UcxWorker().close()\n"
        "print(json.dumps({'same': before == dict(os.environ), 'modules': sorted(sys.modules)}))\n"
    )
    seen = fresh(code)
    assert seen["same"]
    assert not {"bokeh", "ipywidgets", "anywidget", "IPython"} & set(seen["modules"])


def test_without_ucxx_a_worker_says_what_to_install():
    code = (
        "import json, sys\n"
        "sys.modules['ucxx'] = None\n"
        "import ucxnb\n"
        "try:\n"
        "    ucxnb.UcxWorker()\n"
        "except ucxnb.MissingUcxError as error:\n"
        "    print(json.dumps({'said': str(error)}))\n"
    )
    assert 'pip install "ucxnb[cu13]"' in fresh(code)["said"]


def test_source_that_was_not_built_says_so(tmp_path: Path) -> None:
    source = Path(ucxnb.__file__).parent
    copy = tmp_path / "ucxnb"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    metadata = tmp_path / "ucxnb-0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: ucxnb\nVersion: 0\n")
    done = subprocess.run(
        # Without the site packages an editable install does not get in between.
        [sys.executable, "-S", "-c", "import ucxnb; ucxnb.UcxWorker"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "source code that was not built" in done.stderr
