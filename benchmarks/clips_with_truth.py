"""Faces left open in clips whose faces are known: `python benchmarks/clips_with_truth.py`.

Options: --every N (as --detect-every), --only WORD (of a clip's name), --sheet FOLDER (pictures of open faces).

Every clip is composed here, frame by frame: portraits of `examples/in` (or of people of LFW, where DEID_DATA points to
research data) are put over a still or moving picture, where the script says. A face is open where less than half of
its box is covered by the tracked faces of its frame. Printed are, for each clip, its faces, those left open, how many
frames were searched, and the time of the processor for search and tracking.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from deidcli.engine.find import Finder
from deidcli.engine.frames import FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.tracking import TrackOptions
from deidcli.values import Box, Frame

WIDTH, HEIGHT, COUNT = 640, 360, 44
OPEN = 0.5  # share of a face's box that has to be covered
EXAMPLES = Path(__file__).parents[1] / "examples" / "in"
Place = tuple[float, float, float]  # the middle of a face, and its height, in pixels


@dataclass(frozen=True)
class Clip:
    """name: for the table. places: of the faces in each frame. scene: what lies behind them. rate: frames a second."""

    name: str
    places: list[list[Place]]
    scene: Callable[[int], np.ndarray]
    rate: int = 25


def main() -> None:
    """Print a line for each clip, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, help="as --detect-every")
    parser.add_argument("--only", default="", help="clips whose name holds this word")
    parser.add_argument("--sheet", type=Path, help="a folder for pictures of frames with an open face")
    options = parser.parse_args()
    search, faces = detector(DetectOptions()), portraits()
    sums = np.zeros(4)
    print(f"{'clip':38} faces  open  searched  frames  seconds")
    for clip in (clip for clip in clips() if options.only in clip.name):
        row = measured(clip, faces, search, TrackOptions(detect_every=options.every), options.sheet)
        sums += row[:4]
        print(f"{clip.name:38} {row[0]:5} {row[1]:5} {row[2]:9} {row[3]:7} {row[4]:8.1f}", flush=True)
    print(f"{'all':38} {sums[0]:5.0f} {sums[1]:5.0f} {sums[2]:9.0f} {sums[3]:7.0f}")


def measured(clip, faces, search, options, sheet) -> tuple[int, int, int, int, float]:
    """Faces, open ones, frames searched, frames, seconds of the processor of one clip."""
    source = Source(Job(None, None, clip.name), None, None, 0.0)
    frames = [
        Frame(composed(clip, faces, index), index, Fraction(index, clip.rate)) for index in range(len(clip.places))
    ]
    items = (FileFrame(source, frame, frame.index == len(frames) - 1) for frame in frames)
    began, found, searched = time.process_time(), [], 0
    with ThreadPoolExecutor(2) as pool:
        finder = Finder(search, None, pool, 4, track=options)
        for item in finder.search(items):
            assert isinstance(item, FileFrame), item
            found.append([face.box for face in item.faces])
            searched += item.searched
    seconds = time.process_time() - began
    count = missed = 0
    for index, (places, boxes) in enumerate(zip(clip.places, found, strict=True)):
        for place in places:
            box = inner(place)
            if box is None:
                continue
            count += 1
            if covered(box, boxes) < OPEN:
                missed += 1
                if sheet:
                    save(sheet, clip, frames[index], box, boxes)
    return count, missed, searched, len(frames), seconds


def inner(place: Place) -> Box | None:
    """The part of a face's box within the picture; None where less than half of it is."""
    x, y, high = place
    wide = 0.76 * high
    whole = Box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    part = Box(max(0, whole.left), max(0, whole.top), min(WIDTH, whole.right), min(HEIGHT, whole.bottom))
    return part if part.area > 0.5 * whole.area else None


def covered(box: Box, boxes: list[Box]) -> float:
    """The share of a box that lies in any of the others."""
    left, top, right, bottom = (round(v) for v in (box.left, box.top, box.right, box.bottom))
    mask = np.zeros((max(1, bottom - top), max(1, right - left)), bool)
    for other in boxes:
        rows = slice(max(0, round(other.top) - top), max(0, round(other.bottom) - top))
        columns = slice(max(0, round(other.left) - left), max(0, round(other.right) - left))
        mask[rows, columns] = True
    return float(mask.mean())


def save(folder: Path, clip: Clip, frame: Frame, box: Box, boxes: list[Box]) -> None:
    """A picture of an open face: its box in red, those of the tracks in green."""
    shown = frame.pixels[..., ::-1].copy()
    for each, colour in [*((b, (0, 200, 0)) for b in boxes), (box, (0, 0, 255))]:
        corners = tuple(round(v) for v in (each.left, each.top, each.right, each.bottom))
        cv2.rectangle(shown, corners[:2], corners[2:], colour, 1)
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{clip.name.replace(' ', '_')}_{frame.index:03}.png"), shown)


def portraits() -> list[np.ndarray]:
    """Cut-out faces, RGB, each as high as its picture: of twelve people of LFW, or of the examples."""
    people = Path(os.environ.get("DEID_DATA", "")) / "lfw" / "images"
    if os.environ.get("DEID_DATA") and people.is_dir():
        paths = [sorted(folder.iterdir())[0] for folder in sorted(people.iterdir())[::350][:12]]
        # Photographs of LFW have 250 x 250 pixels and the face in their middle.
        return [_read(path)[58:198, 72:178] for path in paths]
    found = detector(DetectOptions())
    faces = []
    for path in (EXAMPLES / "portrait.jpg", EXAMPLES / "pair.png", EXAMPLES / "group.jpg"):
        pixels = _read(path)
        for face in found.detect([pixels])[0]:
            box = face.box.scaled(1.1)
            faces.append(pixels[max(0, int(box.top)) : int(box.bottom), max(0, int(box.left)) : int(box.right)])
    return faces


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1].copy()


