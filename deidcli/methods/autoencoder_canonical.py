"""The autoencoder in the canonical frame: what is coded and shifted are a face's coefficients in the face model.

The encoder takes what the model says of a face (`identity_rows`): the coefficients of texture and shape that are the
person's own, and gender, age and tone, so that faces that lie near each other are alike in these. The fine-tuned
encoder moves the code as in the paper, the decoder gives coefficients, and the face model draws them at the
photograph's resolution. Expression, mouth, gaze and light are the photograph's in every shift.

The paper's targets are means of faces, and look like no person in particular: so the new face is drawn about the
shifted code, in secret, as the faces lie about it that the encoder was fine-tuned on (`vary`; 0 is the paper). Identity
is what is repelled, as in Section 3.2: a drawn code lies on the far side of the direction in which a linear reader of
codes finds the old face's descriptor by SFace, the stronger recogniser; the farther, the more tries there were.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.faces.face_model import FaceModel, Identity, Reading, unit
from deidcli.faces.mesh import POINTS
from deidcli.methods.autoencoder import NONE, PUSH, Autoencoder, AutoencoderModels, known_shift
from deidcli.methods.base import Method, Secret
from deidcli.methods.identities import FAR, TRIES, WINDOW, IdentityMethod, PresetFaceModels

READER = "reader.npz"
KEPT = np.array([0.5, 0.4, 0.25, 0.25, 0.25], np.float32)  # weights of gender, age and tone beside texture and shape
SHAPES = 0.7  # weight of the shape beside the texture
OUTSIDE = 2.5  # deviations of the bank's coefficients to which a photograph's are clipped
# Deviations by which the first face that is tried lies away from the old face's descriptor, and each try farther.
REPELLED, FURTHER = 8.0, 2.0
SHAPE = 1.6  # how far the shape goes towards that of the new identity, and on in its direction


class CanonicalModels(PresetFaceModels, AutoencoderModels):
    """The preset, the face model that it names, and the recognisers."""

    @cached_property
    def reader(self) -> np.ndarray:
        """(d, 128): what a code says of SFace's descriptor, as far as a linear reader can tell."""
        with np.load(self.preset.file(READER), allow_pickle=False) as stored:
            return stored["reader"].astype(np.float32)


class CanonicalAutoencoder(IdentityMethod, Autoencoder):
    """`autoencoder` with a preset that names a face model. Raises MissingDependency without SFace's or the mesh's
    weights.
    """

    listed = False
    Models = CanonicalModels
    crop = WINDOW
    shape = SHAPE

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        IdentityMethod.__init__(self, options, secret, models)
        self.shift = known_shift(self.models.preset, self.options)
        self.far = 0.0 if self.shift == NONE else FAR

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Iterator[Identity]:
        """Faces that are drawn about the shifted code, the code itself where nothing varies."""
        networks = self.models.networks
        row = self._row(reading)
        shifted, plain = (networks.chains[name](row)[0] for name in (self.shift, NONE))
        code = shifted + (PUSH + self.options.push) * (shifted - plain)
        spread = networks.spreads.get(self.shift)
        if spread is None or not self.options.vary:
            yield self._identity(code, reading)
            return
        towards = spread @ (self.models.reader @ unit(old[1]))
        towards /= max(float(np.linalg.norm(towards)), 1e-9)
        before = TRIES * round(self.options.push / PUSH)  # draws that weaker settings have tried
        drawn = self.secret.generator(key).standard_normal((before + TRIES, len(spread)))[before:]
        for tried, noise in enumerate(drawn):
            noise = noise - (noise @ towards + REPELLED + FURTHER * tried) * towards
            yield self._identity(code + self.options.vary * (noise @ spread), reading)

    def _identity(self, code: np.ndarray, reading: Reading) -> Identity:
        """What the decoder makes of a code (1, d)."""
        model = self.models.model
        texture, shape = coefficients(model, self.models.networks.tail(code)[0][0])
        own = (shape @ model.shape_components).reshape(POINTS, 3)
        return Identity(model.picture(texture, mean=False), own, reading.kept[:2].copy())

    def _row(self, reading: Reading) -> np.ndarray:
        """What the encoder takes (1, d) of a face in a photograph."""
        model = self.models.model
        texture, shape = model.own_texture(reading), model.shape_components @ model.own_shape(reading).reshape(-1)
        texture, shape = (
            np.clip(own, -OUTSIDE * bank.std(axis=0), OUTSIDE * bank.std(axis=0))[None]
            for own, bank in ((texture, model.bank_texture), (shape, model.bank_shape))
        )
        return identity_rows(model, texture, shape, reading.kept[None, :5])

    def escalate(self, attempt: int) -> Method | None:
        return Autoencoder.escalate(self, attempt)


def identity_rows(model: FaceModel, texture: np.ndarray, shape: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What an encoder takes of faces, (n, d) float32: coefficients of texture (n, t) and shape (n, s), the bank's mean
    square of each being 1 and SHAPES^2, and standardised gender, age and tone (n, 5).
    """
    lengths = _lengths(model)
    return np.concatenate([texture / lengths[0], SHAPES * shape / lengths[1], kept * KEPT], axis=1).astype(np.float32)


def coefficients(model: FaceModel, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of texture (t,) and shape (s,) of a row (d,) as `identity_rows` makes them."""
    lengths, count = _lengths(model), model.bank_texture.shape[1]
    return row[:count] * lengths[0], row[count : -len(KEPT)] * (lengths[1] / SHAPES)


def _lengths(model: FaceModel) -> tuple[float, float]:
    """The root mean square lengths of the bank's texture and shape."""
    return tuple(  # type: ignore[return-value]
        float(np.sqrt((bank**2).sum(axis=1).mean())) for bank in (model.bank_texture, model.bank_shape)
    )
