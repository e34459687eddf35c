"""Registry: what a folder of files offers, when each file is its own registration."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module, metadata
from inspect import isabstract, isclass
from pkgutil import iter_modules
from typing import ClassVar, Protocol, TypeVar

from deidcli.errors import UsageError, choices


class Takes(Protocol):
    """takes_file, needs_file: whether a kind's name may be followed by :FILE, and whether it has to be."""

    takes_file: ClassVar[bool]
    needs_file: ClassVar[bool]


Kind = TypeVar("Kind", bound=Takes)


def registered(package: str, path: Iterable[str], base: type) -> dict[str, type]:
    """Every concrete subclass of `base` that a module of `package` (in the folders `path`) defines, by its `name`.

    Packages within it are searched, too. A class that says `listed = False` is left out.
    """
    found = {}
    for info in iter_modules(path):
        module = import_module(f"{package}.{info.name}")
        if info.ispkg:
            found.update(registered(module.__name__, module.__path__, base))
        for kind in vars(module).values():
            own = isclass(kind) and issubclass(kind, base) and kind.__module__ == module.__name__
            if own and not isabstract(kind) and getattr(kind, "listed", True):
                found[kind.name] = kind
    return dict(sorted(found.items()))


def offered(known: dict[str, type], group: str) -> dict[str, type]:
    """`known` by name, and what other packages offer by entry points of `group` under names that are not taken."""
    found = dict(known)
    for point in metadata.entry_points(group=group):
        if point.name not in found:
            found[point.name] = point.load()
    return dict(sorted(found.items()))


def named(known: dict[str, type[Kind]], text: str, what: str) -> tuple[type[Kind], str]:
    """The kind that `text` names, NAME or NAME:FILE, and the file, "" for none. what: as in --what, for messages.

    Raises UsageError.
    """
    name, _, file = text.partition(":")
    if name not in known:
        raise UsageError(f"no {what} is called {name!r}", choices(name, known))
    kind = known[name]
    if bool(file) != kind.takes_file and (file or kind.needs_file):
        hint = f"write {name}:FILE" if kind.takes_file else f"write {name}"
        raise UsageError(f"--{what} {text}: {'no' if file else 'a'} file belongs to {name}", hint)
    return kind, file
