"""The graph in which EPD-Net's generator is trained, its losses (Equations 1 to 11), and how its adversary takes turns.

And what it reaches by the measures of the paper's Section IV: for the log, the card and the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers, ops

from deidcli.errors import MissingDependency
from deidcli.networks.dlib_files import build_recogniser
from deidcli.networks.dlib_recogniser import SAME_PERSON, describe
from deidcli.networks.epd_net import Translator, packed
from deidcli.networks.store import run
from deidcli.training.cleanir_graph import dissimilarity

COLOURED = 4.0  # how much more a change of colour counts in L1: networks are deceived by coloured fringes first
OTHERS = 0.8  # distance (Equation 8) from which on nobody else is meant: half of an answer, where THRESHOLD is 3/4
SHARE = 4  # one face in SHARE is described by the recogniser, which costs as much as all the rest


@dataclass(frozen=True)
class Losses:
    """The weights of Equations 7, 9 and 11, and those of this project's own terms.

    adversarial, identity, emotion: lambda 1 to 3, each in [0, 1] in the paper. structure: phi of Equation 7, in [0, 1].
    alpha: of Equation 9, how far an answer of the identity verifier has to lie from the person's own.
    descriptor: weight of the recogniser's distance to the original, as far as it lies below `margin`; the paper has
    none, and its verifier knows only the people that it was trained on. change: weight of the mean absolute difference
    to the picture that the generator changes, or to the target where faces have one; the L1 term of pix2pix, and
    COLOURED times what of it is colour. switching: weight of Equation 9 for everybody of the gallery but the person, so
    that the new face is none of theirs either.
    """

    adversarial: float = 1.0
    identity: float = 1.0
    emotion: float = 1.0
    structure: float = 0.25
    alpha: float = 1.2
    descriptor: float = 0.0
    margin: float = 0.8
    change: float = 0.0
    switching: float = 0.0


def adversarial(real, verdict):
    """One side of Equation 1, (batch,): the cross entropy of verdicts (batch, rows, columns, 1) for photographs where
    `real` (batch, 1) is 1, and for translations where it is 0.
    """
    target = ops.ones_like(verdict) * ops.reshape(ops.cast(real, verdict.dtype), (-1, 1, 1, 1))
    return ops.mean(ops.binary_crossentropy(target, verdict, from_logits=True), axis=(1, 2, 3))


def structural(face, made):
    """Equation 6, (batch,), of pictures (batch, height, width, 3) in [0, 1], by the SSIM of Equations 2 to 5 with
    exponents of 1.
    """
    return dissimilarity(face, made) / 2


def contrastive(person, answer, alpha: float):
    """Equation 9, (batch,), of one-hot people and answers (batch, M); 0 for whom the verifier does not know."""
    apart = ops.sqrt(ops.sum(ops.square(person - answer), axis=-1) + 1e-12)
    return ops.sum(person, axis=-1) * ops.square(ops.relu(alpha - apart))


def mistaken(person, answer):
    """How far answers (batch, M) lie within OTHERS of the people (batch, M) that a face is not of, squared and summed:
    (batch,). It is more than Equation 9, which leaves it to chance for whom a new face is taken.
    """
    apart = ops.square(answer)
    apart = ops.sqrt(ops.sum(apart, axis=-1, keepdims=True) + 1 - 2 * answer + 1e-6)
    return ops.sum((1 - person) * ops.square(ops.relu(OTHERS - apart)), axis=-1)


def crossentropy(emotion, answer):
    """Equation 10, (batch,), summed over the emotions (batch, classes); both in [0, 1]."""
    answer = ops.clip(ops.cast(answer, "float32"), 1e-5, 1 - 1e-5)
    return -ops.sum(emotion * ops.log(answer) + (1 - emotion) * ops.log(1 - answer), axis=-1)


def unlike(descriptors, answer, margin: float):
    """How far descriptors (share, 128) lie within `margin` of those of the originals (batch, 128), squared: (share,).

    The first faces of the batch are the ones that were described.
    """
    near = descriptors[: ops.shape(answer)[0]]
    apart = ops.sqrt(ops.sum(ops.square(near - answer), axis=-1) + 1e-12)
    return ops.square(ops.relu(margin - apart))


@keras.saving.register_keras_serializable("deidcli")
class Describe(layers.Layer):
    """Descriptors (batch / SHARE, 128) of the first pictures (batch, size, size, 3) in [0, 1], by dlib's network.

    rows, columns: (150, size), the weights with which its chip is cut from a picture.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, **kwargs):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.recogniser = build_recogniser()
        self.recogniser.trainable = False
        self.rows, self.columns = ops.convert_to_tensor(rows), ops.convert_to_tensor(columns)

    def call(self, pictures):
        share = pictures[: (ops.shape(pictures)[0] + SHARE - 1) // SHARE]
        chips = ops.einsum("ry,byxc,sx->brsc", self.rows, share * 255, self.columns)
        return self.recogniser(chips, training=False)


class Alternating(keras.Model):
    """The generator's trainer: before each of its steps, its adversary makes one on the same faces (Equation 12)."""

    def __init__(self, inputs: Any, outputs: Any, generator: keras.Model, critic: keras.Model):
        super().__init__(inputs, outputs)
        self.generator, self.critic = generator, critic
        real, made = (layers.Input(critic.input_shape[1:], name=name) for name in ("real", "made"))
        self.adversary = keras.Model({"real": real, "made": made}, {"real": critic(real), "made": critic(made)})
        self.critic.trainable = False

    def compile_adversary(self, rate: float) -> None:
        """Give the adversary an optimizer of its own: two time scales (Heusel et al. 2017)."""
        self.adversary.compile(keras.optimizers.Adam(rate, beta_1=0.5), {"real": adversarial, "made": adversarial})
        with _learning(self.critic):
            self.adversary.optimizer.build(self.adversary.trainable_variables)

    def train_on_batch(self, x: Mapping, y: Mapping, **kwargs: Any) -> Any:
        """A step of the adversary, then one of the generator; the log of both."""
        made, ones = self.generator(x["given"], training=True), np.ones((len(x["given"]), 1), np.float32)
        pictures = {"real": y["picture"][..., :3], "made": ops.convert_to_numpy(made)}
        with _learning(self.critic):
            said = self.adversary.train_on_batch(pictures, {"real": ones, "made": 0 * ones}, return_dict=True)
        return {"adversary": said["loss"], **super().train_on_batch(x, y, **kwargs)}


class _learning:
    """While the body runs, the network learns."""

    def __init__(self, network: keras.Model):
        self.network = network

    def __enter__(self) -> None:
        self.network.trainable = True

    def __exit__(self, *error: object) -> None:
        self.network.trainable = False


def build_trainer(
    generator: keras.Model,
    critic: keras.Model,
    verifiers: Mapping[str, keras.Model],
    samplers: tuple[np.ndarray, np.ndarray] | None,
) -> Alternating:
    """The training graph, uncompiled.

    In: {"given": rows as the generator wants them}. Out: {"picture": (batch, size, size, 3) in [0, 1], "verdict", the
    answer of each verifier by its name, and where there are samplers (of `Describe`) "descriptor"}.
    """
    given = layers.Input(generator.input_shape[1:], name="given")
    made = generator(given)
    outputs = {"picture": layers.Identity(dtype="float32", name="made")(made), "verdict": critic(made)}
    for name, verifier in verifiers.items():
        verifier.trainable, verifier.name = False, f"{name}_verifier"
        times = made.shape[1] // verifier.input_shape[1]
        small = layers.AveragePooling2D(times, dtype="float32")(made) if times > 1 else made
        answer = keras.tree.flatten(verifier(small * 255, training=False))[0]
        outputs[name] = layers.Identity(dtype="float32", name=f"{name}_answer")(answer)
    if samplers:
        outputs["descriptor"] = Describe(*samplers, name="describe")(made)
    return Alternating({"given": given}, outputs, generator, critic)


def loss_functions(losses: Losses) -> dict:
    """The losses of `build_trainer`'s outputs, for `compile`. The target of "picture" is the face, and behind it in the
    channels the picture that the new face is pulled to, (batch, size, size, 6).
    """

    def picture(target, made):
        alike = losses.adversarial * losses.structure * structural(target[..., :3], made)
        apart = target[..., 3:] - made
        coloured = apart - ops.mean(apart, axis=-1, keepdims=True)
        apart = ops.abs(apart) + COLOURED * ops.abs(coloured)
        return alike + losses.change * ops.mean(apart, axis=(1, 2, 3))

    def identity(person, answer):
        others = losses.switching * mistaken(person, answer) if losses.switching else 0.0
        return losses.identity * contrastive(person, answer, losses.alpha) + others

    return {
        "picture": picture,
        "verdict": lambda real, verdict: losses.adversarial * adversarial(real, verdict),
        "identity": identity,
        "emotion": lambda emotion, answer: losses.emotion * crossentropy(emotion, answer),
        "descriptor": lambda known, answer: losses.descriptor * unlike(known, answer, losses.margin),
    }


THRESHOLD, RANKS = 0.35, 5  # mu of Section IV, and the ranks of Figure 4


def translated(translator: Translator, given: np.ndarray, seed: int = 3) -> np.ndarray:
    """G(x, z) of pictures (n, size, size, 3 or 6) uint8 with drawn noise, as (n, size, size, 3) uint8."""
    random, made = np.random.default_rng(seed), []
    for start in range(0, len(given), 64):
        part = given[start : start + 64].astype(np.float32) / 255
        rows = packed(part, random.random((len(part), translator.config.noise), np.float32))
        made.append(run(translator.network.model, rows)[0])
    return np.clip(np.concatenate(made) * 255 + 0.5, 0, 255).astype(np.uint8)


def answers(verifier: keras.Model, crops: np.ndarray) -> np.ndarray:
    """What a verifier says (n, classes) of crops (n, side, side, 3) uint8, which are shrunk to what it sees."""
    side = verifier.input_shape[1]
    small = [cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA) for c in crops] if len(crops) else crops
    return run(verifier, np.asarray(small, np.float32).reshape(-1, side, side, 3))[0]


