"""Deep Autoencoders (Nousi et al. 2020): an encoder that was fine-tuned to move a face's code gives another person.

The fine-tuned encoder takes a face to its target (Equations 7 to 11) in one pass, and the decoder, which was trained to
reconstruct, draws what lies there. Deblurrer and smoother follow it; all four are one graph. Presets say which
shifts they know; `deid train autoencoder --shift` adds another in minutes. One departure from the paper: a face that is
still recognised goes on in the direction in which the encoder moved it.

In the canonical frame (`CanonicalAutoencoder`) a face's coefficients in the face model are coded and shifted. The
encoder takes what the model says of a face (`identity_rows`): the coefficients of texture and shape that are the
person's own, and gender, age and tone, so that faces that lie near each other are alike in these. The fine-tuned
encoder moves the code as in the paper, the decoder gives coefficients, and the face model draws them at the
photograph's resolution. Expression, mouth, gaze and light are the photograph's in every shift.

The paper's targets are means of faces, and look like no person in particular: so in that frame the new face is drawn
about the shifted code, in secret, as the faces lie about it that the encoder was fine-tuned on (`vary`; 0 is the
paper), and of the faces that are drawn one is taken that recognisers tell from the old one: identity is what is
repelled, as in Section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.face_model import FaceModel, Reading
from deidcli.methods.base import Method, Models, PresetMethod, PresetModels, Secret, crop_of, option
from deidcli.methods.identities import FAR, WINDOW, Candidates, IdentityMethod, PresetFaceModels
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop

if TYPE_CHECKING:
    from deidcli.networks.autoencoder import Networks


METHOD = "autoencoder"
NONE = "none"  # no shift: the encoder as it was trained to reconstruct
KINDS = ("cluster", "neighbor", "nth", "cells", "attribute", NONE)
PUSH, FARTHEST = 0.5, 1.0  # how much farther a face that is still recognised goes, each time and at most


class AutoencoderModels(PresetModels):
    """The preset that the options name, and its networks."""

    method = METHOD

    @cached_property
    def networks(self) -> Networks:
        from deidcli.networks.autoencoder import load

        return load(self.preset)


class Autoencoder(PresetMethod):
    """The chain of networks of a preset, on aligned crops. Raises PresetError where it is damaged, UsageError for a
    shift that it does not know.
    """

    name = METHOD
    summary = "another person with the same attributes, by an autoencoder's shifted code"
    Models: ClassVar[type[Models]] = AutoencoderModels

    @dataclass(frozen=True)
    class Options:
        shift: str = option(
            "cluster",
            "where faces move: the centre of their cluster, the neighbor that is nearest to the mean, the nth, "
            "the nth for each cell of a convolutional code, or those with the same attribute",
            choices=KINDS,
        )
        clusters: int = option(180, "of --shift cluster: how many there are", 1, 10_000)
        neighbors: int = option(0, "of the other shifts: how many are looked at; 0: as the preset has it", 0, 1000)
        alpha: float = option(0.0, "how far towards the target, above 1 beyond it; 0: as the preset has it", 0, 2)
        attributes: str = option("expression,mouth,race", "of --shift attribute: which, in order, with , or +")
        vary: float = option(
            1.4,
            "of presets in the canonical frame: how far a face is drawn about its code, 1 as faces lie; 0: at it",
            0,
            2,
        )
        push: float = option(0.0, "how much farther than the encoder moves a face, as a share of its way", 0, 4)
        preset: str = option("autoencoder-256", "name or folder of the weights")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)
        self.shift = known_shift(self.models.preset, self.options)
        self.crop = crop_of(self.models.preset)

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method in the canonical frame where the preset names a face model."""
        options = options or cls.Options()
        in_frame = "model" in load_preset(options.preset, METHOD).config
        return (CanonicalAutoencoder if in_frame else cls)(options, secret)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        pictures = np.stack([crop.pixels for crop in crops])
        made = self.models.networks.picture(pictures, self.shift, self.options.push)
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]

    def escalate(self, attempt: int) -> Method | None:
        """Farther in the direction in which the encoder moved the face; nothing where it does not move it."""
        if self.shift == NONE or self.options.push >= FARTHEST:
            return None
        farther = replace(self.options, push=min(FARTHEST, self.options.push + PUSH))
        return type(self)(farther, self.secret, self.models)


