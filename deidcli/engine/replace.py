"""Replace: every face of a batch of frames gets a new face, or is covered. Nothing is let through.

A face climbs a ladder: the method, the method's stronger settings, the fallback, the fallback's stronger settings, and
at last a solid colour. It stops at the first rung that could make it and after which the recogniser does not take it
for its original.

In a video a face does not change its rung from frame to frame: a track that had to climb in one frame begins at the
rung that it reached there for some seconds (engine/ladder.py), and then tries the first one again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deidcli.engine.ladder import Heights, ladder
from deidcli.engine.persona import Personas
from deidcli.engine.settings import Settings
from deidcli.errors import MethodError, one_line
from deidcli.faces.align import align
from deidcli.faces.blend import blend
from deidcli.faces.embed import Recogniser
from deidcli.methods.base import Method
from deidcli.values import Crop, Face, Frame


@dataclass(frozen=True)
class Outcome:
    """What became of a face. action: "replaced" by the method, or "covered" by the fallback.

    tries: how many rungs were taken. distance: to the original by the recogniser, None where it was not measured.
    reason: why it was covered; empty for a replaced face. marks: what the method says of a face that it replaced.
    """

    face: Face
    action: str
    method: str
    tries: int
    distance: float | None = None
    reason: str = ""
    marks: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Replaced:
    """frame: with its new faces. changed: (height, width) bool of the pixels that may differ, None where none do."""

    frame: Frame
    changed: np.ndarray | None
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Request:
    """A frame, its faces, and the name its file has in draws. Frames of one file come in order."""

    frame: Frame
    faces: tuple[Face, ...]
    name: str


@dataclass(eq=False)
class _Case:
    """A face on its way up the ladder. start: the first rung that it takes. rung: the last one."""

    canvas: _Canvas
    face: Face
    name: str
    key: str = ""
    original: np.ndarray | None = None
    outcome: Outcome | None = None
    tries: int = 0
    reason: str = ""
    start: int = 0
    rung: int = 0


@dataclass(eq=False)
class _Canvas:
    """A frame on which faces are being replaced."""

    source: Frame
    frame: Frame
    changed: np.ndarray | None = None

    def cleared(self) -> _Canvas:
        """Without the new faces."""
        self.frame, self.changed = self.source, None
        return self


class Replacer:
    """Applies a method to batches of requests."""

    def __init__(self, method: Method, settings: Settings, recogniser: Recogniser | None):
        self.settings, self.recogniser = settings, recogniser
        self.threshold = 0.0
        if recogniser is not None:
            self.threshold = recogniser.threshold if settings.distance is None else settings.distance
        self.personas = Personas(settings.persona, recogniser and recogniser.distance, self.threshold)
        self.rungs = tuple(ladder(method, settings.fallback))
        self._heights = Heights()

    def __call__(self, requests: Sequence[Request]) -> list[Replaced]:
        canvases = [_Canvas(r.frame, r.frame) for r in requests]
        cases = [
            _Case(canvas, face, request.name)
            for canvas, request in zip(canvases, requests, strict=True)
            # The nearest face last: where two overlap it lies over the other, as in the scene.
            for face in sorted(request.faces, key=lambda f: f.box.area)
        ]
        self._describe(cases)
        done: list[Replaced] = []
        while canvases:
            self._replace(cases)
            count = self._steady(canvases, cases)
            done += [self._result(canvas, cases) for canvas in canvases[:count]]
            canvases = [canvas.cleared() for canvas in canvases[count:]]
            cases = [case for case in cases if case.canvas in canvases]
        return done

    def _replace(self, cases: Sequence[_Case]) -> None:
        """Let every face climb from where its track stands."""
        for case in cases:
            height = self._heights.of(case.name, case.canvas.source, case.face)
            case.start, case.reason, case.tries, case.outcome = height.rung, height.reason, 0, None
        for level, (action, rung) in enumerate(self.rungs):
            due = [case for case in cases if case.outcome is None and case.start <= level]
            if due:
                self._climb(due, rung, action)
            for case in due:
                case.rung = level

    def _steady(self, canvases: Sequence[_Canvas], cases: Sequence[_Case]) -> int:
        """How many frames stand as they are: those up to the first in which a track climbed that shows again.

        The later ones are made anew from the rung that it reached, so that no frame depends on which came in one call.
        """
        for count, canvas in enumerate(canvases, 1):
            climbed = {(case.name, case.face.track) for case in cases if case.canvas is canvas and self._climbed(case)}
            later = ((case.name, case.face.track) for case in cases if case.canvas in canvases[count:])
            if climbed and climbed.intersection(later):
                return count
        return len(canvases)

    def _climbed(self, case: _Case) -> bool:
        return self._heights.note(case.name, case.canvas.source, case.face, case.rung, case.reason)

    def _describe(self, cases: Sequence[_Case]) -> None:
        known = [case for case in cases if case.face.landmarks is not None]
        if self.recogniser is not None and known:
            for case, row in zip(known, self._embed(known, source=True), strict=True):
                case.original = row
        for case in cases:
            case.key = self.personas.key(case.name, case.face, case.original, self._is_followed(case))

    def _is_followed(self, case: _Case) -> bool:
        return self.settings.track.track and case.canvas.source.time is not None

    def _embed(self, cases: Sequence[_Case], source: bool) -> np.ndarray:
        frames = [case.canvas.source if source else case.canvas.frame for case in cases]
        chips = [self.recogniser.chips(f.pixels, [c.face])[0] for f, c in zip(frames, cases, strict=True)]
        return self.recogniser.embed(np.stack(chips))

    def _climb(self, cases: Sequence[_Case], rung: Method, action: str) -> None:
        """Try one rung for all cases that it can serve, and close those that it settles."""
        able = [case for case in cases if rung.crop.align == "box" or case.face.landmarks is not None]
        for case in cases:
            if case not in able:
                case.reason = case.reason or "its landmarks cannot be right"
        made = [case for case, crop in self._apply(able, rung) if self._blend(case, crop, rung)]
        self._settle(made, rung, action)

    def _apply(self, cases: Sequence[_Case], rung: Method) -> Iterator[tuple[_Case, Crop]]:
        """The cases with their new crops, those left out for which the rung failed; one bad face fails alone."""
        pairs = [(case, crop) for case in cases if (crop := self._align(case, rung))]
        size = self.settings.batch_size
        for start in range(0, len(pairs), size):
            yield from self._attempt(pairs[start : start + size], rung)

    def _align(self, case: _Case, rung: Method) -> Crop | None:
        try:
            return align(case.canvas.source, case.face, rung.crop, case.key)
        except Exception as error:
            case.reason = f"it could not be cut out for {rung.name}: {one_line(error)}"
            return None

    def _attempt(self, pairs: list[tuple[_Case, Crop]], rung: Method) -> list[tuple[_Case, Crop]]:
        for case, _ in pairs:
            case.tries += 1
        try:
            return _made(pairs, rung)
        except Exception as error:
            if len(pairs) == 1:
                pairs[0][0].reason = f"{rung.name} failed: {one_line(error)}"
                return []
        for case, _ in pairs:
            case.tries -= 1
        return [done for pair in pairs for done in self._attempt([pair], rung)]

    def _blend(self, case: _Case, crop: Crop, rung: Method) -> bool:
        try:
            done = blend(case.canvas.frame, crop, rung.crop, self.settings.blend)
        except Exception as error:
            case.reason = f"{rung.name} could not be blended: {one_line(error)}"
            return False
        before = case.canvas.changed
        case.canvas.frame = done.frame
        case.canvas.changed = done.changed if before is None else before | done.changed
        return True

    def _settle(self, cases: Sequence[_Case], rung: Method, action: str) -> None:
        """Close every case that is no longer recognised, or of which nothing can be told."""
        # Without --verify a recogniser may still be there, to tell people apart.
        judges = self.settings.verify and rung.name != "solid"
        judged = [case for case in cases if judges and case.original is not None]
        for case in cases:
            if case not in judged:
                self._close(case, rung, action, None)
        if judged:
            originals = np.array([case.original for case in judged])
            distances = self.recogniser.distance(originals, self._embed(judged, source=False))
            for case, distance in zip(judged, distances, strict=True):
                if distance > self.threshold:
                    self._close(case, rung, action, round(float(distance), 4))
                else:
                    case.reason = f"still recognised after {rung.name} (distance {distance:.2f})"

    def _close(self, case: _Case, rung: Method, action: str, distance: float | None) -> None:
        reason = case.reason if action == "covered" else ""
        marks = rung.marks(case.key) if action == "replaced" else {}
        case.outcome = Outcome(case.face, action, rung.name, case.tries, distance, reason, marks)

    def _result(self, canvas: _Canvas, cases: Sequence[_Case]) -> Replaced:
        own = [case for case in cases if case.canvas is canvas]
        for case in own:
            if case.outcome is None:
                raise MethodError(f"a face could neither be replaced nor covered: {case.reason}")
        return Replaced(canvas.frame, canvas.changed, tuple(case.outcome for case in own if case.outcome))


def _made(pairs: list[tuple[_Case, Crop]], rung: Method) -> list[tuple[_Case, Crop]]:
    crops = rung.apply([crop for _, crop in pairs])
    for (_, crop), new in zip(pairs, crops, strict=True):
        if new.pixels.shape != crop.pixels.shape or new.pixels.dtype != np.uint8:
            raise ValueError(f"made {new.pixels.dtype} {new.pixels.shape} of {crop.pixels.shape}")
    return [(case, replace(crop, pixels=new.pixels)) for (case, crop), new in zip(pairs, crops, strict=True)]
