"""The stage: who is attacked, and one attack after the other on one subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.evaluation.attacks.base import Attacker, AttackOptions, Crowd, Scene, crowd
from deidcli.evaluation.bench import Bench, Subject, pictures_of
from deidcli.evaluation.results import Attack
from deidcli.training.data import split_of


def crowd_of(folder: Path, table: Path | None, options: AttackOptions, seed: int) -> Crowd:
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
    chosen = crowd(attacked, [name for names in pictures.values() for name in names], options, seed)
    if len(chosen.people) < 2:
        raise UsageError(f"{folder} has fewer than two people with two pictures each", "give more pictures")
    return chosen


def played(
    bench: Bench, subject: Subject, people: Crowd, attackers: Sequence[Attacker], options: AttackOptions
) -> Iterator[Attack]:
    """The outcomes of every attack that applies. The originals of `people` have been read."""
    scene = Scene(bench, subject, people.among(sorted(bench.originals.known)), options)
    if len(scene.crowd.people) < 2:
        raise UsageError("fewer than two people have two pictures in which a face was found", "give more pictures")
    for attacker in attackers:
        if attacker.applies(scene):
            yield from attacker.attack(scene)
