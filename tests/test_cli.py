from __future__ import annotations

import contextlib
import html
import json
import os
import pty
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

import ucxnb
from ucxnb import UcxWorker
from ucxnb.cli import main
from ucxnb.diagnosis import Finding, diagnose
from ucxnb.errors import UcxnbError
from ucxnb.info import print_info
from ucxnb.lab import copy_notebooks, open_lab
from ucxnb.stats import WorkerStats
from ucxnb.terminal import figures_line
from ucxnb.transports import describe_transport, is_gpu, is_rdma, is_shared_memory
from ucxnb.ucx_info import MemoryDomain, Transport, UcxInfo, parse_ucx_info, read_ucx_info

COMMAND = [sys.executable, "-P", "-m", "ucxnb"]
WAIT = 60.0


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        **options,
    )


@contextlib.contextmanager
def started(*arguments: str, **options) -> Iterator[subprocess.Popen[str]]:
    """Run the command in the background; it is gone after the block."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# The command


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("lab", "demo", "serve", "repl", "bench", "info"))


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["demo", "--seconds", "0"], ["demo", "--seconds", "x"], ["demo", "--", "x"]],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: ucxnb" in capsys.readouterr().err


def test_the_installed_script_is_this_command():
    script = os.path.join(os.path.dirname(sys.executable), "ucxnb")
    done = subprocess.run(
        [script, "info", "-h"], capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert (done.returncode, "versions" in done.stdout) == (0, True)


# demo


def test_demo_names_a_shared_memory_transport():
    done = run("demo", "--seconds", "2.2")
    assert (done.returncode, done.stderr) == (0, "")
    transports = done.stdout.partition("\nTransports\n")[2]
    assert re.search(r"^  (posix|sysv)/memory +shared memory", transports, re.MULTILINE)
    assert "WorkerStats" in done.stdout
    assert len(re.findall(r"messages/s   1 connection\n", done.stdout)) == 2
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout


def test_demo_over_tcp_says_tcp():
    done = run("demo", "--seconds", "0.3", env={**os.environ, "UCX_TLS": "tcp,self"})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  tcp/\w+ +TCP sockets", done.stdout, re.MULTILINE)


def test_demo_without_ucx_fails_clearly(tmp_path):
    (tmp_path / "ucxx.py").write_text("raise ImportError('no ucxx here')")
    done = run("demo", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"ucxnb demo: .*no ucxx here.*pip install .*\n", done.stderr)


def test_demo_ends_cleanly_by_ctrl_c():
    with started("demo", "--seconds", "60") as process:
        assert "Connected" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 130
        assert said.endswith("\nucxnb demo: interrupted\n")
        assert "Traceback" not in said


def test_demo_stops_when_nobody_reads_it():
    with started("demo", "--seconds", "1.5") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(WAIT) == 1
        process.stdout = None


def test_a_terminal_gets_one_line_that_is_renewed():
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, "demo", "--seconds", "1.2"],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "60"},
        ) as process:
            os.close(theirs)
            said = read_terminal(ours)
            assert process.wait(WAIT) == 0
    finally:
        os.close(ours)
    renewed = re.findall(r"\r( *[\d.]+ s   sent[^\r\n]*)\x1b\[K", said)
    assert len(renewed) >= 2
    assert all(len(line) <= 59 for line in renewed)


def read_terminal(fd: int) -> str:
    said = b""
    while select.select([fd], [], [], WAIT)[0]:
        try:
            said += os.read(fd, 65536)
        except OSError:  # the other end was closed
            break
    return said.decode()


# serve


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_echoes_until_it_is_told_to_stop(number):
    with started("serve") as process:
        address = re.match(r"Listening on (\S+:\d+);", process.stdout.readline())[1]
        with UcxWorker() as worker:
            endpoint_id = worker.connect(address)
            for tag in range(100):
                worker.send_tag(endpoint_id, tag, b"x" * tag)
            for tag in range(100):
                assert worker.receive_tag(endpoint_id, tag, timeout=WAIT) == b"x" * tag
            process.send_signal(number)
            said, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0
        assert re.search(r"messages sent +100\n", said)
        assert "Traceback" not in said


def test_serve_where_it_is_told():
    port = free_port()
    with started("serve", f"127.0.0.1:{port}") as process:
        assert f"Listening on 127.0.0.1:{port}" in process.stdout.readline()
        with UcxWorker() as worker:
            worker.connect(f"127.0.0.1:{port}")


def test_serve_warns_when_others_can_reach_it():
    with started("serve", "0.0.0.0:0") as process:
        warning = process.stdout.readline()  # with the standard errors in it
        assert re.match(r"Warning: whoever reaches 0\.0\.0\.0:\d+ .*UCXNB_AUTH_KEY", warning)
        assert "Listening on 0.0.0.0:" in process.stdout.readline()


def test_serve_with_the_key_in_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("schlüssel in a file\n# a second line is none of it\n")
    with started("serve", "--auth-key-file", str(file)) as process:
        address = re.match(r"Listening on (\S+:\d+);", process.stdout.readline())[1]
        with UcxWorker(auth_key="schlüssel in a file") as worker, UcxWorker() as keyless:
            endpoint_id = worker.connect(address)
            worker.send_tag(endpoint_id, 1, b"hello")
            assert worker.receive_tag(endpoint_id, 1, timeout=WAIT) == b"hello"
            with pytest.raises(ucxnb.AuthenticationError):
                keyless.connect(address)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"", "not 0"),
        (b"hush\nhush hush hush hush", "not 4"),
        (b"hush\0hush hush hush", "zero"),
    ],
)
def test_a_file_with_no_key_is_refused(tmp_path, capsys, content, problem):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    assert main(["repl", "--auth-key-file", str(file)]) == 1
    said = capsys.readouterr().err
    assert str(file) in said
    assert problem in said
    assert "hush" not in said


def test_serve_on_a_port_in_use_fails_clearly():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"ucxnb serve: .*\n", done.stderr)


def test_serve_on_no_address_fails_clearly():
    done = run("serve", "nonsense")
    assert done.returncode == 1
    assert "has no port" in done.stderr


# info


def test_info_tells_versions_transports_and_what_is_missing():
    done = run("info")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("ucxnb", "UCX", "UCXX", "Python", "kernel", "jupyterlab", "bokeh"):
        assert re.search(rf"^  {name} .*\d", done.stdout, re.MULTILINE), name
    for name in ("self", "tcp", "posix"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name
    for topic in ("Shared memory space", "CMA", "RDMA", "GPU", "File descriptors", "UCX_*"):
        assert re.search(rf"\] +{re.escape(topic)}", done.stdout), topic
    assert ucxnb.__version__ in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_info_without_ucx_says_what_to_install(tmp_path):
    (tmp_path / "ucxx.py").write_text("raise ImportError('no ucxx here')")
    done = run("info", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "[note] UCX: not installed" in done.stdout
    assert "pip install" in done.stdout


def test_info_without_its_program(monkeypatch, capsys):
    monkeypatch.setattr("ucxnb.info.read_ucx_info", lambda: None)
    assert print_info() == 0
    assert "ucx_info is neither" in capsys.readouterr().out


def test_info_without_the_notebook_extra(monkeypatch, capsys):
    monkeypatch.setattr("ucxnb.info._NOTEBOOK", ("jupyterlab", "no-such-distribution"))
    assert print_info() == 0
    assert 'pip install "ucxnb[notebook]"' in capsys.readouterr().out


TEXT = """# Library version: 1.99.0
# Configured with: --enable-mt --without-verbs
#
# Memory domain: tcp
#     Component: tcp
#
#      Transport: tcp
#         Device: eth0
#           Type: network
#
#      capabilities:
#            bandwidth: 12.00/ppn + 0.00 MB/sec
#              latency: 40000 nsec
#             overhead: 30000 nsec
#
# Memory domain: mlx5_0
#     Component: ib
#         memory types: host (access,reg)
#
#      Transport: rc_mlx5
#         Device: mlx5_0:1
#           Type: network
# < failed to open memory domain gdr_copy >
"""


def test_ucx_info_is_read():
    assert parse_ucx_info(TEXT) == UcxInfo(
        "1.99.0",
        "--enable-mt --without-verbs",
        (Transport("tcp", "eth0", 12 * 2**20, 100e-6), Transport("rc_mlx5", "mlx5_0:1")),
        (MemoryDomain("tcp", ""), MemoryDomain("mlx5_0", "host (access,reg)")),
        ("failed to open memory domain gdr_copy",),
    )
    assert parse_ucx_info("") == UcxInfo("", "", ())


def test_ucx_info_of_this_machine():
    info = read_ucx_info()
    assert info.has("self")
    assert info.has("tcp")
    assert not info.has("tc")


def findings(ucx: UcxInfo | None) -> dict[str, Finding]:
    return {finding.topic.partition(" (")[0]: finding for finding in diagnose(ucx)}


def test_every_finding_that_is_not_good_says_what_it_means():
    for finding in diagnose(parse_ucx_info("")) + diagnose(None):
        assert finding.good or (finding.meaning and finding.advice)
    assert not findings(parse_ucx_info(""))["Shared memory transports"].good
    assert findings(parse_ucx_info(TEXT))["RDMA"].good


def test_tcp_devices_whose_speed_nobody_knows(monkeypatch):
    tcp = UcxInfo("1", "", (Transport("tcp", "lo", 12e6), Transport("tcp", "eth0", 1.2e9)))
    monkeypatch.setattr("ucxnb.diagnosis._has_speed", lambda device: device == "eth0")
    found = findings(tcp)["Speed of TCP devices"]
    assert not found.good
    assert "not known of lo (" in found.found
    monkeypatch.setattr("ucxnb.diagnosis._has_speed", lambda device: True)
    assert findings(tcp)["Speed of TCP devices"].good


def test_info_as_a_page():
    info = ucxnb.machine_info()
    assert info.usable
    page = info._repr_html_()
    for finding in info.findings:
        for text in (finding.topic, finding.found, finding.meaning, finding.advice):
            assert html.escape(text) in page
    for domain in info.ucx.memory_domains:
        assert html.escape(domain.name) in page
    assert str(info) == info.text


def test_rdma_cards_that_this_build_cannot_use(monkeypatch):
    monkeypatch.setattr("ucxnb.diagnosis._entries", lambda folder: ["mlx5_0", "nvidia0", "kfd"])
    for build, why in (("--without-verbs", "this build"), ("", "cannot be opened")):
        found = findings(UcxInfo("1", build, ()))
        assert why in found["RDMA"].found
        assert found["RDMA"].advice
        assert found["GPU"].advice


def test_blocked_cma_is_found_by_trying(monkeypatch):
    monkeypatch.setattr("ucxnb.diagnosis.os.getpid", lambda: 2**30)  # no such process to copy from
    found = findings(None)["CMA"]
    assert not found.good
    assert "No such process" in found.found


def test_little_shared_memory_and_few_descriptors(monkeypatch):
    monkeypatch.setattr("ucxnb.diagnosis._SMALL_SHM", 2**62)
    monkeypatch.setattr("ucxnb.diagnosis._MANY_DESCRIPTORS", 2**62)
    found = findings(None)
    assert "--shm-size" in found["Shared memory space"].advice
    assert "connections" in found["File descriptors"].meaning


def test_settings_in_the_environment_are_named(monkeypatch):
    monkeypatch.setenv("UCX_TLS", "tcp")
    assert findings(None)["UCX_* settings"].found == "UCX_TLS=tcp"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("posix/memory", is_shared_memory), ("rc_mlx5/mlx5_0:1", is_rdma), ("cuda_ipc/cuda", is_gpu)],
)
def test_transports_in_words(name, kind):
    assert [k(name) for k in (is_shared_memory, is_rdma, is_gpu)].count(True) == 1
    assert kind(name)
    assert describe_transport(name)
    assert describe_transport("brand_new/x") == ""


def test_a_line_of_figures():
    earlier = WorkerStats(0, 0, 0, 0, 0, 1.0, 1)
    later = WorkerStats(1000, 500, 5_000_000, 2_000_000, 0, 2.0, 2)
    assert figures_line(earlier, later).split() == (
        [
            "2.0",
            "s",
            "sent",
            "5.0",
            "MB/s",
            "received",
            "2.0",
            "MB/s",
            "1,500",
            "messages/s",
            "2",
            "connections",
        ]
    )


# lab


def test_lab_without_the_notebook_extra_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("ucxnb.lab._NEEDED", ("json", "no_such_module", "nor_this"))
    with pytest.raises(UcxnbError) as caught:
        open_lab(tmp_path, [])
    assert str(caught.value) == (
        "no_such_module, nor_this are not installed; "
        'install the notebook extra: pip install "ucxnb[notebook]"'
    )


def test_lab_never_overwrites_your_copy(tmp_path, capsys):
    folder = copy_notebooks(tmp_path / "mine")
    first = folder / "01_quickstart.ipynb"
    assert "Copied" in capsys.readouterr().out
    assert json.loads(first.read_text())["nbformat"] == 4
    first.write_text("edited")
    copy_notebooks(folder)
    assert "Kept" in capsys.readouterr().out
    assert first.read_text() == "edited"


def test_lab_starts_a_server_that_knows_the_notebook(tmp_path):
    port, token = free_port(), secrets.token_hex(8)
    arguments = ["--no-browser", f"--port={port}", f"--IdentityProvider.token={token}"]
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    with started("lab", "--", *arguments, cwd=tmp_path, env=environment) as process:
        url = f"http://127.0.0.1:{port}/api/contents?token={token}"
        names = {entry["name"] for entry in json.loads(fetch(url, process))["content"]}
        assert "01_quickstart.ipynb" in names
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT)


def fetch(url: str, process: subprocess.Popen[str]) -> bytes:
    """Get a page from a server that is still starting."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError as error:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, error
            time.sleep(0.1)


# ---------------------------------------------------------------------------
# dashboard, metrics, publish


def fetched(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read().decode()


def line_after(process, start: str) -> str:
    """Wait for a line that begins so, and give the rest of it."""
    for line in process.stdout:
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise AssertionError(f"{start!r} was not printed")


def test_serve_shows_publishes_and_is_scraped():
    with started(
        *("serve", "--dashboard", "--metrics", "127.0.0.1:0", "--publish", "127.0.0.1:0")
    ) as process:
        page = line_after(process, "Dashboard: ")
        metrics = line_after(process, "Metrics: ")
        publisher = line_after(process, "Watch it with: ucxnb dashboard ")
        line_after(process, "Listening on ")
        assert "ucxnb: serve" in fetched(page)
        text = fetched(metrics)
        assert 'ucxnb_connections{worker="serve"} 0.0' in text
        with started("dashboard", publisher) as watching:
            page = line_after(watching, "Dashboard: ")
            assert "ucxnb: serve" in fetched(page)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_dashboard_of_nobody_fails_clearly():
    done = run("dashboard", "127.0.0.1:1")
    assert done.returncode == 1
    assert re.fullmatch(r"ucxnb dashboard: .*nothing listens there.*\n", done.stderr)
