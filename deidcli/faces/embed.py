"""Embedding: describe faces by numbers, with what --recogniser stands for."""

from __future__ import annotations

from deidcli.faces.recognisers import available
from deidcli.faces.recognisers.base import Recogniser, cosine_distance
from deidcli.faces.registry import named

__all__ = ["Recogniser", "cosine_distance", "recogniser"]


def recogniser(name: str) -> Recogniser:
    """The recogniser called `name`, with ":FILE" behind it for one that needs a file. Raises UsageError."""
    kind, file = named(available(), name, "recogniser")
    return kind(file)
