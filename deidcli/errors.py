"""The errors a user can meet: what was wrong, what was received, what to do next.

Only `__main__` turns them into text and an exit status.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DeidError(Exception):
    """A failure that is explained in one line; `hint` says what to do next."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(DeidError):
    """The command was called in a way that cannot be carried out (exit status 2)."""


class MediaError(DeidError):
    """A file that cannot be read or written; the batch goes on without it."""


class PresetError(DeidError):
    """Weights that are missing, damaged, or not of the method that asked for them."""


class MethodError(DeidError):
    """A method that could not make a new face; the engine covers the face instead."""


class MissingDependency(DeidError):
    """An optional library is not installed; the hint names the extra that brings it."""


def choices(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one that is, where one is near, and all of them."""
    known = list(known)
    near = get_close_matches(name, known, 1)
    return (f"did you mean {near[0]}? " if near else "") + f"choose one of {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """Any error in one line, for a manifest, a log or a terminal."""
    text = str(error) if isinstance(error, DeidError) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """A text as a terminal may show it: control characters and marks that turn the writing are escapes.

    A file's name can hold any of them, and a terminal would obey.
    """
    return "".join(_escaped(letter) if _acts(letter) else letter for letter in text)


def _acts(letter: str) -> bool:
    code = ord(letter)
    controls = (code < 0x20 and letter not in "\n\t") or 0x7F <= code < 0xA0
    return (
        controls
        or code in (0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF)
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
