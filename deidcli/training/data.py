"""Packed faces: one .npz file of aligned crops, or of textures in the canonical frame, with what is known of each.

Descriptors of aligned crops need no landmarks: dlib's chip is one fixed scale and shift for all of them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import cv2
import numpy as np

from deidcli import __version__
from deidcli.engine.jobs import Job
from deidcli.engine.output import OutputFolder
from deidcli.engine.settings import RECOGNISER
from deidcli.engine.stored import Stored
from deidcli.errors import UsageError
from deidcli.faces.align import INNER, MEAN_SHAPE, apply_affine, similarity
from deidcli.faces.attributes import MISSING
from deidcli.faces.canonical import ibug, unwrap
from deidcli.faces.face_model import frontal
from deidcli.faces.recognisers import recogniser
from deidcli.methods.new_face import mesh_of
from deidcli.networks.dlib_recogniser import CHIP, chip_landmarks
from deidcli.values import Box, Crop, CropSpec, Face

_LABEL, _SUM, _ORIGIN = "label_", "sha256", "origin"  # keys in the file


@dataclass(frozen=True)
class Pack:
    """Aligned crops and what is known of them; all rows belong together.

    crops: (n, side, side, 3) uint8 RGB. descriptors: (n, 128) float32 of dlib's recogniser. names: (n,) str, the file
    of each crop relative to the folder that was packed; the part before the first "/" names the person, where there is
    one. landmarks: (n, 68, 2) float32 in pixels of the crop, nan where they are not known. labels: columns of (n,) str
    by their name, like "expression" or "age"; "" where a face has none.
    """

    crops: np.ndarray
    descriptors: np.ndarray
    names: np.ndarray
    landmarks: np.ndarray | None = None
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def side(self) -> int:
        return self.crops.shape[1]

    @property
    def people(self) -> set[str]:
        """Those who have a name."""
        return {name.split("/")[0] for name in self.names if "/" in name}

    def __len__(self) -> int:
        return len(self.crops)

    def label(self, column: str) -> np.ndarray:
        """(n,) str. Raises UsageError for a column that the pack does not have, naming those it has."""
        if column not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none"
            raise UsageError(f"the packs have no label {column!r}, but {known}", "pack with `deid align --labels FILE`")
        return self.labels[column]

    def where(self, rows: np.ndarray) -> Pack:
        """The rows that a mask (n,) bool or an array of indices picks."""
        labels = {name: column[rows] for name, column in self.labels.items()}
        landmarks = None if self.landmarks is None else self.landmarks[rows]
        return Pack(self.crops[rows], self.descriptors[rows], self.names[rows], landmarks, labels)

    def save(self, place: Path | BinaryIO, origin: str = "") -> None:
        """Write the pack to a path or an open file. Nothing in it is pickled, so that loading runs no code.

        origin: what it was made of, in one word, for `origin_of`.
        """
        columns: dict[str, Any] = _columns(self)
        marks: dict[str, Any] = {_SUM: np.array(_checksum(columns)), _ORIGIN: np.array(origin)}
        np.savez(place, **columns, **marks)


def load_pack(*paths: Path) -> Pack:
    """Read one or more packs, or folders of aligned crops, as one.

    A label that only some of them have is MISSING in the others. Raises UsageError for a file that is not a pack or is
    damaged, and for packs whose crops differ in size.
    """
    parts = [_folder(Path(p)) if Path(p).is_dir() else _load(Path(p)) for p in paths]
    if len({p.side for p in parts}) != 1:
        raise UsageError(f"packs of different sizes: {sorted({p.side for p in parts})} pixels", "pack them alike")
    # Most often there is one, and it fills the memory once.
    return parts[0] if len(parts) == 1 else _joined(parts)


def check_apart(train: Pack, val: Pack) -> None:
    """Raises UsageError if a person, or the very same crop, is on both sides: what is measured would be memory."""
    both = train.people & val.people
    if both:
        raise UsageError(f"{len(both)} people are in --data and in --val, {sorted(both)[0]} for one", "split by person")
    seen = set(_fingerprints(train))
    same = [name for name, print_ in zip(val.names, _fingerprints(val), strict=True) if print_ in seen]
    if same:
        raise UsageError(f"{len(same)} crops are in --data and in --val, {same[0]} for one", "split by person")


def origin_of(path: Path) -> str | None:
    """What a pack was made of, as given to `save`; None where there is no whole pack."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(stored[_ORIGIN])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def split_of(table: Path, split: str, option: str = "--split") -> set[str]:
    """The people of a split, from a CSV with the columns person and split, which `option` named. Raises UsageError."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return {row["person"] for row in csv.DictReader(file) if row["split"] == split}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{option} {table}: {error!r}", "give a CSV with the columns person and split") from error


def labelled(names: Iterable[str], labels: dict[str, dict[str, str]]) -> dict[str, np.ndarray]:
    """The labels of `names` as columns of a pack. Raises UsageError where they fit none of the names."""
    names = [str(name) for name in names]
    if labels and not any(set(column) & set(names) for column in labels.values()):
        raise UsageError("--labels names none of the files", "name them relative to the folder, like person/a.jpg")
    return {column: np.array([known.get(n, MISSING) for n in names], str) for column, known in labels.items()}


def _columns(pack: Pack) -> dict[str, np.ndarray]:
    columns = {"crops": pack.crops, "descriptors": pack.descriptors.astype(np.float32), "names": pack.names}
    if pack.landmarks is not None:
        columns["landmarks"] = pack.landmarks.astype(np.float32)
    return columns | {_LABEL + name: column for name, column in pack.labels.items()}


def _checksum(columns: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()


def _load(path: Path) -> Pack:
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        columns.pop(_ORIGIN, None)
        said = columns.pop(_SUM, None)
        labels = {name.removeprefix(_LABEL): columns[name] for name in columns if name.startswith(_LABEL)}
        pack = Pack(columns["crops"], columns["descriptors"], columns["names"], columns.get("landmarks"), labels)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UsageError(f"{path} is not a pack of faces: {error}", "make one with `deid align --pack`") from error
    if len({len(column) for column in _columns(pack).values()}) != 1 or (
        said is not None and str(said) != _checksum(columns)
    ):
        raise UsageError(f"{path} is damaged: its rows do not belong together", "make it again")
    return pack


def _joined(parts: list[Pack]) -> Pack:
    names = sorted({name for part in parts for name in part.labels})
    blank = {id(part): np.full(len(part), MISSING) for part in parts}
    unknown = {id(part): np.full((len(part), 68, 2), np.nan, np.float32) for part in parts}
    return Pack(
        np.concatenate([part.crops for part in parts]),
        np.concatenate([part.descriptors for part in parts]),
        np.concatenate([part.names for part in parts]),
        np.concatenate([unknown[id(part)] if part.landmarks is None else part.landmarks for part in parts]),
        {name: np.concatenate([part.labels.get(name, blank[id(part)]) for part in parts]) for name in names},
    )


def _folder(path: Path) -> Pack:
    """The crops of a folder, as `deid align` writes them; their descriptors are computed from the crops themselves."""
    from PIL import Image

    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".png", ".webp", ".jpg"))
    crops = [np.asarray(Image.open(p).convert("RGB")) for p in files]
    sizes = {crop.shape for crop in crops}
    if len(sizes) != 1 or len({*next(iter(sizes))[:2]}) != 1:
        hint = "cut faces out with `deid align --size N in/ crops/`"
        raise UsageError(f"{path} does not hold square crops of one size, but {sorted(sizes)[:3]}", hint)
    stacked = np.stack(crops)
    return Pack(stacked, describe_crops(stacked), np.array([p.relative_to(path).as_posix() for p in files]))


def _fingerprints(pack: Pack) -> list[bytes]:
    return [hashlib.blake2b(crop.tobytes(), digest_size=16).digest() for crop in pack.crops]


# --- Packing: crops of faces, one after the other, to one whole pack.

BATCH = 64  # chips that are described in one go


def pack_origin(jobs: Sequence[Job], *settings: object) -> str:
    """A checksum that is the same while files (name, size, time of the last change), settings and version are."""
    digest = hashlib.sha256(repr((__version__, settings)).encode())
    for job in jobs:
        state = job.source.stat() if isinstance(job.source, Path) and job.source.exists() else None
        said: tuple[object, ...] = (job.name, state and state.st_size, state and state.st_mtime_ns)
        if isinstance(job.source, Stored):
            said = (job.name, job.source.size, job.source.changed())
        digest.update(repr(said).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def pack_faces(rows: Iterable[tuple[Crop, np.ndarray]], labels: dict[str, dict[str, str]]) -> Pack | None:
    """Crops with the chips that dlib's recogniser sees of them, as a pack; None where there are none.

    The part of a crop's key before "#" is its file's name. Raises UsageError for labels that fit no name.
    """
    judge = recogniser(RECOGNISER)
    pixels: list[np.ndarray] = []
    names: list[str] = []
    landmarks: list[np.ndarray] = []
    descriptors: list[np.ndarray] = []
    chips: list[np.ndarray] = []
    for crop, chip in rows:
        if crop.face.landmarks is None:
            raise ValueError(f"{crop.key} has no landmarks")
        pixels.append(crop.pixels)
        names.append(crop.key.rpartition("#")[0])
        landmarks.append(apply_affine(crop.transform, crop.face.landmarks).astype(np.float32))
        chips.append(chip)
        if len(chips) == BATCH:
            descriptors.append(judge.embed(np.stack(chips)))
            chips = []
    if not pixels:
        return None
    if chips:
        descriptors.append(judge.embed(np.stack(chips)))
    known = labelled(names, labels)
    return Pack(np.stack(pixels), np.concatenate(descriptors), np.array(names), np.stack(landmarks), known)


def write_pack(pack: Pack, place: Path, said: str) -> None:
    """Write a pack whole or not at all; one that is there is replaced."""
    target = OutputFolder(None, overwrite=True).target(place)
    try:
        pack.save(target.open(), said)
        target.commit()
    finally:
        target.discard()


MARGIN = 0.06  # of the crops, as `deid align` cuts them by default


def chip_samplers(size: int, points: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(150, size) float32 each: bilinear weights that sample rows and columns of a crop where dlib's chip has them.

    points: where the landmarks 17 to 67 of a crop lie, (51, 2) pixels; by default those of an aligned one.
    """
    mean = (MEAN_SHAPE[INNER] + MARGIN) / (1 + 2 * MARGIN) * size - 0.5
    to_crop = similarity(chip_landmarks(), mean if points is None else points)
    columns, rows = (to_crop[axis, axis] * np.arange(CHIP) + to_crop[axis, 2] for axis in (0, 1))
    return _bilinear(rows, size), _bilinear(columns, size)


