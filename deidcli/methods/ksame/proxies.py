"""Proxies: averaged faces that show no real person, read from a preset, and which of them suits a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deidcli.errors import PresetError
from deidcli.faces.pose import ShapeModel
from deidcli.presets import Preset, load_preset

METHOD = "ksame-m"  # of the presets of galleries
RECOGNISER = "dlib"  # whose descriptors galleries and packs hold
DRAWN = 4  # proxies of like gender, age and race of which one is drawn
# Differences that cost one unit in `nearest`: of log_age, of the probe's score of a race, of its score of the gender.
AGE, RACE, GENDER = 0.2, 0.4, 0.12
# dlib's distance up to which a face under the same key keeps its proxy: wider than the recogniser's own threshold,
# since most keys are one person's.
SAME = 0.7
KEYS = 4096  # keys that are remembered
OTHER_GENDER, OTHER_AGE = 0.5, 0.5  # largest differences of gender score and log_age of people who count as alike
ADULT_AGE = 16.0  # years from which a face is an adult's
SAFE_DISTANCE = 0.72  # distance below which a proxy in the target's place may well be recognised
HELD = 64  # decoded pictures in the cache


@dataclass(frozen=True)
class Probe:
    """Reads gender, age and race off dlib's descriptors by one linear map, (129, 7); the last row is the constant."""

    weights: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray, gender: np.ndarray, age: np.ndarray, race: np.ndarray) -> Probe:
        """By least squares, from labels (n,): gender 0 or 1, age in years, race 0 to 4."""
        wanted = np.column_stack([gender, log_age(age), np.eye(5)[race]])
        rows = with_constant(descriptors)
        return cls(np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ wanted).astype(np.float32))

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """(n, 7): gender from 0 (man) to 1 (woman), `log_age`, and a score for each race."""
        return with_constant(descriptors) @ self.weights.astype(np.float64)


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
        preset = load_preset(name, METHOD)
        preset.verify()
        with np.load(preset.file("gallery.npz"), allow_pickle=False) as stored:
            try:
                rows = {key: stored[key] for key in ("names", "traits", "descriptors", "landmarks")}
                return cls(preset, **rows, probe=Probe(stored["probe"]), shapes=ShapeModel(stored["own"]))
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
        predicted = self.probe(descriptor[None])[0]
        order, (gender, age, race) = nearest(self.traits, predicted), alike(self.traits, predicted)
        grown = (self.traits[:, 1] >= log_age(ADULT_AGE)) == (predicted[1] >= log_age(ADULT_AGE))
        distance = np.linalg.norm(self.descriptors - descriptor, axis=2).min(axis=1)
        for fits in (gender & age & race, gender & race & grown, gender & grown, grown, np.ones(len(order), bool)):
            within = order[fits[order]]
            if len(within) and distance[within].max() >= SAFE_DISTANCE:
                break
        far = within[distance[within] >= min(apart, distance[within].max())]
        return int(rng.choice(far[:DRAWN]))

    def picture(self, proxy: int, mouth: int) -> np.ndarray:
        """(side, side, 3) uint8 RGB of a proxy with one of its mouths."""
        sheet = _sheet(str(self.preset.file(f"{self.names[proxy]}.webp")))
        side = sheet.shape[0]
        return sheet[:, mouth * side : (mouth + 1) * side]


class ProxyAssignment:
    """Remembers which proxy each person of a track got, so that a track keeps its proxy while pose and light change.

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


def log_age(age: Any) -> Any:
    """Age in years as it is compared: years count less with age, since 30 and 33 look more alike than 3 and 6."""
    return np.log(age + 8.0)


def alike(traits: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which proxies with `traits` (n, 7) are alike in gender, age and race to what Probe says, (7,): each (n,) bool."""
    gender = np.abs(traits[:, 0] - np.clip(predicted[0], 0, 1)) <= OTHER_GENDER
    return (
        gender,
        np.abs(traits[:, 1] - predicted[1]) <= OTHER_AGE,
        traits[:, 2:].argmax(axis=1) == predicted[2:].argmax(),
    )


def nearest(traits: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The numbers of proxies with `traits` (n, 7), those first that are most like what Probe says, (7,)."""
    gap = np.abs(traits - predicted)
    cost = (gap[:, 0] / GENDER) ** 2 + (gap[:, 1] / AGE) ** 2 + (gap[:, 2:] ** 2).sum(axis=1) / RACE**2
    return np.argsort(cost, kind="stable")


@lru_cache(maxsize=HELD)
def _sheet(path: str) -> np.ndarray:
    stored = cv2.imread(path)
    if stored is None:
        raise PresetError(f"{path} is no picture", "fetch the preset again")
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


def with_constant(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) as float64 with a column of ones behind: (n, d + 1), for maps that have a constant."""
    rows = np.asarray(rows, np.float64)
    return np.column_stack([rows, np.ones(len(rows))])


def mouth_weights(gap: float, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """How much of each picture, closed to open, shows a mouth with this gap: (len(steps) + 1,), sum 1.

    steps: from which gap to which one picture fades into the next.
    """
    passed = np.array([np.clip((gap - low) / (high - low), 0, 1) for low, high in steps])
    return np.append(1.0, passed) - np.append(passed, 0.0)


# --- Mixes: what k-Same-Net's preset knows of its proxies beside the network, and how a face is turned as another.

FILE = "proxies.npz"
ROWS = ("traits", "descriptors", "shapes", "moves")


@dataclass(frozen=True)
class Proxies:
    """The identities that a network mixes.

    steps: of `mouth_weights`, from one mouth to the next. traits: (p, 7), what `probe` says of each. descriptors: (p,
    128) of each with its mouth closed. shapes: (p, m, 68, 2) of each with each mouth, in the unit of the face square.
    moves: (e, 68, 2), how `expressions` move them. size, margin: of the network's pictures.
    """

    expressions: tuple[str, ...]
    steps: tuple[tuple[float, float], ...]
    traits: np.ndarray
    descriptors: np.ndarray
    shapes: np.ndarray
    moves: np.ndarray
    probe: Probe
    size: int
    margin: float

    @classmethod
    def of(cls, preset: Preset) -> Proxies:
        """Every file of the preset verified. Raises PresetError."""
        preset.verify()
        try:
            shown, picture = preset.config["appearance"], preset.config["picture"]
            words, steps = tuple(shown["expression"]), tuple((float(low), float(high)) for low, high in shown["mouth"])
            with np.load(preset.file(FILE), allow_pickle=False) as stored:
                rows = {name: stored[name].astype(np.float64) for name in ROWS}
                probe = Probe(stored["probe"])
            size, margin = int(picture["size"]), float(picture["margin"])
            return cls(words, steps, **rows, probe=probe, size=size, margin=margin)
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(f"preset {preset.name} does not say its proxies: {error}", "fetch it again") from error

    def save(self, folder: Path) -> list[str]:
        """Write what `of` reads beside config.json. Returns the names of the files."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = {name: getattr(self, name) for name in ROWS} | {"probe": self.probe.weights}
        np.savez_compressed(folder / FILE, **{name: values.astype(np.float32) for name, values in rows.items()})
        return [FILE]

    def stored(self) -> dict:
        """The rest of what `of` reads, for config.json."""
        return {
            "picture": {"size": self.size, "margin": self.margin},
            "appearance": {"expression": list(self.expressions), "mouth": [list(step) for step in self.steps]},
        }

    def pixels(self, shape: np.ndarray) -> np.ndarray:
        """From the unit of the face square (68, 2) to pixels of the network's picture."""
        return (shape + self.margin) * self.size / (1 + 2 * self.margin) - 0.5
