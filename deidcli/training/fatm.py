"""How FATM is trained: face sets to a preset. The encoder and one decoder after the other learn to draw their own set
(Section 3.2); a donor that is added later gets a decoder of its own, and the encoder stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from deidcli.faces.face_model import ridge
from deidcli.networks.fatm import MOVED, SEEN, FatmConfig, build_decoder, build_encoder
from deidcli.networks.store import run
from deidcli.training.fit import FitOptions, compile_trainer, fit

HELD = 8  # one sample in so many is not learnt from, but measured on
# Of the linear start: samples of a donor, rows whose components are found, the penalties of both regressions, and the
# deviation of what is smooth in a picture of SEEN pixels.
DRAWN, MOST, PENALTY, LEAST, SMOOTH = 300, 1200, 3.0, 0.001, 4.0
COLUMNS, LOOKED_AT = 8, 4  # samples of a donor on a sheet, and donors that are looked at after an epoch

Draw = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class FaceSet:
    """The pictures of one donor. draw: (rows, random numbers) to varied inputs (n, size, size, 3) and what is to be
    drawn of them (n, drawn, drawn, 3), both float32. plain: the same without variation. count: rows. groups: (count,)
    what rows belong together, so that what is measured on is of no group that was learnt from.
    """

    donor: str
    draw: Draw
    plain: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    count: int
    groups: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """The rows that are measured on; none of a set with fewer than HELD groups."""
        known = np.unique(self.groups)
        return np.flatnonzero(np.isin(self.groups, known[HELD - 1 :: HELD]))

    @property
    def learnt(self) -> np.ndarray:
        """The rows that are learnt from."""
        return np.setdiff1d(np.arange(self.count), self.held)


@dataclass(frozen=True)
class Recipe:
    """network: its sizes. fit: how long and how fast; the paper has batches of 64 and a rate of 5e-5. together: epochs
    before that, in which one decoder learns the sets of all donors; each donor's decoder begins as that one.
    """

    network: FatmConfig = field(default_factory=FatmConfig)
    fit: FitOptions = field(default_factory=lambda: FitOptions(rate=5e-5))
    together: int = 0


@keras.saving.register_keras_serializable("deidcli")
class OfDonor(layers.Layer):
    """(codes, (batch,) numbers of donors) to what the decoder of the first of these numbers draws.

    Only that decoder is run, and only it and the encoder have gradients: one update of the alternating training.
    """

    def __init__(self, decoders: Sequence[keras.Model], **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.decoders = list(decoders)

    def call(self, inputs):
        codes, whose = inputs
        return ops.switch(whose[0], self.decoders, codes)

    def compute_output_shape(self, shapes):
        return self.decoders[0].output_shape


@keras.saving.register_keras_serializable("deidcli")
class ByTurns(keras.optimizers.Adam):
    """Adam that leaves a variable as it is where its gradient is zero: a decoder waits until it is its donor's turn.

    Adam itself would move it on by the momentum of its last turn.
    """

    def update_step(self, gradient, variable, learning_rate):
        def step():
            keras.optimizers.Adam.update_step(self, gradient, variable, learning_rate)
            return ops.zeros(())

        ops.cond(ops.any(gradient != 0), step, lambda: ops.zeros(()))


def build_trainer(encoder: keras.Model, decoders: Sequence[keras.Model]) -> keras.Model:
    """The graph of Figure 4. In: {"picture", "whose": the donor's number, once a row}. Out: {"face"}."""
    picture = layers.Input(encoder.input_shape[1:], name="picture")
    whose = layers.Input((), dtype="int32", name="whose")
    drawn = OfDonor(decoders, name="face")([encoder(picture), whose])
    return keras.Model({"picture": picture, "whose": whose}, {"face": drawn}, name="trainer")


@dataclass(frozen=True)
class Trained:
    """The networks after training, and for each donor how much is left of what it had to draw (`remaining`)."""

    encoder: keras.Model
    decoders: dict[str, keras.Model]
    figures: dict[str, float]


def train(sets: Sequence[FaceSet], recipe: Recipe, work: Path, encoder: keras.Model | None = None) -> Trained:
    """Train on face sets, one after the other in turn. encoder: a trained one, which stays as it is.

    Checkpoints, the log and a sheet go to `work`.
    """
    config, frozen = recipe.network, encoder is not None
    decoders = {each.donor: build_decoder(config, each.donor) for each in sets}
    encoder = build_encoder(config) if encoder is None else encoder
    encoder.trainable = not frozen
    if recipe.together:
        shared = build_decoder(config, "all")
        longer = replace(recipe.fit, epochs=recipe.together)
        _fit(sets, encoder, dict.fromkeys([each.donor for each in sets], shared), longer, work / "together")
        for decoder in decoders.values():
            decoder.set_weights(shared.get_weights())
    if config.linear:
        linear_start(sets, encoder, decoders, config, frozen)
    _fit(sets, encoder, decoders, recipe.fit, work)
    figures = {each.donor: round(remaining(each, encoder, decoders[each.donor]), 4) for each in sets}
    return Trained(encoder, decoders, figures)


def _fit(
    sets: Sequence[FaceSet],
    encoder: keras.Model,
    decoders: dict[str, keras.Model],
    options: FitOptions,
    work: Path,
) -> None:
    """Train the encoder, if it is trainable, and decoders, of which several donors may share one."""  # fmt: skip
    networks = list({id(network): network for network in decoders.values()}.values())
    trainer = build_trainer(encoder, networks)
    compile_trainer(trainer, {"face": "mean_absolute_error"}, options, ByTurns)

    def feed(epoch: int) -> Iterator:
        for step in range(epoch * options.steps, (epoch + 1) * options.steps):
            each, random = sets[step % len(sets)], np.random.default_rng([options.seed, step])
            rows = random.choice(each.learnt, options.batch)
            pictures, wanted = each.draw(rows, random)
            number = networks.index(decoders[each.donor])
            yield {"picture": pictures, "whose": np.full(len(rows), number, np.int32)}, {"face": wanted}

    def look(epoch: int) -> dict[str, float]:
        left = [remaining(each, encoder, decoders[each.donor]) for each in sets[:LOOKED_AT]]
        save_sheet(sets[:LOOKED_AT], encoder, decoders, work / "sheet.png")
        return {"remaining": round(float(np.mean(left)), 4)}

    fit(trainer, feed, options, work, look)


def linear_start(
    sets: Sequence[FaceSet],
    encoder: keras.Model,
    decoders: dict[str, keras.Model],
    config: FatmConfig,
    frozen: bool,
) -> None:
    """Set the linear parts of the networks by least squares, so that training begins with what they can tell.

    The code is what of the principal components of all that is to be drawn a ridge regression tells from the light and
    dark detail of the pictures. frozen: only the decoders' parts are set.
    """  # fmt: skip
    random = np.random.default_rng(7)
    seen, wanted = [], []
    for each in sets:
        rows = np.tile(each.learnt, max(1, -(-DRAWN // len(each.learnt))))[:DRAWN]
        pictures, drawn = each.draw(rows, random)
        seen.append(_small(pictures, SEEN))
        wanted.append(np.stack([cv2.resize(one, (MOVED, MOVED), interpolation=cv2.INTER_AREA) for one in drawn]))
    layer = encoder.get_layer("linear")
    if not frozen:
        detail = _detail_of_grey()
        x = np.concatenate(seen).reshape(-1, 3 * SEEN**2) @ detail
        y = np.concatenate(wanted).reshape(len(x), -1)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        components = _components((y - y_mean)[:: max(1, len(y) // MOST)], config.linear)
        weights = ridge(x - x_mean, (y - y_mean) @ components.T, PENALTY)
        layer.set_weights([detail @ weights, -x_mean @ weights])
    kernel, bias = (np.asarray(value) for value in layer.get_weights())
    for each, pictures, drawn in zip(sets, seen, wanted, strict=True):
        code = pictures.reshape(len(pictures), -1) @ kernel + bias
        flat, centre = drawn.reshape(len(drawn), -1), code.mean(axis=0)
        answer = ridge(code - centre, flat - flat.mean(axis=0), LEAST * float(np.sum((code - centre) ** 2)))
        decoders[each.donor].get_layer("linear").set_weights([answer, flat.mean(axis=0) - centre @ answer])


def _small(pictures: np.ndarray, side: int) -> np.ndarray:
    return pictures.reshape(len(pictures), side, pictures.shape[1] // side, side, -1, 3).mean(axis=(2, 4))


def _detail_of_grey() -> np.ndarray:
    """(3 * SEEN ** 2, SEEN ** 2): from colours to their mean, less what is smooth about it."""
    pixels = np.eye(SEEN**2, dtype=np.float32).reshape(-1, SEEN, SEEN)
    sharp = np.stack([one - cv2.GaussianBlur(one, (0, 0), SMOOTH) for one in pixels]).reshape(SEEN**2, -1)
    return np.repeat(sharp / 3, 3, axis=0)


def _components(rows: np.ndarray, count: int) -> np.ndarray:
    """The first principal components (count, d) of centred rows (n, d); zeros where there are fewer."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    first = np.argsort(values)[::-1][: min(count, len(rows) - 1)]
    found = (vectors[:, first] / np.sqrt(np.maximum(values[first], 1e-9))).T @ rows
    return np.concatenate([found, np.zeros((max(0, count - len(found)), rows.shape[1]))])


def remaining(faces: FaceSet, encoder: keras.Model, decoder: keras.Model) -> float:
    """The squared error of what is drawn of the samples that were not learnt from, as a share of that of the mean of
    those that were, which knows nothing of the input; of a set without such samples, of those that were learnt from.
    """
    rows = faces.held if len(faces.held) else faces.learnt
    rows = rows[:: max(1, len(rows) // 64)]
    pictures, wanted = faces.plain(rows)
    drawn = run(decoder, run(encoder, pictures)[0])[0]
    mean = faces.plain(faces.learnt[:: max(1, len(faces.learnt) // 64)])[1].mean(axis=0)
    return float(np.square(drawn - wanted).mean() / max(float(np.square(mean - wanted).mean()), 1e-9))


def save_sheet(sets: Sequence[FaceSet], encoder: keras.Model, decoders: dict[str, keras.Model], path: Path) -> None:
    """Write a PNG: a row of samples of the first donor's set, and for each donor a row of what its decoder makes of
    them; differences, which have no mean, are shown about grey.
    """
    rows = []
    first = sets[0].held if len(sets[0].held) else sets[0].learnt
    pictures = sets[0].plain(first[:: max(1, len(first) // COLUMNS)][:COLUMNS])[0]
    code = run(encoder, pictures)[0]
    for each in sets:
        drawn = run(decoders[each.donor], code)[0]
        drawn += 0.5 if abs(float(drawn.mean())) < 0.05 else 0.0
        rows.append(np.concatenate(list(drawn), axis=1))
    side = rows[0].shape[0]
    shown = np.concatenate([np.array(Image.fromarray(_bytes(p)).resize((side, side))) for p in pictures], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([shown, *map(_bytes, rows)], axis=0)).save(path)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
