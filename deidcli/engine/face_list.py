"""Faces that are given instead of searched for: what `deid detect` or a manifest says, edited or not; and how they are
written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deidcli.engine import records
from deidcli.engine.records import Record
from deidcli.errors import MediaError, UsageError
from deidcli.faces.blend import mask
from deidcli.values import UNTRACKED, Box, Face, Frame

FRAMES = 10_000_000  # frames of a run; no video is as long
MOST, MOST_IN_FRAME = 2_000_000, 5000  # faces of a list, and of one frame: each takes a few hundredths of a second
FARTHEST = 1 << 17  # pixels from the corner of a picture that a box may reach; no picture is as large
SCORES = 1e9  # what a score may be at most, below and above 0; every detector has its own unit
LARGEST = 4  # sides of its picture that the box of a face may have
COLUMNS = ("input", "frame", "left", "top", "right", "bottom", "score")


class KnownFaces(Protocol):
    """Faces that need no search: a list that was given, or what a first pass has found."""

    locates: bool
    """Whether faces that have a number and no landmarks are located; otherwise they are taken as they stand."""

    def of(self, name: str, frame: int, size: tuple[int, int] | None = None) -> list[Face]:
        """The faces of a frame of so many pixels (width, height). Raises MediaError for a file that is not known."""
        ...

    def numbers(self, name: str) -> int:
        """The first track number that no face of the file has."""
        ...

    def check_frame(self, name: str, frame: Frame, sha256: str | None) -> None:
        """Raises MediaError where what is known is not of this picture of this file."""
        ...

    def check_end(self, name: str, frames: int) -> None:
        """Raises MediaError where faces are known of frames that a file of so many frames does not have."""
        ...


@dataclass(eq=False)
class ListedFile:
    """What a list says of one file. sha256: of the file, "" where unknown. sizes: of its frames, where known.

    shares: whether boxes are shares of the width and height of their frame, and not pixels.
    """

    faces: dict[int, list[Face]] = field(default_factory=dict)
    sha256: str = ""
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    shares: bool = False

    def of(self, frame: int, size: tuple[int, int] | None = None) -> list[Face]:
        """The faces of a frame in pixels. size: (width, height) of the frame, which shares need."""
        faces = self.faces.get(frame, [])
        if not self.shares:
            return faces
        if size is None:
            raise MediaError("the size of the picture is needed to tell where its faces are", "use a list in pixels")
        return [replace(face, box=_in_pixels(face.box, size)) for face in faces]


class FaceList:
    """The faces of each frame of each file of a list. A file that is not in it is an error, not one without faces."""

    def __init__(self, files: Mapping[str, ListedFile], path: Path = Path("the list"), locates: bool = False):
        self.path, self._files, self.locates = path, files, locates

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def frames(self, name: str) -> dict[int, list[Face]]:
        """The faces of every frame of a file that has some; none for a file that is not in the list."""
        return self._files[name].faces if name in self._files else {}

    def of(self, name: str, frame: int, size: tuple[int, int] | None = None) -> list[Face]:
        """The faces of a frame. Raises MediaError for a file that is not in the list."""
        if name not in self._files:
            raise MediaError(
                f"{name} is not in the list of faces {self.path}", "run `deid detect` over it, or leave it out"
            )
        return self._files[name].of(frame, size)

    def numbers(self, name: str) -> int:
        """The first track number that no face of the file has."""
        return 1 + max((face.track for faces in self.frames(name).values() for face in faces), default=-1)

    def check_frame(self, name: str, frame: Frame, sha256: str | None) -> None:
        """Raises MediaError where the list was made of another file or size, or a face lies outside of the frame."""
        listed = self._files.get(name, ListedFile())
        if listed.sha256 and sha256 and listed.sha256 != sha256:
            raise MediaError(f"{name} is not the file that {self.path} was made of", "run `deid detect` again")
        size = listed.sizes.get(frame.index, (frame.width, frame.height))
        if size != (frame.width, frame.height):
            said = f"{name}, frame {frame.index}: {self.path} was made of {size[0]}x{size[1]} pixels"
            raise MediaError(f"{said}, and it has {frame.width}x{frame.height}", "run `deid detect` again")
        for face in listed.of(frame.index, size):
            if problem := misplaced(face, frame):
                raise MediaError(f"{name}, frame {frame.index}: {problem}", f"correct {self.path}")

    def check_end(self, name: str, frames: int) -> None:
        """Raises MediaError where the list has faces for frames that the file does not have."""
        beyond = [index for index, faces in self.frames(name).items() if faces and index >= frames]
        if beyond:
            said = f"{name} has no frame {min(beyond)}, of which {self.path} lists faces"
            raise MediaError(
                f"{said}: its frames are 0 to {frames - 1}", "correct the list, or run `deid detect` again"
            )

    def check_files(self, names: set[str]) -> None:
        """Raises UsageError where the list has faces of files that are no input: they would be used for nothing."""
        unused = sorted(
            name for name, listed in self._files.items() if name not in names and any(listed.faces.values())
        )
        if unused:
            more = f" and of {len(unused) - 1} other files" if len(unused) > 1 else ""
            said = f"{self.path} has faces of {unused[0]}{more}, which this run has no input for"
            raise UsageError(said, "name the file among the inputs, or take it off the list")


def misplaced(face: Face, frame: Frame) -> str:
    """Why a face that was given would change nothing of a frame, or not what it means; "" where it is well placed."""
    size = (frame.width, frame.height)
    sides = face.box.as_list()
    if max(face.box.width, face.box.height) > LARGEST * max(size):
        return f"the face at {sides} is more than {LARGEST} times as large as its {size[0]}x{size[1]} pixels"
    if not (mask(Face(face.box), "ellipse", size).alpha > 0).any():
        return f"the face at {sides} lies outside of its {size[0]}x{size[1]} pixels"
    if face.landmarks is None:
        return ""
    # Landmarks say where the new face goes, and the box where the old one is.
    x, y = face.landmarks.mean(axis=0)
    box = face.box.scaled(1.5)
    if not (box.left <= x <= box.right and box.top <= y <= box.bottom):
        return f"the landmarks of the face at {sides} lie elsewhere, about [{x:.0f}, {y:.0f}]"
    return ""


def load_faces(path: Path) -> FaceList:
    """Read JSON lines or CSV as `deid detect` writes them, or a manifest. Raises UsageError that names the line.

    An entry that says "error" is left out: what was not searched has no known faces, and is refused later.
    """
    files: dict[str, ListedFile] = {}
    count = 0
    try:
        for number, entry in _entries(path):
            try:
                for name, frame, faces in entry.frames():
                    count += len(faces)
                    records.whole(count, "the number of faces", 0, MOST)
                    there = files.setdefault(name, ListedFile()).faces.setdefault(frame, [])
                    there.extend(faces)
                    records.whole(len(there), "the number of faces of a frame", 0, MOST_IN_FRAME)
                entry.note(files)
            except (ValueError, LookupError, TypeError, OverflowError) as error:
                records.refuse(path, number, error)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give a file that `deid detect` wrote") from error
    return FaceList(files, path)


def _entries(path: Path) -> Iterator[tuple[int, _Entry]]:
    with path.open("rb") as file:
        is_csv = file.readline(1 << 16).removeprefix(records.BOM).startswith(COLUMNS[0].encode())
    if is_csv:
        for number, row in records.csv_rows(path):
            yield number, _CsvRow(Record(row))
        return
    for number, row in records.json_lines(path):
        if not row.get("error"):
            yield number, _ManifestRow(row) if "status" in row else _Entry(row)


@dataclass(frozen=True)
class _Entry:
    """A line of `deid detect`: one frame. Reading it raises ValueError where it makes no sense."""

    row: Record

    def frames(self) -> Iterator[tuple[str, int, list[Face]]]:
        """(file, frame, faces) of each frame that it describes."""
        frame = self.row.whole("frame", 0, FRAMES, 0)
        yield self.row.name("input"), frame, [_face(entry) for entry in self.row.records("faces")]

    def note(self, files: dict[str, ListedFile]) -> None:
        """Note of which file, and of what size, the list was made."""
        listed = files[self.row.name("input")]
        if sha256 := self.row.text("sha256"):
            if listed.sha256 not in ("", sha256):
                raise ValueError(f"sha256 is {sha256}, and {listed.sha256} in an earlier line of the same file")
            listed.sha256 = sha256
        self._note_size(listed)

    def _note_size(self, listed: ListedFile) -> None:
        if self.row.get("size") is not None:
            width, height = self._size()
            listed.sizes[self.row.whole("frame", 0, FRAMES, 0)] = width, height

    def _size(self) -> tuple[int, int]:
        size = self.row.array("size")
        if len(size) != 2:
            raise ValueError(f"size is width and height, not {records.shortened(size)}")
        width, height = (records.whole(side, "size", 1, FARTHEST) for side in size)
        return width, height


class _ManifestRow(_Entry):
    """A row of a manifest. It holds no landmarks: faces are located, and those of a video followed, anew."""

    def frames(self) -> Iterator[tuple[str, int, list[Face]]]:
        name = self.row.name("input")
        if self.row.get("faces") is None and self.row.get("tracks") is None:
            raise ValueError("it has neither faces nor tracks: nobody may have looked for them")
        yield name, 0, []
        for entry in self.row.records("faces", default=True):
            yield name, entry.whole("frame", 0, FRAMES, 0), [_boxed(entry.array("box"))]
        for track in self.row.records("tracks", default=True):
            places = sorted((_start(place), _boxed(place[1:])) for place in track.array("boxes") if _listed(place))
            starts = [start for start, _ in places]
            if not places:
                raise ValueError("a track has a box at least")
            runs = [_run(run) for run in track.array("runs")]
            records.whole(sum(last - first + 1 for first, last in runs), "the number of faces", 0, MOST)
            for first, last in runs:
                for frame in range(first, last + 1):
                    # A box holds until the next one is written down.
                    yield name, frame, [places[max(0, bisect_right(starts, frame) - 1)][1]]

    def _note_size(self, listed: ListedFile) -> None:
        if self.row.get("size") is not None:
            self._size()  # of the first frame; pages may have others


class _CsvRow(_Entry):
    """A row of CSV: one face, or a file without any."""

    def frames(self) -> Iterator[tuple[str, int, list[Face]]]:
        name, sides = self.row.name("input"), [self.row[side] for side in COLUMNS[2:6]]
        if sides == [""] * 4:
            yield name, 0, []
            return
        frame = records.whole(int(self.row["frame"]), "frame", 0, FRAMES)
        score = records.number(records.finite(self.row["score"] or "1", "score"), "score", -SCORES, SCORES)
        box = checked_box(
            Box(*(records.finite(side, column) for side, column in zip(sides, COLUMNS[2:6], strict=True)))
        )
        yield name, frame, [Face(box, score, track=UNTRACKED)]

    def note(self, files: dict[str, ListedFile]) -> None:
        """CSV says nothing of the file."""


def _listed(place: Any) -> bool:
    if not isinstance(place, list) or len(place) != 5:
        raise ValueError(f"a box of a track is its frame and four sides, not {records.shortened(place)}")
    return True


def _start(place: list[Any]) -> int:
    return records.whole(place[0], "the frame of a box", 0, FRAMES)


def _run(run: Any) -> tuple[int, int]:
    if not isinstance(run, list) or len(run) < 2:
        raise ValueError(f"a run is its first and last frame, not {records.shortened(run)}")
    first = records.whole(run[0], "the first frame of a run", 0, FRAMES)
    return first, records.whole(run[1], "the last frame of a run", first, min(first + MOST, FRAMES))


def _boxed(sides: list[Any]) -> Face:
    return Face(_box(sides), track=UNTRACKED)


def _box(sides: list[Any]) -> Box:
    if len(sides) != 4:
        raise ValueError(f"a box is left, top, right, bottom, not {len(sides)} numbers")
    return checked_box(Box(*(records.number(side, "a side of a box", -FARTHEST, FARTHEST) for side in sides)))


def _face(entry: Record) -> Face:
    points = entry.get("landmarks")
    landmarks = None if points is None else _landmarks(points)
    score = entry.number("score", -SCORES, SCORES, 1.0)
    return Face(_box(entry.array("box")), score, landmarks, _track(entry))


def _landmarks(points: Any) -> np.ndarray:
    if not isinstance(points, list) or len(points) != 68 or any(not isinstance(p, list) or len(p) != 2 for p in points):
        raise ValueError(f"landmarks are 68 points of x and y, not {records.shortened(points)}")
    sides = [[records.number(side, "a landmark", -FARTHEST, FARTHEST) for side in point] for point in points]
    return np.array(sides, np.float32)


def _track(entry: Record) -> int:
    return UNTRACKED if entry.get("track") is None else entry.whole("track", 0, FRAMES)


def checked_box(box: Box) -> Box:
    """`box` if a face can lie in it. Raises ValueError."""
    # Written so that nan is out of range as well.
    within = all(-FARTHEST <= side <= FARTHEST for side in (box.left, box.top, box.right, box.bottom))
    if not (within and box.width > 0 and box.height > 0):
        raise ValueError(f"a box is left, top, right, bottom in pixels with room between, not {box.as_list()}")
    return box


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return Box(box.left * width, box.top * height, box.right * width, box.bottom * height)


def face_entry(face: Face, landmarks: bool = True) -> dict[str, Any]:
    """A face as a JSON object: box [left, top, right, bottom] in pixels, score, track and the 68 landmarks."""
    entry: dict[str, Any] = {"box": face.box.as_list(), "score": round(face.score, 4), "track": face.track}
    if landmarks:
        entry["landmarks"] = None if face.landmarks is None else np.round(face.landmarks, 1).tolist()
    return entry
