"""Detectors: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from inspect import isabstract, isclass
from pkgutil import iter_modules

from deidcli.faces.detect import Detector


@cache
def available() -> dict[str, type[Detector]]:
    """Every detector of this folder by name. Importing them loads no library and no weights."""
    kinds = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for kind in vars(module).values():
            own = isclass(kind) and issubclass(kind, Detector) and kind.__module__ == module.__name__
            if own and not isabstract(kind):
                kinds[kind.name] = kind
    return dict(sorted(kinds.items()))
