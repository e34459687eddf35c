"""Packs of textures: faces unwrapped in the canonical frame, with their shapes and descriptors, to train methods on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np

from deidcli.engine.output import OutputFolder
from deidcli.errors import UsageError
from deidcli.faces.canonical import unwrap
from deidcli.faces.face_model import frontal
from deidcli.faces.mesh import ibug
from deidcli.faces.recognisers import recogniser
from deidcli.methods.new_face import mesh_of
from deidcli.training.data import BATCH, labelled
from deidcli.values import Box, Crop, CropSpec, Face

WINDOW = CropSpec(size=None, margin=0.3, align="window")  # what is cut out of a frame to be unwrapped
JUDGES = ("dlib", "sface")
_LABEL, _ORIGIN = "label_", "origin"  # keys in the file


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
