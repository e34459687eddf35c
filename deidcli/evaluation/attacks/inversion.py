"""Reversal: the attacker has the tool and runs it backwards, or once more, or trains a network to undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from deidcli.engine.settings import Settings
from deidcli.evaluation.attacks import SAME_SECRET, Attacker, Scene
from deidcli.evaluation.bench import Subject
from deidcli.evaluation.metrics import all_distances
from deidcli.evaluation.observe import BATCH, ByMethod, Original
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import Attack
from deidcli.faces.align import align
from deidcli.faces.blend import blend
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.store import run
from deidcli.values import Crop, CropSpec, Face


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


# --- Fitting: the face is looked for that the method turns into the output, among all that look like faces.

SPACE = CropSpec(96, MARGIN)  # of the faces that span the space
DIRECTIONS = 120  # of the space, at most: a coarse output says nothing of finer ones
STEP = 1.5  # standard deviations by which each direction is tried, so that rounding does not hide what it does
NOISE = 3.0  # grey levels by which an output may differ from what the method makes of the right face
ROUNDS = 3  # of the fit: rounding and clipping are not linear
LOOK = 32  # side in pixels at which outputs are compared


class FittingAttack(Attacker):
    """Optimisation through the known operation: no network learns anything of the method.

    The space is that of the principal components of other people's faces, and each direction counts as much as it
    varies among them. The method itself is applied to faces of the space in the very picture, so that grid, borders and
    rounding are those of the output. Only for methods that are `linear`: of others a step says little.
    """

    name = "fitting"
    summary = "the face is fitted that blur or pixelation turns into the output"
    needs_training = True

    def applies(self, scene: Scene) -> bool:
        return scene.method is not None and scene.method.linear and len(scene.crowd.training) > 1

    def attack(self, scene: Scene) -> Iterator[Attack]:
        space, people, rows = FaceSpace(scene), *scene.probed()
        names = list(scene.bench.progress(rows, len(rows), "face to fit"))
        found = [self._fitted(scene, space, output) for part in parts(names) for output in remade(scene, part)]
        descriptors = describe(scene.bench.judge, found)
        note = (
            f"A face in a space of {len(space.directions)} directions, of {space.count} other people's faces, was "
            "fitted until the method made the output of it."
        )
        yield scene.against_originals(self.name, descriptors, people, note)

    @staticmethod
    def _fitted(scene: Scene, space: FaceSpace, output: Original) -> tuple[np.ndarray, Face]:
        """The output's picture with the fitted face in it."""
        tool = scene.method
        assert tool is not None

        def made(weights: np.ndarray) -> np.ndarray:
            """What the method makes of a face of the space, as it is compared, (LOOK * LOOK * 3,)."""
            pixels, _ = space.shown(output, weights)
            crop = align(output.frame.with_pixels(pixels), output.face, tool.crop)
            return _looked(tool.apply([crop])[0].pixels)

        seen = _looked(align(output.frame, output.face, tool.crop).pixels)
        weights = np.zeros(len(space.directions))
        start = made(weights)
        slopes = np.array([(made(STEP * one) - start) / STEP for one in np.eye(len(weights))])
        gain = np.linalg.solve(slopes @ slopes.T / NOISE**2 + np.eye(len(weights)), slopes) / NOISE**2
        for _ in range(ROUNDS):
            # The step to the best face if all were linear; the prior pulls the whole of it, not the step alone.
            weights = gain @ (seen - made(weights) + weights @ slopes)
        return space.shown(output, weights)


class FaceSpace:
    """Crops of other people's untouched faces: their mean (side, side, 3) and principal directions, in standard
    deviations each. count: of faces.
    """

    def __init__(self, scene: Scene):
        originals = scene.bench.originals
        known = [name for name in scene.crowd.training if name in originals.known]
        crops = (align(originals.frame(name), originals.known[name].face, SPACE).pixels for name in known)
        rows = np.stack([crop.astype(np.float32).ravel() for crop in crops])
        self.count, mean = len(rows), rows.mean(axis=0)
        _, spread, directions = np.linalg.svd(rows - mean, full_matrices=False)
        kept = min(DIRECTIONS, self.count - 1)
        self.mean = mean
        self.directions = directions[:kept] * (spread[:kept, None] / np.sqrt(self.count - 1))

    def shown(self, output: Original, weights: np.ndarray) -> tuple[np.ndarray, Face]:
        """A face of the space in the picture of an output, as the engine would put it there."""
        face = np.clip(self.mean + weights.astype(np.float32) @ self.directions, 0, 255).round().astype(np.uint8)
        crop = align(output.frame, output.face, SPACE)
        spec = replace(SPACE, mask="high", transfer_lighting=False)
        return blended(output, crop.with_pixels(face.reshape(crop.pixels.shape)), spec)


def _looked(pixels: np.ndarray) -> np.ndarray:
    """The inner part of a method's crop, where all is the method's, made small: (LOOK * LOOK * 3,) float32."""
    border = pixels.shape[0] // 4
    inner = pixels[border:-border, border:-border]
    return cv2.resize(inner, (LOOK, LOOK), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def train_undo(
    new: np.ndarray, old: np.ndarray, steps: int, batch: int, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """What takes new crops (n, size, size, 3) uint8 back to guesses of the old ones, learnt from m pairs of them.

    The mean absolute error is made small over `steps` batches, half of them mirrored, at a rate that falls along half a
    cosine.
    """
    keras.utils.set_random_seed(seed)
    network = build_undo(new.shape[1])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)
    network.compile(optimizer=keras.optimizers.Adam(rate), loss="mean_absolute_error")
    for x, y in _batches(new, old, steps, batch, seed):
        network.train_on_batch(x, y)

    def undo(crops: np.ndarray) -> np.ndarray:
        return np.clip(np.round(run(network, crops.astype(np.float32))[0]), 0, 255).astype(np.uint8)

    return undo


def _batches(new: np.ndarray, old: np.ndarray, steps: int, batch: int, seed: int) -> Iterator:
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        rows = generator.integers(0, len(new), batch)
        x, y = new[rows].astype(np.float32), old[rows].astype(np.float32)
        if generator.random() < 0.5:
            x, y = x[:, :, ::-1], y[:, :, ::-1]
        yield x, y


# --- A small U-shaped network from a new face back to the old one; the reconstruction attack trains it.

CHANNELS = (24, 48, 96, 128)


def build_undo(size: int) -> keras.Model:
    """(n, size, size, 3) in [0, 255] to the same; `size` is a multiple of 8. It begins as the identity."""
    picture = layers.Input((size, size, 3))
    x = ops.divide(picture, 127.5) - 1.0
    skips = []
    for depth, channels in enumerate(CHANNELS):
        x = _conv(x, channels, f"down{depth}", stride=1 if depth == 0 else 2)
        x = _conv(x, channels, f"down{depth}b")
        skips.append(x)
    for depth, channels in reversed(list(enumerate(CHANNELS[:-1]))):
        x = layers.UpSampling2D(interpolation="bilinear", name=f"up{depth}")(x)
        x = layers.Concatenate(name=f"join{depth}")([x, skips[depth]])
        x = _conv(x, channels, f"up{depth}a")
    change = layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros", name="change")(x)
    return keras.Model(picture, ops.clip(picture + 127.5 * change, 0.0, 255.0), name="undo")


def _conv(x, channels: int, name: str, stride: int = 1):
    x = layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.GroupNormalization(8, name=f"{name}_norm")(x)
    return layers.Activation("silu", name=f"{name}_silu")(x)
