"""UCX on a Dask cluster: a worker in each Dask worker, and what they do together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import UcxnbError

if TYPE_CHECKING:
    from .cluster import UcxCluster
    from .dashboard import ClusterDashboard
    from .group import Group
    from .membership import ClusterMember, MemberState
    from .pairs import PairFigures, PairMeasurement
    from .parts import Parts
    from .sample import MemberSample
    from .stats import ClusterStats, WorkerStatus

__all__ = [
    "ClusterDashboard",
    "ClusterMember",
    "ClusterStats",
    "Group",
    "MemberSample",
    "MemberState",
    "PairFigures",
    "PairMeasurement",
    "Parts",
    "UcxCluster",
    "WorkerStatus",
]

_PLACES = {
    "ClusterDashboard": ".dashboard",
    "ClusterMember": ".membership",
    "ClusterStats": ".stats",
    "Group": ".group",
    "MemberSample": ".sample",
    "MemberState": ".membership",
    "PairFigures": ".pairs",
    "PairMeasurement": ".pairs",
    "Parts": ".parts",
    "UcxCluster": ".cluster",
    "WorkerStatus": ".stats",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_PLACES[name], __name__), name)
    except ModuleNotFoundError as error:
        if error.name in ("distributed", "dask", "numpy"):
            raise UcxnbError(
                f'{error.name} is not installed; install it with: pip install "ucxnb[dask]"'
            ) from error
        raise


def __dir__() -> list[str]:
    return __all__
