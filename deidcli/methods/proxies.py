"""Proxies: a preset of faces of nobody, and which of them suits a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from deidcli.errors import PresetError
from deidcli.faces.pose import ShapeModel
from deidcli.presets import Preset, load_preset

DRAWN = 4  # proxies of like gender, age and race of which one is drawn
# One unit of cost each: so much logarithm of age, so much of the share that speaks for the race, and for the gender.
AGE, RACE, GENDER = 0.2, 0.4, 0.12
# dlib's distance up to which a face under the same key keeps its proxy: wider than the recogniser's own threshold,
# since most keys are one person's.
SAME = 0.7
KEYS = 4096  # keys that are remembered
OTHER_GENDER, OTHER_AGE = 0.5, 0.5  # how far gender and logarithm of age may be off to be alike
GROWN = 16.0  # years from which a face is an adult's
NEEDED = 0.72  # distance below which a proxy in the target's place may well be recognised
HELD = 64  # pictures that are kept decoded


@dataclass(frozen=True)
class Probe:
    """Reads gender, age and race off dlib's descriptors by one linear map, (129, 7); the last row is the constant."""

    weights: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray, gender: np.ndarray, age: np.ndarray, race: np.ndarray) -> Probe:
        """By least squares, from labels (n,): gender 0 or 1, age in years, race 0 to 4."""
        wanted = np.column_stack([gender, felt(age), np.eye(5)[race]])
        rows = with_one(descriptors)
        return cls(np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ wanted).astype(np.float32))

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """(n, 7): gender from 0 (man) to 1 (woman), `felt` age, and how far each race is spoken for."""
        return with_one(descriptors) @ self.weights.astype(np.float64)


@dataclass(frozen=True)
class Gallery:
    """The proxies of a preset.

    names: (n,). traits: (n, 7), what Probe says on average of the people in each. descriptors: (n, m, 128) of its m
    pictures. landmarks: (n, m, 68, 2) in pixels of each picture. shapes: how faces differ in shape.
    """

    preset: Preset
    names: np.ndarray
    traits: np.ndarray
    descriptors: np.ndarray
    landmarks: np.ndarray
    probe: Probe
    shapes: ShapeModel

    @classmethod
    def load(cls, name: str) -> Gallery:
        """Raises PresetError for a preset that is damaged or none of proxies."""
        preset = load_preset(name, "ksame-m")
        preset.verify()
        with np.load(preset.file("gallery.npz"), allow_pickle=False) as stored:
            try:
                rows = [stored[key] for key in ("names", "traits", "descriptors", "landmarks")]
                shapes = ShapeModel(stored["own"])
                return cls(preset, *rows, Probe(stored["probe"]), shapes)
            except KeyError as error:
                raise PresetError(f"preset {name} lacks {error}", "fetch the preset again") from error

    def nearest(self, descriptor: np.ndarray) -> np.ndarray:
        """The proxies most like in gender, age and race to a person with this descriptor (128,), nearest first."""
        return nearest(self.traits, self.probe(descriptor[None])[0])

    def choose(self, descriptor: np.ndarray, apart: float, rng: np.random.Generator) -> int:
        """The proxy of a person with this descriptor: alike in gender, age and race, and at least `apart` away.

        Drawn among the most suitable that are; where none is, the farthest. Where all that are alike would be
        recognised, first the age may be another, then the race, then the gender; a child's face on an adult comes last.
        """
        said = self.probe(descriptor[None])[0]
        order, (gender, age, race) = nearest(self.traits, said), alike(self.traits, said)
        grown = (self.traits[:, 1] >= felt(GROWN)) == (said[1] >= felt(GROWN))
        distance = np.linalg.norm(self.descriptors - descriptor, axis=2).min(axis=1)
        for fits in (gender & age & race, gender & race & grown, gender & grown, grown, np.ones(len(order), bool)):
            within = order[fits[order]]
            if len(within) and distance[within].max() >= NEEDED:
                break
        far = within[distance[within] >= min(apart, distance[within].max())]
        return int(rng.choice(far[:DRAWN]))

    def picture(self, proxy: int, mouth: int) -> np.ndarray:
        """(side, side, 3) uint8 RGB of a proxy with one of its mouths."""
        sheet = _sheet(str(self.preset.file(f"{self.names[proxy]}.webp")))
        side = sheet.shape[0]
        return sheet[:, mouth * side : (mouth + 1) * side]


class Given:
    """Which proxy whose face got, so that a track keeps it while the person turns and light changes.

    Several people may share a key; each of them has a proxy of their own.
    """

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self._known: dict[str, list[tuple[np.ndarray, int]]] = {}

    def proxy(self, key: str, descriptor: np.ndarray, apart: float, rng: np.random.Generator) -> int:
        """The proxy of a face with this descriptor (128,) under a key: that of a like face before, or a new one."""
        people = self._known.get(key, [])
        moved = [float(np.linalg.norm(descriptor - before)) for before, _ in people]
        if moved and min(moved) <= SAME:
            return people[int(np.argmin(moved))][1]
        chosen = self.gallery.choose(descriptor, apart, rng)
        if len(self._known) >= KEYS:
            del self._known[next(iter(self._known))]
        self._known.setdefault(key, []).append((descriptor, chosen))
        return chosen


def felt(age: Any) -> Any:
    """Age in years as it is compared: years count less with age, since 30 and 33 look more alike than 3 and 6."""
    return np.log(age + 8.0)


def alike(traits: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which proxies with `traits` (n, 7) are alike in gender, age and race to what Probe says, (7,): each (n,) bool."""
    gender = np.abs(traits[:, 0] - np.clip(said[0], 0, 1)) <= OTHER_GENDER
    return gender, np.abs(traits[:, 1] - said[1]) <= OTHER_AGE, traits[:, 2:].argmax(axis=1) == said[2:].argmax()


def nearest(traits: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The numbers of proxies with `traits` (n, 7), those first that are most like what Probe says, (7,)."""
    gap = np.abs(traits - said)
    cost = (gap[:, 0] / GENDER) ** 2 + (gap[:, 1] / AGE) ** 2 + (gap[:, 2:] ** 2).sum(axis=1) / RACE**2
    return np.argsort(cost, kind="stable")


@lru_cache(maxsize=HELD)
def _sheet(path: str) -> np.ndarray:
    stored = cv2.imread(path)
    if stored is None:
        raise PresetError(f"{path} is no picture", "fetch the preset again")
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


def with_one(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) as float64 with a column of ones behind: (n, d + 1), for maps that have a constant."""
    rows = np.asarray(rows, np.float64)
    return np.column_stack([rows, np.ones(len(rows))])


def mouth_mix(gap: float, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """How much of each picture, closed to open, shows a mouth with this gap: (len(steps) + 1,), sum 1.

    steps: from which gap to which one picture fades into the next.
    """
    passed = np.array([np.clip((gap - low) / (high - low), 0, 1) for low, high in steps])
    return np.append(1.0, passed) - np.append(passed, 0.0)
