"""Archives in the making: members come in whatever order they are done, and are written in the archive's order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from deidcli.engine.archives import Entry, Member, Packed, Rewriter, open_archive, state_of
from deidcli.engine.manifest import FAILED, Row
from deidcli.engine.output import HandedTarget, OutputFolder, Target
from deidcli.engine.stored import Refused, Stored
from deidcli.errors import DeidError, MediaError, one_line

MEDIA, SIDECAR, SPECIAL = "media", "sidecar", "special"  # as in jobs.Listing
CARRIED = "carried"
_OF_SAMPLES = frozenset([".cls", ".cls2", ".id", ".index", ".inx", ".caption", ".transcript", ".text"])
Kinds = Callable[[str, Callable[[], BinaryIO]], str]


def surveyed(
    place: Path | Stored, name: str, target: Path | None, columns: Sequence[str], unknown: str, kind_of: Kinds
) -> list[tuple[Stored, str]]:
    """The members of an archive, each with its kind as in `jobs.Listing`, or "carried" for one that is taken along.

    name, target: of the archive. unknown: as in `RunOptions`. kind_of: tells a kind by a name and the first bytes. An
    archive that cannot be listed is one file, which is going to fail.
    """
    try:
        archive = open_archive(place, columns)
        archive.lenient = unknown == "copy"
        state = state_of(place)
        entries = archive.checked()
        with archive.opened():
            kinds = [_kind(archive.open, index, entry, kind_of) for index, entry in enumerate(entries)]
    except (OSError, DeidError) as error:
        return [(Refused(name, f"{name}: {one_line(error)}"), MEDIA)]
    read = (MEDIA, "unknown") if unknown == "fail" else (MEDIA,)
    jobs = frozenset(index for index, kind in enumerate(kinds) if kind in read)
    samples = {entries[index].sample for index in jobs} - {""}
    for index, entry in enumerate(entries):
        if index in jobs or kinds[index] == SPECIAL:
            continue
        text = kinds[index] == SIDECAR or Path(entry.path).suffix.lower() in _OF_SAMPLES
        if (archive.carries and text and entry.sample in samples) or (
            unknown == "copy" and kinds[index] in ("unknown", SIDECAR)
        ):
            kinds[index] = CARRIED
    carried = frozenset(index for index, kind in enumerate(kinds) if kind == CARRIED)
    packed = Packed(archive, name, target, tuple(entries), jobs, carried, state)
    return [
        (Member(packed, index, entry), kind)
        for index, (entry, kind) in enumerate(zip(entries, kinds, strict=True))
        if not entry.path.endswith("/")
    ]


def _kind(open_member: Callable[[int], BinaryIO], index: int, entry: Entry, kind_of: Kinds) -> str:
    return kind_of(entry.path, lambda: open_member(index)) if entry.plain else SPECIAL


class Packer:
    """Makes the new archives of a run. output: the folder that they are written into."""

    def __init__(self, output: OutputFolder):
        self.output = output
        self._making: dict[str, _Pack] = {}

    def target(self, path: Path | None, source: Path | Stored | None) -> Target:
        """Where a file is written to: its place in the new archive for a member, and in the output for any other."""
        if not isinstance(source, Member):
            return self.output.target(path, source)
        return MemberTarget(path, self.output, source, self._pack(source.packed))

    def settled(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows; those of an archive come when it is in its place, or say why it is not."""
        members: dict[str, _Pack] = {}
        for row in rows:
            for each in self._making.values():
                members |= each.names
                each.names = {}
            if (pack := members.pop(row.input, None)) is None:
                yield row
                continue
            pack.rows.append(row)
            if len(pack.rows) == len(pack.packed.jobs):
                yield from pack.finished()
                del self._making[pack.packed.name]

    def drop(self) -> None:
        """Drop the archives that are not whole."""
        for pack in self._making.values():
            pack.drop()

    def _pack(self, packed: Packed) -> _Pack:
        if packed.name not in self._making:
            self._making[packed.name] = _Pack(packed, self.output)
        return self._making[packed.name]


