"""What a recogniser matches of a photograph with itself when its face is gone: hair, clothes, light and background.

    python benchmarks/same_picture.py [PHOTOGRAPHS]

Of so many photographs of LFW `val` (48), one a person, in the folder DEID_DATA: the share that each recogniser matches
with the untouched photograph, at a false-accept rate of 0.001 among the untouched ones, when the face is one flat
colour, when it is the mean face, and when a method drew it, `cleanir` with its first choice, too. Of methods also: how
many new faces were looked at for a photograph, the share that is a tenth beyond the recognisers' own thresholds by
both, and how many pairs of new faces each recogniser tells apart (DIV).
"""

from __future__ import annotations

import csv
import os
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.faces.regions import skin
from deidcli.faces.render import render
from deidcli.methods.autoencoder import Autoencoder
from deidcli.methods.base import Method, Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.methods.epdnet import Epdnet
from deidcli.methods.fatm import Fatm
from deidcli.methods.identities import FAR, IdentityMethod
from deidcli.methods.ksame.m import KSameM
from deidcli.methods.new_face import face_alpha, mesh_of, read
from deidcli.methods.tone import lit
from deidcli.values import Face, Frame

JUDGES = [recogniser(name) for name in ("dlib", "sface")]
LAID_OVER = ("one flat colour", "the mean face")


def started(kind: type[Method], tries: int | None = None) -> Method:
    method = kind.create(None, Secret.seeded(1))
    if tries:
        method.tries = tries
    return method


METHODS = {
    **dict.fromkeys(LAID_OVER, partial(started, Cleanir)),
    "cleanir, its first choice": partial(started, Cleanir, tries=1),
    "cleanir": partial(started, Cleanir),
    "ksame-m": partial(started, KSameM),
    "autoencoder": partial(started, Autoencoder),
    "epdnet": partial(started, Epdnet),
    "fatm": partial(started, Fatm),
}


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


def replaced(method: Method, pictures: list[np.ndarray], faces: list[Face]) -> tuple[list[np.ndarray], int]:
    """The pictures with new faces, and how many new faces were looked at for them."""
    looked: list[int] = []
    if isinstance(method, IdentityMethod):
        away = method.models.away
        method.models.away = lambda *given: looked.append(1) or away(*given)
    made = []
    for number, (pixels, face) in enumerate(zip(pictures, faces, strict=True)):
        crop = align(Frame(pixels), face, method.crop, f"{number}")
        made.append(blend(Frame(pixels), method.apply([crop])[0], method.crop, BlendOptions()).frame.pixels)
    return made, len(looked)


def main() -> None:
    shown = photographs(int(sys.argv[1]) if len(sys.argv) > 1 else 48)
    pictures, faces = [pixels for pixels, _ in shown], [face for _, face in shown]
    before = described(pictures, faces)
    among = [_among(judge, rows) for judge, rows in zip(JUDGES, before, strict=True)]
    bounds = [float(np.quantile(apart, 0.001)) for apart in among]
    print(f"{len(shown)} photographs; thresholds {bounds[0]:.3f} (dlib) and {bounds[1]:.3f} (SFace)")
    print(f"{'':24} matched by dlib  SFace   looks   far   DIV by dlib  SFace")
    for name, start in METHODS.items():
        method = start()
        if name in LAID_OVER:
            made, looks = [laid_over(method, *one, flat=name == LAID_OVER[0]) for one in shown], 0
        else:
            made, looks = replaced(method, pictures, faces)
        after = described(made, faces)
        apart = [judge.distance(old, new) for judge, old, new in zip(JUDGES, before, after, strict=True)]
        matched = [np.mean(each <= bound) for each, bound in zip(apart, bounds, strict=True)]
        line = f"{name:28} {matched[0]:11.3f}  {matched[1]:.3f}"
        if name not in LAID_OVER:
            own = [each >= FAR * judge.threshold for judge, each in zip(JUDGES, apart, strict=True)]
            different = [np.mean(_among(*each) > each[0].threshold) for each in zip(JUDGES, after, strict=True)]
            line += f"  {looks / len(shown):6.1f}  {np.mean(own[0] & own[1]):.3f}"
            line += f"  {different[0]:11.3f}  {different[1]:.3f}"
        print(line, flush=True)


def _among(judge: Recogniser, rows: np.ndarray) -> np.ndarray:
    """The distances between any two of the descriptors (n, 128), (n * (n - 1) / 2,)."""
    apart = [judge.distance(np.repeat(row[None], len(rows), 0), rows) for row in rows]
    return np.array(apart)[np.triu_indices(len(rows), 1)]


main()
