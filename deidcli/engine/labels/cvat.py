"""CVAT's XML, version 1.1: pictures as `image` with shapes, videos as `track` with a shape for each frame.

Shapes that have an extent count by their upright bounds, turned ones included: box, polygon, polyline, ellipse, mask
and cuboid. A track holds between two of its shapes (in a straight line), and after the last one until the video ends,
unless one says `outside`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from deidcli.engine import records
from deidcli.engine.face_list import FARTHEST, FRAMES, MOST
from deidcli.engine.labels.base import (
    FACE,
    Classes,
    Entry,
    Labelled,
    Names,
    as_xml,
    attribute,
    box_of,
    child,
    entry,
    rounded,
)
from deidcli.errors import UsageError
from deidcli.values import UNTRACKED, Box, Face

SUFFIX = ".xml"
ROOT = "annotations"
LANDMARKS = "landmarks"  # the label of the 68 points of a face, which has the same group
_SHAPES = ("box", "polygon", "polyline", "ellipse", "mask", "cuboid", "points", "skeleton")
_CORNERS = tuple(f"{v}{h}{side}" for v in "tb" for h in "lr" for side in "12")


def read(path: Path, root: ElementTree.Element, names: Names, classes: Classes) -> Iterator[Entry]:
    """What a file says, frame by frame. Raises UsageError."""
    with entry(path, 1):
        chosen = classes.chosen(_labels(root))
    for number, image in enumerate(root.iterfind("image"), 1):
        with entry(path, number):
            listed = Entry(names.of(image.get("name") or names.only()), _image(image, chosen))
        yield listed
    tracks = root.findall("track")
    if not tracks and root.find("image") is not None:
        return
    with entry(path, 1):
        name, last = names.of(source) if (source := _source(root)) else names.only(), _last(root)
    yield Entry(name, Labelled(0, None))
    for number, track in enumerate(tracks, 1):
        with entry(path, number):
            faces = list(_track(track, number - 1, last)) if track.get("label") in chosen else []
        for index, face in faces:
            yield Entry(name, Labelled(index, None, (face,)))


def write(files: Mapping[str, Sequence[Labelled]]) -> bytes:
    """The frames of files, by name, as one file. Raises UsageError: it can hold pictures, or one video."""
    videos = [name for name, frames in files.items() if len(frames) > 1 or any(frame.followed for frame in frames)]
    if videos and len(files) > 1:
        raise UsageError(f"a CVAT file cannot hold {videos[0]} and other files", "write a file for each (--out)")
    root = ElementTree.Element(ROOT)
    ElementTree.SubElement(root, "version").text = "1.1"
    meta = ElementTree.SubElement(root, "meta")
    task = ElementTree.SubElement(meta, "task")
    count = len(files) if not videos else 1 + max(frame.index for frame in files[videos[0]])
    mode = "interpolation" if videos else "annotation"
    for tag, value in (("size", count), ("mode", mode), ("start_frame", 0), ("stop_frame", max(0, count - 1))):
        ElementTree.SubElement(task, tag).text = str(value)
    labels = ElementTree.SubElement(task, "labels")
    for text in (FACE, LANDMARKS):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = text
    if videos:
        _write_video(root, meta, task, videos[0], files[videos[0]])
    else:
        for number, (name, frames) in enumerate(files.items()):
            _write_image(root, number, name, frames[0])
    return as_xml(root)


# --- Reading.


def _labels(root: ElementTree.Element) -> list[str]:
    """Of every shape that may be a face."""
    shapes = [shape for image in root.iterfind("image") for shape in image if shape.tag in _SHAPES]
    used = [*shapes, *root.iterfind("track")]
    return [label for shape in used if (label := shape.get("label") or "?") != LANDMARKS]


def _source(root: ElementTree.Element) -> str:
    return (root.findtext("meta/source") or root.findtext("meta/task/source") or "").strip()


def _last(root: ElementTree.Element) -> int | None:
    """The last frame of a video, None where the file does not say. Raises ValueError for a video with gaps."""
    for place in ("meta/task", "meta/job"):
        task = root.find(place)
        if task is None:
            continue
        if (task.findtext("frame_filter") or "").strip() not in ("", "step=1"):
            raise ValueError("it leaves frames of the video out (frame_filter)")
        if task.find("stop_frame") is not None:
            return records.whole(int(child(task, "stop_frame")), "stop_frame", 0, FRAMES)
    return None


def _image(image: ElementTree.Element, chosen: frozenset[str]) -> Labelled:
    width, height = (records.whole(round(attribute(image, side)), side, 1, FARTHEST) for side in ("width", "height"))
    points = {shape.get("group_id"): _points(shape) for shape in image.iterfind("points")
              if shape.get("label") == LANDMARKS}  # fmt: skip
    shapes = [shape for shape in image if shape.tag in _SHAPES and shape.get("label") in chosen]
    faces = []
    for shape in shapes:
        own = points.get(shape.get("group_id")) if shape.get("group_id") not in (None, "", "0") else None
        landmarks = own.astype(np.float32) if own is not None and len(own) == 68 else None
        faces.append(Face(_bounds(shape), landmarks=landmarks, track=UNTRACKED))
    return Labelled(0, (width, height), tuple(faces))


def _bounds(shape: ElementTree.Element) -> Box:
    """The upright box about a shape. Raises ValueError for one without an extent."""
    if shape.tag in ("points", "skeleton"):
        raise ValueError(f"a face is given by <{shape.tag}>, which does not say how large it is: give a box")
    if shape.tag == "mask":
        left, top, width, height = (attribute(shape, side) for side in ("left", "top", "width", "height"))
        return box_of(left, top, left + width, top + height)
    if shape.tag == "cuboid":
        xs, ys = ([attribute(shape, axis + corner) for corner in _CORNERS] for axis in "xy")
        return box_of(min(xs), min(ys), max(xs), max(ys))
    if shape.tag in ("polygon", "polyline"):
        corners = _points(shape)
        return box_of(*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    if shape.tag == "ellipse":
        x, y, rx, ry = (attribute(shape, name) for name in ("cx", "cy", "rx", "ry"))
        box = Box(x - rx, y - ry, x + rx, y + ry)
    else:
        box = Box(*(attribute(shape, side) for side in ("xtl", "ytl", "xbr", "ybr")))
    return _turned(box, attribute(shape, "rotation") if shape.get("rotation") else 0.0)


def _turned(box: Box, degrees: float) -> Box:
    """The upright box about one that is turned about its middle."""
    (x, y), turn = box.center, math.radians(degrees)
    across, down = abs(math.cos(turn)), abs(math.sin(turn))
    w, h = (box.width * across + box.height * down) / 2, (box.width * down + box.height * across) / 2
    return box_of(x - w, y - h, x + w, y + h)


def _points(shape: ElementTree.Element) -> np.ndarray:
    """(n, 2) of an attribute `points`, "x,y;x,y"."""
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"<{shape.tag}> has no points like 1.5,2.5;3,4")
    return np.array([[records.finite(number, "a point") for number in pair] for pair in pairs])


def _track(track: ElementTree.Element, number: int, last: int | None) -> Iterator[tuple[int, Face]]:
    """The face of a track in each frame that shows it."""
    shapes = sorted((records.whole(int(attribute(s, "frame")), "frame", 0, FRAMES), s.get("outside") == "1", s)
                    for s in track if s.tag in _SHAPES)  # fmt: skip
    known = [(frame, outside, None if outside else _bounds(shape)) for frame, outside, shape in shapes]
    for (frame, _, box), after in zip(known, [*known[1:], None], strict=True):
        if box is None:
            continue
        end = after[0] if after else (frame if last is None else max(frame, last)) + 1
        records.whole(end - frame, "frames of a shape", 0, MOST)
        for index in range(frame, max(end, frame + 1)):
            part = (index - frame) / max(1, end - frame) if after and after[2] else 0.0
            moved = box if not (after and after[2]) else _between(box, after[2], part)
            yield index, Face(moved, track=number)


def _between(a: Box, b: Box, part: float) -> Box:
    pairs = zip((a.left, a.top, a.right, a.bottom), (b.left, b.top, b.right, b.bottom), strict=True)
    return Box(*((1 - part) * one + part * other for one, other in pairs))


# --- Writing.


def _write_image(root: ElementTree.Element, number: int, name: str, frame: Labelled) -> None:
    width, height = frame.size or (1, 1)
    said = {"id": str(number), "name": name, "width": str(width), "height": str(height)}
    image = ElementTree.SubElement(root, "image", said)
    for group, face in enumerate(frame.faces, 1):
        shared = {"source": "auto", "occluded": "0", "z_order": "0", "group_id": str(group)}
        ElementTree.SubElement(image, "box", {"label": FACE, **_sides(face.box), **shared})
        if face.landmarks is not None:
            points = ";".join(f"{x:.1f},{y:.1f}" for x, y in face.landmarks)
            ElementTree.SubElement(image, "points", {"label": LANDMARKS, "points": points, **shared})


def _write_video(
    root: ElementTree.Element, meta: ElementTree.Element, task: ElementTree.Element, name: str,
    frames: Sequence[Labelled],
) -> None:  # fmt: skip
    size = ElementTree.SubElement(task, "original_size")
    width, height = next((frame.size for frame in frames if frame.size), (0, 0))
    for tag, side in (("width", width), ("height", height)):
        ElementTree.SubElement(size, tag).text = str(side)
    ElementTree.SubElement(meta, "source").text = name
    tracks: dict[int, list[tuple[int, Box]]] = {}
    for frame in frames:
        for face in frame.faces:
            tracks.setdefault(face.track, []).append((frame.index, face.box))
    end = frames[-1].index
    for number, places in sorted(tracks.items()):
        track = ElementTree.SubElement(root, "track", {"id": str(number), "label": FACE, "source": "auto"})
        for (index, box), after in zip(places, [*places[1:], None], strict=True):
            _shape(track, index, box, "0")
            if index < end and (after is None or after[0] > index + 1):
                _shape(track, index + 1, box, "1")


def _shape(track: ElementTree.Element, index: int, box: Box, outside: str) -> None:
    said = {"frame": str(index), "keyframe": "1", "outside": outside, "occluded": "0", "z_order": "0"}
    ElementTree.SubElement(track, "box", {**said, **_sides(box)})


def _sides(box: Box) -> dict[str, str]:
    return {name: f"{side:.2f}" for name, side in zip(("xtl", "ytl", "xbr", "ybr"), rounded(box), strict=True)}
