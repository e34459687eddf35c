"""What a run does that nobody watches: what is new, for so long, and what becomes of inputs that are done or failed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from deidcli.engine.files import digest
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import DONE
from deidcli.engine.output import OutputFolder
from deidcli.engine.settings import Settings
from deidcli.engine.stored import Stored
from deidcli.errors import DeidError, UsageError, one_line
from deidcli.media.open import open_reader

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BLOCK = 1 << 20


def parsed_time(text: str) -> float:
    """A time in seconds since 1970: "36h", "7d" or "30m" ago, or a date like 2026-11-29 or 2026-11-29T22:00.

    Raises UsageError.
    """
    if ago := re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip()):
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since {text[:40]}: no time", "give 36h, 7d, or a date like 2026-11-29T22:00") from error


def is_older(job: Job, since: float) -> bool:
    """Whether a file was last changed before `since`; one that cannot be asked is not."""
    try:
        if isinstance(job.source, Stored):
            changed = job.source.changed()
            return changed is not None and changed < since
        return job.source is not None and job.source.stat().st_mtime < since
    except OSError:
        return False


class Deadline:
    """Hands jobs on until the time is over; `left` are those that it did not. What has begun is finished.

    minutes: None for no end. By a clock that nobody can set.
    """

    def __init__(self, minutes: float | None):
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.left: list[Job] = []

    @property
    def over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Job]:
        for number, job in enumerate(jobs):
            # An archive that was begun is finished.
            if self.over and (number == 0 or job.unit != jobs[number - 1].unit):
                self.left += jobs[number:]
                return
            yield job


def check_quarantine(folder: Path, output: Path | None, inputs: Sequence[Job]) -> None:
    """Raises UsageError for a quarantine in the output, where open faces would lie, or among the inputs."""
    real = Path(os.path.realpath(folder))
    if output is not None and (real == (top := Path(os.path.realpath(output))) or real.is_relative_to(top)):
        raise UsageError(f"--quarantine {folder} lies in the output and would hold open faces", "name another folder")
    for job in inputs:
        if isinstance(job.source, Path):
            depth = len(Path(job.name).parts)
            root = Path(os.path.realpath(Path(*job.source.parts[: max(1, len(job.source.parts) - depth)])))
            if real == root or real.is_relative_to(root):
                said = f"--quarantine {folder} lies among the inputs and would be read again"
                raise UsageError(said, "name another folder")
            return


def check_removal(settings: Settings, listed: bool, salvage: bool, unknown: str) -> None:
    """Raises UsageError where --remove-source would rely on less than a whole search and a whole verification.

    listed: whether there is a manifest in a file.
    """
    detect = settings.detect
    weak = {
        "--no-verify (or a method that is not compared with its originals)": not settings.verify,
        "--on-no-face copy: a face that was missed would lie open in the copy, and nothing could be done again":
            settings.on_no_face == "copy",
        "--faces: given faces are not searched for": bool(settings.faces),
        "--threshold": detect.threshold is not None,
        "--min-face": detect.min_face > 0,
        "--distance": settings.distance is not None,
        "--detect-every": (settings.track.detect_every or 1) > 1,
        "--salvage": salvage,
        "--metadata all": settings.write.metadata == "all",
        "--unknown copy": unknown == "copy",
        "an output without a manifest": not listed,
    }  # fmt: skip
    for said, is_weak in weak.items():
        if is_weak:
            hint = "leave one of them out" + ("; give --on-no-face skip" if said.startswith("--on-no-face") else "")
            raise UsageError(f"--remove-source does not go with {said}", hint)


def remove_source(job: Job, row: Mapping[str, Any]) -> str:
    """Remove an input whose output is listed in the manifest, on the disk, and decodes; why not, "" where it is gone.

    Both files are read again: the input must be the one that was read, the output the one that was written.
    """
    source, target = job.source, job.target
    if not isinstance(source, Path) or target is None or row.get("status") != DONE:
        return ""
    try:
        if source.is_symlink() or source.is_dir():
            return f"{job.name}: its source is a {'link' if source.is_symlink() else 'folder'} and was not removed"
        if os.path.samefile(source, target):
            return f"{job.name}: input and output are one file, and it was not removed"
        if digest(target) != row.get("output_sha256"):
            return f"{job.name}: its output is not what was written, and its source was not removed"
        with open_reader(target, job.name) as reader:
            frames = sum(1 for _ in reader.frames())
        if frames != row.get("frames"):
            return f"{job.name}: its output has {frames} frames, not {row.get('frames')}; its source was not removed"
        if digest(source) != row.get("sha256"):
            return f"{job.name}: its source was changed since, and was not removed"
        source.unlink()
    except (OSError, DeidError) as error:
        return f"{job.name}: its source was not removed: {one_line(error)}"
    return ""


def quarantine(job: Job, folder: OutputFolder, move: bool) -> str:
    """Copy an input that failed into the quarantine, and remove it where it was if `move`; why not, "" where it is."""
    source = job.source
    if not isinstance(source, Path) or folder.root is None or not os.path.isfile(source):
        return ""
    place = folder.root / job.name
    target = folder.target(place, source)
    try:
        wanted = digest(source)
        if not (place.is_file() and not place.is_symlink() and digest(place) == wanted):
            with source.open("rb") as file:
                written = target.open()
                while block := file.read(_BLOCK):
                    written.write(block)
            if target.commit() != wanted:
                return f"{job.name}: was changed while it was put into quarantine"
        if move and not source.is_symlink():
            source.unlink()
    except (OSError, DeidError) as error:
        return f"{job.name}: could not be put into quarantine: {one_line(error)}"
    finally:
        target.discard()
    return ""
