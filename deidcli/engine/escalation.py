"""Escalation: what is tried for a face, level by level, and at which level the tracks of a video begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from deidcli.engine.settings import LAST_RESORT
from deidcli.methods import find
from deidcli.methods.base import Method
from deidcli.values import Face, Frame

STEADY = 2  # seconds of the stream for which a track stays at a level that it had to be raised to


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
    """Where a face begins: a level, why it begins there, and until when its track will."""

    level: int = 0
    reason: str = ""
    until: Fraction = Fraction(0)


class TrackLevels:
    """The tracks of the file under way that needed a higher level. Stills have none: their frames are independent."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, int], Start] = {}

    def start(self, name: str, frame: Frame, face: Face) -> Start:
        """Where a face of this frame begins."""
        start = self._starts.get((name, face.track), Start())
        return start if frame.time is not None and frame.time < start.until else Start()

    def note(self, name: str, frame: Frame, face: Face, level: int, reason: str) -> bool:
        """Remember that a face needed `level`; whether later frames have to know.

        A face without landmarks is covered for as long as it has none, whatever its level.
        """
        if frame.time is None or face.landmarks is None or level <= self.start(name, frame, face).level:
            return False
        # Frames come in order: other files are over.
        self._starts = {key: start for key, start in self._starts.items() if key[0] == name}
        self._starts[name, face.track] = Start(level, reason, frame.time + STEADY)
        return True
