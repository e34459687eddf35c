"""What of a look counts as something that can be seen."""

import numpy as np

from deidcli.faces.looks import shows


def test_a_gradient_shows_nothing_and_a_face_does(portrait, face):
    height, width = portrait.shape[:2]
    plain = np.full_like(portrait, 255)
    fading = np.repeat(np.linspace(0, 255, width)[None, :, None], height, axis=0).repeat(3, axis=2).astype(np.uint8)
    assert not shows(plain, face) and not shows(fading, face)
    assert shows(portrait, face) and shows(255 - portrait // 4, face)