def describe_crops(crops: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) float32 of aligned crops (n, side, side, 3) uint8, landmarks not needed.

    Raises MissingDependency where the recogniser's weights are not there.
    """
    from deidcli.networks.dlib_recogniser import describe

    rows, columns = chip_samplers(crops.shape[1])
    parts = []
    for start in range(0, len(crops), 64):
        part = crops[start : start + 64].astype(np.float32)
        parts.append(describe(np.einsum("ry,byxc,sx->brsc", rows, part, columns, optimize=True)))
    return np.concatenate(parts) if parts else np.zeros((0, 128), np.float32)


def _bilinear(places: np.ndarray, size: int) -> np.ndarray:
    places = np.clip(places, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)[None, :]))
    return weights.astype(np.float32)


WINDOW = CropSpec(size=None, margin=0.3, align="window")  # what is cut out of a frame to be unwrapped
JUDGES = ("dlib", "sface")


@dataclass(frozen=True)
class Textures:
    """Faces in the canonical frame; all rows belong together.

    textures: (n, side, side, 3) uint8 RGB. seen: (n, side, side) uint8, how far a pixel was seen, 255 for fully.
    shapes: (n, 468, 3) float32, meshes turned to the front, in units of the mean mesh. dlib, sface: (n, 128) float32,
    descriptors of the photographs. names: (n,) str, files relative to the folder that was packed; the part before the
    first "/" names the person, where there is one. labels: columns (n,) str by their name, "" where not known.
    """

    textures: np.ndarray
    seen: np.ndarray
    shapes: np.ndarray
    dlib: np.ndarray
    sface: np.ndarray
    names: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.textures)

    @property
    def side(self) -> int:
        """Pixels of a texture's side."""
        return self.textures.shape[1]

    def where(self, rows: np.ndarray) -> Textures:
        """The rows that a mask (n,) bool or an array of indices picks."""
        labels = {name: column[rows] for name, column in self.labels.items()}
        return Textures(**{name: getattr(self, name)[rows] for name in COLUMNS}, labels=labels)


