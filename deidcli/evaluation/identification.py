"""Identification: whose face is this? Ranks among a gallery of known people, and the draws of such galleries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.evaluation.metrics import share
from deidcli.evaluation.results import Curve
from deidcli.faces.embed import Recogniser

BLOCK = 8192  # pairs
TIE = 1e-9  # distances that differ by no more are equal


@dataclass(frozen=True)
class Draw:
    """One closed set: for each person a picture to recognise and a picture to know the person by, in one order."""

    people: tuple[str, ...]
    probes: tuple[str, ...]
    gallery: tuple[str, ...]


def draws(pictures: Mapping[str, Sequence[str]], people: int, repetitions: int, seed: int) -> Iterator[Draw]:
    """Closed sets of at most `people` who have two pictures or more (k-Same-Net, Section 4.4: 50 people, 5 times)."""
    able = sorted(person for person, names in pictures.items() if len(names) >= 2)
    for repetition in range(repetitions):
        generator = np.random.default_rng([seed, repetition])
        chosen = sorted(generator.choice(able, min(people, len(able)), replace=False).tolist()) if able else []
        pairs = [generator.choice(sorted(pictures[person]), 2, replace=False).tolist() for person in chosen]
        yield Draw(tuple(chosen), tuple(p for p, _ in pairs), tuple(g for _, g in pairs))


def all_distances(judge: Recogniser, probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Distances (n, m) of every probe (n, d) to every gallery descriptor (m, d)."""
    rows = [judge.distance(np.broadcast_to(probe, gallery.shape), gallery) for probe in probes]
    return np.array(rows, float).reshape(len(probes), len(gallery))


def distances_of(judge: Recogniser, first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distances (n,) of pairs of descriptors. rows: (n, 2) int into `first` (m, d) and `second` (k, d).

    A folder has far more pairs than pictures, so only BLOCK of them are laid out at once.
    """
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    found = [judge.distance(first[block[:, 0]], second[block[:, 1]]) for block in blocks]
    return np.concatenate(found).astype(float) if found else np.zeros(0)


def hits_at(distances: np.ndarray, probes: Sequence, gallery: Sequence, rank: int) -> np.ndarray:
    """For each probe the probability (n,) that its person is among the `rank` nearest people of the gallery.

    distances: (n, m). probes, gallery: whose face each row and column is. It is 0 or 1 unless people are equally near,
    who are ordered by chance: one colour for all would otherwise be recognised, or hidden, by the order of a list.
    """
    nearest, names = _by_person(distances, gallery)
    own = np.array([names.get(person, -1) for person in probes], int)
    mine = np.where(own >= 0, nearest[np.arange(len(own)), own], np.inf)[:, None] if len(own) else nearest[:, :1]
    nearer = np.sum(nearest < mine - TIE, axis=1)
    tied = np.maximum(np.sum(np.abs(nearest - mine) <= TIE, axis=1), 1)
    return np.where(own >= 0, np.clip((rank - nearer) / tied, 0, 1), 0.0)


def cmc(distances: np.ndarray, probes: Sequence, gallery: Sequence, deepest: int = 20, name: str = "CMC") -> Curve:
    """The cumulative match characteristic: the share of probes whose person is among the first 1, 2, … `deepest`."""
    ranks = range(1, min(deepest, len(set(gallery))) + 1)
    figures = [share("", hits_at(distances, probes, gallery, rank), probes) for rank in ranks]
    y, low, high = (tuple(getattr(f, key) for f in figures) for key in ("value", "low", "high"))
    return Curve(name, tuple(map(float, ranks)), y, low, high, "rank", "share recognised")


def _by_person(distances: np.ndarray, gallery: Sequence) -> tuple[np.ndarray, dict]:
    """The distance (n, people) to each person's nearest picture, and the column of each person."""
    names = {person: column for column, person in enumerate(dict.fromkeys(gallery))}
    columns = np.array([names[person] for person in gallery], int)
    nearest = np.full((len(distances), len(names)), np.inf)
    for picture, column in enumerate(columns):
        nearest[:, column] = np.minimum(nearest[:, column], distances[:, picture])
    return nearest, names
