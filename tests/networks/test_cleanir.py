"""CLEANIR's networks against Table 1 of the paper, and what a latent vector's halves are."""

import numpy as np
import pytest

from deidcli.networks.cleanir import VaeConfig, build_decoder, build_encoder, join_latent

# Table 1, row by row: the layer that makes each output, and its size.
ENCODER = {
    "enc0_relu": (32, 32, 64),
    **{f"enc1_{row}": (16, 16, 64) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"enc2_{row}": (8, 8, 128) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"enc3_{row}": (4, 4, 192) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"enc4_{row}": (2, 2, 256) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    "encl_norm": (1024,),
    "mean": (1024,),
}
DECODER = {
    "dec0_relu": (4, 4, 512),
    **{f"dec1_{row}": (8, 8, 256) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"dec2_{row}": (16, 16, 128) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"dec3_{row}": (32, 32, 64) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    **{f"dec4_{row}": (64, 64, 32) for row in ("1b_relu", "2_norm", "3_relu", "4b_relu", "5_relu")},
    "decl_conv": (64, 64, 3),
}


@pytest.mark.parametrize(("build", "rows"), [(build_encoder, ENCODER), (build_decoder, DECODER)])
def test_table_1(build, rows):
    """Every output size, and nothing else that has weights of its own."""
    network = build(VaeConfig())
    assert {name: network.get_layer(name).output.shape[1:] for name in rows} == rows
    convolutions = [layer for layer in network.layers if "conv" in layer.name]
    assert len(convolutions) == (1 + 4 * 5 if build is build_encoder else 4 * 5 + 1)
    assert network.get_layer(convolutions[0].name).kernel_size == ((7, 7) if build is build_encoder else (3, 3))
    assert {layer.kernel_size for layer in convolutions[1:]} == {(3, 3)}


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("rank", [None, 16])
def test_other_sizes(size, rank):
    config = VaeConfig(size, 32, 32, (8,) * 5, (8,) * 5, "flatten", rank)
    encoder, decoder = build_encoder(config), build_decoder(config)
    mean, log_variance = encoder(np.zeros((2, size, size, 3), np.float32))
    assert mean.shape == log_variance.shape == (2, 64)
    picture = np.asarray(decoder(np.zeros((2, 64), np.float32)))
    assert picture.shape == (2, size, size, 3) and picture.min() >= 0 and picture.max() <= 1


def test_width_scales_every_channel():
    half = VaeConfig().scaled(0.5)
    assert half.encoder == (32, 32, 64, 96, 128) and half.decoder == (256, 128, 64, 32, 16)


def test_the_identity_half_lies_on_a_sphere():
    random = np.random.default_rng(0)
    identity, attributes = (random.standard_normal((3, 16)).astype(np.float32) for _ in range(2))
    joined = np.asarray(join_latent(identity * 7, attributes))
    assert np.allclose(np.linalg.norm(joined[:, :16], axis=1), 4) and np.allclose(joined[:, 16:], attributes)
    assert np.allclose(joined, np.asarray(join_latent(identity, attributes)), atol=1e-5)
