"""What a recogniser matches of a photograph with itself when its face is gone: hair, clothes, light and background.

    python benchmarks/same_picture.py [PHOTOGRAPHS]

Of so many photographs of LFW `val` (48), one a person, in the folder DEID_DATA: the share that each recogniser matches
with the untouched photograph, at a false-accept rate of 0.001 among the untouched ones, when the face is one flat
colour, when it is the mean face, and when `cleanir`, `ksame-m` and `autoencoder` drew it,
`cleanir` with its first choice, too.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import recogniser
from deidcli.faces.regions import skin
from deidcli.faces.render import render
from deidcli.methods import identities
from deidcli.methods.autoencoder import Autoencoder
from deidcli.methods.base import Method, Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.methods.ksame.m import KSameM
from deidcli.methods.new_face import face_alpha, lit, mesh_of, read
from deidcli.values import Face, Frame

JUDGES = [recogniser(name) for name in ("dlib", "sface")]


def photographs(count: int) -> list[tuple[np.ndarray, Face]]:
    """Pixels and the face in the middle of the first photograph of people of `val`."""
    data, search, found = Path(os.environ["DEID_DATA"]) / "lfw", detector(DetectOptions()), []
    with (data / "people.csv").open(encoding="utf-8", newline="") as file:
        people = [row["person"] for row in csv.DictReader(file) if row["split"] == "val"]
    for person in np.random.default_rng(3).permutation(people):
        path = sorted((data / "images" / person).iterdir())[0]
        pixels = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        middle = [f for f in search.detect([pixels])[0] if f.box.left < 125 < f.box.right]
        faces = [f for f in locate(pixels, middle[:1]) if f.landmarks is not None]
        found += [(pixels, face) for face in faces]
        if len(found) == count:
            break
    return found


def described(pictures: list[np.ndarray], faces: list[Face]) -> list[np.ndarray]:
    return [
        np.concatenate([judge.embed(judge.chips(p, [f])) for p, f in zip(pictures, faces, strict=True)])
        for judge in JUDGES
    ]


def laid_over(method: Cleanir, pixels: np.ndarray, face: Face, flat: bool) -> np.ndarray:
    """The face as one flat colour, or as the mean face in its tone and light."""
    model = method.models.model
    crop = align(Frame(pixels), face, method.crop)
    placed = [judge.embed(judge.chips(pixels, [face]))[0] for judge in JUDGES]
    seen = read(model, crop, placed[0])
    texture = lit(model.base(np.zeros_like(seen.reading.kept)), seen.reading)
    if flat:
        texture = np.broadcast_to(seen.reading.texture[skin()].mean(axis=0), texture.shape)
    height, width = crop.pixels.shape[:2]
    drawn, shown = render(np.dstack([texture, face_alpha()]).astype(np.float32), mesh_of(crop), (width, height))
    alpha = (np.clip(drawn[..., 3], 0, 1) * shown)[..., None]
    left, top = (int(-shift) for shift in crop.transform[:, 2])
    out = pixels.copy()
    window = np.s_[top : top + height, left : left + width]
    out[window] = np.clip(crop.pixels * (1 - alpha) + 255 * drawn[..., :3] * alpha, 0, 255)
    return out


def replaced(method: Method, number: int, pixels: np.ndarray, face: Face) -> np.ndarray:
    crop = align(Frame(pixels), face, method.crop, f"{number}")
    return blend(Frame(pixels), method.apply([crop])[0], method.crop, BlendOptions()).frame.pixels


def main() -> None:
    shown = photographs(int(sys.argv[1]) if len(sys.argv) > 1 else 48)
    faces = [face for _, face in shown]
    before = described([pixels for pixels, _ in shown], faces)
    bounds = []
    for judge, rows in zip(JUDGES, before, strict=True):
        apart = [judge.distance(np.repeat(row[None], len(rows), 0), rows) for row in rows]
        bounds.append(np.quantile(np.array(apart)[np.triu_indices(len(rows), 1)], 0.001))
    print(f"{len(shown)} photographs; thresholds {bounds[0]:.3f} (dlib) and {bounds[1]:.3f} (SFace)")
    for name in ("one flat colour", "the mean face", "cleanir, its first choice", "cleanir", "ksame-m", "autoencoder"):
        kind = {"ksame-m": KSameM, "autoencoder": Autoencoder}.get(name, Cleanir)
        method = kind.create(None, Secret.seeded(1))
        if name == "cleanir, its first choice":
            tries, identities.TRIES = identities.TRIES, 1
        if name.startswith(("cleanir", "ksame", "autoencoder")):
            made = [replaced(method, n, *one) for n, one in enumerate(shown)]
        else:
            made = [laid_over(method, *one, flat=name == "one flat colour") for one in shown]
        if name == "cleanir, its first choice":
            identities.TRIES = tries
        rates = [
            np.mean(judge.distance(old, new) <= bound)
            for judge, old, new, bound in zip(JUDGES, before, described(made, faces), bounds, strict=True)
        ]
        print(f"{name:28} dlib {rates[0]:.3f}  SFace {rates[1]:.3f}")


main()