def known_shift(preset: Preset, options: Any) -> str:
    """The name of the first shift of a preset that is what the options ask for.

    Where none is asked for and the preset has no clusters, it is its first one. An attribute that it keeps in every
    shift ("keeps" of its config) need not be moved towards. Raises UsageError that names those that the preset knows.
    """
    if options.shift == NONE:
        return NONE
    asked = [word.strip() for word in options.attributes.replace("+", ",").split(",")]
    asked = [word for word in asked if word not in preset.config.get("keeps", [])]
    for name, entry in preset.config.get("shifts", {}).items():
        same = entry["kind"] == options.shift
        if options.shift == "cluster":
            same &= entry["clusters"] == options.clusters
        else:
            same &= options.neighbors in (0, entry["neighbors"])
        if options.shift == "attribute":
            same &= entry["attributes"] == asked
        if same and options.alpha in (0, entry["alpha"]):
            return name
    shifts = preset.config.get("shifts", {})
    usual = type(options)()
    asks = [getattr(options, name) != getattr(usual, name) for name in ("shift", "clusters", "neighbors", "alpha")]
    if not any(asks) and all(entry["kind"] != usual.shift for entry in shifts.values()):
        return next(iter(shifts), NONE)
    known = ", ".join(shifts) or "none"
    raise UsageError(
        f"preset {preset.name} has no such shift: it knows {known}",
        "give one of these, or make it with `deid train autoencoder --start --shift`",
    )


KEPT = np.array([0.5, 0.4, 0.25, 0.25, 0.25], np.float32)  # weights of gender, age and tone beside texture and shape
SHAPES = 0.7  # weight of the shape beside the texture
OUTSIDE = 2.5  # deviations of the bank's coefficients to which a photograph's are clipped
DRAWN = 40  # faces that are drawn about a code on each level
SHAPE = 1.6  # how far the shape goes towards that of the new identity, and on in its direction


class CanonicalModels(PresetFaceModels, AutoencoderModels):
    """The preset, the face model that it names, and the recognisers."""


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
        self.far, self.level = 0.0 if self.shift == NONE else FAR, round(self.options.push / PUSH)

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """Faces that are drawn about the shifted code, the code itself where nothing varies."""
        networks, model = self.models.networks, self.models.model
        row = self._row(reading)
        shifted, plain = (networks.chains[name](row)[0] for name in (self.shift, NONE))
        code = shifted + (PUSH + self.options.push) * (shifted - plain)
        spread = networks.spreads.get(self.shift)
        codes = [code]
        if spread is not None and self.options.vary:
            before = DRAWN * self.level  # draws that weaker settings have tried
            drawn = self.secret.generator(key).standard_normal((before + DRAWN, len(spread)))[before:]
            codes = [code + self.options.vary * (noise @ spread) for noise in drawn]
        made = [coefficients(model, networks.tail(each)[0][0]) for each in codes]
        texture = np.stack([model.typical(own, reading.kept[0]) for own, _ in made])
        shape = np.stack([own for _, own in made])
        return self.drawable(texture, shape, reading.kept)

    def _row(self, reading: Reading) -> np.ndarray:
        """What the encoder takes (1, d) of a face in a photograph."""
        model = self.models.model
        texture, shape = model.coefficients(reading)
        texture, shape = (
            np.clip(own, -OUTSIDE * bank.std(axis=0), OUTSIDE * bank.std(axis=0))[None]
            for own, bank in ((texture, model.bank_texture), (shape, model.bank_shape))
        )
        return identity_rows(model, texture, shape, reading.kept[None, :5])


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
