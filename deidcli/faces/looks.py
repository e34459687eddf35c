"""Detection in every look of a frame: a face that shows in one of them alone is found, with the landmarks it has there.

The looks of a frame (`Frame.pixels` and `Frame.looks`) are made where files are read, see `media.looks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deidcli.faces.detectors import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.search import nms
from deidcli.values import Face, Frame

PLAIN, SMOOTH = 0.5, 0.08  # mean levels by which a plain look differs from itself smoothed by this share of the face


def all_looks(frame: Frame) -> tuple[np.ndarray, ...]:
    """Every look of a frame, (height, width, 3) uint8 each; the first is the one in which faces are replaced."""
    return (frame.pixels, *frame.looks)


def shows(look: np.ndarray, face: Face) -> bool:
    """Whether anything like a face can be seen in a face's box in a look: something finer than a gradient.

    Where alpha is opaque, or fades out evenly, its look is smooth, and any two smooth pictures are one person for a
    recogniser.
    """
    height, width = look.shape[:2]
    left, right = (int(np.clip(v, 0, width)) for v in (face.box.left, face.box.right))
    top, bottom = (int(np.clip(v, 0, height)) for v in (face.box.top, face.box.bottom))
    part = look[top:bottom, left:right].astype(np.float32)
    if not part.size:
        return False
    smooth = cv2.GaussianBlur(part, (0, 0), max(1.0, SMOOTH * min(part.shape[:2])))
    # A blur bends a gradient at its borders.
    rows, columns = (slice(side // 6, side - side // 6) for side in part.shape[:2])
    return float(np.abs(part - smooth)[rows, columns].mean()) > PLAIN


def detect_in_looks(detector: Detector, frames: Sequence[Frame], followed: bool) -> list[list[Face]]:
    """The faces of each frame, each once. followed: see `Detector.detect`.

    Faces of the first look come as the detector gives them; those that only another look shows bring the landmarks
    that they have in it, or none where they cannot be right.
    """
    pictures = [look for frame in frames for look in all_looks(frame)]
    answer = detector.detect(pictures, followed)
    if len(answer) != len(pictures):
        raise ValueError(f"the detector answers for {len(answer)} pictures, and was given {len(pictures)}")
    found = iter(answer)
    return [_merged(detector, frame, [next(found) for _ in all_looks(frame)]) for frame in frames]


def _merged(detector: Detector, frame: Frame, found: list[list[Face]]) -> list[Face]:
    first, *others = found
    if not any(others):
        return first
    shown_in = {id(face): look for look, faces in zip(frame.looks, others, strict=True) for face in faces}
    rest = sorted((face for faces in others for face in faces), key=lambda face: -face.score)
    kept = nms([*first, *rest], detector.options.overlap)
    return [locate(shown_in[id(face)], [face])[0] if id(face) in shown_in else face for face in kept]
