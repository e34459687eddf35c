"""Where EPD-Net's generator on crops begins: it learns to draw, of each face, what another method made of it.

pix2pix learns from pairs, and the paper's data hold none. From nothing, the verifiers are deceived by blotches long
before the adversary has learnt what skin looks like. So the pictures are de-identified by a method that draws whole
faces, and the generator learns these pairs first, as pix2pix does without its adversary. It averages what it cannot
foresee, so that its faces are soft; the adversary and the verifiers come after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from deidcli.errors import UsageError
from deidcli.networks.epd_net import EpdConfig, packed
from deidcli.training import classifiers
from deidcli.training.data import Pack, load_pack
from deidcli.training.epd_graph import structural
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, batches

RATE, MOST = 1e-3, 10_000  # first learning rate, and epochs at most: the minutes decide


def targets_of(names: np.ndarray, paths: Sequence[Path], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the files (n,) str have a target in the packs of crops `paths`, (n,) bool, and the targets of those,
    (m, side, side, 3) uint8. Raises UsageError where none has one.
    """
    pack = classifiers.resized(load_pack(*paths), side)
    places = {str(name): place for place, name in enumerate(pack.names)}
    rows = np.array([places.get(str(name), -1) for name in names], int)
    if not (rows >= 0).any():
        raise UsageError("--targets holds no face of --data", "pack the pictures of --data after another method")
    return rows >= 0, pack.crops[rows[rows >= 0]]


def toward(target, made):
    """L1 and Equation 6 between targets and pictures (batch, side, side, 3) in [0, 1], (batch,)."""
    return ops.mean(ops.abs(target - made), axis=(1, 2, 3)) + structural(target, made)


def learn_targets(
    generator: keras.Model,
    config: EpdConfig,
    faces: Pack,
    targets: np.ndarray,
    options: FitOptions,
    work: Path,
    look: Callable[[int], Mapping[str, float]],
) -> None:
    """Train the generator to draw the targets (n, side, side, 3) uint8 of faces, with any noise z.

    options: its minutes say for how long. work takes the checkpoint, from which a run that is killed goes on.
    """
    given = layers.Input(generator.input_shape[1:], name="given")
    made = layers.Identity(dtype="float32", name="drawn")(generator(given))
    trainer = keras.Model({"given": given}, {"picture": made})
    options = replace(options, rate=RATE, epochs=MOST)
    compile_trainer(trainer, {"picture": toward}, options)

    def feed(epoch: int) -> Iterator:
        drawn = batches(faces, options.batch, options.seed, epoch, options.steps)
        for step, (_, rows) in enumerate(drawn):
            random = np.random.default_rng([options.seed, 6, epoch, step])
            both = Augment()(np.concatenate([faces.crops[rows], targets[rows]], axis=-1), random)
            both = both.astype(np.float32) / 255
            noise = random.random((len(rows), config.noise), np.float32)
            yield {"given": packed(both[..., :3], noise)}, {"picture": both[..., 3:]}

    fit(trainer, feed, options, work, look)


def beyond(generator: keras.Model, faces: np.ndarray, targets: np.ndarray, share: float) -> np.ndarray:
    """Let the generator change faces by `share` more than it has learnt to, and give the targets that lie there, (n,
    side, side, 3) uint8. It draws means of what it cannot foresee, and these are nearer to the old face than a target.
    """
    layer = generator.get_layer("change")
    layer.set_weights([(1 + share) * weights for weights in layer.get_weights()])
    changed = [t + share * (t.astype(np.float32) - face) for t, face in zip(targets, faces, strict=True)]
    return np.clip(np.stack(changed) + 0.5, 0, 255).astype(np.uint8)
