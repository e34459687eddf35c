"""Does the gallery show anybody? How many people a proxy is near to, and whether its own members are nearer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import align
from deidcli.faces.embed import Recogniser, recogniser
from deidcli.networks.dlib_chips import extract_chips
from deidcli.training.composites import Composite
from deidcli.training.data import Pack
from deidcli.training.gallery import MOUTHS, Kind, Proxy, alike
from deidcli.training.people import People
from deidcli.values import Box, CropSpec, Face, Frame

TINY = 32  # side of the crops whose pixels are compared


@dataclass(frozen=True)
class Watch:
    """Looks for signs of the people in a picture.

    seen: what each of `known` is told by, (n, d) each by its name: dlib's descriptors, SFace's, and the pixels of
    aligned crops.
    """

    known: People
    seen: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, known: People, pack: Pack) -> Watch:
        """pack: crops of the known. Raises MissingDependency without SFace's weights."""
        row = {name: number for number, name in enumerate(pack.names.tolist())}
        rows = [row[name] for name in known.names.tolist()]
        if pack.landmarks is None:
            raise UsageError("the pack has no landmarks", "pack again with `deid align --pack`")
        sface = [_sface(pack.crops[i], pack.landmarks[i]) for i in rows]
        return cls(known, {"dlib": known.descriptors, "sface": np.array(sface), "pixels": _tiny(pack.crops[rows])})

    def signs(self, face: Composite, kind: Kind, mouth: tuple[float, float], rows: np.ndarray) -> dict[str, float]:
        """How often one of `rows` lies nearer to a picture than somebody alike who is not in it, by each of `seen`."""
        like = alike(self.known, kind, mouth)
        inside = np.isin(like, rows)
        # Up to the least alike member: whoever comes later is of another age.
        like, inside = like[: inside.nonzero()[0].max() + 1], inside[: inside.nonzero()[0].max() + 1]
        own = {
            "dlib": describe([face])[0],
            "sface": _sface(face.pixels, face.landmarks),
            "pixels": _tiny(_aligned(face)[None])[0],
        }
        apart = {name: np.linalg.norm(self.seen[name][like] - row, axis=1) for name, row in own.items()}
        return {name: nearer(found[inside], found[~inside]) for name, found in apart.items()}

    def worst(self, face: Composite, kind: Kind, mouth: tuple[float, float], rows: np.ndarray) -> float:
        """The strongest of `signs`."""
        return max(self.signs(face, kind, mouth, rows).values())


@dataclass(frozen=True)
class Check:
    """One proxy. people: in each picture. utk, val: share of all people within dlib's threshold of the nearest picture.

    signs: the strongest of its pictures, by each of Watch.seen.
    """

    name: str
    people: tuple[int, ...]
    utk: float
    val: float
    signs: Mapping[str, float]

    @property
    def line(self) -> str:
        counts = "/".join(map(str, self.people))
        signs = " ".join(f"{sign:6.3f}" for sign in self.signs.values())
        return f"{self.name:22} {counts:>12} {self.utk:8.2%} {self.val:8.2%} {signs}"


def checks(proxies: Sequence[Proxy], described: np.ndarray, watch: Watch, pack: Pack, strangers: Pack) -> list[Check]:
    """A check of each proxy. described: (n, m, 128). pack: crops of the known, strangers: people of other data."""
    return [_check(proxy, rows, watch, pack, strangers) for proxy, rows in zip(proxies, described, strict=True)]


def summary(rows: Sequence[Check]) -> dict[str, float]:
    """Means and worst cases."""
    utk, val = [row.utk for row in rows], [row.val for row in rows]
    said: dict[str, float] = {"fewest": min(min(row.people) for row in rows)}
    said |= {"utk_mean": float(np.mean(utk)), "utk_worst": max(utk)}
    said |= {"val_mean": float(np.mean(val)), "val_worst": max(val)}
    for name in rows[0].signs:
        signs = [row.signs[name] for row in rows]
        said |= {f"{name}_mean": float(np.mean(signs)), f"{name}_worst": max(signs)}
    return {key: round(value, 4) for key, value in said.items()}


def describe(faces: Sequence[Composite]) -> np.ndarray:
    """dlib's descriptors (n, 128) of composites."""
    return recogniser("dlib").embed(np.concatenate([extract_chips(f.pixels, [f.landmarks]) for f in faces]))


def _check(proxy: Proxy, described: np.ndarray, watch: Watch, pack: Pack, strangers: Pack) -> Check:
    row = {name: i for i, name in enumerate(watch.known.names.tolist())}
    # The wide open mouth is the open one but for its inside.
    found = [
        watch.signs(face, proxy.kind, mouth, np.array([row[name] for name in members]))
        for face, mouth, members in zip(proxy.faces, MOUTHS.values(), proxy.members, strict=False)
    ]
    shares = [_within(described, other.descriptors) for other in (pack, strangers)]
    counts = tuple(face.people for face in proxy.faces)
    return Check(proxy.kind.name, counts, *shares, {name: max(each[name] for each in found) for name in found[0]})


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


def _sface(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """SFace's descriptor of a face, of unit length: (128,)."""
    judge, side = _judge(), pixels.shape[0]
    row = judge.embed(judge.chips(pixels, [Face(Box(0, 0, side, side), landmarks=landmarks)]))[0]
    return row / max(float(np.linalg.norm(row)), 1e-6)


@cache
def _judge() -> Recogniser:
    return recogniser("sface")


def _tiny(crops: np.ndarray) -> np.ndarray:
    """Crops as unit vectors of their inner lightness, (n, TINY * TINY) float32, mean removed."""
    rows = []
    for crop in crops:
        edge = round(crop.shape[0] * 0.15)
        light = cv2.cvtColor(crop[edge:-edge, edge:-edge], cv2.COLOR_RGB2GRAY)
        row = cv2.resize(light, (TINY, TINY), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        rows.append((row - row.mean()) / max(float(np.linalg.norm(row - row.mean())), 1e-6))
    return np.stack(rows)