class MemberTarget(HandedTarget):
    """A member in the making."""

    def __init__(self, path: Path | None, output: OutputFolder, source: Member, pack: _Pack):
        super().__init__(path, output, source)
        self.index, self.pack = source.index, pack

    def open(self) -> BinaryIO:
        self.pack.begin()
        return super().open()

    def hand(self, file: BinaryIO, size: int) -> None:
        self.pack.put(self.index, file, size)

    def discard(self) -> None:
        """Leave the member out, unless it is in the archive already."""
        with suppress(Exception):
            self.pack.put(self.index, None, 0)
        super().discard()


class _Pack:
    """One new archive. names: of its members that `Packer` has not yet heard of. rows: of its members so far."""

    def __init__(self, packed: Packed, output: OutputFolder):
        self.packed, self.output, self.rows = packed, output, list[Row]()
        self.names = {f"{packed.name}/{packed.entries[index].path}": self for index in packed.jobs}
        place = packed.archive.place
        self.target = output.target(packed.target, place if isinstance(place, Path) else None)
        self._rewriter: Rewriter | None = None
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._waiting: dict[int, tuple[BinaryIO | None, int]] = {}
        self._written: dict[int, bool] = {}
        self._next = 0
        self._samples: dict[str, list[int]] = {}
        for index in sorted(packed.jobs):
            self._samples.setdefault(packed.entries[index].sample, []).append(index)

    def begin(self) -> None:
        """Open the new archive. Raises MediaError where it may not be written."""
        with self._lock:
            self._begin()

    def put(self, index: int, file: BinaryIO | None, size: int) -> None:
        """Take a member, or None for one that failed; the first answer counts. Raises what broke the archive."""
        with self._lock:
            if index in self._written:
                return
            self._written[index] = file is not None
            copy = os.fdopen(os.dup(file.fileno()), "rb") if file is not None else None
            if copy is not None:
                copy.seek(0)
            self._waiting[index] = (copy, size)
            if any(self._written.values()):
                self._advance()

    def finished(self) -> list[Row]:
        """Put the archive in its place; the rows of its members."""
        try:
            if any(self._written.values()):
                self._finish()
        except Exception as error:
            said = f"{self.packed.name}: {one_line(error)}"
            self.rows = [
                row if row.status == FAILED else replace(row, status=FAILED, output=None, error=said)
                for row in self.rows
            ]
        self.drop()
        return self.rows

    def drop(self) -> None:
        """Free everything; what is in its place stays."""
        for copy, _ in self._waiting.values():
            if copy is not None:
                copy.close()
        if self._rewriter is not None:
            self._rewriter.close()
        self.target.discard()
        self.packed.archive.close()

    def _begin(self) -> Rewriter:
        if self._error is not None:
            raise self._error
        if self._rewriter is None:
            try:
                self._rewriter = self.packed.archive.rewriter(self.target.open())
            except Exception as error:
                self._error = error
                raise
        return self._rewriter

    def _finish(self) -> None:
        with self._lock:
            rewriter = self._begin()
            self._advance()
            rewriter.finish()
        if state_of(self.packed.archive.place) != self.packed.state:
            raise MediaError("it changed while it was read", "run again when nothing writes to it any more")
        self.target.commit()

    def _advance(self) -> None:
        """Write every entry whose turn has come."""
        rewriter = self._begin()
        try:
            while self._next < len(self.packed.entries) and self._due(rewriter, self._next):
                self._next += 1
        except Exception as error:
            self._error = error
            raise

    def _due(self, rewriter: Rewriter, index: int) -> bool:
        """Write an entry, or leave it out; False while that is not known."""
        packed, entry = self.packed, self.packed.entries[index]
        if index in packed.jobs:
            if index not in self._waiting:
                return False
            copy, size = self._waiting.pop(index)
            rewriter.put(index, copy, size)
            if copy is not None:
                copy.close()
            return True
        beside = self._samples.get(entry.sample, []) if entry.sample else []
        if any(number not in self._written for number in beside):
            return False
        if index in packed.carried and (not beside or any(self._written[number] for number in beside)):
            with packed.archive.open(index) as data:
                rewriter.put(index, data, entry.size)
        else:
            rewriter.put(index, None, 0)
        return True
