"""Does the gallery show anybody? How many people a proxy is near to, and whether its own members are nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import align
from deidcli.faces.embed import recogniser
from deidcli.training.composites import Composite
from deidcli.training.data import Pack
from deidcli.training.gallery import MOUTHS, Proxy, alike
from deidcli.training.people import People
from deidcli.values import Box, CropSpec, Face, Frame

TINY = 32  # side of the crops whose pixels are compared


@dataclass(frozen=True)
class Check:
    """One proxy. people: in each picture. utk, val: share of all people within dlib's threshold of the nearest picture.

    dlib, pixels: for each picture how often a member lies nearer than one of like kind who is not in it.
    """

    name: str
    people: tuple[int, ...]
    utk: float
    val: float
    dlib: tuple[float, ...]
    pixels: tuple[float, ...]

    @property
    def line(self) -> str:
        counts = "/".join(map(str, self.people))
        shares = f"{self.utk:8.2%} {self.val:8.2%}"
        return f"{self.name:22} {counts:>12} {shares} {np.mean(self.dlib):9.3f} {np.mean(self.pixels):11.3f}"


def checks(proxies: Sequence[Proxy], described: np.ndarray, known: People, pack: Pack, strangers: Pack) -> list[Check]:
    """A check of each proxy. described: (n, m, 128). pack: crops of the known, strangers: people of other data."""
    tiny = {name: row for name, row in zip(pack.names.tolist(), _tiny(pack.crops), strict=True)}
    looks = np.stack([tiny[name] for name in known.names.tolist()])
    return [_check(p, d, known, looks, pack, strangers) for p, d in zip(proxies, described, strict=True)]


def summary(rows: Sequence[Check]) -> dict[str, float]:
    """Means and worst cases."""
    utk, val = [row.utk for row in rows], [row.val for row in rows]
    dlib, pixels = np.array([row.dlib for row in rows]), np.array([row.pixels for row in rows])
    said: dict[str, float] = {"fewest": min(min(row.people) for row in rows)}
    said |= {"utk_mean": float(np.mean(utk)), "utk_worst": max(utk)}
    said |= {"val_mean": float(np.mean(val)), "val_worst": max(val)}
    said |= {"dlib_mean": float(dlib.mean()), "dlib_worst": float(dlib.max())}
    said |= {"pixel_mean": float(pixels.mean()), "pixel_worst": float(pixels.max())}
    return {key: round(value, 4) for key, value in said.items()}


def _check(proxy: Proxy, described: np.ndarray, known: People, looks: np.ndarray, pack: Pack, strangers: Pack) -> Check:
    dlib, pixels = [], []
    # The wide open mouth is the open one but for its inside.
    for i, mouth in enumerate(MOUTHS.values()):
        face, row, names = proxy.faces[i], described[i], proxy.members[i]
        rows = alike(known, proxy.kind, mouth)
        inside = np.isin(known.names[rows], names)
        # Up to the least alike member: whoever comes later is of another age.
        rows, inside = rows[: inside.nonzero()[0].max() + 1], inside[: inside.nonzero()[0].max() + 1]
        apart = np.linalg.norm(known.descriptors[rows] - row, axis=1)
        dlib.append(nearer(apart[inside], apart[~inside]))
        apart = 1 - looks[rows] @ _tiny(_aligned(face)[None])[0]
        pixels.append(nearer(apart[inside], apart[~inside]))
    shares = [_within(described, other.descriptors) for other in (pack, strangers)]
    counts = tuple(face.people for face in proxy.faces)
    return Check(proxy.kind.name, counts, *shares, tuple(dlib), tuple(pixels))


def nearer(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often one of `inside` (n,) is smaller than one of `outside` (m,): the area under the ROC curve."""
    if not len(outside):
        return 0.5
    return float(np.mean(inside[:, None] < outside))


def _within(described: np.ndarray, descriptors: np.ndarray) -> float:
    apart = np.min([np.linalg.norm(descriptors - row, axis=1) for row in described], axis=0)
    return float(np.mean(apart <= recogniser("dlib").threshold))


def _aligned(face: Composite) -> np.ndarray:
    """A composite cut out as the crops of a pack are."""
    side = face.pixels.shape[0]
    found = Face(Box(0, 0, side, side), landmarks=face.landmarks)
    return align(Frame(face.pixels), found, CropSpec(128, 0.06)).pixels


def _tiny(crops: np.ndarray) -> np.ndarray:
    """Crops as unit vectors of their inner lightness, (n, TINY * TINY) float32, mean removed."""
    rows = []
    for crop in crops:
        edge = round(crop.shape[0] * 0.15)
        light = cv2.cvtColor(crop[edge:-edge, edge:-edge], cv2.COLOR_RGB2GRAY)
        row = cv2.resize(light, (TINY, TINY), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        rows.append((row - row.mean()) / max(float(np.linalg.norm(row - row.mean())), 1e-6))
    return np.stack(rows)
