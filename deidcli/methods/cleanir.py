"""CLEANIR (Cho et al. 2020): a new identity by turning the identity half of a latent vector.

Three departures from the paper. Because the preset's identity target is dlib's 128-d descriptor lifted to 512-d and not
FaceNet's 512-d one, the axis of Equation 5 is drawn among lifted descriptors, where the paper draws in all of R^512, so
that the turned vector is one that a face can have. z^90 is made exactly orthogonal, so that every angle is exact. And
only what is orthogonal to the directions of gender, age, tone and expression is turned (`keep`): half a turn of the
whole vector makes men of women, the old young and the serious smile. `keep` none is the paper's method.

At 180 degrees the axis drops out (cos 180 = -1, sin 180 = 0): one person gets the same new face everywhere, and a
second pass nearly undoes the first. Angles below 180 depend on the secret axis, the more the nearer they are to 90, and
`vary` draws the angle in secret, too. The default is the least angle at which a plain comparison finds hardly anybody.

In the canonical frame (`CanonicalCleanir`) the identity half of the latent vector is what recognisers say: the unit
descriptors by dlib and SFace, one behind the other. It is turned about a secret axis as in the paper. The decoder is
the face model: two of the faces of its bank whose descriptors lie nearest to the turned vector are mixed, those nearest
in gender, age and tone first (`keep`). The attribute half is what the model keeps: expression, gaze, light, tone, what
lies over the face. Nothing else of the old face is left in the new one, so it cannot be turned back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from deidcli.errors import PresetError, UsageError
from deidcli.faces.face_model import Reading
from deidcli.methods.base import Method, Models, PresetMethod, PresetModels, Secret, crop_of, option
from deidcli.methods.identities import FAR, WINDOW, Candidates, IdentityMethod, PresetFaceModels, joined
from deidcli.presets import load_preset
from deidcli.values import Crop

if TYPE_CHECKING:
    from deidcli.networks.cleanir import Pair


SOFTNESS = 1.5 / 64  # standard deviation of the blur that an autoencoder leaves, as a share of the picture
TRAITS = ("gender", "age", "tone", "expression")
STEP = 30.0  # degrees that a face which is still recognised is turned further


class CleanirModels(PresetModels):
    """The preset that the options name, and its two networks."""

    method = "cleanir"

    @cached_property
    def network(self) -> Pair:
        from deidcli.networks.cleanir import load

        return load(self.preset)


class Cleanir(PresetMethod):
    """Equations 5 and 6 between the encoder and the decoder of a preset. Raises PresetError where that is damaged."""

    name = "cleanir"
    summary = "new identity from a variational autoencoder; keeps pose, expression, skin and light"
    reversible = True
    Models: ClassVar[type[Models]] = CleanirModels

    @dataclass(frozen=True)
    class Options:
        angle: float = option(120.0, "degrees by which the identity is turned: 0 keeps it, 180 is its opposite", 0, 180)
        vary: float = option(0.0, "draw the angle in secret, up to so many degrees below --angle", 0, 90)
        keep: str = option(",".join(TRAITS), f"what is not turned: some of {','.join(TRAITS)}, or none")
        glasses: str = option("keep", "thin glasses, by the preset cleanir-256", choices=("keep", "remove"))
        preset: str = option("cleanir-256", "name or folder of the weights")
        sharpen: float = option(
            0.4, "how far, at most, the softness of the preset cleanir-64 is countered; 0 leaves it", 0, 2
        )

    def __init__(self, options: Any = None, secret: Secret | None = None, models: CleanirModels | None = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)
        self.crop = crop_of(self.models.preset)
        self._kept = kept_traits(self.options.keep)
        known = self.models.preset.config.get("traits", [])
        if unknown := [name for name in self._kept if name not in known]:
            reason = f"preset {self.models.preset.name} does not know where {' and '.join(unknown)} lies"
            raise PresetError(reason, f"give --keep {','.join(known) or 'none'}, or train it on labels")

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method in the canonical frame where the preset names a face model."""
        options = options or cls.Options()
        in_frame = "model" in load_preset(options.preset, cls.name).config
        return (CanonicalCleanir if in_frame else cls)(options, secret)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        return self._rotated(crops, 1)

    def reverse(self, crops: Sequence[Crop], sense: int = -1) -> list[Crop]:
        return self._rotated(crops, sense)

    def _rotated(self, crops: Sequence[Crop], sense: int) -> list[Crop]:
        """The crops with their identities rotated by `sense` times the angle of their key, about the axis of it."""
        pictures = np.stack([crop.pixels for crop in crops])
        identity, attributes = self.models.network.encode(pictures)
        axes, angles = zip(*(self._draw(crop.key) for crop in crops), strict=True)
        turned = turn(identity, np.stack(axes), sense * np.array(angles), self._directions)
        made = zip(crops, self.models.network.decode(turned, attributes), strict=True)
        return [crop.with_pixels(sharpened(pixels, self.options.sharpen, crop.pixels)) for crop, pixels in made]

    def escalate(self, attempt: int) -> Method | None:
        """A larger angle; at 180 degrees, without `keep`."""
        options = self._stronger()
        return None if options is None else Cleanir(options, self.secret, self.models)

    def _stronger(self) -> Cleanir.Options | None:
        if self.options.angle < 180:
            return replace(self.options, angle=min(180.0, self.options.angle + STEP))
        if self._kept or self.options.vary:
            return replace(self.options, keep="none", vary=0.0)
        return None

    @cached_property
    def _directions(self) -> np.ndarray:
        """The directions (n, 512) that are kept."""
        from deidcli.networks.cleanir import together

        known = self.models.network.traits
        return together({name: known[name] for name in self._kept}, self.models.network.config.identity)

    def _draw(self, key: str) -> tuple[np.ndarray, float]:
        """z^r of Equation 5 for a track, a typical identity, and the angle; both from the run's secret."""
        spread, random = self.models.network.spread, self.secret.generator(key)
        axis = random.standard_normal(len(spread)) @ spread
        return axis, max(0.0, self.options.angle - self.options.vary * random.random())


