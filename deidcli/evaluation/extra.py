"""The libraries of the extra `eval`, which a plain installation does not bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deidcli.errors import MissingDependency


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn a failed import in the body into MissingDependency that says what needs it."""
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{what} needs {error.name}", "run `pip install deidcli[eval]`") from error
