"""Every public name says what it does, and those of the user's API name each parameter."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator

import pytest

import ucxnb
from ucxnb import cluster

API = ("ucxnb", "ucxnb.widgets", "ucxnb.dashboard", "ucxnb.cluster", "ucxnb.explorer")
# create_listener(), keep_connected(), UcxCluster.map() and broadcast() make them.
NOT_MADE_BY_USERS = {ucxnb.KeptConnection, ucxnb.Listener, cluster.Group, cluster.Parts}
SKIPPED = {"ucxnb.__main__", "ucxnb._notebooks"}


def public_modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(ucxnb.__path__, "ucxnb."):
        if module.name not in SKIPPED and "._" not in module.name:
            yield module.name


def public_objects(modules: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Classes and functions in a module's `__all__`, and the public methods of the classes."""
    seen = set()
    for name in modules:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public)
            if not (inspect.isclass(thing) or callable(thing)) or id(thing) in seen:
                continue
            seen.add(id(thing))
            yield f"{thing.__module__}.{public}", thing
            if inspect.isclass(thing):
                yield from methods(thing)


def methods(cls: type) -> Iterator[tuple[str, object]]:
    for name in dir(cls):
        if name.startswith("_"):
            continue
        owner = next(c for c in cls.__mro__ if name in vars(c))
        if owner.__module__.startswith("ucxnb"):
            member = inspect.getattr_static(cls, name)
            if not isinstance(member, cls) and (callable(member) or is_descriptor(member)):
                yield f"{cls.__module__}.{cls.__qualname__}.{name}", member


def is_descriptor(member: object) -> bool:
    # Fields of dataclasses and named tuples are described in the class's docstring instead.
    return isinstance(member, property | classmethod | staticmethod)


OBJECTS = dict(public_objects(["ucxnb", *public_modules()]))
API_OBJECTS = dict(public_objects(API))


def parameters(thing: object) -> list[str]:
    if isinstance(thing, property):
        return []
    if isinstance(thing, classmethod | staticmethod):
        thing = thing.__func__
    try:
        names = list(inspect.signature(thing).parameters)
    except ValueError:  # a built-in type without a signature
        return []
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def description(thing: object) -> str:
    """Return the docstring, of a class with those that it inherits fields from."""
    classes = inspect.getmro(thing) if inspect.isclass(thing) else [thing]
    return "\n".join(inspect.getdoc(c) or "" for c in classes if c is not object)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_has_a_docstring(name):
    assert inspect.getdoc(OBJECTS[name]), f"{name} has no docstring"


@pytest.mark.parametrize("name", sorted(API_OBJECTS))
def test_its_parameters_are_described(name):
    thing = API_OBJECTS[name]
    if inspect.isclass(thing) and issubclass(thing, Exception | enum.Enum):
        return
    if thing in NOT_MADE_BY_USERS:
        return
    missing = [p for p in parameters(thing) if p not in description(thing)]
    assert not missing, f"{name} does not describe {', '.join(missing)}"


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_modules_have_a_docstring_and_list_their_names(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert hasattr(module, "__all__"), f"{name} has no __all__"
