"""The mean face: 68 points in the iBUG order, and the groups of them that the other rooms speak of.

The points are the Procrustes mean of the landmarks of 8,042 photographs, made symmetric. The unit is the side of the
face square, which reaches from the hairline (a third of the way from chin to brows above the brows) to the chin; (0, 0)
is its upper left corner.
"""

from __future__ import annotations

import numpy as np

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSE = slice(27, 36)
LEFT_EYE = slice(36, 42)  # as seen in the picture
RIGHT_EYE = slice(42, 48)
MOUTH_OUTLINE = slice(48, 60)
INNER = slice(17, 68)  # everything but the jaw: the jaw's points slide along its edge and would shake an alignment

# Which point takes the place of which when a picture is mirrored.
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36]
    + [41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)

MEAN_SHAPE = np.array(
    [
        (0.1066, 0.3656),
        (0.1099, 0.4696),
        (0.1195, 0.5734),
        (0.1377, 0.6756),
        (0.1745, 0.7718),
        (0.2336, 0.8568),
        (0.3102, 0.9273),
        (0.3986, 0.9832),
        (0.5000, 0.9998),
        (0.6014, 0.9832),
        (0.6898, 0.9273),
        (0.7664, 0.8568),
        (0.8255, 0.7718),
        (0.8623, 0.6756),
        (0.8805, 0.5734),
        (0.8901, 0.4696),
        (0.8934, 0.3656),
        (0.1926, 0.2908),
        (0.2380, 0.2461),
        (0.3039, 0.2309),
        (0.3734, 0.2390),
        (0.4382, 0.2643),
        (0.5618, 0.2643),
        (0.6266, 0.2390),
        (0.6961, 0.2309),
        (0.7620, 0.2461),
        (0.8074, 0.2908),
        (0.5000, 0.3398),
        (0.5000, 0.4040),
        (0.5000, 0.4682),
        (0.5000, 0.5348),
        (0.4225, 0.5824),
        (0.4594, 0.5969),
        (0.5000, 0.6090),
        (0.5406, 0.5969),
        (0.5775, 0.5824),
        (0.2713, 0.3548),
        (0.3112, 0.3321),
        (0.3584, 0.3320),
        (0.4000, 0.3597),
        (0.3558, 0.3685),
        (0.3096, 0.3687),
        (0.6000, 0.3597),
        (0.6416, 0.3320),
        (0.6888, 0.3321),
        (0.7287, 0.3548),
        (0.6904, 0.3687),
        (0.6442, 0.3685),
        (0.3503, 0.7195),
        (0.4038, 0.6906),
        (0.4589, 0.6784),
        (0.5000, 0.6874),
        (0.5411, 0.6784),
        (0.5962, 0.6906),
        (0.6497, 0.7195),
        (0.5983, 0.7718),
        (0.5442, 0.7942),
        (0.5000, 0.7985),
        (0.4558, 0.7942),
        (0.4017, 0.7718),
        (0.3735, 0.7208),
        (0.4586, 0.7094),
        (0.5000, 0.7133),
        (0.5414, 0.7094),
        (0.6265, 0.7208),
        (0.5422, 0.7461),
        (0.5000, 0.7510),
        (0.4578, 0.7461),
    ]
)
MEAN_SHAPE.flags.writeable = False
