"""The k-Same family (Newton et al. 2005, Gross et al. 2005 and 2006, Meden et al. 2018): k people share one face.

Here: on pixels, the mean of their aligned pictures.

- `ksame-pixel` (Newton et al. 2005): the mean of pixels, as in the paper. Nothing is matched but the eyes, nose and
  mouth of the aligned crops, so it is soft and shows ghosts of its members' hair and jaws. It keeps no expression.
- `ksame-eigen` (Newton et al. 2005): the mean in the space of principal components. They are fitted on the closed set
  itself, one picture a person, by scikit-learn's IncrementalPCA in batches, so that memory does not grow with the set;
  of more than SAMPLE people, as many evenly among them. Since a projection is linear, the surrogate is the projection
  of k-Same-Pixel's: what is lost is what the components do not reach, which takes away the ghosts of single members and
  more of the detail.
- `ksame-select` (Gross et al. 2005): groups only among people with the same values of chosen attributes; the surrogate
  is k-Same-Eigen's. Without a table of labels a classifier reads gender, age (one of three) or race off each person's
  typical face. A person has one value of each attribute, the one that most of their pictures have: with several, one
  person would have several surrogates, and k-anonymity would be lost. So an attribute that changes from picture to
  picture, as an expression does, is kept where a person has one picture, and is the most frequent one where there are
  more. People of values that fewer than k share are covered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import load_labels
from deidcli.methods.base import Census, Secret, option
from deidcli.methods.closed import READ, ClosedSet, Plan, attributes, group_people, too_few_people
from deidcli.presets import load_preset, sha256
from deidcli.values import Crop

SAMPLE = 2000  # people on whom components are fitted at most
BATCH = 200  # pictures in memory at once, never fewer than components


class KSamePixel(ClosedSet):
    """Means of pixels in sRGB."""

    name = "ksame-pixel"
    summary = "k people share the mean of their pictures; a closed set, with k-anonymity"

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        size: int = option(160, "side of the surrogate in pixels", 32, 512)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.at_size(self.options.size)

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8."""
        mean = np.zeros(self.census.pixels[faces[:1]].shape[1:])
        for face, weight in zip(faces, weights, strict=True):
            mean += weight * self.census.pixels[face]
        return np.clip(mean + 0.5, 0, 255).astype(np.uint8)

    def render(self, surrogates: Sequence[np.ndarray], crops: Sequence[Crop]) -> list[Crop]:
        return [crop.with_pixels(pixels.copy()) for crop, pixels in zip(crops, surrogates, strict=True)]


class KSameEigen(KSamePixel):
    """Means of coefficients."""

    name = "ksame-eigen"
    summary = "k people share the mean of their eigenface coefficients; a closed set, with k-anonymity"

    @dataclass(frozen=True)
    class Options(KSamePixel.Options):
        components: int = option(64, "eigenfaces, at most one less than there are people", 1, BATCH)

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


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Pictures (n, side, side, 3) uint8 as rows of numbers."""
    return pixels.reshape(len(pixels), -1).astype(np.float64)


class KSameSelect(KSameEigen):
    """Groups within attribute values of a table. Raises UsageError for a table that does not fit."""

    name = "ksame-select"
    summary = "ksame-eigen within groups of one attribute value, from a table of labels or a classifier"

    @dataclass(frozen=True)
    class Options(KSameEigen.Options):
        labels: str = option("", "CSV with a column image (the file below the input folder) and one for each "
                             "attribute; without, a classifier reads gender, age or race")  # fmt: skip
        select: str = option("gender", "attributes that a group has in common, with commas between, like gender,age")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self._wanted = [name.strip() for name in self.options.select.split(",") if name.strip()]
        if not self._wanted:
            raise UsageError("--select names nothing", "name attributes, like --select gender,age")
        unknown = [name for name in self._wanted if name not in READ]
        if unknown and not self.options.labels:
            raise UsageError(f"no classifier reads {unknown[0]}", f"give --labels FILE, or select of {', '.join(READ)}")
        table = Path(self.options.labels)
        self._labels = self._selected(load_labels(table)) if self.options.labels else None
        self._checksum = sha256(table) if self._labels is not None else load_preset("attributes", "classifier").checksum

    @property
    def weights(self) -> str:
        """The checksum of the table, or of the classifier: another one is another run."""
        return self._checksum

    def assign(self, census: Census) -> Plan:
        if census.count < self.options.k:
            raise too_few_people(census.count, self.options.k)
        group, kinds, centres = np.full(census.count, -1), list[int](), census.centres()
        values = attributes(census, self._wanted) if self._labels is None else self._values(census, self._labels)
        for number, value in enumerate(sorted(set(values))):
            same = np.flatnonzero([each == value for each in values])
            if len(same) >= self.options.k:
                group[same] = len(kinds) + group_people(centres[same], self.options.k)
                kinds += [number] * (int(group.max()) + 1 - len(kinds))
        if not kinds:
            reason = f"no value of {self.options.select} is shared by {self.options.k} people"
            raise UsageError(reason, "select fewer attributes, or give a smaller --k")
        return self.planned(census, group, np.array(kinds))

    def _values(self, census: Census, labels: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
        """The values of each person: of all their pictures' the most frequent, the first by the alphabet of equals."""
        seen: dict[int, Counter] = defaultdict(Counter)
        for key, person in zip(census.keys, census.people.tolist(), strict=True):
            name = key.rpartition("#")[0]
            if name not in labels:
                raise UsageError(f"{self.options.labels} has no row for {name}", "name files as they lie in the input")
            seen[person][labels[name]] += 1
        return [min(seen[p].items(), key=lambda item: (-item[1], item[0]))[0] for p in range(census.count)]

    def _selected(self, table: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
        """The values of the selected attributes for each image. Raises UsageError."""
        missing = [name for name in self._wanted if name not in table]
        if missing:
            raise UsageError(f"{self.options.labels} has no column {missing[0]}", f"it has {', '.join(table)}")
        columns = [table[name] for name in self._wanted]
        return {image: tuple(column[image] for column in columns) for image in columns[0]}
