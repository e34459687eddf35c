"""Ladder: what is tried for a face, rung by rung, and how high the tracks of a video stand on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from deidcli.methods import find
from deidcli.methods.base import Method
from deidcli.values import Face, Frame

STEADY = 2  # seconds of the stream for which a track stays on a rung that it had to climb to


def ladder(method: Method, fallback: str) -> Iterator[tuple[str, Method]]:
    """("replaced", the method and its stronger settings), then ("covered", the fallback and its), then solid."""
    yield from (("replaced", rung) for rung in _stronger(method))
    yield from (("covered", rung) for rung in _stronger(find(fallback)(secret=method.secret)))
    if fallback != "solid":
        yield "covered", find("solid")(secret=method.secret)


def _stronger(method: Method) -> Iterator[Method]:
    rung: Method | None = method
    attempt = 0
    while rung is not None:
        yield rung
        attempt += 1
        rung = rung.escalate(attempt)


@dataclass(frozen=True)
class Height:
    """Where a face begins: a rung, why it begins there, and until when its track will."""

    rung: int = 0
    reason: str = ""
    until: Fraction = Fraction(0)


class Heights:
    """The tracks of the file under way that had to climb. Stills have none: each frame of theirs stands alone."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], Height] = {}

    def of(self, name: str, frame: Frame, face: Face) -> Height:
        """Where a face of this frame begins."""
        height = self._of.get((name, face.track), Height())
        return height if frame.time is not None and frame.time < height.until else Height()

    def note(self, name: str, frame: Frame, face: Face, rung: int, reason: str) -> bool:
        """Remember that a face had to climb to `rung`; whether later frames have to know.

        One without landmarks is covered for want of them, and is covered anyway for as long as it has none.
        """
        if frame.time is None or face.landmarks is None or rung <= self.of(name, frame, face).rung:
            return False
        # Frames come in order: other files are over.
        self._of = {key: height for key, height in self._of.items() if key[0] == name}
        self._of[name, face.track] = Height(rung, reason, frame.time + STEADY)
        return True
