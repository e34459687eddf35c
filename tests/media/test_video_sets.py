"""Parameter sets of H.264 as other encoders write them: clocks of broadcasts, matrices of their own."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from deidcli.media.video.avc import picture_set, sequence_set


def sets(parameters):
    """The sequence parameter set and the picture parameter set of a stream that x264 makes with such parameters."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.framerate, encoder.time_base = 25, Fraction(1, 25)
    encoder.options = {"x264-params": parameters}
    frame = VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24").reformat(format="yuv420p")
    data = b"".join(bytes(packet) for each in (frame, None) for packet in encoder.encode(each))
    units = [unit.rstrip(b"\0") for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    return next(u for u in units if u[0] & 31 == 7), next(u for u in units if u[0] & 31 == 8)


@pytest.mark.parametrize("more", ["", ":cqm=jvt", ":8x8dct=0:cabac=0:bframes=0"])
def test_clocks_go_and_what_pictures_need_stays(more):
    """The clocks of a broadcast are the one thing that goes: the rest is that of a stream without them."""
    timed, plain = (sets(f"vbv-maxrate=500:vbv-bufsize=500{clock}{more}") for clock in (":nal-hrd=vbr", ""))
    fresh, known = sequence_set(timed[0])
    assert known.delays and len(fresh) < len(timed[0])
    again, without = sequence_set(fresh)
    assert again == fresh and not without.delays
    assert picture_set(timed[1], {known.number: known}) == timed[1]
    bare, _ = sequence_set(plain[0])
    assert picture_set(plain[1], {}) == plain[1]
    assert len(bare) == len(fresh)
