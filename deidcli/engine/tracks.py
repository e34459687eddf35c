"""Tracks in the manifest: what was done to each face of a video, in a few numbers however long the video is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from deidcli.engine.replace import Outcome
from deidcli.values import Box, Frame

MOVED = 1 / 16  # of its side by which a box has to move or grow before it is written down again


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

    def _run(self, index: int, outcome: Outcome) -> None:
        said = [outcome.action, outcome.method]
        if self.runs and self.runs[-1][1] == index - 1 and self.runs[-1][2:] == said:
            self.runs[-1][1] = index
        else:
            self.runs.append([index, index, *said])

    def entry(self) -> dict[str, Any]:
        """The track as it stands in the manifest."""
        frames = [self.runs[0][0], self.runs[-1][1]]
        said = {"track": self.number, "frames": frames, "times": self.times, **self.counts, "runs": self.runs}
        return {**said, "distance": self.distance, "reason": self.reason, **self.marks, "boxes": self.boxes}


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

        Its number; "frames", the first and the last; "times" of these in seconds; how often it was "replaced" and
        "covered"; "runs" of frames with the same action and method; the least "distance" to the original; the last
        "reason" why it was covered; what a closed-set method says of it; "boxes", each with the frame from which on it
        holds.
        """
        return tuple(track.entry() for track in self._tracks.values())


def _moved(before: list[int], box: Box) -> bool:
    room = max(1.0, MOVED * max(box.width, box.height))
    return any(abs(a - b) > room for a, b in zip(before, box.as_list(), strict=True))
