"""CLEANIR in the canonical frame: Equations 5 and 6 turn who a face is, and the face model draws the new one.

The identity half of the latent vector is what recognisers say: the unit descriptors by dlib and SFace, one behind the
other. It is turned about a secret axis as in the paper. The decoder is the face model: of its bank, the two faces whose
descriptors lie nearest to the turned vector are mixed, those nearest in gender, age and tone first (`keep`). The
attribute half is what the model keeps: expression, gaze, light, tone, what lies over the face. Nothing else of the old
face is left in the new one, so it cannot be turned back.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from deidcli.errors import MethodError
from deidcli.faces import mesh
from deidcli.faces.align import apply_affine
from deidcli.faces.embed import Recogniser, recogniser
from deidcli.faces.face_model import FaceModel, Identity, Reading, unit
from deidcli.methods.base import Method, Models, Secret
from deidcli.methods.cleanir import Cleanir, kept_traits, rotate
from deidcli.methods.new_face import Seen, composited, draw, read, shrunk
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop, CropSpec

MARGIN = 0.35  # of the face square, around it: what bends with the head lies within
WEIGHTS = np.sqrt([0.4, 0.6])  # of dlib's descriptor and SFace's in the identity; their squares sum to 1
MIXED = np.array([0.8, 0.6])  # weights of the two faces of the bank; their squares sum to 1
# What a squared deviation of gender, age and of each colour of the tone costs, in cosines of the turned identity.
COSTS = {"gender": (0.15,), "age": (0.10,), "tone": (0.03, 0.03, 0.03)}
REMEMBERED = 4096  # new identities, the last that were used
SHAPE = 1.6  # how far the shape goes towards that of the new identity, and on in its direction
# New faces that are tried for a key until one is far enough from the old face by both recognisers; else the farthest is
# taken. It is asked for more than their thresholds, so that other pictures of the person are far, too.
TRIES = 8
FEW, SMALL = 2, 48  # tries, and pixels of a face below which there are no more: recognisers can hardly tell small ones
JUDGED = 160  # pixels of a face at which it is tried; recognisers see no more
FAR = (1.1, 1.1)  # of dlib's and SFace's threshold


class CanonicalModels(Models):
    """The preset, the face model that it names, and the recognisers."""

    @cached_property
    def preset(self) -> Preset:
        return load_preset(self.options.preset, Cleanir.name)

    @cached_property
    def model_preset(self) -> Preset:
        return load_preset(self.preset.config["model"], "face-model")

    @cached_property
    def model(self) -> FaceModel:
        return FaceModel(self.model_preset.file("face_model.npz"))

    @cached_property
    def judges(self) -> tuple[Recogniser, Recogniser]:
        return recogniser("dlib"), recogniser("sface")

    @cached_property
    def bank(self) -> np.ndarray:
        """The identities (faces, 256) of the bank, of length 1."""
        return joined(self.model.bank_dlib, self.model.bank_sface)


class CanonicalCleanir(Cleanir):
    """`cleanir` with a preset that names a face model. Raises MissingDependency without SFace's or the mesh's
    weights.
    """

    listed = False
    reversible = False
    Models = CanonicalModels
    crop = CropSpec(size=None, margin=MARGIN, align="window", transfer_lighting=False)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None, level: int = 0):
        """level: how often it was escalated, so that each level tries other faces of the bank."""
        Method.__init__(self, options, secret, models)
        # What is damaged or missing is said before the first file is read.
        self.models.preset.verify()
        self.models.model_preset.verify()
        mesh.WEIGHTS.verified("cleanir")
        self.models.judges  # noqa: B018
        self.level = level
        self._kept = kept_traits(self.options.keep)
        self._identities: OrderedDict[str, Identity] = OrderedDict()

    @property
    def weights(self) -> str:
        both = self.models.preset.checksum + self.models.model_preset.checksum
        return hashlib.sha256(both.encode()).hexdigest()

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        return [self._one(crop) for crop in crops]

    def _one(self, crop: Crop) -> Crop:
        old = self._described(crop.pixels, crop)
        seen = read(self.models.model, crop, old[0])
        known = self._identities.get(crop.key)
        if known is None:
            return self._first(seen, old)
        self._identities.move_to_end(crop.key)
        return draw(self.models.model, seen, known, SHAPE)

    def _described(self, pixels: np.ndarray, crop: Crop) -> list[np.ndarray]:
        """The descriptors (128,) of the crop's face by both recognisers, in `pixels` of the crop's size."""
        placed = replace(
            crop.face, landmarks=apply_affine(crop.transform, np.asarray(crop.face.landmarks)).astype(np.float32)
        )
        return [judge.embed(judge.chips(pixels, [placed]))[0] for judge in self.models.judges]

    def _first(self, seen: Seen, old: list[np.ndarray]) -> Crop:
        """The first new face of a key, whose identity is remembered: of several, the first that is far enough."""
        best, farthest, tried = None, -np.inf, shrunk(seen, JUDGED)
        tries = TRIES if np.ptp(seen.mesh[:, :2], axis=0).max() >= SMALL else FEW
        for identity in islice(self._candidates(seen.reading, old, seen.crop.key), tries):
            made = draw(self.models.model, tried, identity, SHAPE)
            away = self._away(old, self._described(composited(tried.crop, made), tried.crop))
            if away > farthest:
                best, farthest = identity, away
            if away >= 1 or not self.options.angle:
                break
        if best is None:
            raise MethodError("the face model has no identity for it", "fetch the preset again")
        self._identities[seen.crop.key] = best
        if len(self._identities) > REMEMBERED:
            self._identities.popitem(last=False)
        return draw(self.models.model, seen, best, SHAPE)

    def _away(self, old: list[np.ndarray], new: list[np.ndarray]) -> float:
        """How far a new face is from the old one, 1 where it is far enough by both recognisers."""
        judged = zip(self.models.judges, old, new, FAR, strict=True)
        return min(float(judge.distance(a[None], b[None])[0]) / (judge.threshold * far) for judge, a, b, far in judged)

    def _candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Iterator[Identity]:
        """The identities that lie nearest to the turned one, the nearest first."""
        model, bank = self.models.model, self.models.bank
        random = self.secret.generator(key)
        axis = random.standard_normal(len(bank)) @ bank
        angle = max(0.0, self.options.angle - self.options.vary * random.random())
        identity = joined(unit(old[0] - model.dlib_mean)[None], unit(old[1])[None])
        near = bank @ rotate(identity, axis[None], angle)[0]
        costs = np.concatenate([COSTS[name] if name in self._kept else np.zeros(len(COSTS[name])) for name in COSTS])
        near = near - (model.bank_kept - reading.kept[:5]) ** 2 @ costs
        order = np.argsort(-near, kind="stable")[self.level * TRIES * len(MIXED) :]
        for start in range(0, TRIES * len(MIXED), len(MIXED)):
            faces = order[start : start + len(MIXED)]
            if len(faces) == len(MIXED):
                yield model.identity(faces, MIXED, reading.kept[:2].copy())

    def escalate(self, attempt: int) -> Method | None:
        """A larger angle and other faces; at 180 degrees, let go of what was kept."""
        options = self._stronger()
        return None if options is None else CanonicalCleanir(options, self.secret, self.models, self.level + 1)


def joined(dlib: np.ndarray, sface: np.ndarray) -> np.ndarray:
    """Unit descriptors (n, 128) by both recognisers as one of length 1 (n, 256)."""
    return np.concatenate([WEIGHTS[0] * dlib, WEIGHTS[1] * sface], axis=1)
