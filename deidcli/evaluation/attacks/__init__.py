"""Attacks: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache

from deidcli.errors import UsageError
from deidcli.evaluation.attacks.base import Attacker
from deidcli.faces.registry import offered, registered


@cache
def available() -> dict[str, type[Attacker]]:
    """Every attack by name: those of this folder, then those that other packages offer as entry points."""
    return offered(registered(__name__, __path__, Attacker), "deidcli.attacks")


def find(name: str) -> Attacker:
    """The attack called `name`. Raises UsageError with the names that exist."""
    if name not in available():
        raise UsageError(f"no attack is called {name!r}", f"choose one of {', '.join(available())}")
    return available()[name]()
