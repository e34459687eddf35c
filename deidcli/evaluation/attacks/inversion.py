"""Reversal: the attacker has the tool and runs it backwards, or once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from deidcli.engine.settings import Settings
from deidcli.evaluation.attacks.base import SAME_SECRET, Attacker, Scene
from deidcli.evaluation.bench import Subject
from deidcli.evaluation.metrics import all_distances
from deidcli.evaluation.observe import BATCH, ByMethod, Original
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import Attack
from deidcli.faces.align import align
from deidcli.faces.blend import blend
from deidcli.values import Crop, CropSpec


class SecondPassAttack(Attacker):
    """The outputs go through the method again; a method that is its own inverse (CLEANIR at 180 degrees) is undone."""

    name = "second-pass"
    summary = "the method is applied to its own outputs"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        own = scene.bench.originals.descriptors(probes)
        tools = {"another": scene.with_other_secret(), "the same": scene.subject}
        if scene.method is not None and scene.method.closed:
            # It serves those whom it was shown, and the attacker has no originals to show it.
            del tools["another"]
        for secret, tool in tools.items():
            rows = np.concatenate([describe(scene.bench.judge, _twice(scene, part, tool)) for part in parts(probes)])
            once, twice = (np.median(scene.bench.judge.distance(own, d)) for d in (scene.outputs.of(probes), rows))
            note = (
                f"The method was applied a second time, to its own outputs, with {secret} secret. "
                f"Median distance to the original: {once:.3f} after the first pass, {twice:.3f} after the second."
            )
            name = self.name if tool is not scene.subject else f"{self.name} (same secret)"
            yield scene.against_originals(name, rows, people, note, SAME_SECRET if tool is scene.subject else "")


class ReversalAttack(Attacker):
    """The method's `reverse`, with the secret of the run and with another one.

    The sense of a rotation cannot be seen in the output, so both are tried and the nearer result counts.
    """

    name = "reversal"
    summary = "the method reversed, with the run's secret and with another"

    def applies(self, scene: Scene) -> bool:
        # It asks for the axes by the keys of single faces.
        reversible = scene.method is not None and scene.method.reversible
        return reversible and scene.bench.study.persona == "track"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        note = "Outputs were turned back by the run's angle with the very secret of the run."
        yield self._reversed(scene, scene.method, "reversal (same secret)", note, SAME_SECRET)
        note = "Outputs were turned back by the run's angle with another secret."
        yield self._reversed(scene, scene.with_other_secret().method, "reversal (wrong secret)", note)

    def _reversed(self, scene: Scene, tool: Any, name: str, note: str, condition: str = "") -> Attack:
        people, probes = scene.probed()
        gallery = scene.bench.originals.descriptors(scene.crowd.gallery)
        nearest = np.full((len(probes), len(gallery)), np.inf)
        for sense in (-1, 1):
            rows = [describe(scene.bench.judge, _back(scene, part, tool, sense)) for part in parts(probes)]
            nearest = np.minimum(nearest, all_distances(scene.bench.judge, np.concatenate(rows), gallery))
        return scene.outcome(name, nearest, people, scene.crowd.people, note, condition=condition)


def remade(scene: Scene, names: Sequence[str], subject: Subject | None = None) -> list[Original]:
    """The outputs of pictures as if they were originals, which is what an attacker begins with.

    subject: whose outputs; None for the scene's.
    """
    originals = scene.bench.originals
    batch = [Original(name, originals.frame(name), originals.known[name].face) for name in names]
    made = scene.bench.maker(subject or scene.subject, names)(batch)
    return [
        Original(o.name, o.frame.with_pixels(m.pixels), o.face)
        for o, m in zip(batch, made, strict=True)
        if m is not None
    ]


def blended(original: Original, crop: Crop, spec: Any) -> tuple[np.ndarray, Any]:
    """A crop put back into its picture, as the engine puts it, with its face."""
    return blend(original.frame, crop, spec, Settings().blend).frame.pixels, original.face


def _twice(scene: Scene, names: Sequence[str], tool: Subject) -> list:
    outputs = remade(scene, names)
    assert tool.method is not None
    done = ByMethod(tool.method)(outputs)
    return [(m.pixels, o.face) for o, m in zip(outputs, done, strict=True) if m is not None]


def _back(scene: Scene, names: Sequence[str], tool: Any, sense: int) -> list:
    outputs = remade(scene, names)
    crops = [align(o.frame, o.face, tool.crop, f"{o.name}#{o.face.track}") for o in outputs]
    turned = tool.reverse(crops, sense)
    return [blended(o, crop, tool.crop) for o, crop in zip(outputs, turned, strict=True)]


def parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Names in batches."""
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


# --- Reconstruction: a network learns what the method does from people of whom the attacker has photographs.

MARGIN = 0.2  # around the face square: all that a method changes, and some of what it leaves


class ReconstructionAttack(Attacker):
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
    originals, other = scene.bench.originals, scene.with_other_secret()
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
