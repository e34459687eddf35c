"""k-Same-M (Gross et al. 2006): surrogates out of a model of shape and texture, worn in the target's pose.

With `--gallery` the surrogates are those of a preset: averages of at least 50 people who are not in the pictures. Two
departures from the paper, where the surrogate has its own pose and expression: both are the target's here, and the
texture is put into the photograph at its own resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from deidcli.faces.embed import recogniser
from deidcli.faces.pose import CLOSED, mouth_gap
from deidcli.methods.base import Method, Secret, option
from deidcli.methods.fitted import Surrogate, crop_landmarks, fitted
from deidcli.methods.proxies import Gallery, mouth_mix
from deidcli.values import Crop, CropSpec, Face

# Gaps of the lips, as shares of the distance between the eyes, over which one mouth fades into the next.
STEPS = ((CLOSED, 0.075), (0.17, 0.22), (0.28, 0.4))
TRACKS = 4096  # tracks whose proxy is remembered, so that a video keeps it
STEADY = 4  # faces that are described at a time, always as many: the last bits depend on that number
VARIETY = 1.0  # deviations by which a proxy's shape is made another for each person


class KSameM(Method):
    """A proxy for each track, drawn among those that suit it. Raises PresetError where the preset is damaged."""

    name = "ksame-m"
    summary = "face of nobody, averaged from 50 or more people, in the target's pose and expression"
    crop = CropSpec(size=None, margin=0.25, mask="full", match_color=False)

    @dataclass(frozen=True)
    class Options:
        gallery: str = option("ksame-gallery", "name or folder of a preset of proxy faces")
        shape: float = option(0.3, "how much of a person's own face shape stays; 0: pose and expression alone", 0, 1)

    def __init__(self, options=None, secret: Secret | None = None):
        super().__init__(options, secret)
        self._gallery  # noqa: B018 - a damaged preset ends the run before it begins
        self._given: dict[str, tuple[int, np.ndarray]] = {}

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        unknown = [crop for crop in crops if crop.key not in self._given]
        for crop, descriptor in zip(unknown, self._described(unknown), strict=True):
            self._give(crop.key, descriptor)
        made = [fitted(self._worn(crop), crop) for crop in crops]
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]

    def escalate(self, attempt: int) -> Method | None:
        if not self.options.shape:
            return None
        further = KSameM(replace(self.options, shape=0.0), self.secret)
        further.__dict__.update(_gallery=self._gallery)
        return further

    @property
    def weights(self) -> str:
        return self._gallery.preset.checksum

    @cached_property
    def _gallery(self) -> Gallery:
        return Gallery.load(self.options.gallery)

    @cached_property
    def _recogniser(self):
        return recogniser("dlib")

    def _described(self, crops: Sequence[Crop]) -> np.ndarray:
        """dlib's descriptors (n, 128), the same for a crop in whatever company."""
        if not crops:
            return np.zeros((0, 128))
        chips = []
        for crop in crops:
            face = Face(crop.face.box, landmarks=crop_landmarks(crop).astype(np.float32))
            chips.append(self._recogniser.chips(crop.pixels, [face])[0])
        rows = []
        for start in range(0, len(chips), STEADY):
            part = chips[start : start + STEADY]
            rows.append(self._recogniser.embed(np.stack(part + part[-1:] * (STEADY - len(part))))[: len(part)])
        return np.concatenate(rows)

    def _give(self, key: str, descriptor: np.ndarray) -> None:
        rng = self.secret.generator(key)
        proxy = self._gallery.choose(descriptor, rng)
        numbers = VARIETY * rng.standard_normal(self._gallery.shapes.own.shape[1])
        while len(self._given) >= TRACKS:
            del self._given[next(iter(self._given))]
        self._given[key] = proxy, numbers

    def _worn(self, crop: Crop) -> list[tuple[float, Surrogate, np.ndarray]]:
        """(share, picture, its shape in the target's pose) of every picture that the target's mouth asks for."""
        proxy, numbers = self._given[crop.key]
        target = crop_landmarks(crop)
        worn = []
        for mouth, share in enumerate(mouth_mix(mouth_gap(target), STEPS)):
            if share > 0:
                points = self._gallery.landmarks[proxy, mouth]
                shape = self._gallery.shapes.posed(points, target, self.options.shape, numbers)
                worn.append((float(share), Surrogate(self._gallery.picture(proxy, mouth), points), shape))
        return worn
