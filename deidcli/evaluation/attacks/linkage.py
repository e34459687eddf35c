"""Linkage: which outputs show one person, whoever that may be? And averaging what was linked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.bench import person
from deidcli.evaluation.identification import all_distances
from deidcli.evaluation.results import Attack


class Linkage(Attacker):
    """Every output is compared with all other outputs of the run; nothing else is known."""

    name = "linkage"
    summary = "outputs of one run against each other, across files"

    def applies(self, scene: Scene) -> bool:
        return True

    def attack(self, scene: Scene) -> Iterator[Attack]:
        outputs = scene.outputs
        people = [person(name) for name in outputs.names]
        apart = all_distances(scene.bench.judge, outputs.descriptors, outputs.descriptors)
        np.fill_diagonal(apart, np.inf)
        # Blind guessing names a person in proportion to how many of the other outputs are that person's.
        counts = {who: people.count(who) for who in set(people)}
        chance = float(np.mean([(counts[who] - 1) / max(1, len(people) - 1) for who in people]))
        note = "Every output was compared with all others of the run, without any original."
        yield scene.told(self.name, apart, people, people, note, chance)


class Averaging(Attacker):
    """The mean of what the recogniser says of several outputs of one person: what each hides at random averages out."""

    name = "averaging"
    summary = "several outputs of one person are averaged, then compared with untouched pictures"

    def applies(self, scene: Scene) -> bool:
        return any(scene.crowd.more.values())

    def attack(self, scene: Scene) -> Iterator[Attack]:
        rows = scene.outputs.row
        groups = {
            who: [n for n in (probe, *scene.crowd.more.get(who, ())) if n in rows]
            for who, probe in zip(scene.crowd.people, scene.crowd.probes, strict=True)
        }
        groups = {who: names for who, names in groups.items() if len(names) >= 2}
        if not groups:
            return
        means = np.stack([scene.outputs.of(names).mean(axis=0) for names in groups.values()])
        count = np.mean([len(names) for names in groups.values()])
        note = f"On average {count:.1f} outputs of a person were averaged and compared with an untouched picture."
        yield scene.against_originals(self.name, means, list(groups), note)
