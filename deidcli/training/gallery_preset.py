"""The gallery's preset: pictures, landmarks, descriptors, the probe and the shape model, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import align
from deidcli.faces.embed import Recogniser, recogniser
from deidcli.faces.pose import ShapeModel
from deidcli.methods.ksame.proxies import METHOD, RECOGNISER, Probe
from deidcli.networks.dlib_chips import extract_chips
from deidcli.presets import Preset, save_preset
from deidcli.training.composites import Composite
from deidcli.training.data import Pack, load_pack
from deidcli.training.gallery import DRAWS, KINDS, MOUTHS, SIDE, Kind, Proxy, alike, build
from deidcli.training.people import People, people
from deidcli.values import Box, CropSpec, Face, Frame

QUALITY = 90  # of WebP


@dataclass(frozen=True)
class Sources:
    """What a gallery is made of.

    data: pack of labelled faces, whose descriptors are used. faces: the list of `deid detect` of the same files.
    pictures: the folder they lie in. people: pack of people who are seen several times, for the shapes. val: pack of
    people who are in none of them.
    """

    data: Path
    faces: Path
    pictures: Path
    people: Path
    val: Path


def make(sources: Sources, out: Path, seed: int = 1, said: Callable[[str], None] = lambda text: None) -> Preset:
    """Build the gallery, check it and write the preset `out`. Raises UsageError for sources that do not fit."""
    pack, strangers = load_pack(sources.data), load_pack(sources.val)
    shapes = shape_model(load_pack(sources.people))
    known = people(pack, sources.faces, sources.pictures)
    said(f"{len(known)} faces, {int(known.good.sum())} of them fit to be averaged")
    membership = MembershipCheck.of(known, pack)
    proxies = build(known, sources.pictures, KINDS, seed, said, membership.worst)
    described = np.stack([describe(proxy.faces) for proxy in proxies])
    rows = checks(proxies, described, membership, pack, strangers)
    probe = Probe.of(known.descriptors, known.gender, known.age, known.race)
    return write(out, proxies, described, traits(proxies, known, probe), probe, shapes, rows, seed)


def shape_model(pack: Pack) -> ShapeModel:
    """How landmarks differ within and between people whose names are the folders of a pack."""
    if pack.landmarks is None or np.isnan(pack.landmarks).any():
        raise UsageError("the pack of --people has no landmarks", "pack again with `deid align --pack`")
    return ShapeModel.of(pack.landmarks, np.array([name.split("/")[0] for name in pack.names]))


def traits(proxies: Sequence[Proxy], known: People, probe: Probe) -> np.ndarray:
    """What the probe says on average of the people in each proxy, mouths that are closed or show teeth: (n, 7)."""
    row = {name: i for i, name in enumerate(known.names.tolist())}
    members = [[row[name] for part in proxy.members[:2] for name in part.tolist()] for proxy in proxies]
    return np.stack([probe(known.descriptors[rows]).mean(axis=0) for rows in members])


def write(
    out: Path,
    proxies: Sequence[Proxy],
    described: np.ndarray,
    traits: np.ndarray,
    probe: Probe,
    shapes: ShapeModel,
    rows: Sequence[Check],
    seed: int,
) -> Preset:
    """Write the preset; what the folder held before under other names stays."""  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for proxy in proxies:
        sheet = np.hstack([face.pixels for face in proxy.faces])
        done, data = cv2.imencode(".webp", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
        if not done:
            raise UsageError("this OpenCV writes no WebP", "install opencv-python-headless")
        (out / f"{proxy.kind.name}.webp").write_bytes(data.tobytes())
    names = [proxy.kind.name for proxy in proxies]
    np.savez_compressed(
        out / "gallery.npz",
        names=np.array(names),
        traits=traits.astype(np.float32),
        descriptors=described.astype(np.float32),
        landmarks=np.stack([[face.landmarks for face in proxy.faces] for proxy in proxies]).astype(np.float32),
        probe=probe.weights,
        own=shapes.own,
    )
    counts = {p.kind.name: [face.people for face in p.faces] for p in proxies}
    figures = summary(rows)
    config = {"method": METHOD, "side": SIDE, "mouths": [*MOUTHS, "wide"], "people": counts, "seed": seed}
    config["figures"] = figures
    files = ["gallery.npz", *(f"{name}.webp" for name in names)]
    return save_preset(out, config, files, card(rows, figures))


def card(rows: Sequence[Check], figures: dict) -> str:
    """The preset's card.md."""
    head = f"    {'proxy':22} {'people':>12} {'UTKFace':>8} {'LFW val':>8}   dlib  SFace pixels\n"
    table = head + "".join(f"    {row.line}\n" for row in rows)
    return CARD.format(**figures, count=len(rows), draws=DRAWS, table=table)


