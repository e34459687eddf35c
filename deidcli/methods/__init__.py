"""Methods: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache
from importlib import import_module, metadata
from inspect import isabstract, isclass
from pkgutil import iter_modules

from deidcli.errors import UsageError
from deidcli.methods.base import Method

ENTRY_POINTS = "deidcli.methods"


@cache
def available() -> dict[str, type[Method]]:
    """Every method by name: those of this folder, then those that other packages offer as entry points."""
    kinds = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for kind in vars(module).values():
            own = isclass(kind) and issubclass(kind, Method) and kind.__module__ == module.__name__
            if own and not isabstract(kind):
                kinds[kind.name] = kind
    for point in metadata.entry_points(group=ENTRY_POINTS):
        kinds.setdefault(point.name, point.load())
    return dict(sorted(kinds.items()))


def find(name: str) -> type[Method]:
    """The method called `name`. Raises UsageError with the names that exist."""
    if name not in available():
        raise UsageError(f"no method is called {name!r}", f"choose one of {', '.join(available())}")
    return available()[name]
