"""The faces of the example pictures: composites of groups of people, and how close they are to any one of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.detect import DetectOptions, Detector, detector
from deidcli.faces.embed import recogniser
from deidcli.faces.landmarks import locate
from deidcli.faces.shape import LEFT_EYE, RIGHT_EYE
from deidcli.networks.dlib_chips import extract_chips
from deidcli.training.composites import MIN_PEOPLE, Composite, composite

SIDE = 720  # of a composite, in pixels
PEOPLE = 80  # in a composite
CANDIDATES = 800  # crops that are looked at for one group
SAME_PERSON = 0.6  # dlib's distance
SURELY_ANOTHER = 0.4  # distance that two members must keep: the data name nobody, and show some people often
GREY = 5.0  # mean distance from grey in Lab below which a crop is taken for a grey photograph
TURNED = 0.09  # how far the tip of the nose may lie off the middle, as a share of the distance between the eyes
OPEN = 0.08  # gap between the lips that shows teeth, as a share of the same


@dataclass(frozen=True)
class Group:
    """Who is averaged, by UTKFace's labels. gender: 0 man, 1 woman. race: its codes 0 to 3. smile: teeth are seen."""

    name: str
    gender: int
    race: int
    youngest: int
    oldest: int
    smile: bool

    def holds(self, path: Path) -> bool:
        """Whether the labels in a file name AGE_GENDER_RACE_DATE fit; files that lack one never do."""
        labels = path.stem.split("_")
        if len(labels) != 4 or not all(label.isdigit() for label in labels[:3]):
            return False
        age, gender, race = (int(label) for label in labels[:3])
        return gender == self.gender and race == self.race and self.youngest <= age <= self.oldest


GROUPS = (
    Group("ada", 1, 0, 20, 32, True),
    Group("ben", 0, 1, 22, 42, False),
    Group("cleo", 1, 1, 20, 35, True),
    Group("dai", 0, 2, 20, 42, False),
    Group("esha", 1, 3, 20, 40, False),
    Group("finn", 0, 0, 60, 76, False),
    Group("gao", 1, 2, 20, 34, False),
    Group("hari", 0, 3, 20, 52, True),
    Group("ines", 1, 0, 50, 76, True),
    Group("jon", 0, 0, 22, 38, False),
    Group("kofi", 0, 1, 42, 75, True),
    Group("lin", 1, 2, 20, 34, True),
)


@dataclass(frozen=True)
class Person:
    """One crop of the data. sharpness: the contrast of its finest detail."""

    pixels: np.ndarray
    landmarks: np.ndarray
    sharpness: float


@dataclass(frozen=True)
class Check:
    """How close a composite is to people, in dlib's distance.

    closest: to any member. members, others: share within 0.6 of it, among its members and among the other people of
    its group who were looked at. nearer: how often a member lies nearer to it than one of those others; 0.5 where
    having been averaged makes no difference.
    """

    group: Group
    people: int
    closest: float
    members: float
    others: float
    nearer: float

    def row(self) -> str:
        shares = f"{self.members:8.0%} {self.others:8.0%} {self.nearer:8.2f}"
        return f"{self.group.name:6} {self.people:6} {self.closest:8.3f} {shares}"


CHECK_HEAD = "face   people  closest  members   others   nearer   (dlib's distance; share within 0.6)"


def faces(data: Path, seed: int) -> dict[str, Composite]:
    """The composites by name, from the folder `data` that holds utkface/images; prints the check of each."""
    paths = sorted((data / "utkface" / "images").iterdir())
    print(CHECK_HEAD)
    made = {}
    for group in GROUPS:
        made[group.name], check = face_of(group, paths, seed)
        print(check.row(), flush=True)
    return made


def face_of(group: Group, paths: list[Path], seed: int) -> tuple[Composite, Check]:
    """The composite of a group and its check. The sharpest crops come first; no two members look like one person."""
    fitting = [path for path in paths if group.holds(path)]
    random.Random(f"{seed} {group.name}").shuffle(fitting)
    seen = [person for person in map(read, fitting[:CANDIDATES]) if person and suits(person, group)]
    seen.sort(key=lambda person: -person.sharpness)
    descriptors = describe(seen)
    chosen = different_people(descriptors)
    made = composite([seen[i].pixels for i in chosen], [seen[i].landmarks for i in chosen], SIDE)
    distance = np.linalg.norm(descriptors - describe([made]), axis=1)
    return made, checked(group, distance[chosen], np.delete(distance, chosen))


def checked(group: Group, inside: np.ndarray, outside: np.ndarray) -> Check:
    """The check from the distances of members (n,) and of others (m,)."""
    within = [float(np.mean(d < SAME_PERSON)) if len(d) else float("nan") for d in (inside, outside)]
    nearer = float(np.mean(inside[:, None] < outside)) if len(outside) else float("nan")
    return Check(group, len(inside), float(inside.min()), *within, nearer)


def different_people(descriptors: np.ndarray) -> list[int]:
    """Indices of up to PEOPLE rows, first come first served, that keep their distance from each other."""
    chosen: list[int] = []
    for index, row in enumerate(descriptors):
        if all(np.linalg.norm(row - descriptors[other]) > SURELY_ANOTHER for other in chosen):
            chosen.append(index)
        if len(chosen) == PEOPLE:
            break
    assert len(chosen) >= MIN_PEOPLE, f"only {len(chosen)} different people"
    return chosen


def read(path: Path) -> Person | None:
    """The person of a crop, or None where no single face is found in it."""
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    found = searcher().detect([pixels])[0]
    if len(found) != 1:
        return None
    points = locate(pixels, found)[0].landmarks
    if points is None:
        return None
    light = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return Person(pixels, points, float(cv2.Laplacian(light, cv2.CV_32F)[50:130, 40:120].std()))


@cache
def searcher() -> Detector:
    return detector(DetectOptions(detector="hog", upsample=0, lift=False))


def suits(person: Person, group: Group) -> bool:
    """Whether the crop looks ahead, has colour, and smiles as the group does."""
    points = person.landmarks
    left, right = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    across = (right - left) / np.linalg.norm(right - left)
    apart = float((right - left) @ across)
    turned = abs(float((points[30] - (left + right) / 2) @ across)) / apart
    gap = float(np.linalg.norm(points[66] - points[62])) / apart
    chroma = cv2.cvtColor(person.pixels[60:130, 50:110], cv2.COLOR_RGB2LAB)[..., 1].astype(float) - 128
    return turned < TURNED and (gap > OPEN) == group.smile and float(np.abs(chroma).mean()) > GREY


def describe(people: Sequence[Person | Composite]) -> np.ndarray:
    """dlib's descriptors (n, 128)."""
    chips = [extract_chips(p.pixels, [p.landmarks]) for p in people]
    return np.concatenate(
        [recogniser("dlib").embed(np.concatenate(chips[i : i + 64])) for i in range(0, len(chips), 64)]
    )
