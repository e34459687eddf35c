"""The contract of an attack, and the scene that it is played on: people of whom the attacker knows one picture each.

Each attack is one file here; `available()` finds them, and nothing else has to be edited to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation.bench import Bench, Subject, person, pictures_of
from deidcli.evaluation.metrics import accepts_at, all_distances, draws, hits_at, share
from deidcli.evaluation.observe import Instruments, Outputs
from deidcli.evaluation.results import RANK_1, Attack, Figure
from deidcli.faces.registry import offered, registered
from deidcli.methods.base import Method, Secret
from deidcli.training.data import split_of


@cache
def available() -> dict[str, type[Attacker]]:
    """Every attack by name: those of this folder, then those that other packages offer as entry points."""
    return offered(registered(__name__, __path__, Attacker), "deidcli.attacks")


def find(name: str) -> Attacker:
    """The attack called `name`. Raises UsageError with the names that exist."""
    if name not in available():
        raise UsageError(f"no attack is called {name!r}", f"choose one of {', '.join(available())}")
    return available()[name]()


# What an attack needs besides the tool, or looks at besides the face (`Attack.condition`).
SAME_SECRET, BACKGROUND = "for those who know the secret of the run", "by the picture around the face"
MARGIN = 0.10  # a lower end of an interval that lies this far above chance is a broken method


@dataclass(frozen=True)
class AttackOptions:
    """people: in the closed set. others: how many more pictures of a person are looked at. far: the false-accept rate
    at which verification is told. training: pictures, steps: batches, batch, size: side of the crops in pixels, of the
    network that learns to undo a method.
    """

    people: int = 100
    others: int = 8
    far: float = 0.01
    training: int = 1000
    steps: int = 1500
    batch: int = 16
    size: int = 64


@dataclass(frozen=True)
class AttackSet:
    """people: who. probes: the picture of each that the attacker meets as an output. gallery: the one by which each is
    known. more: further pictures of each, which are replaced too. training: pictures of other people, for attacks that
    learn.
    """

    people: tuple[str, ...]
    probes: tuple[str, ...]
    gallery: tuple[str, ...]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    training: tuple[str, ...] = ()

    @property
    def replaced(self) -> list[str]:
        """Every picture that is replaced."""
        return [*self.probes, *self.gallery, *(name for names in self.more.values() for name in names)]

    @property
    def names(self) -> list[str]:
        """Every picture."""
        return [*self.replaced, *self.training]

    def among(self, known: Sequence[str]) -> AttackSet:
        """The people whose two pictures are known, with what else is known of them."""
        there = set(known)
        rows = [r for r in zip(self.people, self.probes, self.gallery, strict=True) if {r[1], r[2]} <= there]
        people, probes, gallery = tuple(zip(*rows, strict=True)) if rows else ((), (), ())
        more = {who: tuple(n for n in self.more.get(who, ()) if n in there) for who in people}
        return AttackSet(people, probes, gallery, more, tuple(n for n in self.training if n in there))


def draw_attack_set(
    pictures: Mapping[str, Sequence[str]], training: Sequence[str], options: AttackOptions, seed: int
) -> AttackSet:
    """A closed set of people with two pictures or more, drawn. training: of other people."""
    draw = next(iter(draws(pictures, options.people, 1, seed)))
    used = {*draw.probes, *draw.gallery}
    more = {who: tuple(n for n in sorted(pictures[who]) if n not in used)[: options.others] for who in draw.people}
    apart = np.random.default_rng([seed, 9]).permutation([n for n in training if person(n) not in set(draw.people)])
    return AttackSet(draw.people, draw.probes, draw.gallery, more, tuple(apart[: options.training].tolist()))


class Scene:
    """One subject before the attackers; its outputs are made once for all of them."""

    def __init__(self, bench: Bench, subject: Subject, crowd: AttackSet, options: AttackOptions):
        self.bench, self.crowd, self.options = bench, crowd, options
        # A closed-set method serves the people that it has seen, and those of the attack are others.
        method = subject.method
        self.subject = _with_secret(subject, method.secret) if method is not None and method.closed else subject

    @property
    def method(self) -> Method | None:
        """The method that is attacked; None for originals, or for another tool's files."""
        return self.subject.method

    @cached_property
    def outputs(self) -> Outputs:
        """Of every replaced picture, with the untouched rest."""
        return self.observe(self.subject, self.crowd.replaced)

    def observe(self, subject: Subject, names: Sequence[str]) -> Outputs:
        """The outputs of any subject; only descriptors and the rest are measured."""
        instruments = Instruments(None, (), likeness=False, background=True)
        return self.bench.observe(subject, list(dict.fromkeys(names)), instruments)

    def with_other_secret(self) -> Subject:
        """The same method with another secret, which an attacker who has the tool can make."""
        seed = self.bench.study.seed
        secret = Secret.drawn() if seed is None else Secret.seeded(seed + 1)
        return _with_secret(self.subject, secret)

    def probed(self) -> tuple[list[str], list[str]]:
        """The people whose probe has an output, and those probes."""
        rows = self.outputs.row
        able = [(w, p) for w, p in zip(self.crowd.people, self.crowd.probes, strict=True) if p in rows]
        return [w for w, _ in able], [p for _, p in able]

    def against_originals(
        self, name: str, probes: np.ndarray, people: Sequence[str], note: str, condition: str = ""
    ) -> Attack:
        """What descriptors of outputs (n, d), or of what was made of them, say against the known originals."""
        gallery = self.bench.originals.descriptors(self.crowd.gallery)
        apart = all_distances(self.bench.judge, probes, gallery)
        return self.outcome(name, apart, people, self.crowd.people, note, condition=condition)

    def outcome(
        self, name: str, distances: np.ndarray, probes: Sequence[str], gallery: Sequence[str], note: str,
        chance: float | None = None, condition: str = "",
    ) -> Attack:  # fmt: skip
        """The attack's success from distances (n, m) of probes to a gallery, inf where they may not be compared."""
        attack = outcome(self.subject, distances, probes, gallery, self.options.far, chance)
        return replace(attack, name=name, note=note, condition=condition)


