"""k-Same-M (Gross et al. 2006): surrogates out of a model of shape and texture, in the target's pose.

Two methods under one name. With `--k` the surrogates are made of the pictures themselves, each of at least k people
(`KSameMClosed`). Without, they are the proxies of a preset: averages of people who are not in the pictures, 50 or more
in each (`KSameM`). Two departures from the paper, where a surrogate has its own pose and expression and the picture the
model's resolution: pose, expression and light are the target's, and so is the resolution. Of the target's shape no more
is taken than `render.pose_transfer` takes; its other points tell several recognisers who it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import SMILE, AttributeReader
from deidcli.faces.embed import Recogniser, recogniser
from deidcli.faces.pose import CLOSED, mouth_gap, upright
from deidcli.methods.base import Method, Models, Secret, option
from deidcli.methods.closed import ClosedSet
from deidcli.methods.ksame.proxies import METHOD, RECOGNISER, Gallery, ProxyAssignment, mouth_weights
from deidcli.methods.ksame.render import (
    MARGIN,
    SIDE,
    Posed,
    Surrogate,
    average_surrogate,
    can_pose,
    crop_landmarks,
    fit_open_mouth,
    fit_surrogate,
    pose_transfer,
)
from deidcli.presets import load_preset
from deidcli.values import Crop, CropSpec, Face

# Gaps of the lips, as shares of the distance between the eyes, over which one mouth fades into the next.
STEPS = ((CLOSED, 0.075), (0.17, 0.22), (0.28, 0.4))
STEP, FARTHEST = 0.1, 0.95  # how much farther a proxy is for a face that is still recognised, and no more than
VARIETY = 1.0  # standard deviations by which the shape of a proxy is varied for each person


class KSameMModels(Models):
    """The gallery of proxies, the recogniser that chooses among them, and the classifier of expressions."""

    @cached_property
    def gallery(self) -> Gallery:
        return Gallery.load(self.options.gallery)

    @cached_property
    def recogniser(self) -> Recogniser:
        return recogniser(RECOGNISER)

    @cached_property
    def reader(self) -> AttributeReader:
        return AttributeReader("expression")

    def expressions(self, crops: Sequence[Crop]) -> list[str]:
        """The expression of each crop."""
        return [str(read.expression) for read in self.reader.of_crops(crops)]

    def describe(self, crops: Sequence[Crop]) -> np.ndarray:
        """dlib's descriptors (n, 128), the same for a crop in whatever batch."""
        faces = [Face(crop.face.box, landmarks=crop_landmarks(crop).astype(np.float32)) for crop in crops]
        chips = [self.recogniser.chips(crop.pixels, [f])[0] for crop, f in zip(crops, faces, strict=True)]
        return self.recogniser.embed(np.stack(chips))

    def posed(
        self, crop: Crop, proxy: int, expression: str, numbers: np.ndarray | None = None, kept: float = 0.0
    ) -> list[Posed]:
        """Every picture of a proxy that the target's mouth asks for, in the target's pose.

        numbers: (d,) that vary the proxy's shape (`ShapeModel.varied`), None for the proxy's own. kept: share of the
        target's own shape, in [0, 1]. The closed mouth comes first for a face that does not smile, if with the share 0:
        teeth are seen in smiles only.
        """
        target, posed = crop_landmarks(crop), []
        for mouth, share in enumerate(mouth_weights(mouth_gap(target), STEPS)):
            if share > 0 or (mouth == 0 and expression != SMILE):
                points = self.gallery.landmarks[proxy, mouth]
                own = upright(points) if numbers is None else self.gallery.shapes.varied(points, numbers)
                shown = expression if mouth else _unsmiling(expression)
                shape = (1 - kept) * pose_transfer(own, target, moved=True, expression=shown) + kept * target
                posed.append(Posed(float(share), Surrogate(self.gallery.picture(proxy, mouth), points), shape))
        return posed


