"""At what distance two different people lie whose faces are small, by a recogniser.

    python benchmarks/small_faces.py [RECOGNISER] [PAIRS]

So many pairs of one person (150) of LFW `val`, in the folder DEID_DATA, shrunk until their faces are of each size. All
pairs of two people among these photographs tell how many strangers the recogniser takes for one person at its
threshold, and at which distance it takes as many as of large faces: `Recogniser.small`.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.blend import face_size
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import recogniser
from deidcli.values import Face

SIZES = (8, 11, 14, 18, 22, 27, 34, 44, 60, 90)  # pixels of the face square


def shrunk(pixels: np.ndarray, face: Face, size: float) -> tuple[np.ndarray, Face]:
    """The photograph with a face square of `size` pixels."""
    side = max(8, round(len(pixels) * size / face_size(face)))
    scale = side / len(pixels)
    marks = (np.asarray(face.landmarks) + 0.5) * scale - 0.5
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return small, replace(face, landmarks=marks.astype(np.float32))


def main() -> None:
    judge = recogniser(sys.argv[1] if len(sys.argv) > 1 else "dlib")
    data, search = Path(os.environ["DEID_DATA"]) / "lfw", detector(DetectOptions())
    with (data / "pairs_val.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["a"], row["b"]) for row in csv.DictReader(file) if row["same"] == "1"]
    pairs, rows = pairs[: int(sys.argv[2]) if len(sys.argv) > 2 else 150], {}
    for name in sorted({name for pair in pairs for name in pair}):
        pixels = np.ascontiguousarray(cv2.imread(str(data / "images" / name))[..., ::-1])
        middle = [face for face in search.detect([pixels])[0] if face.box.left < 125 < face.box.right][:1]
        for face in locate(pixels, middle):
            if face.landmarks is not None:
                shown = [shrunk(pixels, face, size) for size in SIZES]
                rows[name] = np.concatenate([judge.embed(judge.chips(small, [one])) for small, one in shown])
    names = list(rows)
    strangers = [(a, b) for n, a in enumerate(names) for b in names[:n] if Path(a).parent != Path(b).parent]
    known = [pair for pair in pairs if set(pair) <= set(names)]

    def apart(which: list[tuple[str, str]], size: int) -> np.ndarray:
        first, second = (np.stack([rows[pair[side]][size] for pair in which]) for side in (0, 1))
        return judge.distance(first, second)

    rate = float(np.mean(apart(strangers, -1) <= judge.threshold))
    print(f"{judge.name}: {len(names)} photographs, {len(strangers)} pairs of strangers, {len(known)} of one person")
    print(f"at {judge.threshold:g} and {SIZES[-1]} pixels {rate:.4f} of the strangers are taken for one person")
    for place, size in enumerate(SIZES):
        far, near = apart(strangers, place), apart(known, place)
        limit = float(np.quantile(far, rate))
        print(
            f"{size:4} pixels: at {judge.threshold:g} strangers {np.mean(far <= judge.threshold):.4f}, one person "
            f"{np.mean(near <= judge.threshold):.3f}; as many strangers as there at {limit:.3f} "
            f"({limit / judge.threshold:.2f}), one person {np.mean(near <= limit):.3f}"
        )


main()
