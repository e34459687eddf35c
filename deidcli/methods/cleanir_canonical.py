"""CLEANIR in the canonical frame: Equations 5 and 6 turn who a face is, and the face model draws the new one.

The identity half of the latent vector is what recognisers say: the unit descriptors by dlib and SFace, one behind the
other. It is turned about a secret axis as in the paper. The decoder is the face model: of its bank, the two faces whose
descriptors lie nearest to the turned vector are mixed, those nearest in gender, age and tone first (`keep`). The
attribute half is what the model keeps: expression, gaze, light, tone, what lies over the face. Nothing else of the old
face is left in the new one, so it cannot be turned back.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.faces.face_model import Identity, Reading
from deidcli.methods.base import Method, Secret
from deidcli.methods.cleanir import Cleanir, kept_traits, rotate
from deidcli.methods.identities import FAR, TRIES, WINDOW, IdentityMethod, PresetFaceModels, joined

MIXED = np.array([0.8, 0.6])  # weights of the two faces of the bank; their squares sum to 1
# What a squared deviation of gender, age and of each colour of the tone costs, in cosines of the turned identity.
COSTS = {"gender": (0.15,), "age": (0.10,), "tone": (0.03, 0.03, 0.03)}
SHAPE = 1.6  # how far the shape goes towards that of the new identity, and on in its direction


class CanonicalModels(PresetFaceModels):
    """The preset, the face model that it names, and the recognisers."""

    method = Cleanir.name

    @cached_property
    def bank(self) -> np.ndarray:
        """The identities (faces, 256) of the bank, of length 1."""
        return joined(self.model.bank_dlib, self.model.bank_sface)


class CanonicalCleanir(IdentityMethod, Cleanir):
    """`cleanir` with a preset that names a face model. Raises MissingDependency without SFace's or the mesh's
    weights.
    """

    listed = False
    reversible = False
    Models = CanonicalModels
    crop = WINDOW
    shape = SHAPE

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None, level: int = 0):
        """level: how often it was escalated, so that each level tries other faces of the bank."""
        IdentityMethod.__init__(self, options, secret, models)
        self.level = level
        self._kept = kept_traits(self.options.keep)
        self.far = FAR if self.options.angle else 0.0
        self.glasses = self.options.glasses == "keep"

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Iterator[Identity]:
        """The identities that lie nearest to the turned one, the nearest first."""
        model, bank = self.models.model, self.models.bank
        random = self.secret.generator(key)
        axis = random.standard_normal(len(bank)) @ bank
        angle = max(0.0, self.options.angle - self.options.vary * random.random())
        identity = self.models.joined(old)[None]
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
