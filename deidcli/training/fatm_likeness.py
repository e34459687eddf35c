"""Whether a donor looks like somebody who is known: drawn into pictures, and compared with packs of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.mesh import PRESENT, ibug, locate_mesh
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.fatm import CanonicalFatm, Fatm
from deidcli.methods.new_face import composited
from deidcli.presets import Preset
from deidcli.training.data import load_pack
from deidcli.training.textures import Textures, load_textures
from deidcli.values import Box, Crop, CropSpec, Face, Frame

CARRIERS = 4  # pictures that a donor is drawn into
LIKELY = 30  # faces of a pack, the nearest by dlib, that SFace compares where it has to describe them first
JUDGES = ("dlib", "sface")


@dataclass(frozen=True)
class Known:
    """Faces of a pack. dlib: (n, 128). sface: (n, 128), or None where only crops are known. names: (n,)."""

    name: str
    names: np.ndarray
    dlib: np.ndarray
    sface: np.ndarray | None
    crops: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, path: Path) -> Known:
        """The faces of a pack of textures or of crops. Raises UsageError for another file."""
        try:
            pack = load_textures(path)
        except UsageError:
            crops = load_pack(path)
            if crops.landmarks is None:
                raise UsageError(f"{path} has no landmarks", "make it with `deid align --pack`") from None
            return cls(path.stem, crops.names, crops.descriptors, None, crops.crops, crops.landmarks)
        return cls(path.stem, pack.names, pack.dlib, pack.sface, np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Likeness:
    """The nearest face of a pack. dlib, sface: its file and its distance by each recogniser, as a share of the
    threshold. both: of all faces the least of the larger of both shares; 1 and less where both recognisers take the
    donor for one face.
    """

    dlib: tuple[str, float]
    sface: tuple[str, float]
    both: float


def likenesses(preset: Preset, pack: Textures, pictures: Path, known: Sequence[Path], parts: dict) -> dict:
    """For each donor of `preset`, and each pack by its name, whom the donor is most like.

    pictures: the folder of the faces in `pack`, of which some are drawn over; they, and the faces that a donor is made
    of (`parts`, by donor), are not compared.
    """
    packs = [Known.of(path) for path in known]
    found: dict[str, dict[str, Likeness]] = {}
    for donor in preset.config["donors"]:
        method = Fatm.create(Fatm.Options(donor=donor, reach=1.0, preset=str(preset.folder)))
        assert isinstance(method, CanonicalFatm)
        gender = next(d.kept[0] for d in method.models.donors if d.name == donor)
        carriers = _carriers(pack, "female" if gender > 0 else "male")
        crops = [crop for name in carriers if (crop := _crop(pictures / name, method.crop))]
        if not crops:
            raise UsageError(f"{pictures} has none of the pack's pictures", "give the folder that it was packed from")
        drawn = [composited(crop, method.apply([crop])[0]) for crop in crops]
        own = [_described(judge, crops, drawn) for judge in map(recogniser, JUDGES)]
        apart = {*carriers, *parts[donor]}
        found[donor] = {one.name: _nearest(one, own, apart) for one in packs}
    return found


def _carriers(pack: Textures, sex: str) -> list[str]:
    labels = pack.labels.get("sex", np.full(len(pack), ""))
    return pack.names[np.argsort(labels != sex, kind="stable")][:CARRIERS].tolist()


def _crop(path: Path, spec: CropSpec) -> Crop | None:
    read = cv2.imread(str(path))
    if read is None:
        return None
    pixels = np.ascontiguousarray(read[..., ::-1])
    height, width = pixels.shape[:2]
    face = Face(Box(width * 0.25, height * 0.28, width * 0.75, height * 0.78))
    mesh, presence = locate_mesh(pixels, face)
    return align(Frame(pixels), replace(face, landmarks=ibug(mesh)), spec, path.name) if presence > PRESENT else None


def _described(judge: Recogniser, crops: Sequence[Crop], drawn: Sequence[np.ndarray]) -> np.ndarray:
    chips = []
    for crop, pixels in zip(crops, drawn, strict=True):
        points = apply_affine(crop.transform, np.asarray(crop.face.landmarks)).astype(np.float32)
        chips.append(judge.chips(pixels, [replace(crop.face, landmarks=points)])[0])
    return judge.embed(np.stack(chips))


def _nearest(known: Known, own: Sequence[np.ndarray], apart: set[str]) -> Likeness:
    dlib, sface = map(recogniser, JUDGES)
    rows = np.flatnonzero(~np.isin(known.names, list(apart)))
    first = _shares(dlib, own[0], known.dlib[rows])
    if known.sface is None:
        near = np.argsort(first, kind="stable")[:LIKELY]
        rows, first = rows[near], first[near]
        box = Box(0, 0, known.crops.shape[2], known.crops.shape[1])
        chips = [sface.chips(known.crops[i], [Face(box, landmarks=known.landmarks[i])])[0] for i in rows]
        described = sface.embed(np.stack(chips))
    else:
        described = known.sface[rows]
    second = _shares(sface, own[1], described)
    nearest = [(str(known.names[rows[far.argmin()]]), round(float(far.min()), 3)) for far in (first, second)]
    return Likeness(nearest[0], nearest[1], round(float(np.maximum(first, second).min()), 3))


def _shares(judge: Recogniser, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean distances (n,) of others (n, d) to the drawings of a donor (m, d), as shares of the threshold."""
    apart = [judge.distance(others, np.broadcast_to(row, others.shape)) for row in own]
    return np.mean(apart, axis=0) / judge.threshold
