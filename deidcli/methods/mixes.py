"""Mixes: what k-Same-Net's preset knows of its proxies beside the network, and how a face is turned as another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.faces.pose import ShapeModel
from deidcli.faces.shape import JAW
from deidcli.methods.proxies import Probe
from deidcli.presets import Preset

FILE = "proxies.npz"
STIFF = slice(17, 48)  # brows, nose and eyes: what moves least with an expression


@dataclass(frozen=True)
class Proxies:
    """The identities that a network mixes.

    steps: of `mouth_mix`, from one mouth to the next. traits: (p, 7), what `probe` says of each. shapes: (p, m, 68, 2)
    of each with each mouth, in the unit of the face square. moves: (e, 68, 2), how `expressions` move them. pose: how
    faces differ in shape. size, margin: of the network's pictures.
    """

    expressions: tuple[str, ...]
    steps: tuple[tuple[float, float], ...]
    traits: np.ndarray
    shapes: np.ndarray
    moves: np.ndarray
    probe: Probe
    pose: ShapeModel
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
                rows = [stored[name].astype(np.float64) for name in ("traits", "shapes", "moves")]
                probe, pose = Probe(stored["probe"]), ShapeModel(stored["moving"], stored["own"])
            return cls(words, steps, *rows, probe, pose, int(picture["size"]), float(picture["margin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(f"preset {preset.name} does not say its proxies: {error}", "fetch it again") from error

    def save(self, folder: Path) -> list[str]:
        """Write what `of` reads beside config.json. Returns the names of the files."""
        folder.mkdir(parents=True, exist_ok=True)
        halves = {"moving": self.pose.moving, "own": self.pose.own, "probe": self.probe.weights}
        rows = {"traits": self.traits, "shapes": self.shapes, "moves": self.moves, **halves}
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


def turned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`points` (68, 2) as the head of `target` (68, 2) is turned, with their own expression; the jaw is the target's.

    A plane face that is turned is an affine one: the least squares one over brows, nose and eyes.
    """
    rows = np.column_stack([points, np.ones(len(points))])
    affine = np.linalg.lstsq(rows[STIFF], target[STIFF], rcond=None)[0]
    shape = rows @ affine
    shape[JAW] = target[JAW]
    return shape
