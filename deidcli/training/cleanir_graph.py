"""The graph that is trained: encoder, halves, decoder, and the terms that are asked for."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from deidcli.networks.vae import Sampling, VaeConfig, build_decoder, build_encoder, join_latent, unit
from deidcli.training.cleanir_losses import Losses
from deidcli.training.cleanir_terms import Consistency, Expression, Likeness, Looks

TURNED = 4  # one face in so many is decoded a second time, turned
LEAST = 60.0  # degrees; they are turned by this much to half a turn


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
class Turned(layers.Layer):
    """The first quarter of the identities (batch, d), each turned by a drawn angle about a drawn axis: Equation 6.

    spread: (k, d) of the identity space, from which the axes are drawn as the method draws them. kept: (n, d), the
    directions that the method does not turn.
    """

    def __init__(self, spread: np.ndarray, kept: np.ndarray, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        basis = np.linalg.qr(kept.T)[0]
        self.spread = ops.convert_to_tensor((spread - spread @ basis @ basis.T).astype(np.float32))
        self.basis = ops.convert_to_tensor(basis.astype(np.float32))
        self.noise = keras.random.SeedGenerator(23)

    def call(self, identity):
        whole = unit(identity[: ops.shape(identity)[0] // TURNED])
        fixed = ops.matmul(ops.matmul(whole, self.basis), ops.transpose(self.basis))
        start, length = unit(whole - fixed), ops.norm(whole - fixed, axis=-1, keepdims=True)
        count = ops.shape(start)[0]
        axis = ops.matmul(keras.random.normal((count, len(self.spread)), seed=self.noise), self.spread)
        across = unit(axis - ops.sum(axis * start, axis=-1, keepdims=True) * start)
        degrees = keras.random.uniform((count, 1), LEAST, 180.0, seed=self.noise)
        angle = degrees * (np.pi / 180)
        return fixed + length * (start * ops.cos(angle) + across * ops.sin(angle))


@keras.saving.register_keras_serializable("deidcli")
class Ahead(layers.Layer):
    """Cuts the first tensor where the second ends: as many rows as that has, and the rest."""

    def call(self, inputs):
        stacked, known = inputs
        count = ops.shape(known)[0]
        return stacked[:count], stacked[count:]


def build_trainer(config: VaeConfig, losses: Losses, spread: np.ndarray, kept: np.ndarray) -> keras.Model:
    """The training graph, uncompiled.

    In: {"crops": (batch, size, size, 3) uint8, "descriptors": (batch, 128)}. Out: {"picture": (batch, size, size, 3) in
    [0, 1], "identity": (batch, config.identity)}. spread, kept: of `Turned`.
    """
    crops = layers.Input((config.size, config.size, 3), dtype="uint8", name="crops")
    descriptors = layers.Input((128,), name="descriptors")
    encoder, decoder = build_encoder(config), build_decoder(config)
    photograph = layers.Rescaling(1 / 255)(crops)
    mean, log_variance = encoder(photograph)
    (identity, attributes), spreads = _halves(mean, config), _halves(log_variance, config)
    samples = [
        # Hardly any noise on the identity: it would teach the decoder to overhear what the method turns.
        _sample("identity", losses.kl_identity, -6.0, identity, spreads[0]),
        _sample("attributes", losses.kl_attributes, 0.0, attributes, spreads[1]),
    ]
    latent = JoinHalves(dtype="float32", name="join")(samples)
    if losses.turns:
        turned = Turned(spread, kept, name="turned")(identity)
        still = Ahead(dtype="float32", name="still")([attributes, turned])[0]
        both = [latent, JoinHalves(dtype="float32", name="join_turned")([turned, still])]
        made = decoder(layers.Concatenate(axis=0, dtype="float32", name="both")(both))
        picture, other = Ahead(dtype="float32", name="apart")([made, latent])
        if losses.adversarial or losses.features:
            picture = Looks(losses.adversarial, losses.features, name="looks")([picture, other, photograph])
        if losses.consistency or losses.repulsion:
            told = [*_halves(encoder(other)[0], config), turned, still]
            picture = Consistency(losses.consistency, losses.repulsion, name="consistency")([picture, *told])
        if losses.expression:
            picture = Expression(losses.expression, config.size, name="expression")([picture, other, photograph])
    else:
        picture = decoder(latent)
    if losses.likeness:
        picture = Likeness(losses.likeness, config.size, name="likeness")([picture, descriptors])
    inputs = {"crops": crops, "descriptors": descriptors}
    identity = layers.Identity(dtype="float32", name="identity")(identity)
    return keras.Model(inputs, {"picture": picture, "identity": identity}, name="trainer")


def _halves(latent, config: VaeConfig) -> list:
    return [Half(0, config.identity)(latent), Half(config.identity, config.identity + config.attributes)(latent)]


def _sample(name: str, weight: float, ceiling: float, mean, log_variance):
    return Sampling(weight, ceiling, dtype="float32", name=f"{name}_sample")([mean, log_variance])
