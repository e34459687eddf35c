"""Reversal: the attacker has the tool and runs it backwards, or once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deidcli.engine.settings import Settings
from deidcli.evaluation.attacks.base import Attacker, Scene
from deidcli.evaluation.bench import Subject
from deidcli.evaluation.identification import all_distances
from deidcli.evaluation.makers import ByMethod, Original
from deidcli.evaluation.observe import BATCH
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import Attack
from deidcli.faces.align import align
from deidcli.faces.blend import blend
from deidcli.values import Crop


class SecondPass(Attacker):
    """The outputs go through the method again; what is its own inverse (CLEANIR at 180 degrees) comes undone."""

    name = "second-pass"
    summary = "the method is applied to its own outputs"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        people, probes = scene.probed()
        own = scene.bench.originals.descriptors(probes)
        tools = {"another": scene.stranger(), "the same": scene.subject}
        if getattr(scene.method, "closed", False):
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
            yield scene.against_originals(name, rows, people, note)


class Reversal(Attacker):
    """Turn back by the angle of the run, about the run's own axes and about those of another secret.

    A turn's direction within its plane cannot be told from the output, so both ways are tried and the nearer counts.
    """

    name = "reversal"
    summary = "CLEANIR turned back by its angle, with the run's secret and with another"

    def applies(self, scene: Scene) -> bool:
        # It asks for the axes by the keys of single faces.
        return hasattr(scene.method, "turned") and scene.bench.study.persona == "track"

    def attack(self, scene: Scene) -> Iterator[Attack]:
        note = "Outputs were turned back by the run's angle with the very secret of the run."
        yield self._turned(scene, scene.method, "reversal (same secret)", note)
        note = "Outputs were turned back by the run's angle with another secret."
        yield self._turned(scene, scene.stranger().method, "reversal (wrong secret)", note)

    def _turned(self, scene: Scene, tool: Any, name: str, note: str) -> Attack:
        people, probes = scene.probed()
        gallery = scene.bench.originals.descriptors(scene.crowd.gallery)
        nearest = np.full((len(probes), len(gallery)), np.inf)
        for sense in (-1, 1):
            rows = [describe(scene.bench.judge, _back(scene, part, tool, sense)) for part in parts(probes)]
            nearest = np.minimum(nearest, all_distances(scene.bench.judge, np.concatenate(rows), gallery))
        return scene.told(name, nearest, people, scene.crowd.people, note)


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
    turned = tool.turned(crops, sense)
    return [blended(o, crop, tool.crop) for o, crop in zip(outputs, turned, strict=True)]


def parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Names in batches."""
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]
