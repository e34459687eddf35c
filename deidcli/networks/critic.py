"""A critic: it learns to tell photographs from decoded pictures, patch by patch, and the decoder to please it."""

from __future__ import annotations

from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import SLOPE

CHANNELS = (24, 48, 96)  # each at half the height and width of the one before
KERNEL = 4
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
        for i, channels in enumerate((*CHANNELS, 1)):
            size = (KERNEL, KERNEL, incoming, channels)
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
            last = i == len(CHANNELS)
            x = ops.conv(x, kernel, strides=1 if last else 2, padding="same") * FASTER + bias
            x = x if last else ops.leaky_relu(x, SLOPE)
            seen.append(x)
        return seen
