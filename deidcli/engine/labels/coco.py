"""COCO: one JSON object with images, annotations and categories.

Boxes are [x, y, width, height] in pixels, and the 68 landmarks are keypoints. What the format does not define is
written as other data sets do: frames of a video as images with `video_id` and `frame_id` beside a list of `videos`, and
`track_id` and `score` in an annotation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.engine import records
from deidcli.engine.face_list import FARTHEST, FRAMES, SCORES
from deidcli.engine.labels.base import FACE, Classes, Entry, Labelled, Names, box_of, entry, rounded
from deidcli.engine.records import Record
from deidcli.values import UNTRACKED, Face

SUFFIX = ".json"
IDS = 1 << 53  # whole numbers that every reader of JSON holds exactly
_POINTS = 68


def is_coco(value: Record) -> bool:
    """Whether an object is a COCO file."""
    return "images" in value and "annotations" in value


def read(path: Path, value: Record, names: Names, classes: Classes) -> Iterator[Entry]:
    """What a COCO file says, frame by frame. Raises UsageError."""
    images: dict[int, tuple[str, Labelled]] = {}
    with entry(path, 1):
        videos = {video.whole("id", 0, IDS): _video_name(video) for video in value.records("videos", default=True)}
        kinds = {kind.whole("id", 0, IDS): kind.name("name") for kind in value.records("categories", default=True)}
        shown, found = list(value.records("images")), list(value.records("annotations"))
    for number, image in enumerate(shown, 1):
        with entry(path, number):
            place = images[image.whole("id", 0, IDS)] = _place(image, videos, names)
        yield Entry(*place)
    with entry(path, 1):
        used = [kinds.get(kind, str(kind)) for kind in (each.whole("category_id", 0, IDS) for each in found)]
        chosen = classes.chosen([*kinds.values(), *used])
    for number, (each, kind) in enumerate(zip(found, used, strict=True), 1):
        if kind not in chosen:
            continue
        with entry(path, number):
            image_id = each.whole("image_id", 0, IDS)
            if image_id not in images:
                raise ValueError(f"image_id {image_id} is no image of the file")
            name, frame = images[image_id]
            listed = Entry(name, Labelled(frame.index, frame.size, (_face(each),)))
        yield listed


def write(files: Mapping[str, Sequence[Labelled]]) -> dict[str, Any]:
    """The frames of files, by name, as one COCO object."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    videos: list[dict[str, Any]] = []
    for name, frames in files.items():
        several = len(frames) > 1 or any(frame.followed for frame in frames)
        if several:
            videos.append({"id": len(videos) + 1, "name": name})
        for frame in frames:
            width, height = frame.size or (0, 0)
            number = len(images) + 1
            image = {"id": number, "file_name": name, "width": width, "height": height}
            if several:
                image |= {"video_id": len(videos), "frame_id": frame.index}
            images.append(image)
            annotations += [_annotation(face, len(annotations) + n, number, frame.followed)
                            for n, face in enumerate(frame.faces, 1)]  # fmt: skip
    category = {"id": 1, "name": FACE, "supercategory": "person", "skeleton": []}
    category["keypoints"] = [f"landmark_{n}" for n in range(1, _POINTS + 1)]
    said = {"info": {"description": "faces, by deid"}, "licenses": [], "images": images, "annotations": annotations}
    return {**said, "categories": [category], **({"videos": videos} if videos else {})}


def _video_name(video: Record) -> str:
    return video.name("name" if "name" in video else "file_name")


def _place(image: Record, videos: Mapping[int, str], names: Names) -> tuple[str, Labelled]:
    width, height = (image.whole(side, 0, FARTHEST, 0) for side in ("width", "height"))
    size = (width, height) if width and height else None
    if "video_id" not in image:
        return names.of(image.name("file_name")), Labelled(0, size)
    video = image.whole("video_id", 0, IDS)
    if video not in videos:
        raise ValueError(f"video_id {video} is no video of the file")
    key = next((key for key in ("frame_id", "frame_index") if key in image), "frame_id")
    return names.of(videos[video]), Labelled(image.whole(key, 0, FRAMES), size, (), True)


def _face(said: Record) -> Face:
    sides = said.array("bbox")
    if len(sides) != 4:
        raise ValueError(f"bbox is x, y, width and height, not {len(sides)} numbers")
    x, y, width, height = (records.number(side, "a side of bbox", -FARTHEST, FARTHEST) for side in sides)
    own = said["attributes"] if isinstance(said.get("attributes"), dict) else {}
    followed = said if said.get("track_id") is not None else Record(own)
    track = UNTRACKED if followed.get("track_id") is None else followed.whole("track_id", 0, FRAMES)
    landmarks, five = _points(said.array("keypoints", default=True))
    score = said.number("score", -SCORES, SCORES, 1.0)
    return Face(box_of(x, y, x + width, y + height), score, landmarks, track, five)


def _points(values: Sequence[Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The 68 landmarks, or five points, where they are all there; others are located in the picture."""
    if len(values) not in (3 * _POINTS, 15):
        return None, None
    rows = np.array([records.number(v, "a keypoint", -FARTHEST, FARTHEST) for v in values], np.float32).reshape(-1, 3)
    if not (rows[:, 2] > 0).all():
        return None, None
    return (rows[:, :2], None) if len(rows) == _POINTS else (None, rows[:, :2])


def _annotation(face: Face, number: int, image: int, followed: bool) -> dict[str, Any]:
    left, top, right, bottom = rounded(face.box)
    width, height = round(right - left, 2), round(bottom - top, 2)
    said: dict[str, Any] = {"id": number, "image_id": image, "category_id": 1, "bbox": [left, top, width, height]}
    said |= {"area": round(width * height, 2), "iscrowd": 0, "segmentation": [], "score": round(face.score, 4)}
    if followed and face.track != UNTRACKED:
        said["track_id"] = face.track
    if face.landmarks is not None:
        points = [[round(float(x), 1), round(float(y), 1), 2] for x, y in face.landmarks]
        said |= {"keypoints": sum(points, []), "num_keypoints": len(points)}
    return said
