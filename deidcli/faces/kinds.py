"""Kinds: what a folder of files offers, when each file is its own registration."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from inspect import isabstract, isclass
from pkgutil import iter_modules


def kinds(package: str, path: Iterable[str], base: type) -> dict[str, type]:
    """Every concrete subclass of `base` that a module of `package` (in the folders `path`) defines, by its `name`."""
    found = {}
    for info in iter_modules(path):
        module = import_module(f"{package}.{info.name}")
        for kind in vars(module).values():
            own = isclass(kind) and issubclass(kind, base) and kind.__module__ == module.__name__
            if own and not isabstract(kind):
                found[kind.name] = kind
    return dict(sorted(found.items()))
