"""Reconstruction: a network learns what the method does from people of whom the attacker has photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.attacks.reversal import blended, parts, remade
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import Attack
from deidcli.faces.align import align
from deidcli.values import CropSpec

MARGIN = 0.2  # around the face square: all that a method changes, and some of what it leaves


class Reconstruction(Attacker):
    """Trains on people other than those who are recognised, with another secret: the tool alone is known."""

    name = "reconstruction"
    summary = "a small network is trained on other people to undo the method"
    needs_training = True

    def applies(self, scene: Scene) -> bool:
        return scene.method is not None and bool(scene.crowd.training)

    def attack(self, scene: Scene) -> Iterator[Attack]:
        from deidcli.training.undo import train_undo

        options, spec = scene.options, CropSpec(scene.options.size, MARGIN)
        old, new = _pairs(scene, spec)
        undo = train_undo(new, old, options.steps, options.batch, scene.bench.study.draw)
        people, probes = scene.probed()
        rows = [describe(scene.bench.judge, _undone(scene, part, spec, undo)) for part in parts(probes)]
        note = f"A network learnt to undo the method from {len(new)} pictures of other people in {options.steps} steps."
        yield scene.against_originals(self.name, np.concatenate(rows), people, note)


def _pairs(scene: Scene, spec: CropSpec) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the training pictures (n, size, size, 3) uint8, before and after."""
    originals, other = scene.bench.originals, scene.stranger()
    old, new = [], []
    scene.bench.prepare(other, scene.crowd.training)
    wanted = list(parts(scene.crowd.training))
    for part in scene.bench.progress(wanted, len(wanted), "batch to learn from"):
        for output in remade(scene, part, other):
            old.append(align(originals.frame(output.name), output.face, spec).pixels)
            new.append(align(output.frame, output.face, spec).pixels)
    return np.stack(old), np.stack(new)


def _undone(scene: Scene, names: Sequence[str], spec: CropSpec, undo: Callable) -> list:
    outputs = remade(scene, names)
    crops = [align(output.frame, output.face, spec) for output in outputs]
    guesses = undo(np.stack([crop.pixels for crop in crops]))
    pairs = zip(outputs, crops, guesses, strict=True)
    return [blended(output, crop.with_pixels(guess), spec) for output, crop, guess in pairs]
