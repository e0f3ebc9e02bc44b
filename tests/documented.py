"""The errors that a public call's docstring names, and calls that may raise no others."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import ucxnb
from ucxnb import UcxnbError, UcxWorker, errors

_SECTION = re.compile(r"\nRaises\n-+\n(.*?)(?=\n\w[^\n]*\n-{3,}\n|\Z)", re.DOTALL)
_NAMES = re.compile(r"\b[A-Z]\w*Error\b")
_LIKE = re.compile(r"\b[Aa]s `([\w.]+)`")


class WickedError(Exception):
    """What the methods of junk raise: it must come out as it is."""


def documented_errors(function: Callable[..., Any]) -> frozenset[type[Exception]]:
    """Return the errors in a docstring's Raises, and in those of the calls it refers to."""
    found = _SECTION.search("\n" + (inspect.getdoc(function) or ""))
    if found is None:
        return frozenset()
    section = found[1]
    kinds = {
        getattr(errors, name)
        for line in section.splitlines()
        if not line.startswith(" ")
        for name in _NAMES.findall(line)
        if hasattr(errors, name)
    }
    if likes := _LIKE.findall(section):
        kinds.discard(UcxnbError)  # "UcxnbError: as `connect`" says no more than `connect` does
    for like in likes:
        kinds |= documented_errors(_resolve(like))
    if "but the timeout" in section:
        kinds.discard(errors.OperationTimeoutError)
    return frozenset(kinds)


def _resolve(name: str) -> Callable[..., Any]:
    owner, _, method = name.rpartition(".")
    if owner:
        return getattr(getattr(ucxnb, owner), method)
    if hasattr(UcxWorker, name):
        return getattr(UcxWorker, name)
    if hasattr(ucxnb, name):
        return getattr(ucxnb, name)
    return getattr(importlib.import_module("ucxnb.bench"), name)


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a call: give its result, or the error that its docstring names."""
    return attempt_as(call, lambda: call(*args, **kwargs))


def attempt_as(documented: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """`attempt` a call to which the docstring of another one applies."""
    try:
        return call()
    except (WickedError, MemoryError) as error:
        return error
    except UcxnbError as error:
        if not isinstance(error, tuple(documented_errors(documented))):
            raise AssertionError(
                f"{documented.__name__} does not document {type(error).__name__}"
            ) from error
        assert len(str(error)) < 5000
        return error
