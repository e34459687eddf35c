"""Figures of a classifier on faces it was not trained on, and the card that says them."""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.networks.classifiers import Classifier, Head

SOFT = 0.02  # standard deviation of the blur that stands for a generated face's softness, as a share of the picture
AGES = (0, 5, 13, 20, 30, 45, 60, 200)  # bounds of the groups that a scale of years is told by


def measure(classifier: Classifier, crops: np.ndarray, targets: dict[str, np.ndarray]) -> dict:
    """How often the answers for crops (n, size, size, 3) uint8 are those of `targets` (n, classes) by head.

    For each head: `accuracy`, `soft` (the same on blurred crops), `f_measure` by class and their mean, `confusion`
    (counts; row: what is true, column: what was said). A scale has `error` instead: the mean absolute error. `groups`:
    the accuracy (or error) among the faces of each class of the other heads.
    """
    said, soft = classifier.predict(crops), classifier.predict(_softened(crops))
    heads = classifier.heads
    return {
        "faces": len(crops),
        **{name: _head(heads[name], targets[name], said[name], soft[name]) for name in heads},
        "groups": {name: _groups(heads, name, targets, said[name]) for name in heads} if len(heads) > 1 else {},
    }


def _softened(crops: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(crop, (0, 0), SOFT * len(crop)) for crop in crops])


def _head(head: Head, target: np.ndarray, said: np.ndarray, soft: np.ndarray) -> dict:
    if head.places is not None:
        return {
            "error": _rounded(_right(head, target, said).mean()),
            "soft": _rounded(_right(head, target, soft).mean()),
        }
    confusion = np.zeros((len(head.classes), len(head.classes)), int)
    np.add.at(confusion, (target.argmax(axis=-1), said.argmax(axis=-1)), 1)
    measures = 2 * np.diag(confusion) / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    return {
        "accuracy": _rounded(_right(head, target, said).mean()),
        "soft": _rounded(_right(head, target, soft).mean()),
        "f_measure": {
            **dict(zip(head.classes, map(_rounded, measures), strict=True)),
            "mean": _rounded(measures.mean()),
        },
        "confusion": confusion.tolist(),
    }


def _right(head: Head, target: np.ndarray, said: np.ndarray) -> np.ndarray:
    """For each face 1 or 0 for a right or wrong word, or on a scale how far off the number is."""
    if head.places is not None:
        return np.abs((said - target) @ head.places)
    return (said.argmax(axis=-1) == target.argmax(axis=-1)).astype(float)


def _groups(heads: dict[str, Head], name: str, targets: dict[str, np.ndarray], said: np.ndarray) -> dict[str, float]:
    right = _right(heads[name], targets[name], said)
    found = {}
    for other in (head for head in heads.values() if head.name != name):
        for word, member in _members(other, targets[other.name]).items():
            if member.any():
                found[f"{other.name} {word}"] = _rounded(right[member].mean())
    return found


def _members(head: Head, target: np.ndarray) -> dict[str, np.ndarray]:
    """Which faces (n,) bool belong to each class, or to each span of a scale."""
    if head.places is None:
        return {word: target.argmax(axis=-1) == i for i, word in enumerate(head.classes)}
    numbers = target @ head.places
    spans = zip(AGES[:-1], AGES[1:], strict=True)
    return {f"{low}+": (numbers >= low) & (numbers < high) for low, high in spans}


def _rounded(value: float) -> float:
    return round(float(value), 4)


def card(name: str, config: dict) -> str:
    """card.md of a classifier, made from its configuration."""
    training, figures = config["training"], config["figures"]
    heads = [Head(head["name"], tuple(head["classes"])) for head in config["network"]["heads"]]
    return f"""# {name}

Reads {", ".join(head.name for head in heads)} off aligned faces of {config["crop"]["size"]} pixels (margin
{config["crop"]["margin"]}). Channels {config["network"]["channels"]}, weights in float16.

- Trained on {training["faces"]} faces ({", ".join(training["data"])}); classes weighted by frequency to the power of
  -{training["balance"]}; varied by {training["augment"]}.
- Schedule: {training["fit"]}

## Figures

On {figures["faces"]} faces that were not trained on; "soft": the same faces blurred by {SOFT} of the picture.

{chr(10).join(_told(head, figures) for head in heads)}"""


def _told(head: Head, figures: dict) -> str:
    found = figures[head.name]
    groups = ", ".join(f"{word} {value}" for word, value in figures["groups"].get(head.name, {}).items())
    by_group = f"By group: {groups}.\n" if groups else ""
    if head.places is not None:
        return f"**{head.name}**: mean absolute error {found['error']}, soft {found['soft']}. {by_group}"
    rows = [f"| {word} | {' | '.join(map(str, row))} | {found['f_measure'][word]} |"
            for word, row in zip(head.classes, found["confusion"], strict=True)]  # fmt: skip
    mean = found["f_measure"]["mean"]
    return f"""**{head.name}**: accuracy {found["accuracy"]}, soft {found["soft"]}, mean F-measure {mean}.
{by_group}
| true \\ said | {" | ".join(head.classes)} | F |
|---|{"---|" * (len(head.classes) + 1)}
{chr(10).join(rows)}
"""
