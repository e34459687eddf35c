"""The faces of the example pictures: drawn by the face model (models/face-256), they show nobody."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import INNER, MEAN_SHAPE, apply_affine, similarity
from deidcli.faces.canonical import canonical, ibug
from deidcli.faces.face_model import EXPRESSION, TONE, FaceModel
from deidcli.faces.regions import rim_distance
from deidcli.faces.render import render
from deidcli.presets import load_preset
from deidcli.training.face_model import FILE

SIDE = 720  # of a face's picture, in pixels
MARGIN = 0.25  # room around the face square on each side, as a share of it
CORNERS = (61, 291)  # points of the mesh at the corners of the mouth
MIXED, WEIGHT = 4, 0.4  # faces of the bank that are mixed, those nearest to the traits; the weight of each
WITHIN = 6  # pixels of the frame within the rim from which on a texture is used: at the rim hair begins
BROAD = 14  # pixels over which the light of both sides is made alike


@dataclass(frozen=True)
class Traits:
    """woman: whether the face is a woman's. age and tone: standard deviations from the model's mean, age upwards and
    tone from dark to light. smile: standard deviations of the expression that widens the mouth.
    """

    woman: bool
    age: float
    tone: float
    smile: float


@dataclass(frozen=True)
class Drawn:
    """pixels: (side, side, 3) uint8 RGB, the face square in its middle, colours carried on outside of the face.
    landmarks: (68, 2) float32 in its pixels.
    """

    pixels: np.ndarray
    landmarks: np.ndarray


PEOPLE = {
    "ada": Traits(True, -0.6, 0.9, 1.6),
    "ben": Traits(False, -0.2, -1.7, 0.0),
    "cleo": Traits(True, -0.5, -1.6, 1.6),
    "dai": Traits(False, -0.3, 0.5, 0.0),
    "esha": Traits(True, -0.4, -0.6, 0.0),
    "finn": Traits(False, 1.9, 0.5, 0.0),
    "gao": Traits(True, -0.3, 0.8, 0.0),
    "hari": Traits(False, -0.1, -0.8, 1.2),
    "ines": Traits(True, 1.8, 0.7, 1.4),
    "jon": Traits(False, 0.7, 0.9, 0.6),
    "kofi": Traits(False, 1.0, -1.7, 1.2),
    "lin": Traits(True, -0.6, 0.6, 1.4),
}


class Faces(dict[str, Drawn]):
    """The faces by name, each drawn when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.model = FaceModel(load_preset("face-256").file(FILE))

    def __missing__(self, name: str) -> Drawn:
        return self.setdefault(name, face(self.model, PEOPLE[name]))


def face(model: FaceModel, traits: Traits) -> Drawn:
    """A mixture of the faces of the bank that are nearest to the traits, seen from in front."""
    kept = np.zeros(model.texture_of_kept.shape[0], np.float32)
    kept[0], kept[1], kept[TONE] = (1.0 if traits.woman else -1.0), traits.age, traits.tone
    kept[EXPRESSION] = traits.smile * smile(model)
    apart = ((model.bank_kept - kept[:5]) ** 2) @ (4.0, 1.0, 0.5, 0.5, 0.5)
    near = np.argsort(apart, kind="stable")[: 2 * MIXED : 2]  # every second one is the mirror image of another
    identity = model.decoded(*model.mixtures(near, np.full(MIXED, WEIGHT)), kept[:2])
    texture = np.clip(even(model.base(kept) + identity.texture), 0, 1)
    person = np.concatenate([kept[:2], kept[EXPRESSION]]).astype(np.float64)
    shape = (model.shape_mean + person @ model.shape_of_kept).reshape(-1, 3) + identity.shape
    return drawn(texture, shape)


def smile(model: FaceModel) -> np.ndarray:
    """The direction (e,) of length 1, in what is kept, that widens the mouth the most."""
    ways = model.shape_of_kept[2:].reshape(-1, len(model.shape_mean) // 3, 3)
    wider = ways[:, CORNERS[1], 0] - ways[:, CORNERS[0], 0]
    return (wider / np.linalg.norm(wider)).astype(np.float32)


def drawn(texture: np.ndarray, shape: np.ndarray) -> Drawn:
    """A texture (256, 256, 3) in [0, 1] on a shape (468, 3) as in the mean mesh."""
    marks = ibug(shape)[:, :2]
    square = (MEAN_SHAPE + MARGIN) * SIDE / (1 + 2 * MARGIN) - 0.5
    to_picture = similarity(marks[INNER], square[INNER])
    scale = float(np.hypot(to_picture[0, 0], to_picture[1, 0]))
    mesh = np.column_stack([apply_affine(to_picture, shape[:, :2]), shape[:, 2] * scale])
    pack = np.dstack([texture, np.clip(rim_distance() - WITHIN, 0, 1)]).astype(np.float32)
    drawn, _ = render(pack, mesh, (SIDE, SIDE))
    pixels, seen = drawn[..., :3], np.clip(drawn[..., 3], 0, 1)
    return Drawn(
        np.clip(carried_on(pixels, seen) * 255 + 0.5, 0, 255).astype(np.uint8), ibug(mesh)[:, :2].astype(np.float32)
    )


def even(texture: np.ndarray) -> np.ndarray:
    """A texture (256, 256, 3) whose broad light is the same on both sides."""
    inside = canonical().inside.astype(np.float32)[..., None]
    weight = np.maximum(cv2.GaussianBlur(inside, (0, 0), BROAD)[..., None], 1e-3)
    broad = cv2.GaussianBlur(texture * inside, (0, 0), BROAD) / weight
    return texture + (broad[:, ::-1] - broad) / 2


def carried_on(pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) with the colours of what was seen (h, w) carried on into the rest."""
    core = cv2.erode(seen, np.ones((9, 9)))[..., None]
    total, weight = pixels * core, core
    for reach, share in ((6, 1e-2), (30, 1e-4), (120, 1e-6)):
        total = total + share * cv2.GaussianBlur(pixels * core, (0, 0), reach)
        weight = weight + share * cv2.GaussianBlur(core, (0, 0), reach).reshape(weight.shape)
    return total / np.maximum(weight, 1e-12)
