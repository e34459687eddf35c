"""Proxies: faces that are means of others, as identities of the face model, and which of them suit a person.

The bank of the face model is the proxy set: synthetic faces of nobody. An active appearance model averages coefficients
of shape and texture (Gross et al. 2006), and so does this. A mean of k is shorter than single faces, by up to the
square root of k, and looks smooth and like everybody: so its coefficients are scaled to the length of a single face's.
Its direction stays that of the mean, and k faces, or people, are in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from deidcli.faces.face_model import FaceModel, unit
from deidcli.methods.identities import FaceModels, joined

RECOGNISER = "dlib"  # whose descriptors packs hold
# How far a mean goes, in lengths of a single face's: the texture of proxies, which is seen in the photograph's contrast
# (that of people's photographs holds more than their faces, and goes no further), and each shape, because recognisers
# see proportions.
TEXTURE, SHAPE = 1.3, 1.6
# What a squared difference in gender, age and each colour of the tone costs, in standard deviations.
COSTS = np.array([1.0, 0.6, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class MeanFace:
    """texture: (n,) coefficients. shape: (m,) likewise. traits: (2,) standardised gender and age."""

    texture: np.ndarray
    shape: np.ndarray
    traits: np.ndarray


class Proxies:
    """The faces of a model's bank, each once, (people,)."""

    def __init__(self, model: FaceModel):
        self.model = model
        rows = slice(model.people)
        self.texture, self.shape, self.kept = (x[rows] for x in (model.bank_texture, model.bank_shape, model.bank_kept))
        self.described = joined(model.bank_dlib[rows], model.bank_sface[rows])
        self._lengths = [float(np.median(np.linalg.norm(x, axis=1))) for x in (self.texture, self.shape)]

    def mean(self, faces: np.ndarray, weights: np.ndarray, traits: np.ndarray | None = None) -> MeanFace:
        """The mean of `faces` (k,) by weights (k,) that sum to 1, its texture TEXTURE times as long as a single one's;
        with `traits` (2,), or their mean ones.
        """
        traits = weights @ self.kept[faces, :2] if traits is None else traits
        made = self.lengthened(weights @ self.texture[faces], weights @ self.shape[faces], traits)
        return replace(made, texture=TEXTURE * made.texture)

    def lengthened(self, texture: np.ndarray, shape: np.ndarray, traits: np.ndarray) -> MeanFace:
        """Mean coefficients (n,) and (m,) at the length of a single face's."""
        long, wide = (goal / max(float(np.linalg.norm(x)), 1e-9)
                      for goal, x in zip(self._lengths, (texture, shape), strict=True))  # fmt: skip
        return MeanFace(texture * long, shape * wide, np.asarray(traits, np.float32))

    def suiting(self, kept: np.ndarray, count: int) -> np.ndarray:
        """The `count` faces that are most like in gender, age and tone to what is kept of a face (5,)."""
        return np.argsort((self.kept - kept[:5]) ** 2 @ COSTS, kind="stable")[:count]

    def like(self, first: int, able: np.ndarray, count: int) -> np.ndarray:
        """The `count` faces out of `able` (n,) whose descriptors are most like that of the face `first`, which is one.

        The mean of faces that have nothing in common would be the mean of all.
        """
        return able[np.argsort(-(self.described[able] @ self.described[first]), kind="stable")[:count]]

    def likeness(self, faces: np.ndarray, person: np.ndarray) -> np.ndarray:
        """How like means of `faces` (p, k) are to a person with this joined descriptor (256,): cosines (p,)."""
        return unit(self.described[faces].mean(axis=1)) @ person


class ProxyModels(FaceModels):
    """The face model whose bank is the gallery, and both recognisers."""

    @property
    def model_name(self) -> str:
        return self.options.gallery

    @cached_property
    def proxies(self) -> Proxies:
        return Proxies(self.model)
