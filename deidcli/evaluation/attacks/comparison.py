"""Naive: compare outputs with originals, as anyone who has photographs of people would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deidcli.evaluation.attacks import BACKGROUND, SAME_SECRET, Attacker, Scene
from deidcli.evaluation.bench import Subject, person
from deidcli.evaluation.metrics import all_distances
from deidcli.evaluation.results import Attack


class NaiveAttack(Attacker):
    """Newton et al. 2005's naive recognition. It can be tried on anything, originals too."""

    name = "naive"
    summary = "outputs against other, untouched pictures of the same people"

    def applies(self, scene: Scene) -> bool:
        return True

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        note = "Outputs were compared with another, untouched picture of each person."
        yield scene.against_originals(self.name, scene.outputs.of(probes), people, note)


# --- Parrot: the attacker puts his own pictures through the same method, and compares alike with alike.


class ParrotAttack(Attacker):
    """Newton et al. 2005's parrot recognition, once with a secret of the attacker's own and once with the run's."""

    name = "parrot"
    summary = "the known pictures go through the same method, with another secret and with the same"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        other = "The known pictures went through the same method with another secret."
        yield self._against(scene, scene.with_other_secret(), "parrot", other)
        same = "The known pictures went through the same method with the very secret of the run."
        yield self._against(scene, scene.subject, "parrot (same secret)", same, SAME_SECRET)

    def _against(self, scene: Scene, subject: Subject, name: str, note: str, condition: str = "") -> Attack:
        known = scene.outputs if subject is scene.subject else scene.observe(subject, scene.crowd.gallery)
        rows = known.row
        pairs = [(g, w) for g, w in zip(scene.crowd.gallery, scene.crowd.people, strict=True) if g in rows]
        people, probes = scene.probed()
        apart = all_distances(scene.bench.judge, scene.outputs.of(probes), known.of([g for g, _ in pairs]))
        return scene.outcome(name, apart, people, [w for _, w in pairs], note, condition=condition)


# --- Linkage: which outputs show the same person; and averaging the embeddings of linked outputs


class LinkageAttack(Attacker):
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
        yield scene.outcome(self.name, apart, people, people, note, chance)


class AveragingAttack(Attacker):
    """The mean embedding of several outputs of one person: random changes of single outputs average out."""

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


# --- Background: what a method leaves unchanged (hair, ears, clothes, scene) may identify a person


class BackgroundAttack(Attacker):
    """All that the method may have changed is painted grey, in the outputs and in the known pictures alike."""

    name = "background"
    summary = "recognition without the face region: by the recogniser, and by likeness of the whole picture"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        rows = scene.outputs.row
        known = [(g, w) for g, w in zip(scene.crowd.gallery, scene.crowd.people, strict=True) if g in rows]
        first, second = scene.outputs.rows(probes), scene.outputs.rows([g for g, _ in known])
        whose = [w for _, w in known]
        described = scene.outputs.background_embeddings
        note = "The recogniser saw the pictures with all that the method may change painted grey."
        apart = all_distances(scene.bench.judge, described[first], described[second])
        yield scene.outcome("background (recogniser)", apart, people, whose, note, condition=BACKGROUND)
        small = scene.outputs.background.astype(np.float32)
        apart = np.array([np.linalg.norm(small[second] - small[i], axis=1) for i in first], float)
        note = "Whole pictures, made small and with all that the method may change painted grey, were compared."
        yield scene.outcome("background (whole picture)", apart, people, whose, note, condition=BACKGROUND)