def outcome(
    subject: Subject, distances: np.ndarray, probes: Sequence[str], gallery: Sequence[str], far: float,
    chance: float | None = None,
) -> Attack:  # fmt: skip
    """What distances (n, m) of probes to a gallery say about identity, and whether that breaks the method.

    chance: rank-1 of guessing; None for one over the people of the gallery. The attack has no name and no note yet.
    """
    own = np.asarray(probes)[:, None] == np.asarray(gallery)[None, :]
    allowed = np.isfinite(distances)
    rank1 = share(RANK_1, hits_at(distances, probes, gallery, 1), probes)
    whose = np.broadcast_to(np.asarray(probes)[:, None], own.shape)[own & allowed]
    accepted = accepts_at(distances[own & allowed], distances[~own & allowed], far, whose.tolist())
    guess = 1 / max(1, len(set(gallery))) if chance is None else chance
    broken = _above(rank1, guess) or _above(accepted, far)
    return Attack("", subject.label, subject.kind, rank1, accepted, guess, broken, far=far)


class Attacker(ABC):
    """Tries to identify the people of outputs. needs_training: whether it learns from other people's pictures."""

    name: ClassVar[str]
    summary: ClassVar[str]
    needs_training: ClassVar[bool] = False

    def applies(self, scene: Scene) -> bool:
        """Whether the attack can be tried on this subject; most need the method itself."""
        return scene.method is not None

    @abstractmethod
    def attack(self, scene: Scene) -> Iterator[Attack]:
        """The outcomes, one for each way in which the attack was tried."""


def _with_secret(subject: Subject, secret: Secret) -> Subject:
    assert subject.method is not None
    return replace(subject, method=subject.method.again(secret))


def _above(figure: Figure, chance: float) -> bool:
    # NaN is above nothing.
    return bool(figure.low is not None and figure.low > chance + MARGIN)


# --- The stage: who is attacked, and one attack after the other on one subject.


def load_attack_set(folder: Path, table: Path | None, options: AttackOptions, seed: int) -> AttackSet:
    """People of a folder with one sub-folder a person. Raises UsageError for fewer than two.

    table: a CSV of splits, of which `val` is attacked and `train` learnt from; without it the people who are not
    attacked are learnt from.
    """
    pictures = pictures_of(folder)
    attacked = pictures
    if table is not None:
        val, train = split_of(table, "val"), split_of(table, "train")
        attacked = {who: names for who, names in pictures.items() if who in val}
        pictures = {who: names for who, names in pictures.items() if who in train}
    chosen = draw_attack_set(attacked, [name for names in pictures.values() for name in names], options, seed)
    if len(chosen.people) < 2:
        raise UsageError(f"{folder} has fewer than two people with two pictures each", "give more pictures")
    return chosen


def run_attacks(
    bench: Bench, subject: Subject, people: AttackSet, attackers: Sequence[Attacker], options: AttackOptions
) -> Iterator[Attack]:
    """The outcomes of every attack that applies. The originals of `people` have been read."""
    scene = Scene(bench, subject, people.among(sorted(bench.originals.known)), options)
    if len(scene.crowd.people) < 2:
        raise UsageError("fewer than two people have two pictures in which a face was found", "give more pictures")
    for attacker in attackers:
        if attacker.applies(scene):
            yield from attacker.attack(scene)
