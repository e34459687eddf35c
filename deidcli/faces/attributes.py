"""Attributes: what a face shows beside its identity: gender, age, race and expression by classifiers, tone as measured.

A classifier predicts how people would label the photograph; it says nothing about the person. Such labels
of people are read here, too, from CSV files: for packs, for evaluation, and for groups of one attribute value.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.blend import to_lab
from deidcli.values import Crop, CropSpec, Face, Frame

if TYPE_CHECKING:
    from deidcli.networks.classifiers import Answers, Classifier  # brings Keras, which help must not load


PRESETS = ("attributes", "expression")
# Middles of the cheeks in the face square, and how far they reach: below the eyes, beside the nose, above the mouth.
CHEEKS, REACH = ((0.28, 0.53), (0.72, 0.53)), 0.06


@dataclass(frozen=True)
class Attributes:
    """What was read off one face; None for what was not asked.

    age: years. tone: individual typology angle of the cheeks in degrees (`tone`). sure: the probability of each word
    that was chosen, by the name of the question.
    """

    tone: float
    gender: str | None = None
    age: float | None = None
    race: str | None = None
    expression: str | None = None
    sure: tuple[tuple[str, float], ...] = ()


class AttributeReader:
    """Reads faces with the classifiers of `presets`, which are loaded when the first face comes.

    Raises PresetError then where one of them is missing or damaged.
    """

    def __init__(self, *presets: str):
        self.presets = presets or PRESETS

    def of(self, frame: Frame, faces: Sequence[Face]) -> list[Attributes]:
        """The attributes of `faces`, which are coordinates of `frame`."""
        return self.read([self.cut(frame, face) for face in faces])

    def cut(self, frame: Frame, face: Face) -> np.ndarray:
        """The aligned crop of a face that `read` takes, so that faces of many frames can be read in one go."""
        return align(frame, face, self._spec).pixels

    def of_crops(self, crops: Sequence[Crop]) -> list[Attributes]:
        """The attributes of faces that were cut out for a method, whatever their size and margin."""
        return self.read([self.cut(Frame(crop.pixels), within(crop)) for crop in crops])

    def read(self, pixels: Sequence[np.ndarray] | np.ndarray) -> list[Attributes]:
        """The attributes of aligned crops, each of the size and margin of the presets (64 pixels, 0.06)."""
        if not len(pixels):
            return []
        batch = np.stack(list(pixels))
        rows: list[dict] = [{"tone": tone(face, self._spec.margin), "sure": ()} for face in batch]
        for classifier in self._classifiers:
            answers = classifier.predict(batch)
            for i, row in enumerate(rows):
                row.update(_words(classifier, answers, i), sure=(*row["sure"], *_sure(classifier, answers, i)))
        return [Attributes(**row) for row in rows]

    @cached_property
    def _classifiers(self) -> list[Classifier]:
        from deidcli.networks.classifiers import load

        return [load(preset) for preset in self.presets]

    @cached_property
    def _spec(self) -> CropSpec:
        first = self._classifiers[0]
        return CropSpec(first.config.size, first.margin)


def within(crop: Crop) -> Face:
    """The face of a crop in the crop's own coordinates."""
    box = crop.face.box
    corners = np.array([[box.left, box.top], [box.right, box.bottom], [box.left, box.bottom], [box.right, box.top]])
    corners = apply_affine(crop.transform, corners)
    moved, five = (
        None if points is None else apply_affine(crop.transform, points).astype(np.float32)
        for points in (crop.face.landmarks, crop.face.points5)
    )
    box = type(box)(*corners.min(axis=0), *corners.max(axis=0))
    return replace(crop.face, box=box, landmarks=moved, points5=five)


def tone(pixels: np.ndarray, margin: float = 0.06) -> float:
    """The individual typology angle (ITA) of the cheeks of an aligned crop (side, side, 3) uint8, in degrees.

    arctan((L - 50) / b) of the median CIE Lab colour: above 41 light, 28 to 41 intermediate, 10 to 28 tan, -30 to 10
    brown, below dark (Chardon et al. 1991). It is read off the photograph: light and camera change it as the skin does.
    """
    lab = to_lab(pixels)
    light, _, yellow = np.median(np.concatenate([_patch(lab, place, margin) for place in CHEEKS]), axis=0)
    return float(np.degrees(np.arctan2(light - 50, max(float(yellow), 1e-3))))


def _patch(lab: np.ndarray, place: tuple[float, float], margin: float) -> np.ndarray:
    """The pixels (n, 3) about a place of the face square."""
    scale = len(lab) / (1 + 2 * margin)
    low, high = (((np.array(place) + margin + step) * scale).astype(int) for step in (-REACH, REACH))
    return lab[low[1] : high[1] + 1, low[0] : high[0] + 1].reshape(-1, 3)


def _words(classifier: Classifier, answers: Answers, i: int) -> dict:
    """The answers for face `i`, in plain Python values."""
    return {name: head.read(answers[name][i : i + 1])[0].item() for name, head in classifier.heads.items()}


def _sure(classifier: Classifier, answers: Answers, i: int) -> list[tuple[str, float]]:
    words = [name for name, head in classifier.heads.items() if head.places is None]
    return [(name, float(answers[name][i].max())) for name in words]


IMAGE = "image"  # the column that names the file; where none is called so, the first does
MISSING = ""  # a label that is not known


def load_labels(path: Path) -> dict[str, dict[str, str]]:
    """For each column the value of each file, named relative to the folder of the pictures. Raises UsageError."""
    hint = f"give a CSV with a head, file names in the column {IMAGE} or the first column"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or [])
            name = IMAGE if IMAGE in columns else columns[0] if columns else ""
            table = [(row[name], row) for row in rows]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UsageError(f"{path}: {error}", hint) from error
    columns = [column for column in columns if column != name]
    if not columns:
        raise UsageError(f"{path}: has no labels", hint)
    return {column: {name: row[column] or MISSING for name, row in table} for column in columns}
