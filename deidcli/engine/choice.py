"""Choice: which faces of a run are replaced, left as they are, or covered. One step between the search and the method.

Whatever is not certain is replaced: a face is left only where people, zones or decisions say so, and where it is sure
that they mean it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from deidcli.engine.census import DetectionCache
from deidcli.engine.find import Finder
from deidcli.engine.frames import Choice, FileFailure, FileFrame, FrameOrFailure
from deidcli.engine.jobs import Job
from deidcli.engine.survey import walk
from deidcli.engine.zones import ALIKE, BY_HAND, COVER, LEAVE, NEVER, Decision, Instructions, lies_within
from deidcli.errors import MediaError, UsageError, one_line
from deidcli.faces.detectors import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.people import WORDS, KnownPeople, describe, is_comparable, judged
from deidcli.faces.recognisers.shipped import BothRecogniser
from deidcli.media.open import open_reader
from deidcli.values import Face, Frame

KEEP, ONLY = "--keep-people", "--only-people"
APART = 0.4  # seconds between two looks at the face of a track


def load_people(folder: Path, flag: str, detector: Detector) -> KnownPeople:
    """The people of a folder of pictures (sub-folders included), each of which shows one face and nobody else's.

    Raises UsageError in one line for a folder without pictures, and for a picture that cannot be read, or shows no face
    or several: the person it was meant for would be treated as a stranger.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: there is no such folder", "name a folder of pictures")
    paths = list(walk(folder))
    if not paths:
        raise UsageError(f"{flag} {folder}: it holds no picture", "put a picture of each person into it")
    both = BothRecogniser()
    return KnownPeople(np.concatenate([_row(path, flag, detector, both) for path in paths]), both)


def _row(path: Path, flag: str, detector: Detector, both: BothRecogniser) -> np.ndarray:
    """The descriptor (1, length) of the one face of a picture."""
    try:
        with open_reader(path) as reader:
            pixels = next(iter(reader.frames())).pixels
        faces = locate(pixels, detector.detect([pixels])[0])
    except Exception as error:
        raise UsageError(f"{flag}: {path} cannot be read: {one_line(error)}", "take it out, or repair it") from error
    usable = [face for face in faces if is_comparable(face)]
    if len(faces) != 1 or not usable:
        said = (
            "no face" if not faces else f"{len(faces)} faces" if len(faces) > 1 else "a face too small or turned away"
        )
        raise UsageError(
            f"{flag}: {path} shows {said}", "give a picture of one person who looks ahead, cut out if need be"
        )
    return describe(both, pixels, usable)


