"""Parrot: the attacker puts his own pictures through the same method, and compares alike with alike."""

from __future__ import annotations

from collections.abc import Iterator

from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.bench import Subject
from deidcli.evaluation.identification import all_distances
from deidcli.evaluation.results import Attack


class Parrot(Attacker):
    """Newton et al. 2005's parrot recognition, once with a secret of the attacker's own and once with the run's."""

    name = "parrot"
    summary = "the known pictures go through the same method, with another secret and with the same"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        other = "The known pictures went through the same method with another secret."
        yield self._against(scene, scene.stranger(), "parrot", other)
        same = "The known pictures went through the same method with the very secret of the run."
        yield self._against(scene, scene.subject, "parrot (same secret)", same)

    def _against(self, scene: Scene, subject: Subject, name: str, note: str) -> Attack:
        known = scene.outputs if subject is scene.subject else scene.observe(subject, scene.crowd.gallery)
        rows = known.row
        pairs = [(g, w) for g, w in zip(scene.crowd.gallery, scene.crowd.people, strict=True) if g in rows]
        people, probes = scene.probed()
        apart = all_distances(scene.bench.judge, scene.outputs.of(probes), known.of([g for g, _ in pairs]))
        return scene.told(name, apart, people, [w for _, w in pairs], note)