class KSameM(Method):
    """The open method: a proxy of the gallery for each track. Raises PresetError for a damaged preset.

    Proxies are of other people, so a face that is still recognised may get one that is farther away.
    """

    name = METHOD
    summary = (
        "averaged faces in the target's pose and expression: of other people, or with --k of k people of a closed set"
    )
    crop = CropSpec(size=None, margin=MARGIN, mask="high", transfer_lighting=False)
    Models = KSameMModels

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        k: int = option(0, "people who share a surrogate, at least; 0: no closed set, but faces of the gallery", 0)
        gallery: str = option("ksame-gallery", "name or folder of a preset of proxy faces")
        apart: float = option(0.75, "least distance of a proxy from its person, by dlib's recogniser", 0, 2)
        shape: float = option(0.0, "how much of a person's own face shape stays, beside pose and expression", 0, 1)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: KSameMModels | None = None):
        super().__init__(options, secret, models)
        if self.options.k:
            raise UsageError(f"--k {self.options.k} asks for a closed set", "make it with KSameM.create")
        self._assigned = ProxyAssignment(self.models.gallery)

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The closed set for --k, the gallery without it."""
        return KSameMClosed(options, secret) if options is not None and options.k else cls(options, secret)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        described, words = self.models.describe(crops), self.models.expressions(crops)
        assigned = [self._proxy(crop, row) for crop, row in zip(crops, described, strict=True)]
        made = [self._made(*row) for row in zip(crops, assigned, words, strict=True)]
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]

    def escalate(self, attempt: int) -> Method | None:
        """Proxies that are farther away, and nothing of the person's own shape."""
        if self.options.apart >= FARTHEST and not self.options.shape:
            return None
        further = max(self.options.apart, min(FARTHEST, self.options.apart + STEP))
        return KSameM(replace(self.options, apart=further, shape=0.0), self.secret, self.models)

    @property
    def weights(self) -> str:
        return _checksum(self.models)

    def marks(self, key: str) -> dict[str, Any]:
        return {"guarantee": "open"}

    def _proxy(self, crop: Crop, descriptor: np.ndarray) -> tuple[int, np.ndarray]:
        """The proxy of a face, and the numbers that vary its shape for this person."""
        rng = self.secret.generator(crop.key)
        numbers = VARIETY * rng.standard_normal((self.models.gallery.shapes.own.shape[1],))
        return self._assigned.proxy(crop.key, descriptor, self.options.apart, rng), numbers

    def _made(self, crop: Crop, assigned: tuple[int, np.ndarray], expression: str) -> np.ndarray:
        """The new pixels of a crop, of a proxy and the numbers that vary its shape."""
        proxy, numbers = assigned
        posed = self.models.posed(crop, proxy, expression, numbers, self.options.shape)
        return fit_surrogate(posed, crop) if expression == SMILE or len(posed) == 1 else fit_open_mouth(posed, crop)


class KSameMClosed(ClosedSet):
    """The closed set of Gross et al.: a surrogate for each group of k people. Raises PresetError, or UsageError."""

    name = KSameM.name
    summary = KSameM.summary
    listed = False
    crop = KSameM.crop
    stored = SIDE
    Options = KSameM.Options
    Models = KSameMModels

    def __init__(self, options: Any = None, secret: Secret | None = None, models: KSameMModels | None = None):
        super().__init__(options, secret, models)
        if self.options.k < 2:
            raise UsageError(f"--k {self.options.k} hides nobody", "give 2 or more, or 0 for faces of the gallery")
        if self.options.shape:
            raise UsageError("--shape tells the people of a group apart", "leave it out, or leave --k out")
        self.models.gallery  # noqa: B018 - a damaged preset ends the run before it begins

    @property
    def weights(self) -> str:
        return _checksum(self.models)

    def accepts(self, crop: Crop) -> bool:
        """Not a profile: no frontal face shows its side."""
        return can_pose(crop)

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> tuple[Surrogate, int]:
        """The average of the faces, and the proxy whose mouth it has inside."""
        centre = weights @ self.census.descriptors[faces]
        made = average_surrogate(self.census.pixels[faces], self.census.landmarks[faces], weights)
        return made, self.models.gallery.nearest(centre)[0]

    def render(self, surrogates: Sequence[Any], crops: Sequence[Crop]) -> list[np.ndarray]:
        words = self.models.expressions(crops)
        return [self._rendered(face, proxy, crop, word)
                for (face, proxy), crop, word in zip(surrogates, crops, words, strict=True)]  # fmt: skip

    def _rendered(self, surrogate: Surrogate, proxy: int, crop: Crop, expression: str) -> np.ndarray:
        target = crop_landmarks(crop)
        shape = pose_transfer(surrogate.landmarks, target, moved=True, expression=_unsmiling(expression))
        # What lies between the lips comes from a proxy: some of the people smile with open mouths and some do not.
        proxies = self.models.posed(crop, proxy, expression)
        inside = [replace(one, shape=shape) for one in proxies if one.share > 0]
        return fit_surrogate([Posed(1.0, surrogate, shape)], crop, inside, hollow=expression != SMILE)


def _checksum(models: KSameMModels) -> str:
    return f"{models.gallery.preset.checksum}+{load_preset('expression', 'classifier').checksum}"


def _unsmiling(expression: str) -> str:
    """The expression of points that do not smile by themselves: the corners of their mouth are to be moved."""
    return "" if expression == SMILE else expression
