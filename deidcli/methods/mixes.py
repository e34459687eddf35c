"""Mixes: what k-Same-Net's preset knows of its proxies beside the network, and how a face is turned as another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.faces.align import apply_affine, invert, similarity
from deidcli.faces.attributes import SMILE, SURPRISE
from deidcli.faces.pose import mouth_gap, upright, with_lips, with_look, with_smile, with_surprise
from deidcli.faces.shape import BROWS, INNER, JAW, MEAN_SHAPE, MOUTH_OUTLINE
from deidcli.methods.proxies import Probe, with_one
from deidcli.presets import Preset

FILE = "proxies.npz"
ROWS = ("traits", "descriptors", "shapes", "moves")
STIFF = slice(27, 48)  # nose and eyes: what moves least with an expression
MOUTH = slice(48, 68)
OPEN = (0.12, 0.28)  # gaps of the lips over which the shape of the whole mouth becomes the target's
OUTLINE = 0.3  # how much of the outline of the jaw is the target's: with all of it a recogniser names more people
WEIGHT = 6  # points that the middle of the brows, and that of the mouth, count as


@dataclass(frozen=True)
class Proxies:
    """The identities that a network mixes.

    steps: of `mouth_mix`, from one mouth to the next. traits: (p, 7), what `probe` says of each. descriptors: (p, 128)
    of each with its mouth closed. shapes: (p, m, 68, 2) of each with each mouth, in the unit of the face square. moves:
    (e, 68, 2), how `expressions` move them. size, margin: of the network's pictures.
    """

    expressions: tuple[str, ...]
    steps: tuple[tuple[float, float], ...]
    traits: np.ndarray
    descriptors: np.ndarray
    shapes: np.ndarray
    moves: np.ndarray
    probe: Probe
    size: int
    margin: float

    @classmethod
    def of(cls, preset: Preset) -> Proxies:
        """Every file of the preset verified. Raises PresetError."""
        preset.verify()
        try:
            shown, picture = preset.config["appearance"], preset.config["picture"]
            words, steps = tuple(shown["expression"]), tuple((float(low), float(high)) for low, high in shown["mouth"])
            with np.load(preset.file(FILE), allow_pickle=False) as stored:
                rows = [stored[name].astype(np.float64) for name in ROWS]
                probe = Probe(stored["probe"])
            return cls(words, steps, *rows, probe, int(picture["size"]), float(picture["margin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(f"preset {preset.name} does not say its proxies: {error}", "fetch it again") from error

    def save(self, folder: Path) -> list[str]:
        """Write what `of` reads beside config.json. Returns the names of the files."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = {name: getattr(self, name) for name in ROWS} | {"probe": self.probe.weights}
        np.savez_compressed(folder / FILE, **{name: values.astype(np.float32) for name, values in rows.items()})
        return [FILE]

    def stored(self) -> dict:
        """The rest of what `of` reads, for config.json."""
        return {
            "picture": {"size": self.size, "margin": self.margin},
            "appearance": {"expression": list(self.expressions), "mouth": [list(step) for step in self.steps]},
        }

    def pixels(self, shape: np.ndarray) -> np.ndarray:
        """From the unit of the face square (68, 2) to pixels of the network's picture."""
        return (shape + self.margin) * self.size / (1 + 2 * self.margin) - 0.5


def turned(points: np.ndarray, target: np.ndarray, moved: bool = False, expression: str = "") -> np.ndarray:
    """`points` (68, 2) as the head of `target` (68, 2) is turned, with their own expression; the jaw lies between
    both, and is the target's where its mouth is wide open.

    A plane face that is turned is an affine one: the least squares one over nose, eyes and the middles of brows and
    mouth, without which a head that nods would lose its chin. moved: with lips and lids as far apart, brows and corners
    of the mouth as high as the target's, and its mouth where that is wide open. More of its shape would tell who it is.
    expression: what the face shall show, where that takes more: the points of a smile keep the corners of their mouth,
    and those of a surprised face are moved further than the target's.
    """
    anchors = with_one(_anchors(points))
    shape = with_one(points) @ np.linalg.lstsq(anchors, _anchors(target), rcond=None)[0]
    # A mouth that is wide open, and the jaw that is dropped, say more of the moment than of the person.
    low, high = OPEN
    wide = float(np.clip((mouth_gap(target) - low) / (high - low), 0, 1)) if moved else 0.0
    outline = OUTLINE + (1 - OUTLINE) * wide
    shape[JAW] = outline * target[JAW] + (1 - outline) * shape[JAW]
    if not moved:
        return shape
    laid, theirs = similarity(target[INNER], MEAN_SHAPE[INNER]), upright(target)
    shape = with_lips(with_look(apply_affine(laid, shape), theirs), upright(points), theirs)
    shape = with_surprise(shape) if expression == SURPRISE else shape
    shape = shape if expression == SMILE else with_smile(shape, theirs)
    shape[MOUTH] = (1 - wide) * shape[MOUTH] + wide * theirs[MOUTH]
    return apply_affine(invert(laid), shape)


def _anchors(points: np.ndarray) -> np.ndarray:
    middles = [points[BROWS].mean(axis=0), points[MOUTH_OUTLINE].mean(axis=0)]
    return np.concatenate([points[STIFF], np.repeat(middles, WEIGHT, axis=0)])
