"""The gallery's preset: pictures, landmarks, descriptors, the probe and the shape model, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.pose import ShapeModel
from deidcli.methods.proxies import Probe
from deidcli.presets import Preset, save_preset
from deidcli.training.data import Pack, load_pack
from deidcli.training.gallery import DRAWS, KINDS, MOUTHS, SIDE, Proxy, build
from deidcli.training.gallery_check import Check, Watch, checks, describe, summary
from deidcli.training.people import People, people

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
    watch = Watch.of(known, pack)
    proxies = build(known, sources.pictures, KINDS, seed, said, watch.worst)
    described = np.stack([describe(proxy.faces) for proxy in proxies])
    rows = checks(proxies, described, watch, pack, strangers)
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
    config = {"method": "ksame-m", "side": SIDE, "mouths": [*MOUTHS, "wide"], "people": counts, "seed": seed}
    config["figures"] = summary(rows)
    files = ["gallery.npz", *(f"{name}.webp" for name in names)]
    return save_preset(out, config, files, card(rows, config["figures"]))


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