@dataclass(eq=False)
class _TrackMatches:
    """The comparisons of a track with known people so far.

    counts: how often it was judged each of WORDS. nearest: the least distances by dlib and SFace. last: time of the
    last comparison in seconds.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORDS, 0))
    nearest: tuple[float, float] | None = None
    last: float | None = None

    def add(self, distances: np.ndarray) -> None:
        self.counts[str(judged(distances)[0])] += 1
        pair = (float(distances[0]), float(distances[1]))
        self.nearest = pair if self.nearest is None or sum(pair) < sum(self.nearest) else self.nearest


@dataclass(frozen=True)
class People:
    """Known people, and what they are for. flag: KEEP (they are left) or ONLY (they alone are replaced)."""

    known: KnownPeople
    flag: str

    def choice(self, looks: _TrackMatches | None) -> Choice:
        """What becomes of a track. One that was never seen well is replaced."""
        if looks is None or looks.nearest is None:
            return Choice(why=f"{self.flag}: it is not clear who it is", doubt=self.flag == ONLY)
        said = "dlib {:.2f}, sface {:.2f} of their thresholds".format(*looks.nearest)
        same, unsure, split, other = (looks.counts[word] for word in WORDS)
        if self.flag == KEEP:
            if same and not other and same >= unsure + split:
                return Choice(LEAVE, f"{KEEP}: a match ({said})", match=True)
            return (
                Choice(why=f"{KEEP}: a doubtful match ({said})", doubt=True, match=True) if same or unsure else Choice()
            )
        if not (same or unsure or split):
            return Choice(LEAVE, f"{ONLY}: nobody of them ({said})")
        if same >= unsure + split and not other:
            return Choice(why=f"{ONLY}: a match ({said})", match=True)
        return Choice(why=f"{ONLY}: a doubtful match ({said})", doubt=True, match=True)


class Chooser:
    """Chooses for every face of a run. people: None where nobody is known. instructions: zones and decisions.

    With people every file has to be seen twice: a track is chosen for as a whole, by all that is seen of it.
    """

    def __init__(self, people: People | None = None, instructions: Instructions = Instructions()):  # noqa: B008 - frozen
        self.people, self.instructions = people, instructions
        self._looks: dict[str, dict[tuple[int, int], _TrackMatches]] = {}

    def see(self, item: FrameOrFailure) -> None:
        """Look at the faces of a frame for the first time."""
        if self.people is None or not isinstance(item, FileFrame):
            return
        own, frame = self._looks.setdefault(item.source.job.name, {}), item.frame
        due = [face for face in item.faces if is_comparable(face) and self._is_due(own, face, frame)]
        if not due:
            return
        known = self.people.known
        for face, distances in zip(due, known.distances(describe(known.recogniser, frame.pixels, due)), strict=True):
            own[_key(face, frame)].add(distances)

    def chosen(self, items: Iterable[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        """The same items with their choices and the zones to be covered; one that does not fit fails its file."""
        unmet: dict[str, set[Decision]] = {}
        for item in items:
            if not isinstance(item, FileFrame):
                yield item
                continue
            name = item.source.job.name
            waiting = unmet.setdefault(name, set(self.instructions.decisions.get(name, ())))
            try:
                yield self._with_choices(item, waiting)
            except Exception as error:
                yield FileFailure(item.source, one_line(error))

    def _with_choices(self, item: FileFrame, waiting: set[Decision]) -> FileFrame:
        frame, name = item.frame, item.source.job.name
        decided = self._decided(item, waiting)
        zones = [zone for zone in self.instructions.of(name) if zone.holds(frame)]
        masks = {kind: [zone.mask(frame) for zone in zones if zone.kind == kind] for kind in (COVER, NEVER)}
        choices = {}
        for face in item.faces:
            choice = decided.get(face.track) or self._by_zone(face, masks[NEVER]) or self._by_people(name, face, frame)
            if choice != Choice():
                choices[face.track] = choice
        return replace(item, choices=choices, covers=tuple(mask for mask in masks[COVER] if mask.any()))

    def _decided(self, item: FileFrame, waiting: set[Decision]) -> dict[int, Choice]:
        """The decisions on faces of a frame. Raises MediaError where one was made on another face, or file."""
        frame, name = item.frame, item.source.job.name
        own, decided = {face.track: face for face in item.faces}, {}
        for decision in self.instructions.decisions.get(name, ()):
            if decision.sha256 and item.source.sha256 and decision.sha256 != item.source.sha256:
                raise MediaError(f"{name} is not the file that was decided on", "review it again")
            here = decision.frame == frame.index
            if here:
                face = own.get(decision.track)
                if face is None or face.box.iou(decision.box) < ALIKE:
                    said = f"{name}, frame {frame.index}: face {decision.track} is not the one that was decided on"
                    raise MediaError(said, "give the options of the run that was reviewed, or review it again")
                waiting.discard(decision)
            if here or frame.time is not None:
                decided[decision.track] = Choice(decision.action, f"{BY_HAND}: {decision.action}")
        if item.last and waiting:
            raise MediaError(
                f"{name} has no frame {min(d.frame for d in waiting)}, which was decided on", "review it again"
            )
        return decided

    def _by_zone(self, face: Face, masks: Sequence[np.ndarray]) -> Choice | None:
        if any(lies_within(face.box, mask) for mask in masks):
            return Choice(LEAVE, "it lies in a zone that is never touched")
        return None

    def _by_people(self, name: str, face: Face, frame: Frame) -> Choice:
        if self.people is None:
            return Choice()
        return self.people.choice(self._looks.get(name, {}).get(_key(face, frame)))

    def _is_due(self, own: dict[tuple[int, int], _TrackMatches], face: Face, frame: Frame) -> bool:
        looks = own.setdefault(_key(face, frame), _TrackMatches())
        now = float(frame.time or 0)
        due = looks.last is None or now - looks.last >= APART
        looks.last = now if due else looks.last
        return due


class IdentityPass:
    """Searches every file once before it is worked on, to find out who is shown. To be closed."""

    def __init__(self, finder: Finder, chooser: Chooser):
        self.finder, self.chooser, self.cache = finder, chooser, DetectionCache()

    def __call__(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """The same jobs; the faces of each are in `cache`, and the chooser has seen them, when it comes out.

        Several are looked at together, so that one is read while another is searched.
        """
        waiting = iter(jobs)
        while some := list(islice(waiting, self.finder.depth)):
            for item in self.cache.noted(self.finder(some)):
                self.chooser.see(item)
            yield from some

    def close(self) -> None:
        """Delete the cache."""
        self.cache.close()


def _key(face: Face, frame: Frame) -> tuple[int, int]:
    """The key of a track of a video, or of a face of a picture or page, within its file."""
    return (-1, face.track) if frame.time is not None else (frame.index, face.track)


def left(choices: Mapping[int, Choice], face: Face) -> bool:
    """Whether a face is left as it is."""
    return face.track in choices and choices[face.track].action == LEAVE
