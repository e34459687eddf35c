"""Given faces: what `deid detect` wrote, edited or not, instead of a search; and how faces are written down."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.errors import MediaError, UsageError
from deidcli.values import Box, Face

COLUMNS = ("input", "frame", "left", "top", "right", "bottom", "score")


@dataclass(frozen=True)
class GivenFaces:
    """faces: for each file name the faces of each of its frames. A file that is not in it is an error, not a blank."""

    faces: dict[str, dict[int, list[Face]]]

    def of(self, name: str, frame: int) -> list[Face]:
        """Raises MediaError for a file that the list does not speak of."""
        if name not in self.faces:
            raise MediaError(f"{name} is not in the file of faces", "run `deid detect` over it, or leave it out")
        return self.faces[name].get(frame, [])


def load_faces(path: Path) -> GivenFaces:
    """Read JSON lines or CSV as `deid detect` writes them. Raises UsageError that names the line."""
    faces: dict[str, dict[int, list[Face]]] = {}
    try:
        for name, frame, found in _rows(path):
            faces.setdefault(name, {}).setdefault(frame, []).extend(found)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give a file that `deid detect` wrote") from error
    return GivenFaces(faces)


def _rows(path: Path) -> Iterable[tuple[str, int, list[Face]]]:
    with path.open(encoding="utf-8", newline="") as file:
        head = file.readline()
        file.seek(0)
        lines = csv.DictReader(file) if head.startswith(COLUMNS[0]) else (line for line in file if line.strip())
        for number, line in enumerate(lines, 1):
            try:
                yield _from_csv(line) if isinstance(line, dict) else _from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path}, entry {number}: {error!r}", "see `deid detect --help` for the format") from error


def _from_csv(row: dict[str, str]) -> tuple[str, int, list[Face]]:
    if not row["left"]:
        return row["input"], 0, []
    box = Box(*(float(row[side]) for side in COLUMNS[2:6]))
    return row["input"], int(row["frame"]), [Face(_sound(box), float(row["score"] or 1))]


def _from_json(row: dict[str, Any]) -> tuple[str, int, list[Face]]:
    return row["input"], int(row.get("frame", 0)), [_face(entry) for entry in row["faces"]]


def _face(entry: dict[str, Any]) -> Face:
    points = entry.get("landmarks")
    landmarks = None if points is None else np.array(points, np.float32)
    if landmarks is not None and landmarks.shape != (68, 2):
        raise ValueError(f"68 landmarks of x and y are needed, not an array of {landmarks.shape}")
    return Face(_sound(Box(*map(float, entry["box"]))), float(entry.get("score", 1.0)), landmarks)


def _sound(box: Box) -> Box:
    if not (np.isfinite([box.left, box.top, box.right, box.bottom]).all() and box.width > 0 and box.height > 0):
        raise ValueError(f"a box is left, top, right, bottom with room between, not {box.as_list()}")
    return box


def face_entry(face: Face, landmarks: bool = True) -> dict[str, Any]:
    """A face as it stands in JSON: box [left, top, right, bottom] in pixels, score, track and the 68 landmarks."""
    entry: dict[str, Any] = {"box": face.box.as_list(), "score": round(face.score, 4), "track": face.track}
    if landmarks:
        entry["landmarks"] = None if face.landmarks is None else np.round(face.landmarks, 1).tolist()
    return entry
