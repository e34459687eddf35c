"""Recognisers: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache

from deidcli.faces.recognisers.base import Recogniser
from deidcli.faces.registry import offered, registered


@cache
def available() -> dict[str, type[Recogniser]]:
    """Every recogniser by name: those of this folder, then those that other packages offer as entry points.

    Importing them loads no library and no weights.
    """
    return offered(registered(__name__, __path__, Recogniser), "deidcli.recognisers")