def distances(said: np.ndarray) -> np.ndarray:
    """How far answers (n, M) lie from the one-hot vector of each person (Equation 8), (n, M)."""
    return np.sqrt(np.maximum(np.sum(said**2, axis=1, keepdims=True) + 1 - 2 * said, 0))


def places(said: np.ndarray, people: np.ndarray) -> np.ndarray:
    """How many other people an answer (n, M) puts before the person (n, M) that it is of, (n,)."""
    return np.sum(said > said[people.astype(bool)][:, None], axis=1)


def identities(said: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Section IV by what the identity verifier says (n, M) of new faces whose people (n, M) are one-hot.

    self: the share that lies farther than THRESHOLD from the own person, I_x of Equation 8; switching: farther from
    every other one. missed_1 to missed_5: shares whose own person is not among the first ranks (Figure 4).
    """
    apart, own, missed = distances(said), people.astype(bool), places(said, people)
    others = np.where(own, np.inf, apart).min(axis=1)
    figures = {"self": np.mean(apart[own] > THRESHOLD), "switching": np.mean(others > THRESHOLD)}
    return figures | {f"missed_{rank}": np.mean(missed >= rank) for rank in range(1, RANKS + 1)}


def measure(
    translator: Translator, known: Any, strangers: Any, verifiers: Mapping[str, keras.Model], samplers: tuple
) -> dict[str, float]:
    """Figures on faces that took no part. known: pictures of the gallery's people; strangers: of others (both Faces).

    identity_before, self, switching, missed_1 ...: `identities`, of the gallery's people, before: the share that the
    verifier names rightly without any translation. emotion_error: Table I, of strangers, by the emotion verifier. ssim:
    Figure 5. unmatched: the share of strangers' new faces that dlib's recogniser does not take for the original.
    """
    figures: dict[str, float] = {}
    made = translated(translator, strangers.given)
    if "identity" in verifiers and len(known.pack):
        before, people = answers(verifiers["identity"], known.pack.crops), known.people
        after = answers(verifiers["identity"], translated(translator, known.given))
        figures |= {"identity_before": np.mean(before.argmax(axis=1) == people.argmax(axis=1))}
        figures |= identities(after, people)
    if "emotion" in verifiers:
        said = [answers(verifiers["emotion"], crops) for crops in (strangers.pack.crops, made)]
        figures["emotion_error"] = np.mean((said[0] - said[1]) ** 2)
    pair = (ops.convert_to_tensor(x.astype(np.float32) / 255) for x in (strangers.pack.crops, made))
    figures["ssim"] = 1 - 2 * float(np.mean(ops.convert_to_numpy(structural(*pair))))
    try:
        apart = np.linalg.norm(described(made, samplers) - strangers.pack.descriptors, axis=1)
        figures["unmatched"] = np.mean(apart > SAME_PERSON)
    except MissingDependency:  # a machine that only trains
        pass
    return {name: round(float(value), 4) for name, value in figures.items()}


def described(crops: np.ndarray, samplers: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """dlib's descriptors (n, 128) of crops (n, side, side, 3) uint8, cut as `chip_samplers` says."""
    chips = [np.einsum("ry,yxc,sx->rsc", samplers[0], c.astype(np.float32), samplers[1], optimize=True) for c in crops]
    return describe(np.stack(chips))
