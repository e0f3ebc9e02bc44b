"""The only module that imports UCXX: contexts, workers and their addresses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .config import WorkerConfig
from .engine import load_ucp
from .errors import ConfigError, MissingUcxError, UcxError

__all__ = ["UcpWorker", "ucx_versions"]

_INSTALL = (
    'install UCX with one of: pip install "ucxnb[cu13]" or pip install "ucxnb[cu12]" '
    "(both run on machines without a GPU)"
)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what importing UCXX writes into the environment, which children would inherit."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _load() -> Any:
    """Import UCXX's low-level module, and bind the engine to the UCX it brought."""
    try:
        with _environment_kept():
            import ucxx._lib.libucxx as libucxx
    except ImportError as error:
        raise MissingUcxError(f"UCXX cannot be imported ({error}); {_INSTALL}") from error
    load_ucp()
    return libucxx


def ucx_versions() -> tuple[str, str]:
    """Versions of the UCX and UCXX that workers use.

    Returns
    -------
    tuple of str
        UCX's and UCXX's.

    Raises
    ------
    MissingUcxError
        If they are not installed.
    """
    _load()
    import ucxx

    return load_ucp(), ucxx.__version__


_DEFAULTS = {
    # Endpoints that notice a dead peer would avoid shared memory.
    "MM_ERROR_HANDLING": "y",
    # And over TCP they copy large messages in pieces of 8 KiB: a quarter of the bandwidth.
    "TCP_TX_SEG_SIZE": "512k",
    "TCP_RX_SEG_SIZE": "512k",
    # A peer's address that leads nowhere would hold the whole worker up for two minutes.
    "TCP_CONN_NB": "y",
}


class UcpWorker:
    """A UCP context with one worker, as UCXX makes them; thread-safe (``UCS_THREAD_MODE_MULTI``).

    Parameters
    ----------
    config : WorkerConfig
        Which features and which UCX options.

    Attributes
    ----------
    handle : int
        The ``ucp_worker_h``.
    context : UCXContext
        UCXX's; it holds the ``ucp_context_h``.
    address : bytes
        The worker's address, for ``ucp_ep_create`` by a peer.

    Raises
    ------
    MissingUcxError
        If UCXX is not installed.
    ConfigError
        If UCX refuses an option.
    UcxError
        If UCX cannot start.
    """

    def __init__(self, config: WorkerConfig) -> None:
        libucxx = _load()
        feature = libucxx.Feature
        features = [feature.WAKEUP]
        if config.enable_tag:
            features.append(feature.TAG)
        if config.enable_stream:
            features.append(feature.STREAM)
        if config.enable_rma:
            features += [feature.RMA, feature.AMO32, feature.AMO64]
        options = _options(config.ucx_options)
        try:
            self.context = libucxx.UCXContext(options, feature_flags=tuple(features))
        except libucxx.UCXInvalidParamError as error:
            raise ConfigError(
                f"ucx_options: UCX knows no such setting, or not such a value: {options}; "
                "ucx_info -cf lists them"
            ) from error
        except libucxx.UCXError as error:
            raise UcxError(f"UCX cannot start with {options}: {error}") from error
        try:
            self._worker = libucxx.UCXWorker(
                self.context, enable_delayed_submission=False, enable_python_future=False
            )
        except libucxx.UCXError as error:
            raise UcxError(f"UCX cannot make a worker with {options}: {error}") from error
        self.handle: int = self._worker.handle
        self.address = bytes(self._worker.address)

    def close(self) -> None:
        """Destroy worker and context; the progress thread must have stopped."""
        del self._worker
        del self.context


def _options(chosen: Mapping[str, str]) -> dict[str, str]:
    """UCX options with our defaults on top."""
    ours = {name: value for name, value in _DEFAULTS.items() if f"UCX_{name}" not in os.environ}
    return {**ours, **chosen}
