"""How many faces each detector finds, of the known ones and of each other's, and how often people are taken for others.

Detectors: how many faces, and how long it takes. People: how often --keep-people and --only-people are wrong, on a
folder of people of whom there are several pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deidcli.engine.face_list import FaceList
from deidcli.engine.jobs import Job
from deidcli.errors import DeidError, MissingDependency, UsageError
from deidcli.evaluation.metrics import all_distances
from deidcli.faces.detectors import Detector
from deidcli.faces.people import LOOSE, OTHER, SAME, SPLIT, STRICT, UNSURE, WORDS, judged
from deidcli.faces.recognisers.shipped import BothRecogniser
from deidcli.media.open import open_reader
from deidcli.values import Box, Face

KNOWN = 0.5  # intersection over union with a known face
# Of two detectors' boxes: one draws them from brow to chin, another from the hair on, so that they share less.
MATCHED = 0.3
SIDE = 1 / 6  # of the picture's shorter side: the smallest box that can be the central face
CHUNK = 16  # frames in one call

Found = dict[tuple[str, int], list[Face]]


@dataclass(frozen=True)
class Search:
    """What a detector found. found: faces by file and frame. sizes: (width, height) of each frame. seconds: of the
    search alone, without reading. failed: files that could not be read.
    """

    detector: str
    found: Found = field(default_factory=dict)
    sizes: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    seconds: float = 0.0
    failed: int = 0


@dataclass(frozen=True)
class DetectionRates:
    """frames: searched. faces: found. empty: frames without a face. central: share of frames whose middle lies in a
    face. recall, precision: against known faces, None where none were given. agreement: for each other detector the
    share of these faces that it finds too. milliseconds: a frame. failed: files that could not be read.
    """

    detector: str
    frames: int
    faces: int
    empty: int
    central: float
    recall: float | None
    precision: float | None
    agreement: dict[str, float]
    milliseconds: float
    failed: int


def search(jobs: Sequence[Job], name: str, detector: Detector) -> Iterator[Search]:
    """Search every frame of every job; yields what is known so far after each file, so that progress can be shown."""
    found: dict = {}
    sizes: dict = {}
    seconds, failed, warm = 0.0, 0, False
    for chunk, lost in _chunks(jobs):
        failed += lost
        pictures = [pixels for _, pixels in chunk]
        if pictures and not warm:
            # What is loaded and prepared once is not the time of a frame.
            detector.detect(pictures)
            warm = True
        began = time.perf_counter()
        faces = detector.detect(pictures) if pictures else []
        seconds += time.perf_counter() - began
        found |= {key: each for (key, _), each in zip(chunk, faces, strict=True)}
        sizes |= {key: (pixels.shape[1], pixels.shape[0]) for key, pixels in chunk}
        yield Search(name, found, sizes, seconds, failed)


def rates(searches: Sequence[Search], truth: FaceList | None = None) -> list[DetectionRates]:
    """The figures of each search. Files that are not in `truth` count in neither recall nor precision."""
    return [_rates(one, [other for other in searches if other is not one], truth) for one in searches]


def is_central(box: Box, size: tuple[int, int]) -> bool:
    """Whether the middle of a picture of `size` (width, height) lies in a box that is not tiny."""
    (x, y), side = (size[0] / 2, size[1] / 2), SIDE * min(size)
    return box.left <= x <= box.right and box.top <= y <= box.bottom and min(box.width, box.height) >= side


def matched(faces: Sequence[Face], others: Sequence[Face], overlap: float) -> int:
    """How many of `faces` can be paired with `others`, each once, best pairs first, at `overlap` or more."""
    pairs = ((a.box.iou(b.box), i, j) for i, a in enumerate(faces) for j, b in enumerate(others))
    left, right = set(), set()
    for iou, i, j in sorted(pairs, reverse=True):
        if iou >= overlap and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return len(left)


def _chunks(jobs: Sequence[Job]) -> Iterator[tuple[list[tuple[tuple[str, int], np.ndarray]], int]]:
    """Frames with their names, some at a time, and how many files failed meanwhile."""
    chunk: list = []
    lost = 0
    for job in jobs:
        try:
            if job.source is None:
                raise UsageError("standard input cannot be searched twice", "name files or folders")
            with open_reader(job.source if isinstance(job.source, Path) else job.source.open()) as reader:
                for frame in reader.frames():
                    chunk.append(((job.name, frame.index), frame.pixels))
                    if len(chunk) == CHUNK:
                        yield chunk, lost
                        chunk, lost = [], 0
        except DeidError:
            lost += 1
    yield chunk, lost


def _rates(one: Search, others: Sequence[Search], truth: FaceList | None) -> DetectionRates:
    frames, faces = len(one.found), sum(map(len, one.found.values()))
    central = sum(any(is_central(f.box, one.sizes[key]) for f in found) for key, found in one.found.items())
    recall, precision = _against(one.found, truth) if truth else (None, None)
    return DetectionRates(
        detector=one.detector,
        frames=frames,
        faces=faces,
        empty=sum(not found for found in one.found.values()),
        central=_share(central, frames),
        recall=recall,
        precision=precision,
        agreement={other.detector: _agreement(one.found, other.found) for other in others},
        milliseconds=round(1000 * one.seconds / max(frames, 1), 1),
        failed=one.failed,
    )


def _agreement(found: Found, other: Mapping) -> float:
    both = sum(matched(faces, other.get(key, []), MATCHED) for key, faces in found.items())
    return _share(both, sum(map(len, found.values())))


def _against(found: Found, truth: FaceList) -> tuple[float, float]:
    """Recall and precision."""
    spoken = {key: faces for key, faces in found.items() if key[0] in truth}
    known = {key: truth.of(*key) for key in spoken}
    hits = sum(matched(faces, known[key], KNOWN) for key, faces in spoken.items())
    return _share(hits, sum(map(len, known.values()))), _share(hits, sum(map(len, spoken.values())))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else float("nan")


# --- A picture of how detectors compare.


def plot(rows: Sequence[DetectionRates], path: Path) -> None:
    """Write bars of faces, central faces and time to `path` (PNG, PDF or SVG by its suffix).

    Raises MissingDependency without matplotlib, UsageError for a path that cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("--plot needs matplotlib", "run `pip install deidcli[eval]`") from error
    figure = Figure(figsize=(10, 1.2 + 0.45 * len(rows)), layout="constrained")
    for axes, (title, values, form) in zip(figure.subplots(1, 3, sharey=True), _panels(rows), strict=True):
        bars = axes.barh([row.detector for row in rows], values, color="#4477aa")
        axes.bar_label(bars, fmt=form, padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.invert_yaxis() if axes.get_subplotspec().is_first_col() else None
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path}: {error}", "give a path like detectors.png") from error


