"""Replace: every face of a batch of frames gets a new face, or is covered. Nothing is let through.

A face is tried at one level after the other: the method, the method's stronger settings, the fallback, the fallback's
stronger settings, and at last a solid colour. It stops at the first level that could make it and after which the
recogniser does not take it for its original. In a still it has to be apart by MARGIN where the method has a stronger
setting: the encoder brings faces a little nearer again, and what is recognised in the file is covered
(engine/written.py). Where no setting gets so far, the one that got farthest is taken again.

In a video a face does not change its level from frame to frame: a track that was raised in one frame begins at the
level that it reached there for some seconds (engine/escalation.py), and then tries the first one again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deidcli.engine.canvas import Canvas
from deidcli.engine.escalation import TrackLevels, levels
from deidcli.engine.frames import Choice
from deidcli.engine.settings import Personas, Settings
from deidcli.engine.zones import COVER, LEAVE, fill
from deidcli.errors import MethodError, one_line
from deidcli.faces.align import align
from deidcli.faces.blend import Patch, face_size, patch
from deidcli.faces.landmarks import serves
from deidcli.faces.looks import all_looks, shows
from deidcli.faces.recognisers import Recogniser
from deidcli.methods.base import Method
from deidcli.values import Crop, Face, Frame

MARGIN = (
    1.1  # thresholds that a face of a still is apart from its original, as long as the method has stronger settings
)


@dataclass(frozen=True)
class Outcome:
    """What became of a face. action: "replaced" by the method, "covered" by the fallback, or "left" as it was.

    tries: how many levels were tried. distance: to the original by the recogniser, None where it was not measured.
    reason: why it was covered; empty for a replaced face. marks: what the method says of a face that it replaced.
    choice: what was chosen for it before.
    """

    face: Face
    action: str
    method: str
    tries: int
    distance: float | None = None
    reason: str = ""
    marks: dict[str, Any] = field(default_factory=dict)
    choice: Choice = Choice()


@dataclass(frozen=True)
class Replaced:
    """frame: with its new faces. changed: (height, width) bool of the pixels that may differ, None where none do.

    originals: of each outcome the descriptors (looks, length) of the face before it was replaced, None where it has
    none.
    """

    frame: Frame
    changed: np.ndarray | None
    outcomes: tuple[Outcome, ...]
    originals: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True)
class Request:
    """A frame, its faces, and the name its file has in draws. Frames of one file come in order.

    choices, covers: as in `FileFrame`.
    """

    frame: Frame
    faces: tuple[Face, ...]
    name: str
    choices: Mapping[int, Choice] = field(default_factory=dict)
    covers: tuple[np.ndarray, ...] = ()

    def choice(self, face: Face) -> Choice:
        """What was chosen for a face."""
        return self.choices.get(face.track, Choice())


@dataclass(eq=False)
class _Canvas(Canvas):
    """The canvas of a request. left: what becomes of faces that are not replaced."""

    covers: tuple[np.ndarray, ...] = ()
    left: tuple[Outcome, ...] = ()


@dataclass(eq=False)
class _FaceTask:
    """A face on its way through the levels. start: the first one that it takes. level: the last one.

    originals: its descriptors (looks, length) in every look of its frame. number: of the face in its frame, from 1 on.
    before: what its last new face changed, as it was before. choice: what was chosen for it. farthest: the greatest
    distance at which it was not recognised, though within the margin, and the level that reached it.
    """

    canvas: _Canvas
    face: Face
    name: str
    number: int = 1
    choice: Choice = Choice()
    before: Patch | None = None
    key: str = ""
    originals: np.ndarray | None = None
    outcome: Outcome | None = None
    tries: int = 0
    reason: str = ""
    start: int = 0
    level: int = 0
    farthest: tuple[float, int] | None = None

    @property
    def track(self) -> tuple[str, int]:
        """The face's track, in its file."""
        return self.name, self.face.track


