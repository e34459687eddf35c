"""k-Same-Eigen (Newton et al. 2005): the surrogate is the mean of its members in the space of principal components.

The components are fitted on the closed set itself, one picture a person, by scikit-learn's IncrementalPCA in batches,
so that memory does not grow with the set; of more than SAMPLE people, as many evenly among them. Since a projection is
linear, the surrogate is the projection of k-Same-Pixel's: what is lost is what the components do not reach, which takes
away the ghosts of single members and more of the detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deidcli.methods.base import Census, Secret, option
from deidcli.methods.closed import ClosedSet
from deidcli.values import Crop

SAMPLE = 2000  # people on whom components are fitted at most
BATCH = 200  # pictures in memory at once, never fewer than components


class KSameEigen(ClosedSet):
    """Means of coefficients."""

    name = "ksame-eigen"
    summary = "k people share the mean of their eigenface coefficients; a closed set, with k-anonymity"

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        size: int = option(160, "side of the surrogate in pixels", 32, 512)
        components: int = option(64, "eigenfaces, at most one less than there are people", 1, BATCH)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.at_size(self.options.size)

    def learn(self, census: Census) -> None:
        faces = census.typical()
        faces = faces[np.unique(np.linspace(0, len(faces) - 1, min(len(faces), SAMPLE)).astype(int))]
        count = min(self.options.components, max(1, len(faces) - 1))
        from sklearn.decomposition import IncrementalPCA

        model = IncrementalPCA(n_components=count)
        for batch in np.array_split(faces, max(1, len(faces) // BATCH)):
            model.partial_fit(_flat(census.pixels[batch]))
        self._mean, self._components = model.mean_, model.components_

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8."""
        rows = np.stack([_flat(self.census.pixels[face][None])[0] for face in faces])
        coefficients = weights @ ((rows - self._mean) @ self._components.T)
        flat = self._mean + coefficients @ self._components
        side = self.options.size
        return np.clip(flat.reshape(side, side, 3) + 0.5, 0, 255).astype(np.uint8)

    def render(self, surrogates: Sequence[np.ndarray], crops: Sequence[Crop]) -> list[Crop]:
        return [crop.with_pixels(pixels.copy()) for crop, pixels in zip(crops, surrogates, strict=True)]


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Pictures (n, side, side, 3) uint8 as rows of numbers."""
    return pixels.reshape(len(pixels), -1).astype(np.float64)