def composed(clip: Clip, faces: list[np.ndarray], index: int) -> np.ndarray:
    """A frame: faces in soft ellipses over the scene, with a little noise as a camera makes it."""
    pixels = clip.scene(index).copy()
    for number, (x, y, high) in enumerate(clip.places[index]):
        face = faces[(number + len(clip.name)) % len(faces)]
        scale = high / face.shape[0]
        moved = np.array([[scale, 0, x - face.shape[1] * scale / 2], [0, scale, y - high / 2]])
        size = (WIDTH, HEIGHT)
        new = cv2.warpAffine(face, moved, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        alpha = np.zeros((HEIGHT, WIDTH), np.float32)
        cv2.ellipse(alpha, (round(x), round(y)), (round(0.39 * high), round(high / 2)), 0, 0, 360, 1.0, -1)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 1 + high / 60)[..., None]
        pixels = np.clip(pixels * (1 - alpha) + new * alpha, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(index).normal(0, 2, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def soft(seed: int, blur: float = 12) -> np.ndarray:
    """Soft coloured blobs as large as a frame and a half."""
    drawn = np.random.default_rng(seed).integers(0, 256, (HEIGHT * 3 // 2, WIDTH * 3 // 2, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), blur), None, 20, 220, cv2.NORM_MINMAX)


def still(seed: int = 0, blur: float = 12) -> Callable[[int], np.ndarray]:
    """A scene that does not move."""
    picture = soft(seed, blur)[:HEIGHT, :WIDTH]
    return lambda index: picture


def panned(seed: int, step: float, blur: float = 6) -> Callable[[int], np.ndarray]:
    """A scene past which the camera moves, to and fro."""
    picture = soft(seed, blur)

    def scene(index: int) -> np.ndarray:
        left = int(abs((index * step) % (2 * (WIDTH // 2)) - WIDTH // 2)) if step else 0
        return picture[:HEIGHT, left : left + WIDTH]

    return scene


def street(name: str = "no_face.jpg") -> Callable[[int], np.ndarray]:
    """A photograph without a face, with all its texture."""
    picture = cv2.resize(_read(EXAMPLES / name), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return lambda index: picture


def flicker(scene: Callable[[int], np.ndarray], levels: tuple[int, ...]) -> Callable[[int], np.ndarray]:
    """A scene under a light that changes from frame to frame."""
    return lambda index: np.clip(scene(index).astype(int) + levels[index % len(levels)], 0, 255).astype(np.uint8)


def clips() -> Iterator[Clip]:
    """Twenty clips with some 800 faces."""
    rng = np.random.default_rng(3)

    def across(step: float, high: float, y: float = 180, start: float = 60) -> list[list[Place]]:
        span = WIDTH - 120
        return [[(60 + abs((start - 60 + i * step) % (2 * span) - span), y, high)] for i in range(COUNT)]

    def jumping(high: float, count: int = COUNT) -> list[list[Place]]:
        spots = rng.uniform((80, 80), (WIDTH - 80, HEIGHT - 80), (count, 2))
        return [[(float(x), float(y), high)] for x, y in spots]

    def now_and_then(every: int, phase: int, high: float, place: tuple[float, float]) -> list[list[Place]]:
        return [[(*place, high)] if i % every == phase else [] for i in range(60)]

    yield Clip("walks", across(4, 90), still(1))
    yield Clip("walks before a street", across(5, 80), street())
    yield Clip("60 pixels a frame", across(60, 90), still(2))
    yield Clip("60 pixels a frame, street", across(60, 90), street())
    yield Clip("30 pixels a frame", across(30, 60), still(3))
    yield Clip("small and fast", across(24, 30), still(4))
    yield Clip("small and fast, street", across(24, 34), street())
    yield Clip("jumps", jumping(90), still(5))
    yield Clip("jumps, street", jumping(70), street())
    yield Clip("jumps, small", jumping(34), still(6))
    yield Clip("every third frame", now_and_then(3, 1, 90, (300, 180)), still(7))
    yield Clip("every third frame, street", now_and_then(3, 2, 80, (200, 160)), street())
    yield Clip("every fifth frame, small", now_and_then(5, 2, 36, (420, 90)), still(8))
    yield Clip("once in twelve", now_and_then(12, 7, 60, (150, 250)), panned(9, 5))
    yield Clip("camera pans", [[(480 - 8 * i % 360, 200, 80)] for i in range(COUNT)], panned(10, 8))
    yield Clip("falls through", [[(320, (40 * i) % HEIGHT, 80)] for i in range(COUNT)], still(11))
    yield Clip("comes near", [[(320, 180, 20 + 6 * i)] for i in range(COUNT)], still(12))
    yield Clip(
        "two that cross", [[*a, *b] for a, b in zip(across(25, 70, 120), across(40, 70, 240), strict=True)], still(13)
    )
    yield Clip("light flickers", across(35, 80), flicker(still(14), (0, 40, -30)))
    yield Clip("60 frames a second", across(50, 90), still(15), 60)


if __name__ == "__main__":
    main()
