from __future__ import annotations

import concurrent.futures
import inspect
import pickle

import pytest

from ucxnb import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]

BUILTINS = {
    "ConfigError": ValueError,
    "AddressError": ValueError,
    "MissingUcxError": ImportError,
    "UcxError": RuntimeError,
    "OpenFilesError": OSError,
    "WorkerClosedError": RuntimeError,
    "ThreadModeError": RuntimeError,
    "ArgumentError": (ValueError, TypeError),
    "FeatureDisabledError": RuntimeError,
    "TagTypeError": TypeError,
    "TagRangeError": ValueError,
    "InvalidBufferError": (BufferError, TypeError),
    "GpuMemoryError": (BufferError, TypeError),
    "BufferTooSmallError": ValueError,
    "UnknownEndpointError": LookupError,
    "BroadcastError": ConnectionError,
    "ObjectError": ValueError,
    "UntrustedPeersError": PermissionError,
    "RemoteKeyError": ValueError,
    "RemoteRangeError": IndexError,
    "RemoteReadOnlyError": PermissionError,
    "RequestCancelledError": concurrent.futures.CancelledError,
    "UsageError": ValueError,
    "ClusterError": RuntimeError,
    "WorkerLostError": ConnectionResetError,
    "OperationTimeoutError": TimeoutError,
    "ConnectTimeoutError": TimeoutError,
    "EndpointError": ConnectionError,
    "EndpointClosedError": ConnectionAbortedError,
    "EndpointLostError": ConnectionResetError,
    "PeerClosedError": ConnectionResetError,
    "PeerFullError": TimeoutError,
    "NoPeersError": ConnectionError,
    "ConnectRefusedError": ConnectionRefusedError,
    "UnreachableError": ConnectionError,
    "HandshakeError": ConnectionError,
    "RecordingError": ValueError,
    "RejectedError": ConnectionRefusedError,
    "AuthenticationError": (PermissionError, ConnectionRefusedError),
    "AddressInUseError": ConnectionError,
}


def make(cls):
    extra = {
        errors.UcxError: (-3,),
        errors.BufferTooSmallError: (10,),
        errors.ObjectError: (b"data",),
        errors.BroadcastError: ((1, 2), {3: ValueError("x")}),
        errors.ClusterError: ({"tcp://1": 2}, {"tcp://2": ValueError("x")}),
        errors.WorkerLostError: ("tcp://1",),
    }
    if issubclass(cls, errors.EndpointError):
        return cls("what happened", 7)
    return cls("what happened", *extra.get(cls, ()))


def test_all_lists_every_class():
    defined = {n for n, c in vars(errors).items() if inspect.isclass(c)}
    assert defined == set(errors.__all__)
    assert set(BUILTINS) == defined - {"UcxnbError"}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_one_tree_with_the_builtins_beside_it(cls):
    assert issubclass(cls, errors.UcxnbError)
    for builtin in [BUILTINS.get(cls.__name__, Exception)]:
        assert all(issubclass(cls, b) for b in (builtin if type(builtin) is tuple else [builtin]))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_the_tree_at_the_top_of_the_file_is_the_real_one(cls):
    line = next(line for line in errors.__doc__.splitlines() if f" {cls.__name__} " in f"{line} ")
    for base in cls.__bases__:
        if base is not errors.UcxnbError and not issubclass(base, errors.UcxnbError):
            assert base.__name__ in line


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_the_message_is_the_text(cls):
    assert str(make(cls)) == "what happened"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_survives_pickling_with_its_attributes(cls):
    error = make(cls)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert vars(copy).keys() == vars(error).keys()
    for name in ("status", "needed", "endpoint_id", "delivered"):
        assert getattr(copy, name, None) == getattr(error, name, None)


def test_closed_by_you_is_not_lost_to_the_peer():
    assert not issubclass(errors.EndpointClosedError, errors.EndpointLostError)
    assert not issubclass(errors.EndpointLostError, errors.EndpointClosedError)
    assert issubclass(errors.PeerClosedError, errors.EndpointLostError)


def test_an_endpoint_error_without_an_endpoint_has_none():
    assert errors.HandshakeError("junk").endpoint_id is None
    assert errors.UcxError("no").status == 0
