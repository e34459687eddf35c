"""Checkpoints: where a run is, so that one that was killed goes on as if it had not been."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from deidcli.errors import UsageError

BEST = "best.weights.h5"


@dataclass(frozen=True)
class Place:
    """A place between two epochs. epoch: the next one. seconds: spent so far.

    best: the lowest score so far, None where none was given; best_epoch: when that was.
    """

    epoch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Weights and optimizer in `last.weights.h5`, the place in the run in `last.json`; each replaced in one step."""

    trainer: keras.Model
    folder: Path

    def save(self, place: Place) -> None:
        """Keep the run as it is at `place`."""
        self._write("last.weights.h5")
        # Keras keeps the state of noise out of its file of weights.
        noise = [keras.ops.convert_to_numpy(v).tolist() for v in self._noise()]
        temporary = self.folder / "next.json"
        temporary.write_text(json.dumps({**asdict(place), "noise": noise}))
        temporary.replace(self.folder / "last.json")

    def restore(self) -> Place:
        """Load what was saved; the place it was saved at, the start for a fresh run.

        Raises UsageError for a checkpoint that does not fit these networks.
        """
        place = self.folder / "last.json"
        if not place.exists():
            return Place()
        self._read("last.weights.h5")
        stored = json.loads(place.read_text())
        for variable, value in zip(self._noise(), stored.pop("noise", ()), strict=False):
            variable.assign(np.array(value, np.uint32))
        return Place(**stored)

    def save_best(self) -> None:
        """Keep the weights as they are now as the best so far."""
        self._write(BEST)

    def restore_best(self) -> None:
        """Put the best weights in place."""
        self._read(BEST)

    def _write(self, name: str) -> None:
        temporary = self.folder / "next.weights.h5"
        self.trainer.save_weights(temporary)
        temporary.replace(self.folder / name)

    def _read(self, name: str) -> None:
        # What is not built yet would not be loaded, without a word.
        self.trainer.optimizer.build(self.trainer.trainable_variables)
        try:
            self.trainer.load_weights(self.folder / name)
        except (OSError, ValueError, KeyError) as error:
            reason = f"the checkpoint in {self.folder} is not of these networks"
            raise UsageError(reason, "give the settings it was begun with, or another --work") from error

    def _noise(self) -> list:
        return [v for v in self.trainer.variables if v.path.endswith("seed_generator_state")]
