"""CLEANIR's variational autoencoder (Cho et al. 2020, Table 1): a latent vector of identity and the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import activate, conv_norm_relu, decoder_block, encoder_block


@dataclass(frozen=True)
class VaeConfig:
    """The sizes of Table 1. Other values than the defaults are this project's own and stand in the preset's card.

    size: side of the square picture in pixels, a multiple of 32. identity, attributes: lengths of the two halves of the
    latent vector. encoder: channels of Enc0 and of each encoder block. decoder: channels of Dec0 and of each decoder
    block. pool: what stands before EncL's fully connected layer: "average" as in the paper, or "flatten", which keeps
    where things are (at a reduced width the average leaves fewer numbers than the latent vector has). rank: None as in
    the paper, or how many numbers make up the identity half through a fixed matrix: as many as the recogniser's
    descriptor has. Without it the rest of the 512 takes up expression and light, and they turn with the identity.
    erase: whether a fixed linear map takes out of the attributes what tells the person (`training.erasure`); with
    `rank` only. seen: side in pixels that the encoder averages the picture down to, None for its own size: what it
    has to tell does not need the detail that the decoder draws.
    """

    size: int = 64
    identity: int = 512
    attributes: int = 512
    encoder: tuple[int, ...] = (64, 64, 128, 192, 256)
    decoder: tuple[int, ...] = (512, 256, 128, 64, 32)
    pool: str = "average"
    rank: int | None = None
    erase: bool = False
    seen: int | None = None

    def scaled(self, width: float) -> VaeConfig:
        """The same network with every channel count multiplied by `width`."""
        scale = lambda row: tuple(max(8, round(c * width)) for c in row)  # noqa: E731
        return replace(self, encoder=scale(self.encoder), decoder=scale(self.decoder))


def build_encoder(config: VaeConfig) -> keras.Model:
    """Picture (batch, size, size, 3) in [0, 1] to latent mean and log variance, each (batch, identity + attributes)."""
    picture = layers.Input((config.size, config.size, 3), name="picture")
    x = picture
    if config.seen and config.seen < config.size:
        x = layers.AveragePooling2D(config.size // config.seen, name="seen")(x)
    x = conv_norm_relu(x, config.encoder[0], kernel=7, stride=2, name="enc0")
    for i, channels in enumerate(config.encoder[1:], 1):
        x = encoder_block(x, channels, f"enc{i}")
    x = layers.Flatten(name="encl_pool")(x) if config.pool == "flatten" else _average(x)
    latent = config.identity + config.attributes
    x = layers.Dense(latent, name="encl_dense")(x)
    x = layers.BatchNormalization(momentum=0.9, name="encl_norm")(activate(x, "encl_relu"))
    mean = _mean(x, config)
    # Starting near zero variance lets the decoder see the code before the prior pulls on it.
    log_variance = layers.Dense(latent, dtype="float32", bias_initializer=keras.initializers.Constant(-4.0), name="var")
    return keras.Model(picture, [mean, log_variance(x)], name="encoder")


def _mean(x, config: VaeConfig):
    if config.rank is None:
        return layers.Dense(config.identity + config.attributes, dtype="float32", name="mean")(x)
    code = layers.Dense(config.rank, dtype="float32", name="code")(x)
    # Its matrix is set once, from the preset's identity space, and never trained.
    lift = layers.Dense(config.identity, use_bias=False, trainable=False, dtype="float32", name="lift")
    attributes = layers.Dense(config.attributes, dtype="float32", name="attributes")(x)
    if config.erase:
        # Set from the training faces, as the rest of the network is, and never trained.
        same = {"kernel_initializer": "identity", "trainable": False, "dtype": "float32"}
        attributes = layers.Dense(config.attributes, name="erase", **same)(attributes)
    return layers.Concatenate(dtype="float32", name="mean")([lift(code), attributes])


def _average(x):
    # At 64 px the 3x3 average of Table 1 sees the whole 2x2 map, so it is the mean over the map at any size.
    return layers.GlobalAveragePooling2D(name="encl_pool")(x)


def build_decoder(config: VaeConfig) -> keras.Model:
    """Latent vector (batch, identity + attributes) to picture (batch, size, size, 3) in [0, 1]."""
    start = config.size // 2 ** (len(config.decoder) - 1)
    latent = layers.Input((config.identity + config.attributes,), name="latent")
    x = layers.Dense(start * start * config.decoder[0], name="dec0_dense")(latent)
    x = activate(layers.Reshape((start, start, config.decoder[0]), name="dec0_shape")(x), "dec0_relu")
    for i, channels in enumerate(config.decoder[1:], 1):
        x = decoder_block(x, channels, f"dec{i}")
    x = layers.Conv2D(3, 3, padding="same", name="decl_conv")(activate(x, "decl_relu"))
    return keras.Model(latent, layers.Activation("sigmoid", dtype="float32", name="picture")(x), name="decoder")


def unit(x):
    """x / |x| along the last axis."""
    return x / ops.maximum(ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)), 1e-6)


def join_latent(identity, attributes):
    """The decoder's input: the identity half on the unit sphere (Section 3.3), then the attributes.

    The sphere is given the radius sqrt(identity), so that its coordinates are as large as the attributes' and the
    decoder does not have to learn first to listen to them.
    """
    radius = float(identity.shape[-1]) ** 0.5
    return ops.concatenate([unit(identity) * radius, attributes], axis=-1)
