"""Memory of GPUs: with a GPU and its driver where there are some, and else with an emulated driver.

UCX's own CUDA transports run in both cases.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from ucxnb.errors import GpuMemoryError, InvalidBufferError

HERE = Path(__file__).parent
CASES = HERE / "gpu" / "cases.py"


def has_driver():
    try:
        count = ctypes.c_int()
        driver = ctypes.CDLL("libcuda.so.1")
        return driver.cuInit(0) == 0 == driver.cuDeviceGetCount(ctypes.byref(count)) and count.value
    except OSError:
        return False


def run_cases(environment):
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.timeout(600)
def test_with_an_emulated_driver(tmp_path):
    library = tmp_path / "libcuda.so.1"
    compiler = os.environ.get("CC", "cc")
    flags = ["-shared", "-fPIC", "-O1", "-pthread", "-D_GNU_SOURCE", f"-Wl,-soname,{library.name}"]
    subprocess.run([compiler, *flags, HERE / "gpu" / "emulated_cuda.c", "-o", library], check=True)
    (tmp_path / "libnvidia-ml.so.1").symlink_to(library)
    done = run_cases({"LD_LIBRARY_PATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not has_driver(), reason="there is no GPU")
def test_on_the_gpus_of_this_machine():
    done = run_cases({})
    assert done.returncode == 0, done.stdout[-20_000:]


# ---- DLPack on the host


class OnlyDlpack:
    """An array that is no Python buffer."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)


class OldDlpack(OnlyDlpack):
    """As before DLPack 1."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__(stream=stream)


@pytest.fixture(params=[OnlyDlpack, OldDlpack])
def lent(request):
    return request.param


def test_an_array_with_dlpack_is_sent_and_filled(pair, lent):
    left, to_right, right, to_left = pair
    numbers = np.arange(5.0)
    left.send_tag(to_right, 1, lent(numbers))
    target = np.zeros(5)
    assert right.receive_tag(to_left, 1, lent(target), timeout=30) == numbers.nbytes
    assert (target == numbers).all()


def test_an_array_with_dlpack_has_rows(pair, lent):
    left, to_right, right, to_left = pair
    numbers = np.arange(12, dtype="i4").reshape(3, 4)
    left.send_rows(to_right, 1, lent(numbers))
    got = right.receive_tags(to_left, [1, 1, 1], timeout=30)
    assert got == [row.tobytes() for row in numbers]


def test_what_cannot_be_borrowed_is_refused(pair):
    left, to_right, right, to_left = pair
    with pytest.raises(InvalidBufferError, match="a contiguous array is needed"):
        left.send_tag(to_right, 1, OnlyDlpack(np.arange(10)[::2]))
    fixed = np.arange(3)
    fixed.flags.writeable = False
    left.send_tag(to_right, 1, OnlyDlpack(fixed))
    with pytest.raises(InvalidBufferError, match="read-only"):
        right.receive_tag(to_left, 1, OnlyDlpack(fixed))
    with pytest.raises(InvalidBufferError, match="OldDlpack does not give its memory"):
        left.send_tag(to_right, 1, OldDlpack(fixed))


class OnGpu:
    """As CuPy, Numba and RMM show memory of a GPU."""

    __cuda_array_interface__: ClassVar = {
        "version": 3,
        "shape": (4,),
        "typestr": "|u1",
        "data": (1 << 40, False),
    }


class TensorOnGpu:
    """As PyTorch does."""

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **how):
        raise BufferError("there is no GPU")


@pytest.mark.parametrize("array", [OnGpu(), TensorOnGpu()])
def test_an_array_on_a_gpu_that_cannot_be_reached_says_what_to_do(pair, array):
    left, to_right, right, to_left = pair
    for call in (
        lambda: left.send_tag(to_right, 1, array),
        lambda: left.isend_tag(to_right, 1, array),
        lambda: left.send_tags(to_right, [(1, array)]),
        lambda: left.send_rows(to_right, 1, array),
        lambda: left.broadcast_tag(1, array),
        lambda: left.receive_tag(to_right, 1, array),
        lambda: left.ireceive_tag(to_right, 1, array),
        lambda: left.receive_rows(to_right, 1, array),
        lambda: left.send_stream(to_right, array),
        lambda: left.receive_stream(to_right, array),
    ):
        with pytest.raises(GpuMemoryError, match=r"copy it to the host.*tensor\.cpu\(\)"):
            call()
    left.send_tag(to_right, 1, b"goes on")
    assert right.receive_tag(to_left, 1, timeout=30) == b"goes on"
