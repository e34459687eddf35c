"""What CLEANIR is trained for: the losses of Section 3.2 on top of `networks.vae`."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from deidcli.networks.dlib_nets import build_recogniser
from deidcli.networks.vae import Sampling, VaeConfig, build_decoder, build_encoder, join_latent, unit
from deidcli.training.chips import chip_samplers


@dataclass(frozen=True)
class Losses:
    """The lambdas of Equation 4. All terms are means over the batch.

    picture: Equation 1, cross entropy summed over pixels and channels. detail: absolute difference of neighbouring
    pixels' differences, summed likewise; likeness: squared distance of the recogniser's descriptors of the crop and of
    the decoded picture, on a quarter of the batch because it costs as much as all the rest. The paper has neither; they
    counter the blur of Equation 1. identity: Equation 3.
    kl_identity, kl_attributes: Equation 2 on each half; the paper weighs both alike. A dearer attribute half leaves to
    the identity half what that one knows already.
    """

    picture: float = 1.0
    detail: float = 0.0
    likeness: float = 0.0
    identity: float = 3000.0
    kl_identity: float = 0.01
    kl_attributes: float = 0.05


@keras.saving.register_keras_serializable("deidcli")
class JoinHalves(layers.Layer):
    """[identity / |identity|, attributes]: what the decoder is given."""

    def call(self, inputs):
        return join_latent(*inputs)


@keras.saving.register_keras_serializable("deidcli")
class Half(layers.Layer):
    """Columns `start` to `stop` of a (batch, n) tensor."""

    def __init__(self, start: int, stop: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.start, self.stop = start, stop

    def call(self, x):
        return x[:, self.start : self.stop]


@keras.saving.register_keras_serializable("deidcli")
class Likeness(layers.Layer):
    """Passes pictures through and adds `weight` times the squared distance of their descriptors to the given ones.

    The recogniser is dlib's, frozen. Its chip is cut from the aligned crop by one fixed scale and shift, the one that
    takes this project's mean face to dlib's.
    """

    def __init__(self, weight: float, size: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.weight, self.size = weight, size
        self.recogniser = build_recogniser()
        self.recogniser.trainable = False
        self.rows, self.columns = (ops.convert_to_tensor(m) for m in chip_samplers(size))

    def call(self, inputs):
        picture, descriptors = inputs
        share = ops.shape(picture)[0] // 4
        chips = ops.einsum("ry,byxc,sx->brsc", self.rows, picture[:share] * 255, self.columns)
        distance = ops.cast(self.recogniser(chips, training=False), "float32") - descriptors[:share]
        self.add_loss(self.weight * ops.mean(ops.sum(ops.square(distance), axis=-1)))
        return picture


def build_trainer(config: VaeConfig, losses: Losses) -> keras.Model:
    """The training graph, uncompiled.

    In: {"crops": (batch, size, size, 3) uint8, "descriptors": (batch, 128)}. Out: {"picture": (batch, size, size, 3) in
    [0, 1], "identity": (batch, config.identity)}.
    """
    crops = layers.Input((config.size, config.size, 3), dtype="uint8", name="crops")
    descriptors = layers.Input((128,), name="descriptors")
    encoder, decoder = build_encoder(config), build_decoder(config)
    mean, log_variance = encoder(layers.Rescaling(1 / 255)(crops))
    total = config.identity + config.attributes
    halves = []
    for name, start, stop, weight, ceiling in (
        # Hardly any noise on the identity: it would teach the decoder to overhear what the method turns.
        ("identity", 0, config.identity, losses.kl_identity, -6.0),
        ("attributes", config.identity, total, losses.kl_attributes, 0.0),
    ):
        parts = [Half(start, stop, name=f"{name}_{part}")(x) for part, x in (("mean", mean), ("var", log_variance))]
        halves.append(Sampling(weight, ceiling, dtype="float32", name=f"{name}_sample")(parts))
        if name == "identity":
            identity = layers.Identity(dtype="float32", name="identity")(parts[0])
    picture = decoder(JoinHalves(dtype="float32", name="join")(halves))
    if losses.likeness:
        picture = Likeness(losses.likeness, config.size, name="likeness")([picture, descriptors])
    inputs = {"crops": crops, "descriptors": descriptors}
    return keras.Model(inputs, {"picture": picture, "identity": identity}, name="trainer")


def loss_functions(losses: Losses) -> dict:
    """The losses of the two outputs, ready for `compile`; targets are crops in [0, 1] and lifted descriptors."""

    def picture(target, made):
        entropy = keras.losses.binary_crossentropy(target, ops.clip(made, 1e-4, 1 - 1e-4)) * 3  # mean over channels
        total = losses.picture * ops.sum(entropy, axis=(1, 2))
        if losses.detail:
            total = total + losses.detail * (_edges(target - made, 1) + _edges(target - made, 2))
        return total

    def identity(target, made):
        return losses.identity * (1 - ops.sum(unit(target) * unit(made), axis=-1))

    return {"picture": picture, "identity": identity}


def _edges(difference, axis: int):
    """Sum over each picture of |difference of neighbours| along `axis` (1: down, 2: across)."""
    ahead, behind = ([slice(None)] * 4 for _ in range(2))
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return ops.sum(ops.abs(difference[tuple(ahead)] - difference[tuple(behind)]), axis=(1, 2, 3))


def lift_matrix(descriptor: int, identity: int, seed: int = 2020) -> np.ndarray:
    """(descriptor, identity) float32 with orthonormal rows: lifts a descriptor and keeps every angle and length."""
    drawn = np.random.default_rng(seed).standard_normal((identity, descriptor))
    return np.linalg.qr(drawn)[0].T.astype(np.float32)


def lift(descriptors: np.ndarray, center: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Descriptors (n, d) to identity targets (n, identity): centred, so that strangers are at right angles."""
    return (descriptors - center) @ matrix
