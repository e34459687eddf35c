"""Which encoder writes a video, in which pixel format, and how well: the source's own codec wherever there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av.codec import Codec

from deidcli.errors import MediaError
from deidcli.media.stream import VideoOptions
from deidcli.media.video.pixels import encodable, nearest

_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "msmpeg4v3": "msmpeg4",
    "flv1": "flv",
    "theora": "libtheora",
}
# What is visually lossless without being huge: the first word is the option that --crf sets, then come the defaults.
_QUALITY: dict[str, tuple[str, dict[str, str]]] = {
    "libx264": ("crf", {"crf": "18"}),
    "libx265": ("crf", {"crf": "20", "x265-params": "log-level=none"}),
    "libvpx-vp9": ("crf", {"crf": "22", "b": "0", "row-mt": "1", "cpu-used": "3", "deadline": "good"}),
    "libvpx": ("crf", {"crf": "6", "qmin": "2", "qmax": "24", "cpu-used": "3", "deadline": "good"}),
    "libsvtav1": ("crf", {"crf": "22", "preset": "8"}),
    "dnxhd": ("", {"profile": "dnxhr_hq"}),
}
# Encoders that look ahead: how many frames unless told otherwise, and the option that says so. A frame that waits takes
# x264 about three bytes a pixel, and at 3840x2160 its 40 frames are more than a gigabyte.
_AHEAD = {"libx264": ("rc-lookahead", 40), "libx265": ("x265-params", 20), "libvpx-vp9": ("lag-in-frames", 25)}
_AHEAD_PIXELS, _LEAST_AHEAD = 50_000_000, 6
_SCALED = ("mpeg4", "msmpeg4", "msmpeg4v2", "mpeg1video", "mpeg2video", "mjpeg", "flv", "wmv1", "wmv2", "h263", "h263p")
_SCALE, _LAMBDA = 2.0, 118  # quality of the encoders that have one scale, 1 (best) to 31; FFmpeg's unit of it
_PRESETS = {"libvpx": "cpu-used", "libvpx-vp9": "cpu-used"}
_SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
# What each encoder takes for a preset; those of graphics cards take their own words, all others none.
_WORDS = {"libx264": _SPEEDS, "libx265": _SPEEDS}
_NUMBERS = {"libvpx": range(-16, 17), "libvpx-vp9": range(-8, 9), "libsvtav1": range(-2, 14)}
_CARDS = ("nvenc", "qsv", "amf", "vaapi", "videotoolbox")
_EVEN = ("264", "265", "hevc", "svtav1")
_FEW_SIZES = "scale it first, or choose another --codec"


@dataclass(frozen=True)
class Encoding:
    """encoder: FFmpeg's name. codec: of what it writes. rate: frames a second, of those that the codec can say.

    options: for the encoder. notes: what is not as in the source.
    """

    encoder: str
    codec: str
    pixels: str
    rate: Fraction
    options: dict[str, str]
    notes: tuple[str, ...]


def encoding(
    codec: str, native: str, size: tuple[int, int], rate: Fraction, options: VideoOptions, fallback: str = "h264"
) -> Encoding:
    """How to write a video of this codec, pixel format and size (width, height). Raises MediaError.

    fallback: the codec for one that has no encoder here; asking for one that has none by --codec is an error.
    """
    notes = []
    chosen = _encoder(options.codec or codec)
    if chosen is None and options.codec:
        raise MediaError(f"there is no encoder {options.codec!r}", "see `ffmpeg -encoders` for the names")
    if chosen is None:
        chosen = _encoder(fallback)
        notes.append(f"there is no encoder for {codec}: written as {fallback}")
    assert chosen is not None
    if options.encoder_preset and not _knows(chosen.name, options.encoder_preset):
        notes.append(f"{chosen.name} has no preset {options.encoder_preset!r}: its default is taken")
        options = replace(options, encoder_preset="")
    names = [kind.name for kind in chosen.video_formats or [] if _software(kind.name)] or [native]
    fitting = [name for name in names if encodable(name, *size, any(word in chosen.name for word in _EVEN))]
    if not fitting:
        raise MediaError(f"{chosen.name} cannot hold {size[0]}x{size[1]} pixels", _FEW_SIZES)
    pixels, lossy = nearest(fitting, native)
    if lossy or pixels.replace("yuvj", "yuv") != native.replace("yuvj", "yuv"):
        notes.append(f"{chosen.name} has no pixel format {native} at this size: written as {pixels}")
    return Encoding(
        chosen.name,
        chosen.canonical_name,
        pixels,
        _rate(chosen, rate),
        _options(chosen.name, options, size),
        tuple(notes),
    )


def _encoder(name: str) -> Codec | None:
    for candidate in (_ENCODERS.get(name, name), name):
        try:
            codec = Codec(candidate, "w")
        except (av.codec.codec.UnknownCodecError, ValueError):
            continue
        return codec if codec.type == "video" else None
    return None


def _knows(encoder: str, preset: str) -> bool:
    """Whether an encoder has a preset of this name."""
    if encoder in _NUMBERS:
        return preset.lstrip("-").isdigit() and int(preset) in _NUMBERS[encoder]
    return preset in _WORDS.get(encoder, ()) or any(card in encoder for card in _CARDS)


def _software(name: str) -> bool:
    return name not in (
        "cuda",
        "vaapi",
        "qsv",
        "videotoolbox_vld",
        "d3d11",
        "vulkan",
        "drm_prime",
        "mediacodec",
        "d3d12",
    )


def _options(encoder: str, asked: VideoOptions, size: tuple[int, int]) -> dict[str, str]:
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # the only way to keep its log lines off standard error
    flag, options = _QUALITY.get(encoder, ("", {}))
    options = dict(options)
    if encoder in _SCALED:
        scale = _SCALE if asked.crf is None else asked.crf
        options |= {"flags": "+qscale", "global_quality": str(round(max(1.0, scale) * _LAMBDA))}
    elif asked.crf is not None:
        flag = flag or ("cq" if "nvenc" in encoder else "global_quality" if "qsv" in encoder else "")
        # A lossless encoder has no quality to set.
        options |= {flag: f"{asked.crf:g}"} if flag else {}
    name, frames = _AHEAD.get(encoder, ("", 0))
    room = max(_AHEAD_PIXELS // (size[0] * size[1]), _LEAST_AHEAD)
    if room < frames:
        options[name] = f"{options[name]}:rc-lookahead={room}" if name in options else str(room)
    if asked.encoder_preset:
        options[_PRESETS.get(encoder, "preset")] = asked.encoder_preset
    return options


def _rate(encoder: Codec, rate: Fraction) -> Fraction:
    """A frame rate that the codec can say. Frames keep their own time stamps whatever it is."""
    rate = min(max(Fraction(rate), Fraction(1, 10)), Fraction(1000))
    if encoder.frame_rates:
        return min((Fraction(r.num, r.den) for r in encoder.frame_rates), key=lambda known: abs(known - rate))
    # MPEG-4 counts in at most 65535 parts of a second.
    return rate.limit_denominator(min(1001, max(1, int(65535 / rate))))
