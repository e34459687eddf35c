"""The graph that is trained: encoder, halves, decoder, and the terms that are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from deidcli.networks import classifiers
from deidcli.networks.cleanir import VaeConfig, build_decoder, build_encoder, join_latent, unit
from deidcli.networks.dlib_files import build_recogniser
from deidcli.networks.own_layers import Critic, Sampling
from deidcli.presets import load_preset
from deidcli.training.data import chip_samplers

TURNED = 4  # one face in TURNED is decoded a second time with a rotated identity
LEAST = 60.0  # degrees; identities are rotated by LEAST to 180


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
class RotateIdentity(layers.Layer):
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
class SplitRows(layers.Layer):
    """Cuts the first tensor where the second ends: as many rows as that has, and the rest."""

    def call(self, inputs):
        stacked, known = inputs
        count = ops.shape(known)[0]
        return stacked[:count], stacked[count:]


def build_trainer(config: VaeConfig, losses: Losses, spread: np.ndarray, kept: np.ndarray) -> keras.Model:
    """The training graph, uncompiled.

    In: {"crops": (batch, size, size, 3) uint8, "descriptors": (batch, 128)}. Out: {"picture": (batch, size, size, 3) in
    [0, 1], "identity": (batch, config.identity)}. spread, kept: of `RotateIdentity`.
    """
    crops = layers.Input((config.size, config.size, 3), dtype="uint8", name="crops")
    descriptors = layers.Input((128,), name="descriptors")
    encoder, decoder = build_encoder(config), build_decoder(config)
    photograph = layers.Rescaling(1 / 255)(crops)
    mean, log_variance = encoder(photograph)
    (identity, attributes), spreads = _halves(mean, config), _halves(log_variance, config)
    samples = [
        # Hardly any noise on the identity half: with more, the decoder would learn to ignore what the method rotates.
        _sample("identity", losses.kl_identity, -6.0, identity, spreads[0]),
        _sample("attributes", losses.kl_attributes, 0.0, attributes, spreads[1]),
    ]
    latent = JoinHalves(dtype="float32", name="join")(samples)
    if losses.turns:
        turned = RotateIdentity(spread, kept, name="turned")(identity)
        still = SplitRows(dtype="float32", name="still")([attributes, turned])[0]
        both = [latent, JoinHalves(dtype="float32", name="join_turned")([turned, still])]
        made = decoder(layers.Concatenate(axis=0, dtype="float32", name="both")(both))
        picture, other = SplitRows(dtype="float32", name="apart")([made, latent])
        if losses.adversarial or losses.features:
            picture = AdversarialLoss(losses.adversarial, losses.features, name="looks")([picture, other, photograph])
        if losses.consistency or losses.repulsion:
            latents = [*_halves(encoder(other)[0], config), turned, still]
            picture = ConsistencyLoss(losses.consistency, losses.repulsion, name="consistency")([picture, *latents])
        if losses.expression:
            picture = Expression(losses.expression, config.size, name="expression")([picture, other, photograph])
    else:
        picture = decoder(latent)
    if losses.likeness:
        picture = RecogniserLoss(losses.likeness, config.size, name="likeness")([picture, descriptors])
    inputs = {"crops": crops, "descriptors": descriptors}
    identity = layers.Identity(dtype="float32", name="identity")(identity)
    return keras.Model(inputs, {"picture": picture, "identity": identity}, name="trainer")


def _halves(latent, config: VaeConfig) -> list:
    return [Half(0, config.identity)(latent), Half(config.identity, config.identity + config.attributes)(latent)]


def _sample(name: str, weight: float, ceiling: float, mean, log_variance):
    return Sampling(weight, ceiling, dtype="float32", name=f"{name}_sample")([mean, log_variance])


# --- What CLEANIR is trained for: the losses of Section 3.2, and this project's own.


@dataclass(frozen=True)
class Losses:
    """The lambdas of Equation 4. All terms are means over the batch.

    picture: Equation 1, cross entropy summed over pixels and channels. identity: Equation 3. kl_identity,
    kl_attributes: Equation 2 on each half; the paper weighs both alike. A dearer attribute half leaves to the identity
    half what that one knows already.

    The paper has none of the others. Against the blur of Equation 1: detail, absolute difference of neighbouring
    pixels' differences, summed likewise; structure, 1 - SSIM; likeness, squared distance of the recogniser's
    descriptors of the crop and of the decoded picture; adversarial, features: `AdversarialLoss`. For the turned
    face: consistency, repulsion: `ConsistencyLoss`; expression: `Expression`.
    """

    picture: float = 1.0
    detail: float = 0.0
    structure: float = 0.0
    likeness: float = 0.0
    identity: float = 3000.0
    kl_identity: float = 0.01
    kl_attributes: float = 0.05
    adversarial: float = 0.0
    features: float = 0.0
    consistency: float = 0.0
    repulsion: float = 0.0
    expression: float = 0.0

    @property
    def turns(self) -> bool:
        """Whether faces are decoded turned, too."""
        return any((self.adversarial, self.features, self.consistency, self.repulsion, self.expression))


def loss_functions(losses: Losses) -> dict:
    """The losses of the two outputs, ready for `compile`; targets are crops in [0, 1] and lifted descriptors."""

    def picture(target, made):
        entropy = keras.losses.binary_crossentropy(target, ops.clip(made, 1e-4, 1 - 1e-4)) * 3  # mean over channels
        total = losses.picture * ops.sum(entropy, axis=(1, 2))
        if losses.detail:
            total = total + losses.detail * (_edges(target - made, 1) + _edges(target - made, 2))
        if losses.structure:
            total = total + losses.structure * dissimilarity(target, made)
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


# --- Losses on decoded pictures that need networks of their own, as layers that pass the pictures through.


@keras.saving.register_keras_serializable("deidcli")
class RecogniserLoss(layers.Layer):
    """Adds `weight` times the squared distance of the pictures' descriptors to the given ones.

    The recogniser is dlib's, frozen. Its chip is cut from the aligned crop by one fixed scale and shift, the one that
    takes this project's mean face to dlib's. Only a quarter of the batch is looked at, because that costs as much as
    all the rest.
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


