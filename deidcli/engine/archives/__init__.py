"""Archives and shards of data sets: what is in one, and how a new one of the same kind is made of it.

An archive is one file of a run: its members are jobs, and it gets its name when the last of them is done, whole.
Members keep their names and their order; a member that fails is left out, and what lies beside it in its sample too.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from deidcli.engine.buckets import Object, Url, object_at
from deidcli.engine.stored import Copy, Stored, copied, suffix_of, unsafe
from deidcli.errors import DeidError, MediaError, MissingDependency, UsageError, one_line

MEMBERS = 1_000_000
LARGEST = 8 << 30  # bytes of one member
SMALL, RATIO = 4 << 30, 100  # of all members: so many bytes, or so many for each byte of the archive
_KINDS = {
    ".zip": ("deidcli.engine.archives.zip_tar", "Zip"),
    ".tar": ("deidcli.engine.archives.zip_tar", "Tar"),
    ".parquet": ("deidcli.engine.archives.columns", "Parquet"),
}


@dataclass(frozen=True)
class Entry:
    """An entry of an archive. path: its name there. sample: what it shares with others of its sample,
    "" where it belongs to none. plain: whether it is a file, and not a folder, a link or a device."""

    path: str
    size: int
    sample: str = ""
    plain: bool = True


class Archive(ABC):
    """An archive that is read. place: where it lies. columns: of a table those that hold pictures.

    carries: whether what lies beside a picture under its name belongs to it, as in a shard of WebDataset. lenient:
    whether columns of bytes that were not named are kept.
    """

    carries: ClassVar[bool] = False
    lenient: bool = False

    def __init__(self, place: Path | Stored, columns: Sequence[str] = ()):
        self.place, self.columns = place, tuple(columns)
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        # What is open stays in its process.
        return {"place": self.place, "columns": self.columns, "lenient": self.lenient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """Start with nothing open, here or in the process that the archive was sent to."""
        self._copy: Copy | None = None
        self._reading = threading.Lock()

    def checked(self) -> list[Entry]:
        """Every entry, in order. Raises MediaError for an archive that is damaged, or leads elsewhere, or is a bomb."""
        try:
            with self.opened():
                entries = list(self._bounded())
        except DeidError:
            raise
        except Exception as error:
            raise MediaError(f"it is damaged: {one_line(error)}", "get a whole copy of the file") from error
        names = [entry.path for entry in entries]
        if len(set(names)) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise MediaError(f"it has {twice!r} twice", "pack it again")
        return entries

    def _bounded(self) -> Iterator[Entry]:
        room, whole = max(SMALL, RATIO * self._length()), 0
        for number, entry in enumerate(self.entries()):
            whole += entry.size
            if wrong := unsafe(entry.path):
                raise MediaError(f"it has {wrong}", "pack it again")
            if number >= MEMBERS or entry.size > LARGEST or whole > room:
                raise MediaError(
                    "it would unpack to far more than an archive of its size normally holds", "unpack it by hand"
                )
            yield entry

    def _length(self) -> int:
        return self.local.stat().st_size

    @property
    def local(self) -> Path:
        """Where its bytes lie on this machine; those of a bucket are copied while it is open."""
        if isinstance(self.place, Path):
            return self.place
        if self._copy is None:
            self._copy = copied(self.place)
        return self._copy.path

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Free everything, at the end."""
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close what is open; it is opened again when needed."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Every entry, in order, unchecked."""

    @abstractmethod
    def open(self, index: int) -> BinaryIO:
        """The bytes of an entry; from several threads at a time. Raises OSError and MediaError."""

    @abstractmethod
    def rewriter(self, file: BinaryIO) -> Rewriter:
        """Makes a new archive of the same kind in an empty file."""


class Rewriter(ABC):
    """Writes the entries of an archive anew, in their order."""

    @abstractmethod
    def put(self, index: int, data: BinaryIO | None, size: int) -> None:
        """An entry with these bytes, `size` of them; None leaves it out. Called for every entry, first to last."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is left."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free everything, also of an archive that is not to be."""


