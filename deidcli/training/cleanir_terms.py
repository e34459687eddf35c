"""Losses on decoded pictures that need networks of their own, as layers that pass the pictures through."""

from __future__ import annotations

import keras
from keras import layers, ops

from deidcli.networks import classifiers
from deidcli.networks.critic import Critic
from deidcli.networks.dlib_nets import build_recogniser
from deidcli.networks.vae import unit
from deidcli.presets import load_preset
from deidcli.training.chips import chip_samplers


@keras.saving.register_keras_serializable("deidcli")
class Likeness(layers.Layer):
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
        self.classifier = classifier.network
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
class Looks(layers.Layer):
    """Adds what a critic says of decoded pictures (batch, ...), turned ones (share, ...) and photographs (batch, ...).

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
class Consistency(layers.Layer):
    """Adds how far what the encoder reads in turned pictures is from what the decoder was told.

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
