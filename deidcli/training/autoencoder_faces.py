"""Faces that the method autoencoder learns from: packed crops, or the bank of a face model, with labels for all of
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import MISSING
from deidcli.faces.face_model import FaceModel
from deidcli.methods.autoencoder import identity_rows
from deidcli.networks import classifiers
from deidcli.networks.autoencoder import LUMA, AutoencoderConfig
from deidcli.presets import load_preset
from deidcli.training.cleanir_latent import mouths
from deidcli.training.data import Pack

READERS = ("attributes", "expression")  # classifiers that say what nobody has labelled, as the paper's do
AGES = (13, 20, 30, 45, 60)  # years at which a group of age ends
OPEN = 0.1  # gap of the lips, as a share of the distance between the eyes, of an open mouth
MIXTURES = 6000  # of two faces of the bank each, beside the faces
GROUPS = 3  # of a trait that the bank knows as a number


@dataclass(frozen=True)
class Faces:
    """given: (n, ...) float32, what the encoder takes. people: (n,) int, labels: as in `autoencoder_targets.Samples`.

    count: how many faces there are without the mirrored and the mixed ones. crops: (m, side, side, 3) uint8, to be
    shown. sface: (m, 128), SFace's descriptors of the first m of the rows.
    """

    given: np.ndarray
    people: np.ndarray
    labels: dict[str, np.ndarray]
    count: int
    crops: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    sface: np.ndarray = field(default_factory=lambda: np.zeros((0, 128), np.float32))


def pack_faces(pack: Pack, config: AutoencoderConfig, labelled: bool) -> Faces:
    """The faces of a pack, and every one mirrored. labelled: whether labels are needed; reading them takes time."""
    if pack.side != config.size:
        raise UsageError(f"the packs are of {pack.side} pixels, the networks of {config.size}", "pack them alike")
    both = np.concatenate([pack.crops, pack.crops[:, :, ::-1]])
    pictures = both.astype(np.float32) / 255
    if config.channels == 1:
        pictures = (pictures @ np.array(LUMA, np.float32))[..., None]
    whose = [name.split("/")[0] if "/" in name else f"#{row}" for row, name in enumerate(pack.names)]
    people = np.unique(whose, return_inverse=True)[1]
    labels = {name: np.tile(column, 2) for name, column in (_labels(pack) if labelled else {}).items()}
    return Faces(pictures, np.tile(people, 2), labels, len(pack), pack.crops)


def _labels(pack: Pack) -> dict[str, np.ndarray]:
    """What people said of the faces, and where they said nothing what the classifiers READERS read; and the mouth."""
    labels = {name: column.astype("<U16") for name, column in pack.labels.items()}
    for reader in READERS:
        classifier = classifiers.load(reader)
        side = classifier.config.size
        small = np.stack([cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA) for c in pack.crops])
        for name, said in classifier.read(small).items():
            words = np.array([str(word) for word in said], "<U16")
            known = labels.get(name, np.full(len(pack), MISSING, "<U16"))
            labels[name] = np.where(known == MISSING, words, known)
    if "age" in labels:
        years = np.array([float(word) for word in labels["age"]])
        labels["age"] = np.searchsorted(AGES, years, side="right").astype(str)
    if pack.landmarks is not None:
        gaps = mouths(pack.landmarks)[:, 0]
        labels["mouth"] = np.where(np.isnan(gaps), MISSING, np.where(gaps > OPEN, "open", "closed"))
    return labels


def bank_faces(name: str, seed: int = 1) -> Faces:
    """The identities of a face model's bank and mixtures of two each, by weights whose squares sum to 1.

    Labels: groups of equal size of gender, age and lightness of the skin. The last is called "race", for want of
    labels.
    """
    model = FaceModel(load_preset(name, "face-model").file("face_model.npz"))
    random = np.random.default_rng(seed)
    pairs = random.integers(0, model.faces, (MIXTURES, 2))
    turn = random.uniform(0, np.pi / 2, (MIXTURES, 1)).astype(np.float32)
    parts = model.bank_texture, model.bank_shape, model.bank_kept
    texture, shape, kept = (
        np.concatenate([part, part[pairs[:, 0]] * np.cos(turn) + part[pairs[:, 1]] * np.sin(turn)]) for part in parts
    )
    # The second half of the bank is the first, mirrored.
    people = np.concatenate([np.arange(model.faces) % (model.faces // 2), model.faces + np.arange(MIXTURES)])
    traits = {"gender": kept[:, 0], "age": kept[:, 1], "race": kept[:, 2:5].mean(axis=1)}
    labels = {trait: _grouped(values, 2 if trait == "gender" else GROUPS) for trait, values in traits.items()}
    given = identity_rows(model, texture, shape, kept)
    return Faces(given, people, labels, model.faces // 2, sface=model.bank_sface)


def _grouped(values: np.ndarray, count: int) -> np.ndarray:
    bounds = np.quantile(values, np.arange(1, count) / count)
    return np.searchsorted(bounds, values).astype(str)
