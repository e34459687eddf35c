"""Recognisers: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache

from deidcli.faces.recognisers.base import Recogniser
from deidcli.faces.registry import registered


@cache
def available() -> dict[str, type[Recogniser]]:
    """Every recogniser of this folder by name. Importing them loads no library and no weights."""
    return registered(__name__, __path__, Recogniser)
