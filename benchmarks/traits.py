"""How alike classifiers read a face and its new one, beside how alike they read two photographs of one person.

    python benchmarks/traits.py [PEOPLE]

Of so many people of LFW `val` (100) with two photographs, in the folder DEID_DATA: for how many the presets
`attributes` and `expression` say the same gender, race and expression, and an age within ten years, of the first
photograph and of what `cleanir` makes of it, and of the first and the second. What differs between two photographs of
one person is the classifier's doubt, beside light and pose; an expression may differ indeed.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.evaluation.originals import ClassifierLabeller, likeliest
from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.values import Face, Frame

Portrait = tuple[Frame, Face]
YEARS = 10


def pairs(count: int) -> list[tuple[Portrait, Portrait]]:
    """Two photographs of each person, with the face in the middle."""
    data, search, found = Path(os.environ["DEID_DATA"]) / "lfw", detector(DetectOptions()), []
    with (data / "people.csv").open(encoding="utf-8", newline="") as file:
        people = [row["person"] for row in csv.DictReader(file) if row["split"] == "val" and int(row["images"]) > 1]
    for person in np.random.default_rng(3).permutation(people):
        two: list[Portrait] = []
        for path in sorted((data / "images" / person).iterdir())[:2]:
            pixels = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
            middle = [f for f in search.detect([pixels])[0] if f.box.left < 125 < f.box.right]
            two += [(Frame(pixels), face) for face in locate(pixels, middle[:1]) if face.landmarks is not None]
        if len(two) == 2:
            found.append((two[0], two[1]))
        if len(found) == count:
            break
    return found


def main() -> None:
    known = pairs(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    method, old, other, new = Cleanir.create(None, Secret.seeded(1)), [], [], []
    for number, (first, second) in enumerate(known):
        try:
            made = method.apply([align(*first, method.crop, f"{number}")])[0]
        except MethodError:
            continue  # its face is hidden
        old.append(first)
        other.append(second)
        new.append((blend(first[0], made, method.crop, BlendOptions()).frame, first[1]))
    print(f"{len(old)} people; read alike       new face   another photograph")
    for name in ("attributes", "expression"):
        labels = ClassifierLabeller(name)
        before, *after = (labels.read(each) for each in (old, new, other))
        for trait, values in before.items():
            shares = []
            for read in after:
                if labels.classes[trait]:
                    one, two = (likeliest(labels.classes[trait], each) for each in (values, read[trait]))
                    shares.append(np.mean(one == two))
                else:
                    shares.append(np.mean(np.abs(values - read[trait]) <= YEARS))
            said = trait if labels.classes[trait] else f"{trait}, within {YEARS} years"
            print(f"{said:26} {shares[0]:16.3f} {shares[1]:20.3f}")


if __name__ == "__main__":
    main()