CARD = """\
# ksame-gallery

{count} proxy identities without a real person behind them, for `deid anonymize --method ksame-m`. Each is the
shape-free average of people of like age, gender and race, every second one mirrored; {fewest} or more are in each
picture. A proxy has four: mouth closed, teeth seen, open, and wide open, which is the open one with the inside of the
mouth of people of all kinds.

## Data

UTKFace, licensed for non-commercial research, and so is this gallery. It names nobody; of crops within 0.36 of each
other by dlib's descriptor, which may show one person, one is used. Who is averaged is drawn at random among those who
are alike by label; closed mouths are those of calm faces and the others those of smiles, as the preset `expression`
reads them. A picture whose members lie nearer to it than others is drawn again, {draws} times at most. The shape
model (how people differ in shape) is learnt from the landmarks of the `train` people of LFW; the probe (gender, age,
race of a descriptor) from UTKFace's labels. Race and gender are UTKFace's labels, given by its makers and not by the
people themselves.

## Figures

Written with the preset by

    deid detect --detector hog --upsample 0 --no-lift utkface/images > utk.jsonl
    deid align --pack --largest --size 128 --faces utk.jsonl utkface/images utk.npz
    deid detect --detector hog --upsample 0 --no-lift lfw/images > lfw.jsonl
    deid align --pack --largest --size 128 --only lfw/people.csv --split train --faces lfw.jsonl lfw/images train.npz
    deid align --pack --largest --size 128 --only lfw/people.csv --split val --faces lfw.jsonl lfw/images val.npz
    deid train ksame-gallery --data utk.npz --faces utk.jsonl --pictures utkface/images --people train.npz \\
        --val val.npz --out models/ksame-gallery

Share of people within 0.6 of a proxy by dlib's descriptor, the nearest of its four pictures: of UTKFace
{utk_mean:.2%} on average and {utk_worst:.1%} at most, of LFW's `val` people {val_mean:.2%} and {val_worst:.1%}. dlib
tells young children and Asian women apart badly, and their averages lie near many of them.

Whether a picture gives away who is in it: how often a member lies nearer to it than somebody of like age, gender, race
and mouth who is not in it (0.5: no sign of it). The strongest sign of a proxy's pictures, on average over the proxies
and at most: {dlib_mean:.3f} and {dlib_worst:.3f} by dlib's descriptor, {sface_mean:.3f} and {sface_worst:.3f} by
SFace's, {pixels_mean:.3f} and {pixels_worst:.3f} by the pixels of aligned crops.

{table}
People: in each of the four pictures. dlib, SFace, pixels: the strongest sign of the first three.

## Limits

- Faces look ahead; turned heads are made by bending them, and profiles not at all.
- Averages are smooth-skinned and regular: no moles, scars, glasses or full beards. Open mouths of the old, of children
  and of some races are averaged over neighbouring ages and other races, at the proxy's own tone.
- The probe is wrong on gender for 3 % of adults of UTKFace and more often for children; whoever is misjudged gets a
  proxy that does not suit.
"""


# --- Does the gallery give anybody away? How many people a proxy is near to, and whether its members are nearer

TINY = 32  # side of the crops whose pixels are compared