def kept_traits(text: str) -> tuple[str, ...]:
    """The traits that --keep names. Raises UsageError."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() != "none" else ()
    for name in names:
        if name not in TRAITS:
            raise UsageError(f"--keep {text}: {name!r} is not known", f"give some of {','.join(TRAITS)}, or none")
    return names


def sharpened(pixels: np.ndarray, amount: float, old: np.ndarray) -> np.ndarray:
    """At most `amount` times the difference to a blurred copy on top of (h, w, 3) uint8.

    Not beyond where its skin has as much of that as `old`, a picture of the same size: a face in a soft or smooth
    picture stays soft. Only how much is taken from it, one number; nothing of the old face takes part.
    """
    if not amount:
        return pixels
    blurred, soft = (cv2.GaussianBlur(picture, (0, 0), SOFTNESS * len(picture)) for picture in (pixels, old))
    room = _grain(old, soft) / max(_grain(pixels, blurred), 1e-3) - 1
    amount = min(max(room, 0.0), amount)
    return cv2.addWeighted(pixels, 1 + amount, blurred, -amount, 0)


def _grain(pixels: np.ndarray, blurred: np.ndarray) -> float:
    """How much the skin of a crop differs from its blurred copy: the middle half's median, which no line decides."""
    height, width = (side // 4 for side in pixels.shape[:2])
    middle = np.s_[height:-height, width:-width]
    return float(np.median(np.abs(pixels[middle].astype(np.float32) - blurred[middle]).mean(axis=2)))


def turn(identity: np.ndarray, axis: np.ndarray, degrees: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`rotate` what is orthogonal to the directions `kept` (k, d), and leave the rest of the identity as it is.

    identity, axis: (n, d); degrees: (n,). Returns (n, d) of length 1. With no directions this is `rotate`. At least two
    directions have to be free.
    """
    start, axis = _unit(np.asarray(identity, np.float64)), np.asarray(axis, np.float64)
    basis = np.linalg.qr(np.asarray(kept, np.float64).T, mode="complete")[0]
    fixed, free = basis[:, : len(kept)], basis[:, len(kept) :]
    rest = start @ free
    length = np.linalg.norm(rest, axis=-1, keepdims=True)
    turned = rotate(rest, axis @ free, degrees)
    return (start @ fixed @ fixed.T + length * turned @ free.T).astype(np.float32)


def rotate(identity: np.ndarray, axis: np.ndarray, degrees: float | np.ndarray) -> np.ndarray:
    """Turn unit identities by an angle in the plane that `axis` opens with them (Equations 5 and 6).

    identity, axis: (n, d); degrees: one for all, or (n,). Returns (n, d) of length 1 at exactly `degrees` from the
    identity's direction. An axis that lies along the identity is replaced by the coordinate axis farthest from it.
    """
    start = _unit(np.asarray(identity, np.float64))
    across = _orthogonal(np.asarray(axis, np.float64), start)
    lost = np.linalg.norm(across, axis=-1) < 1e-6 * np.maximum(np.linalg.norm(axis, axis=-1), 1e-12)
    if lost.any():
        spare = np.eye(start.shape[-1])[np.abs(start[lost]).argmin(axis=-1)]
        across[lost] = _orthogonal(spare, start[lost])
    # Once more: after one projection the rounding that is left is not small beside a short remainder.
    across = _unit(_orthogonal(_unit(across), start))
    angle = np.broadcast_to(np.radians(degrees), start.shape[:1])[:, None]
    return _unit(start * np.cos(angle) + across * np.sin(angle)).astype(np.float32)


def _orthogonal(vectors: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return vectors - np.sum(vectors * unit, axis=-1, keepdims=True) * unit


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


MIXED = np.array([0.8, 0.6])  # weights of the two faces of the bank; their squares sum to 1
# What a squared deviation of gender, age and of each colour of the tone costs, in cosines of the turned identity.
COSTS = {"gender": (0.15,), "age": (0.10,), "tone": (0.03, 0.03, 0.03)}
# The same of a beard, where anything is kept: a shaven face on a bearded man looks grey about the mouth, and a beard on
# a shaven one is a patch.
BEARD = 0.05
# How many faces of the bank, the nearest to the turned identity, are mixed in pairs, and how many pairs may be tried.
FACES, PAIRS = 64, 4000
PASSED = 64  # of the nearest faces, which each level passes over
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
        self.soft = not level
        self._kept = kept_traits(self.options.keep)
        self.far = FAR if self.options.angle else 0.0
        self.glasses = self.options.glasses == "keep"
        self.alike = "gender" in self._kept

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """Pairs of the faces that lie nearest to the turned identity, the nearest pair first."""
        model, bank = self.models.model, self.models.bank
        random = self.secret.generator(key)
        axis = random.standard_normal(len(bank)) @ bank
        angle = max(0.0, self.options.angle - self.options.vary * random.random())
        identity = self.models.joined(old)[None]
        near = bank @ rotate(identity, axis[None], angle)[0]
        costs = np.concatenate([COSTS[name] if name in self._kept else np.zeros(len(COSTS[name])) for name in COSTS])
        near = near - model.apart(reading) @ np.append(costs, BEARD if self._kept else 0.0)
        faces = np.argsort(-near, kind="stable")[PASSED * self.level :][:FACES]
        first, second = (faces[place] for place in np.nonzero(~np.eye(len(faces), dtype=bool)))
        order = np.argsort(-(near[[first, second]].T @ MIXED), kind="stable")[:PAIRS]
        pairs = np.stack([first, second], axis=1)[order]
        texture, shape = model.mixtures(pairs, MIXED)
        return self.drawable(texture, shape, reading.kept)

    def escalate(self, attempt: int) -> Method | None:
        """A larger angle and other faces; at 180 degrees of what is kept the gender alone, and at last nothing."""
        options = self._stronger()
        if options and options.keep == "none" and "gender" in self._kept and len(self._kept) > 1:
            options = replace(options, keep="gender")
        if options is None:
            return None
        return self.remembering(CanonicalCleanir(options, self.secret, self.models, self.level + 1))
