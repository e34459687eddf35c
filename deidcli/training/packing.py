"""Packing: crops of faces, one after the other, to one whole pack."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deidcli import __version__
from deidcli.engine.jobs import Job
from deidcli.engine.output import OutputFolder
from deidcli.faces.align import apply_affine
from deidcli.faces.embed import recogniser
from deidcli.training.data import Pack, labelled
from deidcli.values import Crop

BATCH = 64  # chips that are described in one go


def origin(jobs: Sequence[Job], *settings: object) -> str:
    """A checksum that is the same while files (name, size, time of the last change), settings and version are."""
    digest = hashlib.sha256(repr((__version__, settings)).encode())
    for job in jobs:
        state = job.source.stat() if job.source and job.source.exists() else None
        said = (job.name, state and state.st_size, state and state.st_mtime_ns)
        digest.update(repr(said).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def pack_faces(rows: Iterable[tuple[Crop, np.ndarray]], labels: dict[str, dict[str, str]]) -> Pack | None:
    """Crops with the chips that dlib's recogniser sees of them, as a pack; None where there are none.

    The part of a crop's key before "#" is its file's name. Raises UsageError for labels that fit no name.
    """
    judge = recogniser("dlib")
    pixels: list[np.ndarray] = []
    names: list[str] = []
    landmarks: list[np.ndarray] = []
    descriptors: list[np.ndarray] = []
    chips: list[np.ndarray] = []
    for crop, chip in rows:
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


def write(pack: Pack, place: Path, said: str) -> None:
    """Write a pack whole or not at all; one that is there is replaced."""
    target = OutputFolder(None, overwrite=True).target(place)
    try:
        pack.save(target.open(), said)
        target.commit()
    finally:
        target.discard()