class Replacer:
    """Applies a method to batches of requests."""

    def __init__(self, method: Method, settings: Settings, recogniser: Recogniser | None):
        self.settings, self.recogniser = settings, recogniser
        self.threshold = 0.0
        if recogniser is not None:
            self.threshold = recogniser.threshold if settings.distance is None else settings.distance
        self.personas = Personas(settings.persona, recogniser.distance if recogniser else None, self.threshold)
        self.levels = tuple(levels(method, settings.fallback))
        self._first_cover = next(n for n, (action, _) in enumerate(self.levels) if action == "covered")
        self._track_levels = TrackLevels()

    def ready(self) -> None:
        """Load networks that the first face would load. What goes wrong here does so again there, and is told there."""
        for part in (self.recogniser, self.levels[0][1]):
            if part is not None:
                with suppress(Exception):
                    part.ready()

    def __call__(self, requests: Sequence[Request]) -> list[Replaced]:
        canvases = [_Canvas(r.frame, r.frame, covers=r.covers, left=tuple(_left(r))) for r in requests]
        tasks = [
            _FaceTask(canvas, face, request.name, number, request.choice(face))
            for canvas, request in zip(canvases, requests, strict=True)
            # The nearest face last: where two overlap it lies over the other, as in the scene.
            for number, face in enumerate(sorted(request.faces, key=lambda f: f.box.area), 1)
            if request.choice(face).action != LEAVE
        ]
        self._describe(tasks)
        done: list[Replaced] = []
        while canvases:
            self._replace(tasks)
            count = self._final(canvases, tasks)
            done += [self._result(canvas, tasks) for canvas in canvases[:count]]
            canvases = [canvas.cleared() for canvas in canvases[count:]]
            tasks = [task for task in tasks if task.canvas in canvases]
        return done

    def _replace(self, tasks: Sequence[_FaceTask]) -> None:
        """Try every face from the level at which its track stands."""
        for task in tasks:
            start = self._track_levels.start(task.name, task.canvas.source, task.face)
            task.start, task.reason, task.tries, task.outcome = start.level, start.reason, 0, None
            task.before = task.farthest = None
            if task.choice.action == COVER and task.start < self._first_cover:
                task.start, task.reason = self._first_cover, task.choice.why
        for level in range(len(self.levels)):
            if level == self._first_cover:
                self._take_farthest(tasks)
            due = [task for task in tasks if task.outcome is None and task.start <= level]
            self._try(due, level, MARGIN if level + 1 < self._first_cover else 1.0)

    def _take_farthest(self, tasks: Sequence[_FaceTask]) -> None:
        """Close the faces that would be covered, but were not recognised after some level, at that level."""
        for level in range(self._first_cover):
            due = [task for task in tasks if task.outcome is None and task.farthest and task.farthest[1] == level]
            self._try(due, level, 1.0)

    def _final(self, canvases: Sequence[_Canvas], tasks: Sequence[_FaceTask]) -> int:
        """Count the leading frames that need no redo: up to the first that raised a track which shows again.

        The later ones are made anew from the level that it reached, so that no frame depends on which came in one call.
        """
        for count, canvas in enumerate(canvases, 1):
            raised = {task.track for task in tasks if task.canvas is canvas and self._raised(task)}
            later = (task.track for task in tasks if task.canvas in canvases[count:])
            if raised and raised.intersection(later):
                return count
        return len(canvases)

    def _raised(self, task: _FaceTask) -> bool:
        if task.choice.action == COVER:
            return False  # each of its frames begins there anyway
        if not serves(self.levels[0][1].crop, task.face, task.canvas.source):
            return False  # it is covered because of how it is turned, and only for as long as it is
        covered = task.level >= self._first_cover
        return self._track_levels.note(task.name, task.canvas.source, task.face, task.level, task.reason, covered)

    def _describe(self, tasks: Sequence[_FaceTask]) -> None:
        known = [task for task in tasks if task.face.landmarks is not None]
        if self.recogniser is not None and known:
            shown = [_shown(task) for task in known]
            pairs = [(look, task.face) for task, looks in zip(known, shown, strict=True) for look in looks]
            rows = iter(_embed(self.recogniser, pairs))
            for task, looks in zip(known, shown, strict=True):
                task.originals = np.stack([next(rows) for _ in looks])
        for task in tasks:
            original = None if task.originals is None else task.originals[0]
            task.key = self.personas.key(task.name, task.face, original, self._is_followed(task))

    def _is_followed(self, task: _FaceTask) -> bool:
        return self.settings.track.track and task.canvas.source.time is not None

    def _try(self, tasks: Sequence[_FaceTask], level: int, margin: float) -> None:
        """Try one level for all faces that it can serve, and close those that it settles. margin: of stills."""
        _, method = self.levels[level]
        able = [task for task in tasks if serves(method.crop, task.face, task.canvas.source)]
        for task in tasks:
            if task not in able:
                task.reason = task.reason or "its landmarks cannot be right"
            task.level = level
        made = [task for task, crop in self._apply(able, method) if self._blend(task, crop, method)]
        self._settle(made, level, margin)

    def _apply(self, tasks: Sequence[_FaceTask], method: Method) -> Iterator[tuple[_FaceTask, Crop]]:
        """The faces with their new crops, without those for which the level failed; one bad face fails alone."""
        pairs = [(task, crop) for task in tasks if (crop := self._align(task, method))]
        size = self.settings.batch_size
        for start in range(0, len(pairs), size):
            yield from self._attempt(pairs[start : start + size], method)

    def _align(self, task: _FaceTask, method: Method) -> Crop | None:
        try:
            return align(task.canvas.source, task.face, method.crop, task.key)
        except Exception as error:
            task.reason = f"it could not be cut out for {method.name}: {one_line(error)}"
            return None

    def _attempt(self, pairs: list[tuple[_FaceTask, Crop]], method: Method) -> list[tuple[_FaceTask, Crop]]:
        """Make a batch; one that fails as a whole, as for want of memory, is halved until each face is alone."""
        try:
            done = _made(pairs, method)
        except Exception as error:
            if len(pairs) == 1:
                task, _ = pairs[0]
                task.tries += 1
                task.reason = f"{method.name} failed: {one_line(error)}"
                return []
            half = len(pairs) // 2
            return [one for part in (pairs[:half], pairs[half:]) for one in self._attempt(part, method)]
        for task, _ in pairs:
            task.tries += 1
        return done

    def _blend(self, task: _FaceTask, crop: Crop, method: Method) -> bool:
        """Put a new face in. That of the level before is taken out, so that nothing is bent or mixed twice."""
        if task.before is not None:
            task.canvas.take_out(task.before, task.number)
        try:
            done = patch(task.canvas.frame, crop, method.crop, self.settings.blend)
        except Exception as error:
            task.reason = f"{method.name} could not be blended: {one_line(error)}"
            return False
        done = task.canvas.behind(done, task.face, task.number)
        task.before = replace(done, pixels=task.canvas.frame.pixels[done.window].copy())
        task.canvas.lay(done, task.number)
        return True

    def _settle(self, tasks: Sequence[_FaceTask], level: int, margin: float) -> None:
        """Close every face that is no longer recognised, or of which nothing can be told."""
        action, method = self.levels[level]
        # Without --verify a recogniser may still be there, to tell people apart.
        judge = self.recogniser if self.settings.verify and not method.removes_face else None
        known = [(task, task.originals) for task in tasks if judge is not None and task.originals is not None]
        judged = [task for task, _ in known]
        for task in tasks:
            if task not in judged:
                self._close(task, method, action, None)
        if judge is not None and judged:
            rows = _embed(judge, [(task.canvas.frame.pixels, task.face) for task in judged])
            for (task, originals), row in zip(known, rows, strict=True):
                wide = margin if task.canvas.source.time is None else 1.0
                distance, known_again = self.compared(judge, task.face, originals, row, wide)
                if known_again and wide > 1 and not self.compared(judge, task.face, originals, row)[1]:
                    task.farthest = max(task.farthest or (0.0, 0), (distance, level))
                if known_again:
                    task.reason = f"still recognised after {method.name} (distance {distance:.2f})"
                else:
                    self._close(task, method, action, round(distance, 4))

    def compared(
        self, judge: Recogniser, face: Face, originals: np.ndarray, row: np.ndarray, margin: float = 1.0
    ) -> tuple[float, bool]:
        """The least distance of a descriptor (length,) to those of the face's original (looks, length), and whether it
        is recognised: at `margin` times the threshold for its size, or times one that was given, which holds for all
        sizes."""
        rows = np.repeat(row[None], len(originals), axis=0)
        apart, known = judge.compared(originals, rows, face_size(face), self.settings.distance, margin)
        return float(apart.min()), bool(known.any())

    def _close(self, task: _FaceTask, method: Method, action: str, distance: float | None) -> None:
        reason = task.reason if action == "covered" else ""
        marks = method.marks(task.key) if action == "replaced" else {}
        if action == "replaced" and task.before is not None:
            task.canvas.settle(task.before, task.number)
        task.outcome = Outcome(task.face, action, method.name, task.tries, distance, reason, marks, task.choice)

    def _result(self, canvas: _Canvas, tasks: Sequence[_FaceTask]) -> Replaced:
        own = [task for task in tasks if task.canvas is canvas]
        for task in own:
            if task.outcome is None:
                raise MethodError(f"a face could neither be replaced nor covered: {task.reason}")
        outcomes = (*(task.outcome for task in own if task.outcome), *canvas.left)
        originals = (*(task.originals for task in own), *(None for _ in canvas.left))
        return Replaced(*fill(canvas.frame, canvas.covers, canvas.changed), outcomes, originals)


