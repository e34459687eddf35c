"""A probe reads the person where the attributes tell, also where only something that bends can read it."""

import numpy as np
import pytest

from deidcli.training.cleanir_figures import probe
from deidcli.training.data import Pack


class Told:
    """Stands for a Pair: attributes by name of the face, which the crop's first pixels hold."""

    def __init__(self, attributes):
        self.attributes = attributes

    def encode(self, crops):
        return None, self.attributes[crops[:, 0, 0, 0].astype(int) * 256 + crops[:, 0, 0, 1]]


def faces(rows, descriptors):
    crops = np.zeros((len(rows), 8, 8, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = rows // 256, rows % 256
    return Pack(crops, descriptors[rows].astype(np.float32), np.array([f"{r}/a.jpg" for r in rows]))


@pytest.mark.parametrize(
    ("telling", "straight", "bent"), [("line", True, True), ("sign", False, True), ("", False, False)]
)
def test_what_is_read(telling, straight, bent):
    random = np.random.default_rng(0)
    descriptors = random.standard_normal((3200, 6))
    attributes = random.standard_normal((3200, 24))
    if telling == "line":
        attributes[:, :6] = descriptors
    if telling == "sign":
        # The size tells, and half of the signs are turned: nothing linear is left of it.
        descriptors = descriptors**2
        attributes[:, :6] = np.sqrt(descriptors) * random.choice([-1, 1], descriptors.shape)
    found = probe(Told(attributes), faces(np.arange(3000), descriptors), faces(np.arange(3000, 3200), descriptors))
    assert found["probe_chance"] == 0.005
    assert (found["probe_cosine"] > 0.4) == straight and (found["probe_net_cosine"] > 0.4) == bent
    assert (found["probe_rank1"] > 0.04) == straight and (found["probe_net_rank1"] > 0.04) == bent
