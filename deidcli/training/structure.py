"""Structural similarity (Wang et al. 2004) as a loss."""

from __future__ import annotations

from keras import ops

WINDOW = 7  # pixels; every one of them weighs the same
STEADY = (0.01**2, 0.03**2)  # C1 and C2 of the paper for values in [0, 1]


def dissimilarity(a, b):
    """1 - SSIM of pictures (batch, height, width, channels) in [0, 1], averaged over windows that lie inside: (batch,).

    scikit-image's `structural_similarity(win_size=7, use_sample_covariance=False)`, border left out, is the same.
    """
    mean = lambda x: ops.average_pool(x, WINDOW, 1, "valid")  # noqa: E731
    a_mean, b_mean = mean(a), mean(b)
    # Rounding must not make a variance negative where a picture is flat.
    a_var, b_var = (ops.maximum(mean(x * x) - m * m, 0.0) for x, m in ((a, a_mean), (b, b_mean)))
    both = mean(a * b) - a_mean * b_mean
    light = (2 * a_mean * b_mean + STEADY[0]) / (a_mean * a_mean + b_mean * b_mean + STEADY[0])
    shape = (2 * both + STEADY[1]) / (a_var + b_var + STEADY[1])
    return 1 - ops.mean(light * shape, axis=(1, 2, 3))