def _panels(rows: Sequence[DetectionRates]) -> list[tuple[str, list, str]]:
    known = all(row.recall is not None for row in rows)
    share = [row.recall if known else row.central for row in rows]
    return [
        (f"faces found in {rows[0].frames} frames", [row.faces for row in rows], "%d"),
        ("known faces found" if known else "frames with a face in the middle", share, "%.4f"),
        ("milliseconds a frame", [row.milliseconds for row in rows], "%.0f"),
    ]


DRAWS = 20  # folders of people that are drawn
BY = {"both": (0, 1), "dlib": (0,), "sface": (1,)}


@dataclass(frozen=True)
class Rate:
    """How many of how many. most: what the true share is at most, at 95 %, as if all trials were independent."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else float("nan")

    @property
    def most(self) -> float:
        from scipy.stats import beta

        return float(beta.ppf(0.95, self.count + 1, self.of - self.count)) if self.of > self.count else 1.0


@dataclass(frozen=True)
class PeopleRates:
    """One row. by: which recognisers decide. people, pictures: how many are at hand, and of each how many.

    left_strangers: strangers whom --keep-people leaves. left, doubted: of those who consented, how many it leaves, and
    how many it replaces as doubtful. missed: of the subjects of --only-people, how many it leaves, which is the error
    that matters. replaced, unsure: strangers whom it replaces, and how many of all strangers as doubtful.
    """

    by: str
    people: int
    pictures: int
    left_strangers: Rate
    left: Rate
    doubted: Rate
    missed: Rate
    replaced: Rate
    unsure: Rate


def people_rates(
    rows: Mapping[str, np.ndarray], people: Mapping[str, Sequence[str]], sizes: Sequence[int], pictures: int, seed: int
) -> Iterator[PeopleRates]:
    """For each size of folder, and by both recognisers and each alone.

    rows: the descriptors of pictures by `both`. people: the pictures of each. A folder holds `pictures` of each of its
    people, who have at least one more; every other picture is a probe. Folders of one person are all tried, of larger
    ones DRAWS are drawn.
    """
    own = {who: [name for name in names if name in rows] for who, names in people.items()}
    able = sorted(who for who, names in own.items() if len(names) > pictures)
    known = [(who, name) for who in able for name in own[who][:pictures]]
    asked = [(who, name) for who, names in own.items() for name in (names[pictures:] if who in able else names)]
    apart = _apart(np.stack([rows[name] for _, name in asked]), np.stack([rows[name] for _, name in known]))
    nearest = np.stack([apart[:, n : n + pictures].min(axis=1) for n in range(0, len(known), pictures)], axis=1)
    place = {who: number for number, who in enumerate(able)}
    of = np.array([place.get(who, -1) for who, _ in asked])
    random = np.random.default_rng([seed, 11])
    for size in sizes:
        if size > len(able):
            continue
        every = np.arange(len(able))
        folders = every[:, None] if size == 1 else np.stack([random.permutation(every)[:size] for _ in range(DRAWS)])
        for by, columns in BY.items():
            yield _people_rates(by, size, pictures, nearest[..., list(columns)], of, folders, columns)


def _apart(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(probes, gallery, 2): distances by both, each as a multiple of its threshold."""
    both = BothRecogniser()
    end = both.parts[0].length
    halves = ((probes[:, :end], gallery[:, :end]), (probes[:, end:], gallery[:, end:]))
    parts = zip(both.parts, halves, strict=True)
    return np.stack([all_distances(part, a, b) / part.threshold for part, (a, b) in parts], axis=-1)


def _people_rates(
    by: str, size: int, pictures: int, nearest: np.ndarray, of: np.ndarray, folders: np.ndarray, columns: Sequence[int]
) -> PeopleRates:
    count = {(own, word): 0 for own in (True, False) for word in WORDS}
    strict, loose = STRICT[list(columns)], LOOSE[list(columns)]
    for folder in folders:
        words = judged(nearest[:, folder].min(axis=1), strict, loose)
        inside = np.isin(of, folder)
        for own in (True, False):
            for word in WORDS:
                count[own, word] += int(((words == word) & (inside == own)).sum())
    asked, strangers = (sum(count[who, word] for word in WORDS) for who in (True, False))
    return PeopleRates(
        by, size, pictures,
        left_strangers=Rate(count[False, SAME], strangers),
        left=Rate(count[True, SAME], asked),
        doubted=Rate(count[True, UNSURE], asked),
        missed=Rate(count[True, OTHER], asked),
        replaced=Rate(strangers - count[False, OTHER], strangers),
        unsure=Rate(count[False, UNSURE] + count[False, SPLIT], strangers),
    )  # fmt: skip
