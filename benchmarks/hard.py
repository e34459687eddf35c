"""What a detector still finds where it is hard: `python benchmarks/hard.py LIST`.

LIST names pictures, a line each, with a face in the middle of every one. They are turned, shrunk, darkened, cut and so
on, and counted is in how many the face that was in the middle is still found. Options: --detectors centerface,cnn,
--limit N (evenly out of the list), --only WORD.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.detectors import DetectOptions, Detector, detector
from deidcli.media.open import open_reader

SIDE = 250  # of the pictures, in pixels
Change = Callable[[np.ndarray], np.ndarray]


def turned(degrees: float) -> Change:
    """Turned about the middle."""
    transform = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, 1)
    return lambda p: cv2.warpAffine(p, transform, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


def filling(half: int, side: int) -> Change:
    """The middle of twice `half` pixels alone, enlarged to `side`."""
    part = slice(SIDE // 2 - half, SIDE // 2 + half)
    return lambda p: cv2.resize(p[part, part], (side, side), interpolation=cv2.INTER_CUBIC)


def far(side: int) -> Change:
    """Shrunk to `side`, with grey around."""
    before = (SIDE - side) // 2
    rim = (before, SIDE - side - before) * 2
    return lambda p: cv2.copyMakeBorder(
        cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA), *rim, cv2.BORDER_CONSTANT, value=(90, 90, 90)
    )


def noisy(pixels: np.ndarray) -> np.ndarray:
    """With noise of a standard deviation of 40."""
    return np.clip(pixels + np.random.default_rng(0).normal(0, 40, pixels.shape), 0, 255).astype(np.uint8)


# A face measures 0.4 of the picture, some 100 pixels.
CHANGES: dict[str, Change] = {
    "as it is": lambda p: p,
    **{f"turned by {degrees} degrees": turned(degrees) for degrees in (30, 60, 90)},
    **{f"fills {share} of 500 pixels": filling(half, 500) for half, share in ((70, "0.7"), (50, "all"))},
    **{f"{side * 2 // 5} pixels large": far(side) for side in (50, 40, 30, 25)},
    "darkened to 6 %": lambda p: (p * 0.06).astype(np.uint8),
    "blurred by 4 pixels": lambda p: cv2.GaussianBlur(p, (0, 0), 4),
    "with noise": noisy,
    "the left half of it": lambda p: p[:, : SIDE // 2],
}


def main() -> None:
    """Print a row for each change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("--detectors", default="centerface,cnn")
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--only", default="", help="changes whose name has this in it")
    options = parser.parse_args()
    names = options.list.read_text().splitlines()
    pictures = [picture(Path(name)) for name in names[:: max(1, len(names) // options.limit)][: options.limit]]
    searches = [detector(DetectOptions(word)) for word in options.detectors.split(",")]
    for name, change in CHANGES.items():
        if options.only in name:
            rows = [rate(search, [change(pixels) for pixels in pictures]) for search in searches]
            print(f"{name}: {', '.join(f'{s.name} {row}' for s, row in zip(searches, rows, strict=True))}", flush=True)


def picture(path: Path) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8."""
    with open_reader(path) as reader:
        return cv2.resize(next(iter(reader.frames())).pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def rate(search: Detector, pictures: list[np.ndarray]) -> str:
    """In how many the face is found, how many boxes in all, and the processor's milliseconds a picture."""
    began = time.process_time()
    found = [search.detect([pixels])[0] for pixels in pictures]
    spent = 1000 * (time.process_time() - began) / len(pictures)
    places = [(middle(pixels), pixels.shape[0] / 2) for pixels in pictures]
    hits = sum(
        any(f.box.left <= x <= f.box.right + 2 and f.box.top <= y <= f.box.bottom for f in faces)
        for faces, (x, y) in zip(found, places, strict=True)
    )
    return f"{hits} of {len(pictures)} ({sum(map(len, found))} boxes, {spent:.0f} ms)"


def middle(pixels: np.ndarray) -> float:
    """Where from the left the face has its middle: at the border of a left half."""
    height, width = pixels.shape[:2]
    return width / 2 if width == height else width - 1


if __name__ == "__main__":
    main()
