"""Zones and decisions: what people say about places and about single faces of a run, in lines of JSON.

    {"zone": "cover", "input": "cam1/*.mp4", "polygon": [[0, 900], [1920, 900], [1920, 1080]], "from": 0, "to": 12.5}
    {"zone": "never", "polygon": [[100, 40], [300, 40], [300, 200], [100, 200]]}
    {"input": "a.jpg", "frame": 0, "track": 2, "box": [10, 20, 60, 90], "action": "leave", "sha256": "..."}

A line with "zone" is one: "cover" is always filled with one colour, and a face that lies wholly in "never" is left. A
line with "action" decides on one face of a picture, or on one track of a video ("frame" is then where "box" holds):
"replace", "leave" or "cover".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np

from deidcli.engine import records
from deidcli.engine.face_list import FARTHEST, FRAMES, checked_box
from deidcli.engine.records import Record
from deidcli.errors import MediaError, UsageError
from deidcli.values import Box, Frame

COVER, NEVER = "cover", "never"
REPLACE, LEAVE = "replace", "leave"
ACTIONS = (REPLACE, LEAVE, COVER)
BY_HAND = "decided by hand"  # how the reason of a decided face begins in the manifest
INSIDE = 0.99  # share of a face's box that lies in a zone when the face lies wholly in it
ALIKE = 0.5  # intersection over union of a face with the one that a decision was made on, at least
CORNERS = 1000  # of a polygon, at most
LONGEST = 1e9  # seconds of a video, at most
_ZONE = {"zone", "input", "polygon", "from", "to", "size"}
_DECISION = {"input", "frame", "track", "box", "action", "said", "sha256"}


@dataclass(frozen=True)
class Zone:
    """A polygon in pixels of the upright frame. kind: COVER or NEVER. input: the file, or a pattern like "cam1/*".

    begin, end: seconds within which it holds in a video. size: (width, height) of the frames that it was drawn on,
    where that is known.
    """

    kind: str
    input: str
    polygon: tuple[tuple[float, float], ...]
    begin: float = 0.0
    end: float = LONGEST
    size: tuple[int, int] | None = None

    def is_for(self, name: str) -> bool:
        """Whether it is a zone of the file `name`."""
        return self.input == name or fnmatchcase(name, self.input)

    def holds(self, frame: Frame) -> bool:
        """Whether it holds in a frame. In a picture, which has no time, one that covers always does."""
        if frame.time is None:
            return self.kind == COVER or (self.begin, self.end) == (0.0, LONGEST)
        return self.begin <= frame.time <= self.end

    def mask(self, frame: Frame) -> np.ndarray:
        """(height, width) bool of the pixels in it. Raises MediaError for a frame of another size than it is for."""
        size = (frame.width, frame.height)
        if self.size not in (None, size):
            raise MediaError(
                f"a zone was drawn on {self.size} pixels, and frame {frame.index} has {size}", "draw it anew"
            )
        drawn = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(drawn, [np.round(np.array(self.polygon)).astype(np.int32)], 1)
        return drawn.astype(bool)


@dataclass(frozen=True)
class Decision:
    """What is to become of a face. frame: of a picture or page the face's own, of a video one that shows the track.

    box: where the face was there. sha256: of the file that it was decided on, "" where that is not known.
    """

    frame: int
    track: int
    box: Box
    action: str
    sha256: str = ""


@dataclass(frozen=True)
class Instructions:
    """What a person has decided: zones, and decisions on each file, of a list. path: of the list, for errors."""

    path: Path = Path("the list")
    zones: tuple[Zone, ...] = ()
    decisions: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Zone, ...]:
        """The zones of a file."""
        return tuple(zone for zone in self.zones if zone.is_for(name))

    def check_files(self, names: Iterable[str]) -> None:
        """Raises UsageError where it names files that are no input: such an entry would be ignored unnoticed."""
        known = set(names)
        lost = [name for name in self.decisions if name not in known]
        lost += [zone.input for zone in self.zones if not any(zone.is_for(name) for name in known)]
        if lost:
            said = f"{self.path} names {lost[0]}, which is no input of this run"
            raise UsageError(said, "correct the name, or take it off the list")

    def mark(self, name: str) -> str:
        """A hash of what was decided for a file, eight hexadecimal digits; "" where nothing was."""
        said = [repr(each) for each in (*self.of(name), *self.decisions.get(name, ()))]
        return hashlib.sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()[:8] if said else ""

    def with_zones(self, zones: Sequence[Zone]) -> Instructions:
        """These, and more zones."""
        return Instructions(self.path, (*zones, *self.zones), self.decisions)


def load_instructions(path: Path, flag: str) -> Instructions:
    """Read a list of zones, or of decisions and zones. flag: as it was given, for errors.

    Raises UsageError in one line that names the file and the line; also for a list without any line, and for a word
    that is not known: an entry that is not understood would not be carried out.
    """
    zones: list[Zone] = []
    decisions: dict[str, list[Decision]] = {}
    seen: set[tuple[str, int, int]] = set()
    try:
        for number, row in records.json_lines(path):
            try:
                if "zone" in row:
                    zones.append(_zone(row))
                    continue
                name, decision = row.name("input"), _decision(row)
                if (name, decision.frame, decision.track) in seen:
                    raise ValueError(f"there is more than one decision on track {decision.track} of {name}")
                seen.add((name, decision.frame, decision.track))
                decisions.setdefault(name, []).append(decision)
            except (ValueError, LookupError, TypeError, OverflowError) as error:
                said = " ".join(str(error).split())
                raise UsageError(
                    f"{flag} {path}, line {number}: {said}", "see docs/people.md for the format"
                ) from error
    except OSError as error:
        raise UsageError(f"{flag} {path} cannot be read: {error.strerror}", "name a file of JSON lines") from error
    if not zones and not decisions:
        raise UsageError(f"{flag} {path} holds nothing", "see docs/people.md for the format")
    return Instructions(path, tuple(zones), {name: tuple(own) for name, own in decisions.items()})


def _zone(row: Record) -> Zone:
    _check_words(row, _ZONE)
    kind = row["zone"]
    if kind not in (COVER, NEVER):
        raise ValueError(f'zone is "{COVER}" or "{NEVER}", not {records.shortened(kind)}')
    corners = row.array("polygon")
    if not 3 <= len(corners) <= CORNERS or any(not isinstance(c, list) or len(c) != 2 for c in corners):
        raise ValueError(f"polygon is a list of 3 to {CORNERS} corners [x, y]")
    polygon = tuple(
        (records.number(x, "a corner", -FARTHEST, FARTHEST), records.number(y, "a corner", -FARTHEST, FARTHEST))
        for x, y in corners
    )
    begin, end = row.number("from", 0, LONGEST, 0.0), row.number("to", 0, LONGEST, LONGEST)
    if begin > end:
        raise ValueError(f"it ends at {end:g} s, before it begins at {begin:g} s")
    size = tuple(records.whole(side, "size", 1, FARTHEST) for side in row.array("size", default=True))
    if len(size) not in (0, 2):
        raise ValueError("size is width and height")
    return Zone(
        kind, row.name("input") if "input" in row else "*", polygon, begin, end, (size[0], size[1]) if size else None
    )


def _decision(row: Record) -> Decision:
    _check_words(row, _DECISION)
    action = row["action"]
    if action not in ACTIONS:
        raise ValueError(f"action is one of {', '.join(ACTIONS)}, not {records.shortened(action)}")
    sides = row.array("box")
    if len(sides) != 4:
        raise ValueError("box is left, top, right, bottom")
    box = checked_box(Box(*(records.number(side, "a side of box", -FARTHEST, FARTHEST) for side in sides)))
    place = row.whole("frame", 0, FRAMES, 0), row.whole("track", 0, FRAMES)
    return Decision(*place, box, action, row.text("sha256") or "")


def _check_words(row: Record, known: set[str]) -> None:
    strange = sorted(set(row) - known)
    if strange:
        raise ValueError(f"{records.shortened(strange[0])} is not known; there are {', '.join(sorted(known))}")


def fill(frame: Frame, masks: Sequence[np.ndarray], changed: np.ndarray | None) -> tuple[Frame, np.ndarray | None]:
    """A frame with each mask (height, width) filled with the mean colour of its pixels; and what is changed by now."""
    if not masks:
        return frame, changed
    pixels = frame.pixels.copy()
    for mask in masks:
        pixels[mask] = frame.pixels[mask].mean(axis=0).round()
    filled = np.logical_or.reduce(masks)
    return frame.with_pixels(pixels), filled if changed is None else changed | filled


def lies_within(box: Box, mask: np.ndarray) -> bool:
    """Whether a box, as far as it lies in the picture, lies wholly in a mask (height, width)."""
    height, width = mask.shape
    left, top = max(0, int(np.floor(box.left))), max(0, int(np.floor(box.top)))
    right, bottom = min(width, int(np.ceil(box.right))), min(height, int(np.ceil(box.bottom)))
    inside = mask[top:bottom, left:right]
    return inside.size > 0 and float(inside.mean()) >= INSIDE
