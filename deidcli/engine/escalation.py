"""Escalation: what is tried for a face, level by level, and at which level the tracks of a video begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from deidcli.engine.settings import LAST_RESORT
from deidcli.methods import find
from deidcli.methods.base import Method
from deidcli.values import Face, Frame

STEADY = 2  # seconds of the stream for which a track stays covered


def levels(method: Method, fallback: str) -> Iterator[tuple[str, Method]]:
    """("replaced", the method and its stronger settings), then ("covered", the fallback and its), then the last
    resort."""
    yield from (("replaced", level) for level in _stronger(method))
    yield from (("covered", level) for level in _stronger(find(fallback)(secret=method.secret)))
    if not find(fallback).removes_face:
        yield "covered", find(LAST_RESORT)(secret=method.secret)


def _stronger(method: Method) -> Iterator[Method]:
    level: Method | None = method
    attempt = 0
    while level is not None:
        yield level
        attempt += 1
        level = level.escalate(attempt)


@dataclass(frozen=True)
class Start:
    """Where a face begins: a level, and why it begins there. until: the end of that, None for good; afterwards its
    track begins at the level `after`.
    """

    level: int = 0
    reason: str = ""
    until: Fraction | None = None
    after: int = 0


class TrackLevels:
    """The tracks of the file under way that needed a higher level. Stills have none: their frames are independent.

    A track stays at a level that gave it a new face, so that it does not change from one person into another and back.
    After STEADY seconds of a cover a new face is tried again.
    """

    def __init__(self) -> None:
        self._starts: dict[tuple[str, int], Start] = {}

    def start(self, name: str, frame: Frame, face: Face) -> Start:
        """Where a face of this frame begins."""
        start = self._starts.get((name, face.track), Start())
        if frame.time is None:
            return Start()
        return start if start.until is None or frame.time < start.until else Start(start.after, after=start.after)

    def note(self, name: str, frame: Frame, face: Face, level: int, reason: str, covered: bool) -> bool:
        """Remember that a face needed `level`; whether later frames have to know.

        A face without landmarks is covered for as long as it has none, whatever its level.
        """
        start = self.start(name, frame, face)
        if frame.time is None or face.landmarks is None or level <= start.level:
            return False
        # Frames come in order: other files are over.
        self._starts = {key: start for key, start in self._starts.items() if key[0] == name}
        until = frame.time + STEADY if covered else None
        self._starts[name, face.track] = Start(level, reason, until, start.after if covered else level)
        return True
