"""Detectors: one file each. `available()` finds them; nothing else has to be edited to add one."""

from __future__ import annotations

from functools import cache

from deidcli.faces.detectors.base import Detector
from deidcli.faces.registry import offered, registered


@cache
def available() -> dict[str, type[Detector]]:
    """Every detector by name: those of this folder, then those that other packages offer as entry points.

    Importing them loads no library and no weights.
    """
    return offered(registered(__name__, __path__, Detector), "deidcli.detectors")
