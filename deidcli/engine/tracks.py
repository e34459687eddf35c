"""The tracks of a video: what the manifest says of each in a few numbers, and the picture of all of them (the preview
sheet).

Thumbnails are cut out of the new frames, so that a sheet shows no face that the video does not show.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from deidcli.engine.frames import Choice
from deidcli.engine.replace import Outcome
from deidcli.values import Box, Frame

MOVED = 1 / 16  # of its side by which a box has to move or grow before it is written down again
SIDE, COLUMNS, LABEL = 72, 10, 250  # pixels of a thumbnail, thumbnails in a row, and pixels for the words beside it
ROOM = 1.6  # sides of a face's box that its thumbnail shows
MOST = 400  # rows; of more tracks the longest are shown


@dataclass
class _Track:
    """One face so far. runs: [first frame, last frame, action, method]. boxes: [frame, left, top, right, bottom]."""

    number: int
    times: list[float]
    counts: dict[str, int] = field(default_factory=dict)
    runs: list[list] = field(default_factory=list)
    boxes: list[list[int]] = field(default_factory=list)
    distance: float | None = None
    reason: str | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)

    def add(self, frame: Frame, outcome: Outcome) -> None:
        """Take the outcome of one frame."""
        self.times[1] = round(float(frame.time or 0), 3)
        self.counts[outcome.action] = self.counts.get(outcome.action, 0) + 1
        self._run(frame.index, outcome)
        if not self.boxes or _moved(self.boxes[-1][1:], outcome.face.box):
            self.boxes.append([frame.index, *map(round, outcome.face.box.as_list())])
        if outcome.distance is not None:
            self.distance = min(outcome.distance, outcome.distance if self.distance is None else self.distance)
        self.reason = outcome.reason or self.reason
        self.marks |= outcome.marks
        self.choice |= choice_entry(outcome.choice)

    def _run(self, index: int, outcome: Outcome) -> None:
        said = [outcome.action, outcome.method]
        if self.runs and self.runs[-1][1] == index - 1 and self.runs[-1][2:] == said:
            self.runs[-1][1] = index
        else:
            self.runs.append([index, index, *said])

    def entry(self) -> dict[str, Any]:
        """The track as a row of the manifest has it."""
        frames = [self.runs[0][0], self.runs[-1][1]]
        said = {"track": self.number, "frames": frames, "times": self.times, **self.counts, "runs": self.runs}
        return {
            **said,
            "distance": self.distance,
            "reason": self.reason,
            **self.marks,
            **self.choice,
            "boxes": self.boxes,
        }


def choice_entry(choice: Choice) -> dict[str, Any]:
    """What was chosen for a face, for the manifest: empty where no choice was asked for."""
    return {"choice": choice.why, "doubt": choice.doubt, "match": choice.match} if choice.why else {}


class Tracks:
    """The tracks of one file, in the order in which they appear."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}

    def add(self, frame: Frame, outcomes: Iterable[Outcome]) -> None:
        """Take the outcomes of the next frame."""
        for outcome in outcomes:
            number, time = outcome.face.track, round(float(frame.time or 0), 3)
            self._tracks.setdefault(number, _Track(number, [time, time])).add(frame, outcome)

    def __len__(self) -> int:
        return len(self._tracks)

    def entries(self) -> tuple[dict[str, Any], ...]:
        """One for each track.

        Its number; "frames", the first and the last; "times" of these in seconds; how often it was "replaced",
        "covered" and "left"; "runs" of frames with the same action and method; the least "distance" to the original;
        the last "reason" why it was covered; what a closed-set method says of it; what was chosen for it ("choice",
        "doubt", "match") where somebody asked for it; "boxes", each with the frame from which on it holds.
        """
        return tuple(track.entry() for track in self._tracks.values())


def _moved(before: list[int], box: Box) -> bool:
    room = max(1.0, MOVED * max(box.width, box.height))
    return any(abs(a - b) > room for a, b in zip(before, box.as_list(), strict=True))


@dataclass
class _SheetRow:
    """A track. count: its frames so far. step: every so many of them one is kept. pictures: those, as PNG."""

    number: int
    start: float
    end: float = 0.0
    count: int = 0
    step: int = 1
    actions: dict[str, int] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)

    def add(self, frame: Frame, outcome: Outcome) -> None:
        """Take the track's next frame; the pictures stay evenly spread and never more than twice COLUMNS."""
        self.end = float(frame.time or 0)
        self.actions[outcome.action] = self.actions.get(outcome.action, 0) + 1
        if self.count % self.step == 0:
            self.pictures.append(_thumbnail(frame.pixels, outcome.face.box))
            if len(self.pictures) == 2 * COLUMNS:
                self.pictures, self.step = self.pictures[::2], 2 * self.step
        self.count += 1


class PreviewSheet:
    """Collects the thumbnails of one file. Memory is some hundred bytes a track and a few kilobytes a thumbnail."""

    def __init__(self, name: str):
        self.name = name
        self.rows: dict[int, _SheetRow] = {}
        self.left_out = 0

    def add(self, frame: Frame, outcomes: Iterable[Outcome]) -> None:
        """Take a frame with its new faces."""
        for outcome in outcomes:
            number = outcome.face.track
            self.rows.setdefault(number, _SheetRow(number, float(frame.time or 0))).add(frame, outcome)
        if len(self.rows) > 2 * MOST:
            self._thin()

    def png(self) -> bytes:
        """The sheet as a PNG file."""
        self._thin()
        rows = list(self.rows.values())
        sheet = Image.new("RGB", (LABEL + COLUMNS * SIDE, 24 + SIDE * len(rows)), "white")
        draw = ImageDraw.Draw(sheet)
        more = f", and {self.left_out} shorter ones" if self.left_out else ""
        # Pillow's own letters are all of Latin-1; a name may hold any.
        draw.text((6, 6), f"{_plain(self.name)}: {len(rows)} tracks{more}", "black")
        for place, row in enumerate(rows):
            self._draw(sheet, draw, 24 + SIDE * place, row)
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()

    def _draw(self, sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: _SheetRow) -> None:
        done = ", ".join(f"{count} {action}" for action, count in row.actions.items())
        text = f"#{row.number}   {_clock(row.start)} - {_clock(row.end)}\n{row.count} frames: {done}"
        draw.multiline_text((6, top + SIDE // 2 - 14), text, "black")
        for column, place in enumerate(np.linspace(0, len(row.pictures) - 1, min(COLUMNS, len(row.pictures)))):
            sheet.paste(Image.open(io.BytesIO(row.pictures[round(place)])), (LABEL + column * SIDE, top))

    def _thin(self) -> None:
        """Keep the longest tracks."""
        longest = sorted(self.rows.values(), key=lambda row: (-row.count, row.number))[:MOST]
        self.left_out += len(self.rows) - len(longest)
        self.rows = {row.number: row for row in sorted(longest, key=lambda row: row.number)}


def _thumbnail(pixels: np.ndarray, box: Box) -> bytes:
    """The square about a box, SIDE pixels less a white border, as PNG."""
    (x, y), side = box.center, max(box.width, box.height, 8.0) * ROOM
    inner = SIDE - 2
    scale = inner / side
    moved = np.array([[scale, 0, inner / 2 - scale * x], [0, scale, inner / 2 - scale * y]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cut = cv2.warpAffine(pixels, moved, (inner, inner), flags=flags, borderValue=(255, 255, 255))
    framed = cv2.copyMakeBorder(cut, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.imencode(".png", cv2.cvtColor(framed, cv2.COLOR_RGB2BGR))[1].tobytes()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:05.2f}"


def _plain(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
