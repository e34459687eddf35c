"""What CLEANIR is trained for: the losses of Section 3.2, and this project's own."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from deidcli.networks.vae import unit
from deidcli.training.structure import dissimilarity


@dataclass(frozen=True)
class Losses:
    """The lambdas of Equation 4. All terms are means over the batch.

    picture: Equation 1, cross entropy summed over pixels and channels. identity: Equation 3. kl_identity,
    kl_attributes: Equation 2 on each half; the paper weighs both alike. A dearer attribute half leaves to the identity
    half what that one knows already.

    The paper has none of the others. Against the blur of Equation 1: detail, absolute difference of neighbouring
    pixels' differences, summed likewise; structure, 1 - SSIM; likeness, squared distance of the recogniser's
    descriptors of the crop and of the decoded picture; adversarial, features: `cleanir_terms.Looks`. For the turned
    face: consistency, repulsion: `cleanir_terms.Consistency`; expression: `cleanir_terms.Expression`.
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
