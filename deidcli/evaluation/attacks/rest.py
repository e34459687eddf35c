"""The rest: what a method leaves as it was may tell who it is. Hair, ears, clothes, background."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.identification import all_distances
from deidcli.evaluation.results import Attack


class Rest(Attacker):
    """All that the method may have changed is painted grey, in the outputs and in the known pictures alike."""

    name = "rest"
    summary = "recognition without the face region: by the recogniser, and by likeness of the whole picture"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        rows = scene.outputs.row
        known = [(g, w) for g, w in zip(scene.crowd.gallery, scene.crowd.people, strict=True) if g in rows]
        first, second = scene.outputs.rows(probes), scene.outputs.rows([g for g, _ in known])
        whose = [w for _, w in known]
        described = scene.outputs.rest_descriptors
        note = "The recogniser saw the pictures with all that the method may change painted grey."
        apart = all_distances(scene.bench.judge, described[first], described[second])
        yield scene.told("rest (recogniser)", apart, people, whose, note)
        small = scene.outputs.rest.astype(np.float32)
        apart = np.array([np.linalg.norm(small[second] - small[i], axis=1) for i in first], float)
        note = "Whole pictures, made small and with all that the method may change painted grey, were compared."
        yield scene.told("rest (whole picture)", apart, people, whose, note)
