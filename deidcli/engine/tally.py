"""The last line of a run: everything that was in its inputs, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidcli.engine.archives import Member
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import COPIED, DONE, FAILED, SALVAGED, SKIPPED, Row, Tally
from deidcli.engine.settings import Settings


class CarriedFiles:
    """Counts files of archives that were copied beside the members that were written."""

    def __init__(self, jobs: Sequence[Job]):
        self._members = {job.name: job.source for job in jobs if isinstance(job.source, Member)}
        self._places: dict[str, set[int]] = {}

    def add(self, row: Row) -> None:
        """Take note of the row of a member."""
        member = self._members.get(row.input)
        if member is None or row.status not in (DONE, SALVAGED):
            return
        packed, sample = member.packed, member.entry.sample
        alone = packed.archive.carries
        samples = {packed.entries[index].sample for index in packed.jobs} if alone else set()
        places = self._places.setdefault(packed.name, set())
        places |= {
            index
            for index in packed.carried
            if (packed.entries[index].sample == sample and sample) or packed.entries[index].sample not in samples
        }

    @property
    def count(self) -> int:
        return sum(map(len, self._places.values()))


@dataclass(frozen=True)
class RunFacts:
    """What a run knows beside its rows.

    files: how many it had to write. carried: taken along in archives. before: done by an earlier run. older: left out
    by --since. removed: sources that were deleted. left: not reached in time. given: whether the faces were given, not
    searched for. left_out: names of files that were left out, by kind. place: of the manifest, None without one.
    """

    files: int
    carried: int
    before: int
    older: int
    removed: int
    left: int
    given: bool
    left_out: Mapping[str, Sequence[str]]
    place: Any


def summed_up(run: RunFacts, tally: Tally, settings: Settings) -> str:
    """The last line of a run: everything that was in the inputs, counted."""
    words = [f"{tally.written} of {run.files} files written"]
    words.append(f"{tally.faces['replaced']} faces replaced, {tally.faces['covered']} covered")
    if tally.faces["left"]:
        words[-1] += f", {tally.faces['left']} left as they were"
    if tally.doubts:
        words.append(f"{tally.doubts} of them in doubt (`deid review --list OUTPUT`)")
    if tally.zoned:
        words.append(f"zones covered in {tally.zoned} file{'s' if tally.zoned > 1 else ''}")
    if tally.unchanged:
        words.append(f"{tally.unchanged} without a face copied")
    words += [f"{tally.files[word]} {word}" for word in (COPIED, SKIPPED, SALVAGED, FAILED) if tally.files[word]]
    if tally.failures:
        more = f" and {tally.failed - len(tally.failures)} more" if tally.failed > len(tally.failures) else ""
        words[-1] += f" ({', '.join(tally.failures)}{more})"
    if run.carried:
        words.append(f"{run.carried} carried along in archives")
    if run.before:
        words.append(f"{run.before} as before")
    if run.older:
        words.append(f"{run.older} older")
    if run.removed:
        words.append(f"{run.removed} sources removed")
    if run.left:
        words.append(f"{run.left} left for the next run")
    words += [
        said for said in (_left_unsearched(run.given, settings), *_kept_traces(tally, settings.write.metadata)) if said
    ]
    if run.left_out:
        words.append("left out: " + ", ".join(map(_counted, *zip(*run.left_out.items(), strict=True))))
    return "; ".join(words) + (f"; see {run.place}" if run.place else "")


def _left_unsearched(given: bool, settings: Settings) -> str:
    """Which faces the settings leave out of the search, as a sentence; "" where none."""
    search = settings.detect
    words = [f"below {search.min_face} pixels (--min-face)"] if search.min_face else []
    words += [f"of scores below {search.threshold:g} (--threshold)"] if search.threshold is not None else []
    return f"faces {' and '.join(words)} were left as they are" if words and not given else ""


def _kept_traces(tally: Tally, metadata: str) -> Iterator[str]:
    """What else may identify people and was kept, a sentence each: sound, text, metadata. metadata: the policy."""
    words = {"audio": ("an audio track", "voices are not changed"), "subtitle": ("subtitles", "names in them stay"),
             "data": ("data tracks", "what they tell stays")}  # fmt: skip
    for kind, (what, then) in words.items():
        if count := tally.sound[kind]:
            mute = " (--streams none leaves it out)" if kind == "audio" else ""
            yield f"{count} video{'s have' if count > 1 else ' has'} {what}: {then}{mute}"
    if metadata == "all" and tally.written:
        yield "metadata were kept: captions and names in them stay (--metadata safe leaves them out)"
    if tally.files[COPIED]:
        yield f"{tally.files[COPIED]} other files were copied as they are, whatever they contain"


def _counted(kind: str, names: Sequence[str]) -> str:
    """How many files of a kind were left out, and their suffixes, the most frequent first."""
    suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    shown = ", ".join(suffix for suffix, _ in suffixes.most_common(4)) + (", ..." if len(suffixes) > 4 else "")
    return f"{len(names)} {kind} ({shown})"