COLUMNS = tuple(item.name for item in fields(Textures) if item.name != "labels")


def unwrapped(crops: Iterable[Crop], side: int, labels: dict[str, dict[str, str]]) -> Textures | None:
    """The faces of crops that were cut out as WINDOW says, at `side` pixels; None where there are none.

    The part of a crop's key before "#" is its file's name. Raises UsageError for labels that fit no name, and
    MissingDependency where a recogniser's weights are not there.
    """
    judges = [recogniser(name) for name in JUDGES]
    chips: list[list[np.ndarray]] = [[] for _ in judges]
    described: list[list[np.ndarray]] = [[] for _ in judges]
    textures, seen, shapes, names = [], [], [], []
    for crop in crops:
        mesh = mesh_of(crop)
        texture, visible = (
            cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA) for x in unwrap(crop.pixels, mesh)
        )
        textures.append(texture)
        seen.append(np.round(visible * 255).astype(np.uint8))
        shapes.append(frontal(mesh.astype(np.float64)).astype(np.float32))
        names.append(crop.key.rpartition("#")[0])
        face = Face(Box(0, 0, 1, 1), landmarks=ibug(mesh))  # landmarks say where it is
        for judge, pile, known in zip(judges, chips, described, strict=True):
            pile.append(judge.chips(crop.pixels, [face])[0])
            if len(pile) == BATCH:
                known.append(judge.embed(np.stack(pile)))
                pile.clear()
    if not names:
        return None
    for judge, pile, known in zip(judges, chips, described, strict=True):
        known += [judge.embed(np.stack(pile))] if pile else []
    dlib, sface = (np.concatenate(known).astype(np.float32) for known in described)
    known_labels = labelled(names, labels)
    return Textures(np.stack(textures), np.stack(seen), np.stack(shapes), dlib, sface, np.array(names), known_labels)


def write_textures(pack: Textures, place: Path, said: str) -> None:
    """Write a pack whole or not at all; one that is there is replaced. said: what it was made of, for `origin_of`."""
    columns: dict[str, Any] = {name: getattr(pack, name) for name in COLUMNS}
    columns |= {_LABEL + name: column for name, column in pack.labels.items()} | {_ORIGIN: np.array(said)}
    target = OutputFolder(None, overwrite=True).target(place)
    try:
        np.savez(target.open(), **columns)
        target.commit()
    finally:
        target.discard()


def load_textures(path: Path) -> Textures:
    """Read a pack. Raises UsageError for a file that is not one or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in COLUMNS}
            labels = {k.removeprefix(_LABEL): stored[k] for k in stored.files if k.startswith(_LABEL)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        hint = "make one with `deid align --pack --frame canonical`"
        raise UsageError(f"{path} is not a pack of textures: {error}", hint) from error
    if len({len(column) for column in [*columns.values(), *labels.values()]}) != 1:
        raise UsageError(f"{path} is damaged: its rows do not belong together", "make it again")
    return Textures(**columns, labels=labels)