def _left(request: Request) -> Iterator[Outcome]:
    """What becomes of the faces that are left as they are."""
    for face in request.faces:
        choice = request.choice(face)
        if choice.action == LEAVE:
            yield Outcome(face, "left", "", 0, choice=choice)


def _embed(recogniser: Recogniser, faces: Sequence[tuple[np.ndarray, Face]]) -> np.ndarray:
    """Descriptors (n, length) of faces, each in its picture (height, width, 3) uint8."""
    return recogniser.embed(np.stack([recogniser.chips(pixels, [face])[0] for pixels, face in faces]))


def _shown(task: _FaceTask) -> list[np.ndarray]:
    """The looks in which something of the face is to be seen; the first of them all in any case."""
    first, *others = all_looks(task.canvas.source)
    return [first, *(look for look in others if shows(look, task.face))]


def _made(pairs: list[tuple[_FaceTask, Crop]], method: Method) -> list[tuple[_FaceTask, Crop]]:
    crops = method.apply([crop for _, crop in pairs])
    for (_, crop), new in zip(pairs, crops, strict=True):
        if new.pixels.shape != crop.pixels.shape or new.pixels.dtype != np.uint8:
            raise ValueError(f"made {new.pixels.dtype} {new.pixels.shape} of {crop.pixels.shape}")
        if (new.layer is None) is (method.crop.align == "window"):
            raise ValueError("a window, and no other crop, says by a layer how it lies over the frame")
    return [
        (task, replace(crop, pixels=new.pixels, layer=new.layer))
        for (task, crop), new in zip(pairs, crops, strict=True)
    ]
