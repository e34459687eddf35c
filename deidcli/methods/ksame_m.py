"""k-Same-M (Gross et al. 2006): surrogates out of a model of shape and texture, in the target's pose.

With `--k` the surrogates are made of the pictures themselves, each of at least k people (a closed set). Without, they
are the proxies of a preset: averages of people who are not in the pictures, 50 or more in each. Two departures from the
paper, where a surrogate has its own pose and expression and the picture the model's resolution: pose, expression and
light are the target's, and so is the resolution. Of the target's shape no more is taken than `mixes.turned` takes; its
other points tell several recognisers who it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import SMILE, AttributeReader
from deidcli.faces.embed import recogniser
from deidcli.faces.pose import CLOSED, mouth_gap, upright
from deidcli.methods.appearance import MARGIN, SIDE, averaged
from deidcli.methods.base import Method, Secret, option
from deidcli.methods.closed import ClosedSet
from deidcli.methods.fitted import Posed, Surrogate, can_pose, crop_landmarks, fitted, opened
from deidcli.methods.mixes import turned
from deidcli.methods.proxies import Gallery, Given, mouth_mix
from deidcli.presets import load_preset
from deidcli.values import Crop, CropSpec, Face

# Gaps of the lips, as shares of the distance between the eyes, over which one mouth fades into the next.
STEPS = ((CLOSED, 0.075), (0.17, 0.22), (0.28, 0.4))
STEP, FARTHEST = 0.1, 0.95  # how much farther a proxy is for a face that is still recognised, and no more than
VARIETY = 1.0  # deviations by which a proxy's shape is made another for each person


class KSameM(ClosedSet):
    """A surrogate for each group of k people, or a proxy for each track. Raises PresetError for a damaged preset."""

    name = "ksame-m"
    summary = "averaged faces in the target's pose and expression: of nobody, or with --k of k people of a closed set"
    crop = CropSpec(size=None, margin=MARGIN, mask="high", match_color=False)
    stored = SIDE

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        k: int = option(0, "people who share a surrogate, at least; 0: no closed set, but faces of the gallery", 0)
        gallery: str = option("ksame-gallery", "name or folder of a preset of proxy faces")
        apart: float = option(0.75, "least distance of a proxy from its person, by dlib's recogniser", 0, 2)
        shape: float = option(0.0, "how much of a person's own face shape stays, beside pose and expression", 0, 1)

    def __init__(self, options=None, secret: Secret | None = None):
        super().__init__(options, secret)
        if self.options.k == 1:
            raise UsageError("--k 1 hides nobody", "give 2 or more, or 0 for faces of the gallery")
        if self.options.k and self.options.shape:
            raise UsageError("--shape tells the people of a group apart", "leave it out, or leave --k out")
        # Proxies are of other people, so whoever is still recognised may get a stronger setting.
        self.closed, self.judged = bool(self.options.k), not self.options.k
        self._given = Given(self._gallery)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        if self.closed:
            return super().apply(crops)
        given = [self._proxy(crop, row) for crop, row in zip(crops, self._described(crops), strict=True)]
        made = [self._given_to(*row) for row in zip(crops, given, self._expressions(crops), strict=True)]
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]

    def escalate(self, attempt: int) -> Method | None:
        if self.closed or (self.options.apart >= FARTHEST and not self.options.shape):
            return None
        further = max(self.options.apart, min(FARTHEST, self.options.apart + STEP))
        return KSameM(replace(self.options, apart=further, shape=0.0), self.secret)

    @property
    def weights(self) -> str:
        return f"{self._gallery.preset.checksum}+{load_preset('expression', 'classifier').checksum}"

    def marks(self, key: str) -> dict[str, Any]:
        return super().marks(key) if self.closed else {"guarantee": self.guarantee}

    @property
    def guarantee(self) -> str:
        return super().guarantee if self.closed else "open"

    # --- the closed set

    def accepts(self, crop: Crop) -> bool:
        return can_pose(crop)

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> tuple[Surrogate, int]:
        """The average of the faces, and the proxy whose mouth it has inside."""
        centre = weights @ self.census.descriptors[faces]
        made = averaged(self.census.pixels[faces], self.census.landmarks[faces], weights)
        return made, self._gallery.nearest(centre)[0]

    def render(self, surrogates: Sequence[Any], crops: Sequence[Crop]) -> list[np.ndarray]:
        words = self._expressions(crops)
        return [self._rendered(*of, crop, word) for of, crop, word in zip(surrogates, crops, words, strict=True)]

    def _rendered(self, surrogate: Surrogate, proxy: int, crop: Crop, expression: str) -> np.ndarray:
        shape = turned(surrogate.landmarks, crop_landmarks(crop), moved=True, expression=_unsmiling(expression))
        # What lies between the lips comes from a proxy: some of the people smile with open mouths and some do not.
        proxies = self._posed(crop, proxy, None, expression)
        inside = [replace(one, shape=shape) for one in proxies if one.share > 0]
        return fitted([Posed(1.0, surrogate, shape)], crop, inside, hollow=expression != SMILE)

    # --- the gallery

    @cached_property
    def _gallery(self) -> Gallery:
        return Gallery.load(self.options.gallery)

    @cached_property
    def _recogniser(self):
        return recogniser("dlib")

    def _described(self, crops: Sequence[Crop]) -> np.ndarray:
        """dlib's descriptors (n, 128), the same for a crop in whatever company."""
        faces = [Face(crop.face.box, landmarks=crop_landmarks(crop).astype(np.float32)) for crop in crops]
        chips = [self._recogniser.chips(crop.pixels, [f])[0] for crop, f in zip(crops, faces, strict=True)]
        return self._recogniser.embed(np.stack(chips))

    def _proxy(self, crop: Crop, descriptor: np.ndarray) -> tuple[int, np.ndarray]:
        """The proxy of a face, and the numbers that make its shape the person's alone."""
        rng = self.secret.generator(crop.key)
        numbers = VARIETY * rng.standard_normal((self._gallery.shapes.own.shape[1],))
        return self._given.proxy(crop.key, descriptor, self.options.apart, rng), numbers

    def _given_to(self, crop: Crop, given: tuple[int, np.ndarray], expression: str) -> np.ndarray:
        """The new pixels of a crop, of a proxy and what makes its shape the person's."""
        posed = self._posed(crop, *given, expression)
        return fitted(posed, crop) if expression == SMILE or len(posed) == 1 else opened(posed, crop)

    def _posed(self, crop: Crop, proxy: int, numbers: np.ndarray | None, expression: str) -> list[Posed]:
        """Every picture of a proxy that the target's mouth asks for, in the target's pose.

        The closed mouth comes first for a face that does not smile, if with the share 0: teeth are seen in smiles only.
        """
        target, posed = crop_landmarks(crop), []
        for mouth, share in enumerate(mouth_mix(mouth_gap(target), STEPS)):
            if share > 0 or (mouth == 0 and expression != SMILE):
                points = self._gallery.landmarks[proxy, mouth]
                own = upright(points) if numbers is None else self._gallery.shapes.varied(points, numbers)
                shape = turned(own, target, moved=True, expression=expression if mouth else _unsmiling(expression))
                shape = (1 - self.options.shape) * shape + self.options.shape * target
                posed.append(Posed(float(share), Surrogate(self._gallery.picture(proxy, mouth), points), shape))
        return posed

    def _expressions(self, crops: Sequence[Crop]) -> list[str]:
        return [str(read.expression) for read in self._reader.of_crops(crops)]

    @cached_property
    def _reader(self) -> AttributeReader:
        return AttributeReader("expression")


def _unsmiling(expression: str) -> str:
    """The expression of points that do not smile by themselves: the corners of their mouth are to be moved."""
    return "" if expression == SMILE else expression