@dataclass(frozen=True, eq=False)
class Packed:
    """An archive of a run. name: as in the manifest. target: where the new one goes, None where nothing is written.

    entries: of the archive. jobs: the places of those that are read. carried: of those that are taken along as they
    are; one that is of a sample goes with the pictures of it. state: of the archive when it was listed.
    """

    archive: Archive
    name: str
    target: Path | None
    entries: tuple[Entry, ...] = ()
    jobs: frozenset[int] = frozenset()
    carried: frozenset[int] = frozenset()
    state: tuple[int | None, ...] = ()

    def written(self) -> dict[str, Member]:
        """The members of the new archive by name, where an earlier run has made it; none of one that is damaged."""
        place = stored_at(self.target) if self.target is not None else None
        if place is None:
            return {}
        made = type(self.archive)(place, self.archive.columns)
        made.lenient = self.archive.lenient
        whole = Packed(made, self.name, None)
        try:
            return {entry.path: Member(whole, index, entry) for index, entry in enumerate(made.checked())}
        except DeidError:
            return {}


@dataclass(frozen=True)
class Member(Stored):
    """A file in an archive."""

    packed: Packed
    index: int
    entry: Entry = field(repr=False)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The last part of its name."""
        return self.entry.path.rpartition("/")[2]

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.entry.size

    def open(self, mode: str = "rb") -> BinaryIO:
        return self.packed.archive.open(self.index)

    def changed(self) -> float | None:
        place = self.packed.archive.place
        return place.stat().st_mtime if isinstance(place, Path) else place.changed()

    def stamp(self) -> tuple[int, int] | None:
        """That of the whole archive."""
        from deidcli.engine.files import stamp_of

        return stamp_of(self.packed.archive.place)


def is_archive(name: str, columns: Sequence[str] = ()) -> bool:
    """Whether a file of this name is read as an archive; a table is one where it is said which column to read."""
    suffix = suffix_of(name)
    return suffix in _KINDS and (suffix != ".parquet" or bool(columns))


def open_archive(place: Path | Stored, columns: Sequence[str] = ()) -> Archive:
    """The archive at a place, by its suffix. Raises MissingDependency."""
    module, kind = _KINDS[suffix_of(place.name)]
    try:
        return getattr(import_module(module), kind)(place, columns)
    except ImportError as error:
        raise MissingDependency(f"{place.name}: tables need PyArrow", "pip install 'deidcli[parquet]'") from error


def check_target(name: str, target: Path | None, streamed: bool) -> None:
    """Raises UsageError where an archive would go to standard output, or to a file of another kind."""
    if streamed:
        raise UsageError(f"{name} is an archive and cannot go to standard output", "name an output")
    if target is not None and suffix_of(target.name) != suffix_of(name):
        raise UsageError(
            f"{name} would become {target.name}", "an archive keeps its kind: give the output the same suffix"
        )


def state_of(place: Path | Stored) -> tuple[int | None, ...]:
    """What shows that an archive was changed, as it is now. Raises OSError."""
    if isinstance(place, Path):
        found = place.stat()
        return found.st_size, found.st_mtime_ns, found.st_ino
    now = object_at(place.url) if isinstance(place, Object) else None
    return (now.size, now.modified) if now is not None else ()


def stored_at(path: Path) -> Path | Stored | None:
    """What lies at a path or a URL; None where there is nothing. Raises OSError."""
    if isinstance(path, Url):
        return object_at(path)
    return path if path.exists() else None


def member_at(path: Path) -> Path | Stored | None:
    """What lies at a path of a manifest, which may lead into an archive; None where there is nothing."""
    if (found := stored_at(path)) is not None:
        return found
    for above in path.parents:
        if suffix_of(above.name) in _KINDS and (found := stored_at(above)) is not None:
            inside = path.relative_to(above).as_posix()
            columns = (inside.rpartition("/")[2],) if suffix_of(above.name) == ".parquet" else ()
            state = tuple(found.stat()[:9]) if isinstance(found, Path) else found.stamp()
            return _members(above, columns, state).get(inside)
    return None


@lru_cache(maxsize=8)
def _members(path: Path, columns: tuple[str, ...], state: tuple[int, ...] | None) -> dict[str, Member]:
    """The members of an archive by name. state: shows that it was changed, and then it is listed anew."""
    archive = open_archive(path, columns)
    archive.lenient = True
    return Packed(archive, path.name, path).written()
