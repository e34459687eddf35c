"""YOLO: a text file for each picture, of the same name; in it a line for each face: class, middle, width, height.

All four are shares of the width and the height of the picture. A sixth number is a score, a seventh a track. The
frames of a video lie in a folder VIDEO.labels, by their 0-based number; VIDEO_N.txt with N from 1 is read, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deidcli.engine import records
from deidcli.engine.face_list import FRAMES, SCORES
from deidcli.engine.labels.base import HINT, Classes, Entry, Labelled, Names, box_of, entry
from deidcli.errors import UsageError
from deidcli.values import UNTRACKED, Face

SUFFIX = ".txt"
FRAMES_OF = ".labels"  # end of the folder that holds a text for each frame of a video
_NAMES = ("classes.txt", "obj.names")  # the names of the classes, one a line
_SHARE = 8.0  # how far from the picture a box may lie, in widths and heights of it


def read(folder: Path, names: Names, classes: Classes) -> Iterator[Entry]:
    """What the texts of a folder say, frame by frame. Raises UsageError, OSError."""
    known = _class_names(folder)
    texts = [path for path in sorted(folder.rglob(f"*{SUFFIX}")) if path.name not in _NAMES]
    lines = {path: _lines(path, known) for path in texts}
    used = sorted({kind for some in lines.values() for kind, _ in some})
    try:
        chosen = classes.chosen([*(known if used else ()), *used])
    except ValueError as error:
        raise UsageError(f"{folder}: {error}", HINT) from error
    for path in texts:
        with entry(path, 1):
            name, index = _place(path, folder, names)
        faces = tuple(face for kind, face in lines[path] if kind in chosen)
        yield Entry(name, Labelled(index, None, faces), shares=True)


def write(frame: Labelled) -> bytes:
    """A frame as the text of its picture. Where the frame is one of a video, the line has score and track, too."""
    width, height = frame.size or (1, 1)
    lines = []
    for face in frame.faces:
        (x, y), box = face.box.center, face.box
        numbers = (x / width, y / height, box.width / width, box.height / height)
        said = " ".join(f"{number:.6f}" for number in numbers)
        more = f" {face.score:.4f} {face.track}" if frame.followed and face.track != UNTRACKED else ""
        lines.append(f"0 {said}{more}\n")
    return "".join(lines).encode()


def _class_names(folder: Path) -> list[str]:
    for name in _NAMES:
        if (folder / name).is_file():
            return [line.strip() for line in (folder / name).read_text(errors="replace").splitlines() if line.strip()]
    return []


def _lines(path: Path, known: list[str]) -> list[tuple[str, Face]]:
    """The class and the face of each line of a text."""
    found = []
    with entry(path, 1):
        lines = path.read_text("utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        with entry(path, number):
            if line.strip():
                found.append(_face(line.split(), known))
    return found


def _face(words: list[str], known: list[str]) -> tuple[str, Face]:
    if not 5 <= len(words) <= 7:
        raise ValueError(f"a line is class, x, y, width, height, and maybe score and track, not {len(words)} words")
    kind = records.whole(int(words[0]), "the class", 0, 100_000)
    x, y, width, height = (
        records.number(records.finite(word, what), what, -_SHARE, _SHARE)
        for word, what in zip(words[1:5], ("x", "y", "width", "height"), strict=True)
    )
    score = records.number(records.finite(words[5], "score"), "score", -SCORES, SCORES) if len(words) > 5 else 1.0
    track = records.whole(int(words[6]), "the track", 0, FRAMES) if len(words) > 6 else UNTRACKED
    box = box_of(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return known[kind] if kind < len(known) else str(kind), Face(box, score, track=track)


def _place(path: Path, folder: Path, names: Names) -> tuple[str, int]:
    """The input and the frame that a text is of. Raises ValueError."""
    inside = path.relative_to(folder)
    if inside.parent.name.endswith(FRAMES_OF) and path.stem.isdigit():
        return names.of(inside.parent.as_posix().removesuffix(FRAMES_OF)), int(path.stem)
    said = inside.with_suffix("").as_posix()
    if name := names.of_stem(said):
        return name, 0
    numbered = re.fullmatch(r"(.+)_([0-9]{1,8})", said)
    if numbered and int(numbered[2]) and (name := names.of_stem(numbered[1])):
        return name, int(numbered[2]) - 1
    return said, 0
