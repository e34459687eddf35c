"""EPD-Net (Aggarwal et al. 2020): a network translates a face into one of somebody else with the same emotion.

With a preset that was trained on crops it is the paper's: G(x, z) of an aligned crop. With one that names a face model
it works in the canonical frame: the face model draws the texture of another identity, of like gender, age and tone, and
the generator, which sees both textures, changes that start into one that its adversary takes for a photograph's, with
the old face's emotion. Which identity, and the noise z, come from the run's secret and the face's key. The shape moves
with the identity (`--shape`), which the paper, on crops, cannot do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from deidcli.faces.canonical import SIZE
from deidcli.faces.face_model import FaceModel, Identity, Reading, unit
from deidcli.faces.regions import rim_distance
from deidcli.methods.base import Method, Models, PresetMethod, PresetModels, Secret, crop_of, option
from deidcli.methods.cleanir import joined
from deidcli.methods.identities import WINDOW, Candidates, IdentityMethod, PresetFaceModels
from deidcli.methods.new_face import Seen, draw, texture_of
from deidcli.presets import load_preset
from deidcli.values import Crop

if TYPE_CHECKING:
    from deidcli.networks.epd_net import Translator

MIXED = np.array([0.8, 0.6])  # weights of the two faces of the bank that make an identity; their squares sum to 1
# What squared deviations in gender, age, the three colours of the tone and a beard cost a face of the bank, and what
# the cosine costs between it and the old face, as recognisers see both: chances fall by the exponential of that.
COSTS, ALIKE = np.array([1.5, 1.0, 0.3, 0.3, 0.3, 0.5]), 25.0
DRAWN = 40  # identities that are drawn on each level
LEVELS = 2  # times that other identities are tried for a face that is still recognised
FARTHEST, STEP = 2.0, 0.1  # how far a shape goes at most, and how much further on each level


class EpdModels(PresetModels):
    """The preset that the options name, and its generator."""

    method = "epdnet"

    @cached_property
    def network(self) -> Translator:
        from deidcli.networks.epd_net import load

        return load(self.preset)


class Epdnet(PresetMethod):
    """G(x, z) of a preset for aligned crops. Raises PresetError where that is damaged."""

    name = "epdnet"
    summary = "a network translates the face into another person's with the same emotion (EPD-Net)"
    Models: ClassVar[type[Models]] = EpdModels

    @dataclass(frozen=True)
    class Options:
        shape: float = option(
            1.6, "how far the face's shape goes towards the new person's; 0: not at all, as in the paper", 0, FARTHEST
        )
        preset: str = option("epdnet-128", "name or folder of the weights")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: EpdModels | None = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)
        self.crop = crop_of(self.models.preset)

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method in the canonical frame where the preset names a face model."""
        options = options or cls.Options()
        in_frame = "model" in load_preset(options.preset, cls.name).config
        return (CanonicalEpdnet if in_frame else cls)(options, secret)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        network = self.models.network
        pictures = np.stack([crop.pixels for crop in crops]).astype(np.float32) / 255
        noise = np.stack([noise_of(self.secret, crop.key, network) for crop in crops])
        made = np.clip(network.translate(pictures, noise) * 255 + 0.5, 0, 255).astype(np.uint8)
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]


class CanonicalModels(PresetFaceModels, EpdModels):
    """The preset, its generator, the face model that it names, and the recognisers."""


class CanonicalEpdnet(IdentityMethod, Epdnet):
    """`epdnet` with a preset that names a face model. Raises MissingDependency without SFace's or the mesh's
    weights.
    """

    listed = False
    Models = CanonicalModels
    crop = WINDOW

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None, level: int = 0):
        """level: how often it was escalated, so that each level tries other identities."""
        IdentityMethod.__init__(self, options, secret, models)
        self.level, self.shape = level, self.options.shape

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """Identities of like gender, age and tone, drawn from the secret."""
        model, random, first = self.models.model, self.secret.generator(key), self.level * DRAWN
        pairs = np.stack(list(islice(drawn_faces(model, reading, old, random), first, first + DRAWN)))
        texture, shape = model.mixtures(pairs, MIXED)
        return self.drawable(texture, shape, reading.kept)

    def drawn(self, seen: Seen, identity: Identity) -> Crop:
        """The crop with the translated texture of an identity."""
        network = self.models.network
        start = texture_of(self.models.model, seen.reading, identity)
        pair = given(seen.reading.texture, start, network.config.size)
        noise = noise_of(self.secret, seen.crop.key, network)
        made = network.translate(pair[None], noise[None])[0]
        # The network's change alone is enlarged, so that the start keeps what it has at the frame's own resolution.
        change = cv2.resize((made - pair[..., 3:]) * within(len(pair)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        return draw(self.models.model, seen, identity, self.shape, start + change)

    def escalate(self, attempt: int) -> Method | None:
        """Other identities, with more of their shape."""
        if self.level == LEVELS or self.options.shape >= FARTHEST:
            return None
        options = replace(self.options, shape=min(FARTHEST, self.options.shape + STEP))
        return self.remembering(CanonicalEpdnet(options, self.secret, self.models, self.level + 1))


def noise_of(secret: Secret, key: str, network: Translator) -> np.ndarray:
    """z of a face, (network.config.noise,) in [0, 1), the same for the same secret and key."""
    return secret.generator(f"{key} z").random(network.config.noise, np.float32)


def given(face: np.ndarray, start: np.ndarray, size: int) -> np.ndarray:
    """The textures of a face and of its start, (256, 256, 3) each, as the generator sees them: (size, size, 6)."""
    small = cv2.resize(np.clip(np.dstack([face, start]), 0, 1), (size, size), interpolation=cv2.INTER_AREA)
    return small * within(size)


@cache
def within(size: int) -> np.ndarray:
    """(size, size, 1) float32: 1 within the rim of the face, 0 outside it, where textures show hair and background."""
    return cv2.resize((rim_distance() > 1).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)[..., None]


def drawn_faces(
    model: FaceModel, reading: Reading, old: Sequence[np.ndarray], random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Faces of the bank, (2,) int, to be mixed to an identity; more probably those of like gender, age and tone, of
    which recognisers say that they are not the old face. old: its descriptors (128,) by dlib and SFace.
    """
    known = joined(unit(old[0] - model.dlib_mean)[None], unit(old[1])[None])[0]
    cost = model.apart(reading) @ COSTS
    cost += ALIKE * joined(model.bank_dlib, model.bank_sface) @ known
    order = np.argsort(cost + random.gumbel(size=len(cost)), kind="stable")
    for start in range(0, len(order) - 1, len(MIXED)):
        yield order[start : start + len(MIXED)]
