"""k-Same-M (Gross et al. 2006): surrogates out of a model of shape and texture.

Two methods under one name. With `--k` the surrogates are made of the pictures themselves, each of at least k people
(`KSameMClosed`). Without, they are proxies: means of PROXY faces of nobody, out of the bank of the face model
(`KSameM`). Two departures from the paper, where a surrogate has its own pose and expression and the picture the model's
resolution: pose, expression, light and resolution are the target's, as in every method in the canonical frame.

The bank of the face model is the proxy set: synthetic faces of nobody. An active appearance model averages coefficients
of shape and texture, and so does this. A mean of k is shorter than single faces, by up to the square root of k, and
looks smooth and like everybody: so its coefficients are scaled to the length of a single face's. Its direction stays
that of the mean, and k faces, or people, are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.face_model import FaceModel, Reading, deviations
from deidcli.methods.base import Method, Secret, option
from deidcli.methods.closed import ClosedSet
from deidcli.methods.identities import FAR, WINDOW, Candidates, FaceModels, IdentityMethod, joined
from deidcli.methods.new_face import LEAST_REPLACED, Seen, draw, read, share_replaced
from deidcli.values import Crop

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

    def mean(self, faces: np.ndarray, weights: np.ndarray) -> MeanFace:
        """The mean of `faces` (k,) by weights (k,) that sum to 1, its texture TEXTURE times as long as one's."""
        traits = weights @ self.kept[faces, :2]
        made = self.lengthened(weights @ self.texture[faces], weights @ self.shape[faces], traits)
        return replace(made, texture=TEXTURE * made.texture)

    def lengthened(self, texture: np.ndarray, shape: np.ndarray, traits: np.ndarray) -> MeanFace:
        """Mean coefficients (n,) and (m,) at the length of a single face's."""
        long, wide = (goal / max(float(np.linalg.norm(x)), 1e-9)
                      for goal, x in zip(self._lengths, (texture, shape), strict=True))  # fmt: skip
        return MeanFace(texture * long, shape * wide, np.asarray(traits, np.float32))

    def suiting(self, kept: np.ndarray, count: int) -> np.ndarray:
        """The `count` faces that are most like in gender, age and tone to what is kept of a face (5,)."""
        return np.argsort(deviations(self.kept, kept) @ COSTS, kind="stable")[:count]

    def like(self, first: int, able: np.ndarray, count: int) -> np.ndarray:
        """The `count` faces out of `able` (n,) whose descriptors are most like that of the face `first`, which is one.

        The mean of faces that have nothing in common would be the mean of all.
        """
        return able[np.argsort(-(self.described[able] @ self.described[first]), kind="stable")[:count]]


class ProxyModels(FaceModels):
    """The face model whose bank is the gallery, and both recognisers."""

    @property
    def model_name(self) -> str:
        return self.options.gallery

    @cached_property
    def proxies(self) -> Proxies:
        return Proxies(self.model)


PROXY = 10  # faces of the bank in a proxy
SUITING = 140  # faces of the bank, the most like in gender, age and tone, of which proxies are made
LIKE = 2  # the other faces of a proxy are drawn among so many times as many that are most like its first one
DRAWN = 40  # proxies that are drawn for a person on each level
STEP, FARTHEST = 0.1, FAR + 0.2  # how much farther a proxy is for a face that is still recognised, and no more than


