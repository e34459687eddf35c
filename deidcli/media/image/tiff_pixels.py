"""The pixels of one TIFF page: Pillow for most, OpenCV for colours of 16 bits, which Pillow would cut to 8."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
from PIL import TiffImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image.container import decoded, encoded
from deidcli.media.image.modes import Native, to_pillow

JPEG_QUALITY = 95
"""For pages compressed by JPEG, of 100; the other compressions lose nothing."""
_PILLOW = {
    1: "raw", 2: "tiff_ccitt", 3: "group3", 4: "group4", 5: "tiff_lzw", 7: "jpeg", 8: "tiff_adobe_deflate",
    32773: "packbits", 32946: "tiff_deflate", 34925: "lzma", 50000: "zstd",
}  # fmt: skip
_DEFLATE = 8
_BILEVEL = (2, 3, 4)
_WITH_PREDICTOR = (5, 8, 32946, 50000)
_WHITE_IS_ZERO, _COLOURS, _INKS = 0, 2, 5


def decode(data: bytes, bits: int, photometric: int) -> Native:
    """The one page of a TIFF, as stored (not turned). Raises MediaError for depths that cannot come back whole."""
    if bits == 16 and photometric == _COLOURS:
        return _decode_wide(data)
    if bits > 8 and photometric == _INKS:
        raise MediaError("CMYK with 16 bits a channel is not supported", "convert it to 8 bits first")
    try:
        image = TiffImagePlugin.TiffImageFile(BytesIO(data))
    except SyntaxError as error:
        raise MediaError(f"this kind of TIFF is not supported: {error}", "convert it to RGB first") from error
    native = decoded(image)
    wide = native.mode in ("I;16", "I", "F")
    return replace(native, inverted=True) if wide and photometric == _WHITE_IS_ZERO else native


def encode(native: Native, compression: int, predictor: int) -> bytes:
    """A TIFF of one page. compression, predictor: the source's tags 259 and 317, kept where the encoders have them."""
    if native.mode.endswith(";16") and native.mode != "I;16":
        return _encode_wide(native, compression)
    if compression in _BILEVEL and native.mode != "1":
        compression = _DEFLATE
    settings: dict[str, object] = {"compression": _PILLOW.get(compression, _PILLOW[_DEFLATE])}
    if compression in _WITH_PREDICTOR and predictor == 2 and native.data.dtype != np.float32 and native.mode != "1":
        settings["tiffinfo"] = {317: 2}
    if compression == 7:
        settings["quality"] = JPEG_QUALITY
    try:
        return encoded(to_pillow(native), "TIFF", **settings)
    except (OSError, ValueError, RuntimeError):
        return encoded(to_pillow(native), "TIFF", compression=_PILLOW[_DEFLATE])


def _decode_wide(data: bytes) -> Native:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise MediaError("the TIFF is damaged, or its 16-bit layout is not supported", "convert it to 8 bits first")
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return Native("RGB;16" if len(order) == 3 else "RGBA;16", np.ascontiguousarray(pixels[..., order]))


def _encode_wide(native: Native, compression: int) -> bytes:
    order = [2, 1, 0, 3][: native.data.shape[2]]
    settings = [cv2.IMWRITE_TIFF_COMPRESSION, compression if compression in (1, 5) else _DEFLATE]
    done, data = cv2.imencode(".tiff", np.ascontiguousarray(native.data[..., order]), settings)
    if not done:
        raise MediaError("the TIFF could not be encoded", "convert it to 8 bits first")
    return data.tobytes()
