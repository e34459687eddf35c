"""Given faces instead of a search: what `deid detect` or a manifest says, edited or not; and how they are written."""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deidcli.errors import MediaError, UsageError
from deidcli.values import UNTRACKED, Box, Face

FRAMES = 10_000_000  # frames of a run; no video is as long
FARTHEST = 1 << 17  # pixels from the corner of a picture that a box may reach; no picture is as large
COLUMNS = ("input", "frame", "left", "top", "right", "bottom", "score")


class KnownFaces(Protocol):
    """Faces that need no search: a list that was given, or what a first pass has found."""

    def of(self, name: str, frame: int) -> list[Face]:
        """The faces of a frame. Raises MediaError for a file that is not known."""
        ...

    def numbers(self, name: str) -> int:
        """The first track number that no face of the file has."""
        ...


@dataclass(frozen=True)
class GivenFaces:
    """faces: for each file name the faces of each of its frames. A file that is not in it is an error, not a blank."""

    faces: dict[str, dict[int, list[Face]]]

    def of(self, name: str, frame: int) -> list[Face]:
        """Raises MediaError for a file that the list does not speak of."""
        if name not in self.faces:
            raise MediaError(f"{name} is not in the file of faces", "run `deid detect` over it, or leave it out")
        return self.faces[name].get(frame, [])

    def numbers(self, name: str) -> int:
        """The first track number that no face of the file has."""
        frames = self.faces.get(name, {}).values()
        return 1 + max((face.track for faces in frames for face in faces), default=-1)


def load_faces(path: Path) -> GivenFaces:
    """Read JSON lines or CSV as `deid detect` writes them, or a manifest. Raises UsageError that names the line.

    An entry that says "error" is left out: what was not searched has no known faces, and is refused later.
    """
    faces: dict[str, dict[int, list[Face]]] = {}
    try:
        for name, frame, found in _rows(path):
            faces.setdefault(name, {}).setdefault(frame, []).extend(found)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give a file that `deid detect` wrote") from error
    return GivenFaces(faces)


def _rows(path: Path) -> Iterator[tuple[str, int, list[Face]]]:
    # Spreadsheets begin a file with a mark; names may be bytes that are no UTF-8.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        is_csv = file.readline().startswith(COLUMNS[0])
        file.seek(0)
        for number, line in enumerate(csv.DictReader(file) if is_csv else file, 1):
            if isinstance(line, str) and not line.strip():
                continue
            try:
                row = json.loads(line) if isinstance(line, str) else line
                if not row.get("error"):
                    yield from _from_csv(row) if is_csv else _from_json(row)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                hint = "see `deid detect --help` for the format"
                raise UsageError(f"{path}, entry {number}: {error!r}", hint) from error


def _from_csv(row: dict[str, str]) -> Iterator[tuple[str, int, list[Face]]]:
    sides = [row[side] for side in COLUMNS[2:6]]
    if sides == [""] * 4:
        yield row["input"], 0, []
        return
    face = Face(_sound(Box(*map(float, sides))), float(row["score"] or 1), track=UNTRACKED)
    yield row["input"], int(row["frame"]), [face]


def _from_json(row: dict[str, Any]) -> Iterator[tuple[str, int, list[Face]]]:
    if "status" in row:
        yield from _from_manifest(row)
        return
    yield _name(row), int(row.get("frame", 0)), [_face(entry) for entry in row["faces"]]


def _from_manifest(row: dict[str, Any]) -> Iterator[tuple[str, int, list[Face]]]:
    """The boxes of a manifest's row. It holds no landmarks: faces are located, and those of a video followed, anew."""
    yield _name(row), 0, []
    for entry in row.get("faces") or ():
        yield _name(row), int(entry.get("frame", 0)), [_boxed(entry["box"])]
    for track in row.get("tracks") or ():
        places = sorted(track["boxes"])
        starts = [start for start, *_ in places]
        for first, last, *_ in track["runs"]:
            if not 0 <= last - first < FRAMES:
                raise ValueError(f"a run goes from a frame to a later one, not from {first} to {last}")
            for frame in range(first, last + 1):
                # A box holds until the next one is written down.
                place = max(0, bisect_right(starts, frame) - 1)
                yield _name(row), frame, [_boxed(places[place][1:])]


def _name(row: dict[str, Any]) -> str:
    if not isinstance(row["input"], str):
        raise ValueError(f"input is the name of a file, not {row['input']!r}")
    return row["input"]


def _boxed(sides: list[float]) -> Face:
    return Face(_sound(Box(*map(float, sides))), track=UNTRACKED)


def _face(entry: dict[str, Any]) -> Face:
    points = entry.get("landmarks")
    landmarks = None if points is None else np.array(points, np.float32)
    if landmarks is not None and landmarks.shape != (68, 2):
        raise ValueError(f"68 landmarks of x and y are needed, not an array of {landmarks.shape}")
    if landmarks is not None and not np.isfinite(landmarks).all():
        raise ValueError("landmarks are numbers, not nan or infinity")
    return Face(_sound(Box(*map(float, entry["box"]))), float(entry.get("score", 1.0)), landmarks, _track(entry))


def _track(entry: dict[str, Any]) -> int:
    number = entry.get("track")
    if number is None:
        return UNTRACKED
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"a track is a whole number from 0 up, not {number!r}")
    return number


def _sound(box: Box) -> Box:
    # Written so that nan is out of range as well.
    within = all(-FARTHEST <= side <= FARTHEST for side in (box.left, box.top, box.right, box.bottom))
    if not (within and box.width > 0 and box.height > 0):
        raise ValueError(f"a box is left, top, right, bottom in pixels with room between, not {box.as_list()}")
    return box


def face_entry(face: Face, landmarks: bool = True) -> dict[str, Any]:
    """A face as it stands in JSON: box [left, top, right, bottom] in pixels, score, track and the 68 landmarks."""
    entry: dict[str, Any] = {"box": face.box.as_list(), "score": round(face.score, 4), "track": face.track}
    if landmarks:
        entry["landmarks"] = None if face.landmarks is None else np.round(face.landmarks, 1).tolist()
    return entry
