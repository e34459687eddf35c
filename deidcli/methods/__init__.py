"""Methods: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from deidcli.errors import UsageError, choices
from deidcli.faces.registry import offered, registered
from deidcli.methods.base import Method, Secret

ENTRY_POINTS = "deidcli.methods"


@cache
def available() -> dict[str, type[Method]]:
    """Every method by name: those of this folder, then those that other packages offer as entry points."""
    return offered(registered(__name__, __path__, Method), ENTRY_POINTS)


def make(name: str, options: Mapping[str, Any], seed: int | None = None) -> Method:
    """The method called `name` with `options` by name; None stands for the default of one.

    seed: makes its draws repeatable; without one they are secret. Raises UsageError for an option of another method,
    naming that method, and for values that are out of range.
    """
    kind = find(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in {item.name for item in fields(kind.Options)}:
            owners = [
                other for other, each in available().items() if key in {item.name for item in fields(each.Options)}
            ]
            hint = f"it is for {' or '.join(f'--method {other}' for other in owners)}" if owners else "leave it out"
            raise UsageError(f"--{key.replace('_', '-')} does not belong to --method {name}", hint)
    secret = Secret.drawn() if seed is None else Secret.seeded(seed)
    return kind.create(kind.Options(**given), secret)


def find(name: str) -> type[Method]:
    """The method called `name`. Raises UsageError with the names that exist."""
    if name not in available():
        raise UsageError(f"no method is called {name!r}", choices(name, available()))
    return available()[name]


class _CallablePackage(ModuleType):
    """`deidcli.methods` is this package, and the library's `deidcli.methods()`: the one that is loaded may not hide the
    other."""

    def __call__(self) -> Any:
        """What there is: `deidcli.api.methods`."""
        return import_module("deidcli.api").methods()


sys.modules[__name__].__class__ = _CallablePackage