@keras.saving.register_keras_serializable("deidcli")
class Expression(layers.Layer):
    """Adds `weight` times the divergence (Kullback and Leibler) of the expressions of decoded pictures.

    Of pictures (batch, ...) and turned ones (share, ...) from their photographs (batch, ...), as the frozen classifier
    `expression` reads them; `expression-judge`, which measures, takes no part. Raises PresetError where it is missing.
    """

    def __init__(self, weight: float, size: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        classifier = classifiers.load(load_preset("expression", classifiers.METHOD))
        self.weight, self.times = weight, size // classifier.config.size
        self.classifier = classifier.network.model
        self.classifier.trainable = False

    def call(self, inputs):
        picture, turned, photograph = inputs
        asked = self._read(photograph)
        asked = ops.stop_gradient(ops.concatenate([asked, asked[: ops.shape(turned)[0]]]))
        read = self._read(ops.concatenate([picture, ops.cast(turned, "float32")]))
        apart = ops.sum(asked * (ops.log(asked + 1e-4) - ops.log(read + 1e-4)), axis=-1)
        self.add_loss(self.weight * ops.mean(apart))
        return picture

    def _read(self, pictures):
        small = ops.average_pool(ops.cast(pictures, "float32"), self.times) if self.times > 1 else pictures
        return ops.cast(keras.tree.flatten(self.classifier(small * 255, training=False))[0], "float32")


@keras.saving.register_keras_serializable("deidcli")
class AdversarialLoss(layers.Layer):
    """Adds the adversarial loss of a critic on decoded pictures (batch, ...), turned ones (share, ...) and photographs
    (batch, ...).

    adversarial: weight of the hinge loss, of which the critic's side always weighs 1. features: weight of the mean
    absolute difference of the critic's features between a picture and its photograph (Wang et al. 2018, pix2pixHD).
    """

    def __init__(self, adversarial: float, features: float, **kwargs):
        super().__init__(**kwargs)
        self.adversarial, self.features = adversarial, features
        self.critic = Critic()

    def build(self, shapes):
        self.critic.build(shapes[0])

    def call(self, inputs, training=False):
        picture, turned, photograph = inputs
        if not training:
            return ops.cast(picture, "float32")
        made = ops.concatenate([picture, turned])
        real, fake = self.critic(photograph), self.critic(ops.stop_gradient(made))
        self.add_loss(_mean(ops.relu(1 - real[-1])) + _mean(ops.relu(1 + fake[-1])))
        judged = self.critic(made, learning=False)
        self.add_loss(-self.adversarial * _mean(judged[-1]))
        pairs = [(j[: ops.shape(picture)[0]], ops.stop_gradient(r)) for j, r in zip(judged, real, strict=True)]
        self.add_loss(self.features * sum(_mean(ops.abs(j - r)) for j, r in pairs[:-1]))
        return ops.cast(picture, "float32")


@keras.saving.register_keras_serializable("deidcli")
class ConsistencyLoss(layers.Layer):
    """Adds the distance between what the encoder reads in rotated pictures and the decoder's input.

    weight: of 1 - cosine between the identities, and of half the mean squared difference of the attributes. repulsion:
    weight of what two people's new identities are more alike than they should be, in cosine.
    """

    def __init__(self, weight: float, repulsion: float, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.weight, self.repulsion = weight, repulsion

    def call(self, inputs):
        picture, read_identity, read_attributes, identity, attributes = inputs
        share = ops.shape(read_identity)[0]
        identity, attributes = unit(identity[:share]), attributes[:share]
        read = unit(read_identity)
        apart = ops.mean(1 - ops.sum(read * identity, axis=-1))
        self.add_loss(self.weight * (apart + ops.mean(ops.square(read_attributes - attributes)) / 2))
        excess = ops.matmul(read, ops.transpose(read)) - ops.matmul(identity, ops.transpose(identity))
        self.add_loss(self.repulsion * ops.mean(ops.square(ops.relu(excess))))
        return picture


def _mean(x):
    return ops.mean(ops.cast(x, "float32"))


# --- Structural similarity (Wang et al. 2004) as a loss.

WINDOW = 7  # pixels; every one of them weighs the same
STEADY = (0.01**2, 0.03**2)  # C1 and C2 of the paper for values in [0, 1]


def dissimilarity(a, b):
    """1 - SSIM of pictures (batch, height, width, channels) in [0, 1], averaged over windows that lie inside: (batch,).

    scikit-image's `structural_similarity(win_size=7, use_sample_covariance=False)`, border left out, is the same.
    """
    height, width, channels = a.shape[1:]
    # Products of matrices, whose gradient takes a tenth of the time that the one of pooling does on a processor.
    down, across = _windows(height), np.kron(_windows(width), np.eye(channels, dtype=np.float32)).T
    a, b = (ops.reshape(x, (-1, height, width * channels)) for x in (a, b))
    mean = lambda x: ops.matmul(ops.matmul(down, x), across)  # noqa: E731
    a_mean, b_mean = mean(a), mean(b)
    # Rounding must not make a variance negative where a picture is flat.
    a_var, b_var = (ops.maximum(mean(x * x) - m * m, 0.0) for x, m in ((a, a_mean), (b, b_mean)))
    both = mean(a * b) - a_mean * b_mean
    light = (2 * a_mean * b_mean + STEADY[0]) / (a_mean * a_mean + b_mean * b_mean + STEADY[0])
    shape = (2 * both + STEADY[1]) / (a_var + b_var + STEADY[1])
    return 1 - ops.mean(light * shape, axis=(1, 2))


def _windows(count: int) -> np.ndarray:
    """(count - WINDOW + 1, count) float32: with it, numbers in a row become the means of all windows."""
    steps = np.arange(count) - np.arange(count - WINDOW + 1)[:, None]
    return np.where((steps >= 0) & (steps < WINDOW), np.float32(1 / WINDOW), np.float32(0))
