"""Layers that Keras lacks. They are apart because defining one imports Keras, which a run on the processor does
without: functions that build a network import this module."""

from __future__ import annotations

import numpy as np

from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import SLOPE


class Alone(layers.Layer):
    """Runs a network on one row of a batch at a time, in a loop inside the graph.

    The last bits of a convolution depend on the size of the batch, and where several threads share a batch of one fixed
    size, on the place of a row in it. A row that is computed alone has the same bits in any batch and order. They may
    still differ between processors and between numbers of threads.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self.model = model

    def call(self, batch):
        return keras.ops.map(self._one, batch)

    def _one(self, row):
        made = self.model(row[None], training=False)
        return [rows[0] for rows in (made if isinstance(made, (list, tuple)) else [made])]

    def compute_output_spec(self, batch):
        outputs = self.model.outputs
        return [keras.KerasTensor((batch.shape[0], *out.shape[1:]), out.dtype) for out in outputs]


@keras.saving.register_keras_serializable("deidcli")
class PictureBias(layers.Layer):
    """ToRGB's bias, one for each pixel: begun with the mean face, it leaves the network only what faces differ in."""

    def build(self, shape):
        self.picture = self.add_weight(shape=shape[1:], initializer="zeros", name="picture")

    def call(self, inputs):
        return inputs + self.picture

    def begin(self, mean: np.ndarray) -> None:
        """Make the bias such that a network that says nothing shows `mean` (size, size, 3) in [0, 1]."""
        mean = np.clip(mean, 0.01, 0.99)
        self.picture.assign(np.log(mean / (1 - mean)))


@keras.saving.register_keras_serializable("deidcli")
class PixelShuffle(layers.Layer):
    """(batch, h, w, 4 c) to (batch, 2 h, 2 w, c): four channels become four neighbouring pixels."""

    def call(self, x):
        height, width, channels = x.shape[1:]
        cells = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
        return ops.reshape(ops.transpose(cells, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, channels // 4))

    def compute_output_shape(self, shape):
        return shape[0], 2 * shape[1], 2 * shape[2], shape[3] // 4


@keras.saving.register_keras_serializable("deidcli")
class Sampling(layers.Layer):
    """z = mean + exp(log_variance / 2) * noise while training; otherwise the mean, which makes a face steady.

    Adds `weight` times the Kullback-Leibler divergence of Equation 2, summed over the latent vector and averaged over
    the batch, as a loss. ceiling: the largest log variance; without one a strange picture drowns in noise and upsets
    the training.
    """

    def __init__(self, weight: float = 1.0, ceiling: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.weight, self.ceiling = weight, ceiling
        self.noise = keras.random.SeedGenerator(17)

    def call(self, inputs, training=False):
        mean, log_variance = (ops.cast(x, "float32") for x in inputs)
        log_variance = ops.minimum(log_variance, self.ceiling)
        divergence = -0.5 * ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=-1)
        self.add_loss(self.weight * ops.mean(divergence))
        if not training:
            return mean
        return mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean), seed=self.noise)


CRITIC_CHANNELS = (24, 48, 96)  # each at half the height and width of the one before
CRITIC_KERNEL = 4
# Its weights are kept divided by this, so that the optimizer of all moves them so much faster: a critic that learns no
# faster than the decoder never sees the difference.
FASTER = 4.0
# It is shown a picture less the mean around each pixel, enlarged: detail is what other losses leave out, and colours,
# which they hold, would be an easier way to please it.
SURROUND, GAIN = 9, 5.0


@keras.saving.register_keras_serializable("deidcli")
class Critic(layers.Layer):
    """Pictures (batch, height, width, 3) in [0, 1] to the features of every stage, the last of which are the verdicts.

    A verdict is a number for each patch of 8 x 8 pixels: above 1 surely a photograph, below -1 surely not.
    """

    def build(self, shape):
        incoming = 3
        self.kernels, self.biases = [], []
        for i, channels in enumerate((*CRITIC_CHANNELS, 1)):
            size = (CRITIC_KERNEL, CRITIC_KERNEL, incoming, channels)
            start = keras.initializers.VarianceScaling(FASTER**-2, "fan_avg")
            self.kernels.append(self.add_weight(shape=size, initializer=start, name=f"kernel{i}"))
            self.biases.append(self.add_weight(shape=(channels,), initializer="zeros", name=f"bias{i}"))
            incoming = channels

    def call(self, pictures, learning: bool = True):
        """learning: whether the gradient reaches the critic's own weights."""
        x, seen = GAIN * (pictures - ops.average_pool(pictures, SURROUND, 1, "same")), []
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if not learning:
                kernel, bias = ops.stop_gradient(kernel), ops.stop_gradient(bias)
            last = i == len(CRITIC_CHANNELS)
            x = ops.conv(x, kernel, strides=1 if last else 2, padding="same") * FASTER + bias
            x = x if last else ops.leaky_relu(x, SLOPE)
            seen.append(x)
        return seen


class Inside(layers.Layer):
    """1 where a cell belongs to its picture and 0 past it: [(N, H, W, C), (N, 2) rows and columns] to (N, H, W, 1)."""

    def call(self, inputs):
        cells, valid = inputs
        height, width = ops.shape(cells)[1:3]
        rows = ops.arange(height, dtype="int32")[None, :] < valid[:, :1]
        columns = ops.arange(width, dtype="int32")[None, :] < valid[:, 1:]
        return ops.cast(rows[:, :, None, None] & columns[:, None, :, None], cells.dtype)

    def compute_output_shape(self, shapes):
        return (*shapes[0][:3], 1)