class KSameM(IdentityMethod):
    """The open method: a proxy for each track. Raises PresetError for a damaged preset, MissingDependency without the
    mesh's or SFace's weights.

    Proxies are of nobody in the pictures, so a face that is still recognised may get one that is farther away.
    """

    name = "ksame-m"
    summary = "averaged faces in the target's pose and expression: of nobody, or with --k of k people of a closed set"
    Models = ProxyModels

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        k: int = option(0, "people who share a surrogate, at least; 0: no closed set, but faces of the gallery", 0)
        gallery: str = option("face-256", "name or folder of a face model, whose bank the proxies are made of")
        apart: float = option(
            FAR, "how far a new face is from the old one, in thresholds of dlib; .1 more by SFace", 0, 2
        )
        shape: float = option(0.0, "how much of a person's own face shape stays, beside pose and expression", 0, 1)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None, level: int = 0):
        """level: how often it was escalated, so that each level tries other proxies."""
        super().__init__(options, secret, models)
        if self.options.k:
            raise UsageError(f"--k {self.options.k} asks for a closed set", "make it with KSameM.create")
        self.level, self.far, self.shape = level, self.options.apart, SHAPE * (1 - self.options.shape)

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The closed set for --k, the gallery without it."""
        return KSameMClosed(options, secret) if options is not None and options.k else cls(options, secret)

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """Proxies about faces that are drawn among those which suit the person."""
        proxies, random = self.models.proxies, self.secret.generator(f"{key} {self.level}" if self.level else key)
        able = proxies.suiting(reading.kept, SUITING)
        near = [proxies.like(first, able, LIKE * PROXY) for first in random.choice(able, DRAWN, replace=False)]
        drawn = [np.append(like[0], random.choice(like[1:], PROXY - 1, replace=False)) for like in near]
        weights = np.full(PROXY, 1 / PROXY)
        means = [proxies.mean(faces, weights) for faces in drawn]
        texture, shape = np.stack([mean.texture for mean in means]), np.stack([mean.shape for mean in means])
        return self.drawable(texture, shape, reading.kept)

    def escalate(self, attempt: int) -> Method | None:
        """Proxies that are farther away, and nothing of the person's own shape."""
        if self.options.apart >= FARTHEST and not self.options.shape:
            return None
        further = max(self.options.apart, min(FARTHEST, self.options.apart + STEP))
        options = replace(self.options, apart=further, shape=0.0)
        return self.remembering(KSameM(options, self.secret, self.models, self.level + 1))

    @property
    def weights(self) -> str:
        return self.models.model_preset.checksum

    def marks(self, key: str) -> dict[str, Any]:
        return {"guarantee": "open"}


class CanonicalClosedSet(ClosedSet):
    """A closed set whose surrogates are identities of the face model. Raises PresetError, or MissingDependency.

    A surrogate is the same for all who get it. Its shape goes all the way to the surrogate's, and not beyond as
    `cleanir`'s does, so that what is seen of it does not hang on the shape of whom it covers.
    """

    Models = ProxyModels
    crop = WINDOW
    stored = 256

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)  # a damaged preset ends the run before it begins

    @property
    def weights(self) -> str:
        return self.models.model_preset.checksum

    def accepts(self, crop: Crop) -> bool:
        """Whether enough of the face is seen for a new one to lie over it: a covered face does not count for k."""
        model = self.models.model
        return share_replaced(read(model, crop, model.dlib_mean)) >= LEAST_REPLACED  # whose face it is does not matter

    def render(self, surrogates: Sequence[MeanFace], crops: Sequence[Crop]) -> list[Crop]:
        return [self.worn(one, self.models.read(crop)) for one, crop in zip(surrogates, crops, strict=True)]

    def worn(self, face: MeanFace, seen: Seen) -> Crop:
        """The crop with a surrogate on the face that was seen in it."""
        model = self.models.model
        return draw(model, seen, model.drawn(face.texture, SHAPE * face.shape, face.traits), 1.0)


class KSameMClosed(CanonicalClosedSet):
    """The closed set of Gross et al.: the mean of its members' coefficients for each group of k people.

    Raises UsageError for settings under which members could be identified.
    """

    name = KSameM.name
    summary = KSameM.summary
    listed = False
    Options = KSameM.Options  # type: ignore[assignment]

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        if self.options.k < 2:
            raise UsageError(f"--k {self.options.k} hides nobody", "give 2 or more, or 0 for faces of the gallery")
        if self.options.shape:
            raise UsageError("--shape tells the people of a group apart", "leave it out, or leave --k out")

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> MeanFace:
        """The mean of the faces, at the length of a single one."""
        model = self.models.model
        described = zip(self.census.crops(faces), self.census.descriptors[faces], strict=True)
        readings = [read(model, crop, descriptor).reading for crop, descriptor in described]
        texture, shape = (weights @ np.stack(x) for x in zip(*map(model.coefficients, readings), strict=True))
        return self.models.proxies.lengthened(texture, shape, weights @ np.stack([r.kept[:2] for r in readings]))
