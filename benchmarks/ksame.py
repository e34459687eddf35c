"""Rank-1 after k-Same, by the protocol of the k-Same-Net paper (Section 4.4) on people that nothing was trained on.

    python benchmarks/ksame.py DATA/lfw --draws 5

DATA/lfw holds images/PERSON/*.jpg and people.csv (person,split,images). Of the people of `val` 50 are drawn who have
two pictures. The closed set are their probe pictures, a picture a person; it is de-identified, blended back, and
compared by dlib's recogniser with one other picture of each. The bound is 1/k; a row a method and k: mean and worst
rank-1 of the draws, in per cent.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from deidcli.faces.align import align, apply_affine
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.detect import DetectOptions, detector
from deidcli.faces.embed import recogniser
from deidcli.faces.landmarks import locate
from deidcli.media.open import open_reader
from deidcli.methods import available
from deidcli.methods.base import Secret
from deidcli.methods.census import Census
from deidcli.methods.closed import ClosedSet
from deidcli.values import Face, Frame

PEOPLE, KS = 50, (2, 3, 5, 7, 9)
Picture = tuple[Frame, Face]


class Protocol:
    """Pictures are read and described once."""

    def __init__(self, folder: Path):
        self.folder, self.judge = folder, recogniser("dlib")
        self.detector = detector(DetectOptions(detector="hog"))

    def draws(self, count: int) -> Iterator[tuple[list[Picture], list[Picture]]]:
        """(probes, gallery) of PEOPLE people each; those whose face is not found are drawn again."""
        with (self.folder / "people.csv").open(encoding="utf-8", newline="") as file:
            able = [row["person"] for row in csv.DictReader(file) if row["split"] == "val" and int(row["images"]) > 1]
        for number in range(count):
            draw, pairs = np.random.default_rng(number), []
            for person in draw.permutation(sorted(able)):
                names = sorted((self.folder / "images" / person).iterdir())
                pair = [self._picture(names[i]) for i in draw.permutation(len(names))[:2]]
                if all(pair):
                    pairs.append(pair)
                if len(pairs) == PEOPLE:
                    break
            yield [probe for probe, _ in pairs], [other for _, other in pairs]

    def _picture(self, path: Path) -> Picture | None:
        with open_reader(path) as reader:
            frame = next(iter(reader.frames()))
        middle = np.array([frame.width, frame.height]) / 2
        faces = locate(frame.pixels, self.detector.detect([frame.pixels])[0])
        near = [f for f in faces if f.landmarks is not None and np.abs(middle - f.box.center).max() < f.box.width / 2]
        return (frame, near[0]) if near else None

    def describe(self, pictures: list[Picture]) -> np.ndarray:
        """Descriptors (n, 128), of the face where it was found before."""
        return self.judge.embed(np.stack([self.judge.chips(frame.pixels, [face])[0] for frame, face in pictures]))

    def rank_1(self, probes: list[Picture], gallery: np.ndarray) -> float:
        """The share of probes whose nearest in the gallery is their own person."""
        found = self.describe(probes)
        apart = np.linalg.norm(found[:, None] - gallery[None], axis=-1)
        return float(np.mean(apart.argmin(axis=1) == np.arange(len(probes))))

    def replaced(self, method: ClosedSet, probes: list[Picture]) -> list[Picture]:
        """The probes as a run would write them."""
        spec = replace(method.crop, size=method.stored)
        stored = [align(frame, face, spec) for frame, face in probes]
        keys = [f"{number}#0" for number in range(len(probes))]
        points = [apply_affine(crop.transform, crop.face.landmarks) for crop in stored]
        pixels = np.stack([crop.pixels for crop in stored])
        method.prepare(
            Census(keys, pixels, np.array(points, np.float32), self.describe(probes), np.arange(len(probes)))
        )
        crops = [align(frame, face, method.crop, key) for (frame, face), key in zip(probes, keys, strict=True)]
        made = zip(probes, method.apply(crops), strict=True)
        return [(blend(frame, crop, method.crop, BlendOptions()).frame, face) for (frame, face), crop in made]


def main() -> None:
    """Print a table with a row for each method and each k."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--methods", default="ksame-pixel,ksame-eigen")
    given = parser.parse_args()
    protocol = Protocol(given.folder)
    sets = [(probes, protocol.describe(gallery)) for probes, gallery in protocol.draws(given.draws)]
    before = [protocol.rank_1(probes, gallery) for probes, gallery in sets]
    print(f"original pictures: rank-1 {100 * np.mean(before):.1f} %, worst {100 * max(before):.1f} %", flush=True)
    for name in given.methods.split(","):
        kind = available()[name]
        for k in KS:
            for pairing in ("nearest", "furthest"):
                method = [kind(kind.Options(k=k, pairing=pairing), Secret.seeded(n)) for n in range(len(sets))]
                rates = [
                    protocol.rank_1(protocol.replaced(each, probes), gallery)
                    for each, (probes, gallery) in zip(method, sets, strict=True)
                ]
                mean, worst = 100 * np.mean(rates), 100 * max(rates)
                print(
                    f"{name:14}{pairing:10}k {k}: {mean:5.1f} %, worst {worst:5.1f} %; 1/k {100 / k:.1f} %", flush=True
                )


if __name__ == "__main__":
    main()
