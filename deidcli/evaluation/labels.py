"""Labels: attributes of faces beside identity, read by classifiers. Whatever implements `Labeller` can be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from deidcli.faces.align import align
from deidcli.faces.attributes import tone
from deidcli.presets import load_preset, presets
from deidcli.values import CropSpec, Face, Frame

# Which presets judge. The judge of expressions has another network than the classifier that methods learn from.
JUDGES, CLASSIFIER = (("attributes",), ("expression-judge", "expression")), "classifier"
Answers = dict[str, np.ndarray]
# Where the groups of a number end: ages as in the classifier's card, tones as Chardon et al. (1991) name them.
GROUPS = {"age": (13, 20, 30, 45, 60), "tone": (-30, 10, 28, 41)}
SIDE, MARGIN = 64, 0.06  # of the crop that a tone is read off


class Labeller(Protocol):
    """Reads labels.

    name: with what reads, down to its weights. classes: for each label the words that it can be; empty for one that is
    a number, like an age.
    """

    name: str
    classes: dict[str, tuple[str, ...]]

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """For each label the probabilities (n, classes) of its words, or the numbers (n,), of faces with landmarks."""
        ...


def likeliest(labeller_classes: Sequence[str], answers: np.ndarray) -> np.ndarray:
    """The most probable class (n,) of probabilities (n, classes)."""
    return np.asarray(labeller_classes)[np.argmax(answers, axis=1)] if len(answers) else np.array([], str)


class ClassifierLabeller:
    """Reads the labels of a preset's classifier off aligned crops. Raises PresetError where that is damaged.

    verifier: which one, of a preset of epdnet; "" for a preset that is a classifier.
    """

    def __init__(self, preset: str, verifier: str = ""):
        from deidcli.networks import classifiers, epd_net

        self._classifier: Any = (
            epd_net.load_verifier(load_preset(preset), verifier) if verifier else classifiers.load(preset)
        )
        self.name = " ".join([preset, load_preset(preset).checksum, verifier]).strip()
        self._spec = CropSpec(self._classifier.config.size, self._classifier.margin)
        heads = self._classifier.heads
        self.classes = {name: () if head.places is not None else tuple(head.classes) for name, head in heads.items()}

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """Probabilities of words, and numbers on scales."""
        crops = np.stack([align(frame, face, self._spec).pixels for frame, face in pairs])
        said = self._classifier.predict(crops)
        heads = self._classifier.heads
        return {name: rows if self.classes[name] else heads[name].read(rows) for name, rows in said.items()}


class SkinToneLabeller:
    """Reads the tone of the skin off the cheeks, in degrees (`faces.attributes.tone`); a measure and no classifier."""

    name = "tone"
    classes: dict[str, tuple[str, ...]] = {"tone": ()}

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """Degrees (n,)."""
        spec = CropSpec(SIDE, MARGIN)
        return {"tone": np.array([tone(align(frame, face, spec).pixels, MARGIN) for frame, face in pairs])}


def group_of(label: str, numbers: np.ndarray) -> np.ndarray | None:
    """In which group of GROUPS each number lies, as (n,) int; None for a label that has no groups."""
    return np.digitize(numbers, GROUPS[label]) if label in GROUPS else None


def verifiers_of(preset: str) -> tuple[Labeller, ...]:
    """The verifiers that a preset of epdnet was trained with: of identity, and of emotion. Raises PresetError."""
    return tuple(ClassifierLabeller(preset, name) for name in ("identity", "emotion"))


def installed() -> tuple[Labeller, ...]:
    """The classifiers whose presets are installed, the first of each kind, and what is measured without any."""
    there = {preset.name for preset in presets() if preset.method == CLASSIFIER}
    chosen = [next((name for name in kind if name in there), None) for kind in JUDGES]
    return (*(ClassifierLabeller(name) for name in chosen if name), SkinToneLabeller())
