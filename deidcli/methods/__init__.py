"""Methods: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from deidcli.errors import UsageError
from deidcli.faces.registry import registered
from deidcli.methods.base import Method

ENTRY_POINTS = "deidcli.methods"


@cache
def available() -> dict[str, type[Method]]:
    """Every method by name: those of this folder, then those that other packages offer as entry points."""
    known = registered(__name__, __path__, Method)
    for point in metadata.entry_points(group=ENTRY_POINTS):
        known.setdefault(point.name, point.load())
    return dict(sorted(known.items()))


def find(name: str) -> type[Method]:
    """The method called `name`. Raises UsageError with the names that exist."""
    if name not in available():
        raise UsageError(f"no method is called {name!r}", f"choose one of {', '.join(available())}")
    return available()[name]
