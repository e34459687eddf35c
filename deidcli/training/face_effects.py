"""What an identity does to a recogniser's view of a photograph into which it is drawn, learnt as a linear function.

Mixtures of the bank are drawn into portraits. Of one portrait the descriptors differ by the identity alone, and that
difference is regressed on the identity's coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.errors import MethodError, UsageError
from deidcli.faces.align import align
from deidcli.faces.canonical import ibug
from deidcli.faces.face_model import FaceModel, ridge, unit
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.identities import JUDGED, WINDOW, placed_face
from deidcli.methods.new_face import composited, draw, read, shrunk
from deidcli.values import Box, Face, Frame

EFFECTS = ("effect_dlib", "effect_sface")  # arrays of a face model, by recogniser
MIXED = np.array([0.8, 0.6])  # weights of two faces of the bank; their squares sum to 1, as methods have it
SHAPE = 1.6  # how far the shape goes, as in most methods
PENALTY = 0.3  # of the ridge regression, a drawn identity, in squared deviations of the bank's coefficients


def learn_effects(
    model: FaceModel, portraits: Sequence[tuple[np.ndarray, np.ndarray]], count: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """The arrays EFFECTS, (n + m, 128) float32: what one unit of each coefficient adds to a descriptor.

    portraits: pixels (h, w, 3) uint8 and mesh (468, 3) of each. count: how many identities are drawn into each. Raises
    UsageError where no portrait can be drawn into.
    """
    judges = [recogniser(name) for name in ("dlib", "sface")]
    rows: list[np.ndarray] = []
    seen: list[list[np.ndarray]] = [[], []]
    for pixels, mesh in portraits:
        try:
            drawn = _drawn(model, pixels, mesh, judges, count, random)
        except MethodError:
            continue  # its face is hidden
        coefficients, *descriptors = drawn
        rows.append(coefficients - coefficients.mean(axis=0))
        for own, found in zip(seen, descriptors, strict=True):
            own.append(found - found.mean(axis=0))
    if not rows:
        raise UsageError("no face can be drawn into the portraits", "give pictures of whole faces")
    given = np.concatenate(rows) / model.spread
    made = [ridge(given, np.concatenate(own), PENALTY * len(given)) / model.spread[:, None] for own in seen]
    return {name: array.astype(np.float32) for name, array in zip(EFFECTS, made, strict=True)}


def _drawn(
    model: FaceModel,
    pixels: np.ndarray,
    mesh: np.ndarray,
    judges: Sequence[Recogniser],
    count: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """Coefficients (count, n + m) of identities of a portrait's gender, where the bank has two, and descriptors
    (count, 128) by each judge of the portrait with each of them.
    """
    marks = ibug(mesh)
    face = Face(Box(*marks.min(axis=0), *marks.max(axis=0)), landmarks=marks)
    crop = align(Frame(pixels), face, WINDOW)
    seen = read(model, crop, judges[0].embed(judges[0].chips(pixels, [face]))[0])
    tried = shrunk(seen, JUDGED)
    alike = np.flatnonzero(model.bank_kept[:, 0] * seen.reading.kept[0] >= 0)
    able = alike if len(alike) >= len(MIXED) else np.arange(model.faces)
    rows, descriptors = [], []
    for _ in range(count):
        faces = random.choice(able, len(MIXED), replace=False)
        texture, shape = model.mixtures(faces, MIXED)
        identity = model.decoded(texture, shape, seen.reading.kept[:2].copy())
        shown, own = composited(tried.crop, draw(model, tried, identity, SHAPE)), placed_face(tried.crop)
        descriptors.append([judge.embed(judge.chips(shown, [own]))[0] for judge in judges])
        rows.append(np.concatenate([texture, shape]))
    dlib, sface = (np.stack(each) for each in zip(*descriptors, strict=True))
    return np.stack(rows), dlib, unit(sface)
