"""Naive: compare outputs with originals, as anyone who has photographs of people would."""

from __future__ import annotations

from collections.abc import Iterator

from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.results import Attack


class Naive(Attacker):
    """Newton et al. 2005's naive recognition. It can be tried on anything, originals too."""

    name = "naive"
    summary = "outputs against other, untouched pictures of the same people"

    def applies(self, scene: Scene) -> bool:
        return True

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        note = "Outputs were compared with another, untouched picture of each person."
        yield scene.against_originals(self.name, scene.outputs.of(probes), people, note)