@dataclass(frozen=True)
class MembershipCheck:
    """Membership inference: whether a picture gives away who was averaged in it.

    seen: what each of `known` is told by, (n, d) each by its name: dlib's descriptors, SFace's, and the pixels of
    aligned crops.
    """

    known: People
    seen: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, known: People, pack: Pack) -> MembershipCheck:
        """pack: crops of the known. Raises MissingDependency without SFace's weights."""
        row = {name: number for number, name in enumerate(pack.names.tolist())}
        rows = [row[name] for name in known.names.tolist()]
        if pack.landmarks is None:
            raise UsageError("the pack has no landmarks", "pack again with `deid align --pack`")
        sface = [_sface(pack.crops[i], pack.landmarks[i]) for i in rows]
        return cls(known, {"dlib": known.descriptors, "sface": np.array(sface), "pixels": _tiny(pack.crops[rows])})

    def membership_auc(
        self, face: Composite, kind: Kind, mouth: tuple[float, float], rows: np.ndarray
    ) -> dict[str, float]:
        """The membership AUC of `rows` by each of `seen`: how often one of them is nearer to the picture than others
        are.
        """
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
        """The largest of `membership_auc`."""
        return max(self.membership_auc(face, kind, mouth, rows).values())


@dataclass(frozen=True)
class Check:
    """One proxy. people: in each picture. utk, val: share of all people within dlib's threshold of the nearest picture.

    membership_auc: the largest of its pictures, by each of MembershipCheck.seen.
    """

    name: str
    people: tuple[int, ...]
    utk: float
    val: float
    membership_auc: Mapping[str, float]

    @property
    def line(self) -> str:
        counts = "/".join(map(str, self.people))
        membership_auc = " ".join(f"{auc:6.3f}" for auc in self.membership_auc.values())
        return f"{self.name:22} {counts:>12} {self.utk:8.2%} {self.val:8.2%} {membership_auc}"


def checks(
    proxies: Sequence[Proxy], described: np.ndarray, membership: MembershipCheck, pack: Pack, strangers: Pack
) -> list[Check]:
    """A check of each proxy. described: (n, m, 128). pack: crops of the known, strangers: people of other data."""
    return [_check(proxy, rows, membership, pack, strangers) for proxy, rows in zip(proxies, described, strict=True)]


def summary(rows: Sequence[Check]) -> dict[str, float]:
    """Means and worst cases."""
    utk, val = [row.utk for row in rows], [row.val for row in rows]
    said: dict[str, float] = {"fewest": min(min(row.people) for row in rows)}
    said |= {"utk_mean": float(np.mean(utk)), "utk_worst": max(utk)}
    said |= {"val_mean": float(np.mean(val)), "val_worst": max(val)}
    for name in rows[0].membership_auc:
        membership_auc = [row.membership_auc[name] for row in rows]
        said |= {f"{name}_mean": float(np.mean(membership_auc)), f"{name}_worst": max(membership_auc)}
    return {key: round(value, 4) for key, value in said.items()}


def describe(faces: Sequence[Composite]) -> np.ndarray:
    """dlib's descriptors (n, 128) of composites."""
    return recogniser(RECOGNISER).embed(np.concatenate([extract_chips(f.pixels, [f.landmarks]) for f in faces]))


def _check(proxy: Proxy, described: np.ndarray, membership: MembershipCheck, pack: Pack, strangers: Pack) -> Check:
    row = {name: i for i, name in enumerate(membership.known.names.tolist())}
    # The wide open mouth is the open one but for its inside.
    found = [
        membership.membership_auc(face, proxy.kind, mouth, np.array([row[name] for name in members]))
        for face, mouth, members in zip(proxy.faces, MOUTHS.values(), proxy.members, strict=False)
    ]
    utk, val = (_within(described, other.descriptors) for other in (pack, strangers))
    counts = tuple(face.people for face in proxy.faces)
    return Check(proxy.kind.name, counts, utk, val, {name: max(each[name] for each in found) for name in found[0]})


def nearer(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often one of `inside` (n,) is smaller than one of `outside` (m,): the area under the ROC curve."""
    if not len(outside):
        return 0.5
    return float(np.mean(inside[:, None] < outside))


def _within(described: np.ndarray, descriptors: np.ndarray) -> float:
    apart = np.min([np.linalg.norm(descriptors - row, axis=1) for row in described], axis=0)
    return float(np.mean(apart <= recogniser(RECOGNISER).threshold))


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
