"""Pixels in a file's own mode, to the looks that are searched, and new pixels back into the file's mode.

Numbers wider than eight bits are shown through a window (`media.image.windows`).

The way back changes only the pixels it is told to; everything else, alpha and palettes included, stays bit for bit.
New pixels become opaque, because alpha can show a face as well as colours can.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image import Native, luma, nearest, to_rgba
from deidcli.media.image.windows import from_eight_bits, further_windows, to_eight_bits, window
from deidcli.media.looks import grey, is_flat, looks, stretched

_COLOUR_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4, "I": 1, "F": 1, "LAB": 3, "YCbCr": 3}
_TOLERATED = 24
"""Mean distance of new colours to the entries of a palette above which entries that are free are set anew."""


def to_rgb(native: Native) -> np.ndarray:
    """(height, width, 3) uint8, alpha left out: the colour under it is shown as it is stored."""
    mode, data = native.mode, native.data
    if mode in ("P", "PA"):
        index = data if mode == "P" else data[..., 0]
        palette = _palette(native)
        return palette[np.minimum(index, len(palette) - 1)]
    return _rgb_of(native, to_eight_bits(_colours(native), window(_colours(native))))


def views(native: Native) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The look in which faces are replaced, and the others in which they are searched (see `media.looks`)."""
    colours = to_rgb(native)
    first, others = looks(colours, opacity(native), native.associated)
    more = [*_other_windows(native), *(grey(plane) for plane in _further_planes(native))]
    raised = stretched(first)
    more += [] if raised is None else [raised]
    return first, (*others, *(look for look in more if not is_flat(look)))


def opacity(native: Native) -> np.ndarray | None:
    """(height, width) uint8, 255 where the frame is opaque; None where it is so throughout."""
    mode, data = native.mode, native.data
    if mode == "P" and native.alphas is not None:
        return native.alphas[np.minimum(data, len(native.alphas) - 1)]
    if native.key is not None:
        return np.where(_is_key(native, data), 0, 255).astype(np.uint8)
    at = _alpha_at(native)
    if at is None:
        return None
    return to_eight_bits(data[..., at], _alpha_range(data[..., at]))


def with_rgb(native: Native, rgb: np.ndarray, changed: np.ndarray) -> Native:
    """The picture with the pixels of `changed` taken from `rgb`, opaque.

    rgb: (height, width, 3) uint8, in the first look of `views`. changed: (height, width) bool. Where a changed region
    is wholly transparent it stays so, with its hidden colours replaced. A palette of which every entry is in use and
    none is opaque gives way to RGBA.
    """
    if native.mode == "1":
        return _with_bits(native, rgb, changed)
    if native.mode == "P":
        return _with_entries(native, rgb, changed)
    data = native.data.copy()
    if native.mode == "PA":
        data[changed, 0] = nearest(rgb[changed], _palette(native))
    else:
        colours = _from_rgb(native, rgb[changed], data[changed])
        data[changed] = np.concatenate([colours, data[changed].reshape(len(colours), -1)[:, colours.shape[1] :]], 1)[
            ..., slice(None) if data.ndim == 3 else 0
        ]
    _cover_further_planes(native, data, changed)
    if native.key is not None:
        _avoid_key(native, data, changed)
    return replace(native, data=data)


def _colours(native: Native) -> np.ndarray:
    """The channels that are colours: (height, width) or (height, width, channels)."""
    count = _COLOUR_CHANNELS.get(native.mode.split(";")[0])
    if native.data.ndim == 2 or count is None:
        return native.data
    return native.data[..., 0] if count == 1 else native.data[..., :count]


def _rgb_of(native: Native, shown: np.ndarray) -> np.ndarray:
    """Eight-bit values of the file's own colours as (height, width, 3) RGB."""
    if native.inverted:
        shown = 255 - shown
    if native.mode == "CMYK":
        inverse = 255 - shown.astype(np.uint32)
        return _divide(inverse[..., :3] * inverse[..., 3:4], 255)
    if native.mode == "YCbCr":
        return _through_pillow(shown, "YCbCr", "RGB")
    if native.mode == "LAB":
        return cv2.cvtColor(np.ascontiguousarray(shown), cv2.COLOR_LAB2RGB)
    return shown if shown.ndim == 3 else grey(shown)


def _from_rgb(native: Native, rgb: np.ndarray, old: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 RGB as (n, colour channels) of the file's own numbers. old: (n, ...) what stood there."""
    limits = window(_colours(native))
    if native.mode == "CMYK":
        black = to_eight_bits(old[:, 3], limits)
        eight = _inks(rgb, 255 - black if native.inverted else black)
    elif native.mode == "YCbCr":
        eight = _through_pillow(rgb[None], "RGB", "YCbCr")[0]
    elif native.mode == "LAB":
        eight = cv2.cvtColor(np.ascontiguousarray(rgb[None]), cv2.COLOR_RGB2LAB)[0]
    else:
        eight = rgb if native.mode.startswith("RGB") else luma(rgb)[:, None]
    eight = 255 - eight if native.inverted else eight
    return from_eight_bits(eight, limits, old.dtype)


def _other_windows(native: Native) -> list[np.ndarray]:
    """The picture as viewers show it that take its numbers for another range."""
    if native.data.dtype == np.uint8 or native.mode == "P":
        return []
    colours = _colours(native)
    return [_rgb_of(native, to_eight_bits(values, limits)) for values, limits in further_windows(colours)]


def _alpha_at(native: Native) -> int | None:
    mode = native.mode.split(";")[0]
    return {"LA": 1, "RGBA": 3, "PA": 1}.get(mode)


def _alpha_range(alpha: np.ndarray) -> tuple[float, float]:
    if alpha.dtype.kind == "u":
        return 0.0, float(np.iinfo(alpha.dtype).max)
    top = float(np.nanmax(alpha)) if alpha.size else 1.0
    return 0.0, next((float(nominal) for nominal in (1, 255, 65535) if top <= nominal), top)


def _first_further(native: Native) -> int:
    """Where the channels begin that the mode does not name."""
    count = _COLOUR_CHANNELS.get(native.mode.split(";")[0], int(native.data.shape[-1]))
    return count + (_alpha_at(native) is not None)


def _further_planes(native: Native) -> list[np.ndarray]:
    if native.data.ndim == 2 or native.mode == "PA":
        return []
    planes = [native.data[..., at] for at in range(_first_further(native), native.data.shape[2])]
    return [to_eight_bits(plane, window(plane)) for plane in planes]


def _cover_further_planes(native: Native, data: np.ndarray, changed: np.ndarray) -> None:
    """Alpha opaque where pixels changed, further planes even: no shape may stay in them."""
    if data.ndim == 2:
        return
    at = _alpha_at(native)
    if at is not None:
        low, high = _alpha_range(native.data[..., at])
        clear = _hidden(native.data[..., at] > low, changed)
        data[changed & ~clear, at] = high
        if native.associated and clear.any():
            data[clear, :at] = 0
    for plane in range(_first_further(native), data.shape[2]) if native.mode != "PA" else ():
        values = native.data[..., plane]
        # The greatest number is opaque to viewers that take the plane for alpha.
        data[changed, plane] = np.nanmax(values) if values.dtype.kind == "f" else np.iinfo(values.dtype).max


def _hidden(visible: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The parts of `changed` of which nothing is visible; both (height, width) bool."""
    if not (changed & ~visible).any():
        return np.zeros_like(changed)
    count, parts = cv2.connectedComponents(changed.astype(np.uint8))
    shown = np.zeros(count, bool)
    shown[np.unique(parts[changed & visible])] = True
    return changed & ~shown[parts]


def _with_bits(native: Native, rgb: np.ndarray, changed: np.ndarray) -> Native:
    data = native.data.copy()
    if native.key is not None:
        # Of two colours one is transparent: all that can be drawn opaque is the other.
        data[changed] = 255 - int(native.key[0])
    else:
        # Dithered as a whole, so that the error has somewhere to go, and only then cut to the changed pixels.
        data[changed] = np.asarray(Image.fromarray(rgb).convert("1"))[changed].astype(np.uint8) * 255
    return replace(native, data=data)


def _with_entries(native: Native, rgb: np.ndarray, changed: np.ndarray) -> Native:
    """Palette entries for new colours: opaque ones; where they fit badly, entries that no other pixel uses."""
    palette, data = _palette(native), native.data.copy()
    if native.alphas is None:
        data[changed] = nearest(rgb[changed], palette)
        return replace(native, data=data)
    hidden = _hidden(native.alphas[np.minimum(data, len(native.alphas) - 1)] > 0, changed)
    shown = changed & ~hidden
    if hidden.any():
        # One transparent entry for all: which one stood where could draw a face.
        data[hidden] = np.bincount(data[hidden]).argmax()
    if not shown.any():
        return replace(native, data=data)
    entries = _entries(native, palette, rgb[shown], data, shown)
    if entries is None:
        whole = Native("RGBA", to_rgba(replace(native, data=data)))
        return with_rgb(whole, rgb, changed)
    palette, alphas, usable = entries
    data[shown] = nearest(rgb[shown], palette, usable)
    return replace(native, data=data, palette=palette, alphas=alphas)


def _entries(
    native: Native, palette: np.ndarray, new: np.ndarray, data: np.ndarray, changed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The palette, its alphas and the opaque entries for the colours `new` (n, 3); None where it can have none."""
    alphas = native.alphas if native.alphas is not None else np.full(len(palette), 255, np.uint8)
    opaque = np.flatnonzero(alphas[: len(palette)] == 255)
    if len(opaque):
        drawn = palette[nearest(new, palette, opaque)].astype(int)
        if np.abs(drawn - new).mean() <= _TOLERATED:
            return palette, alphas, opaque
    used = np.zeros(256, bool)
    used[data[~changed]] = True
    free = np.flatnonzero(~used[: max(native.room, len(palette))])
    if not len(free) and not len(opaque):
        return None
    grown = np.zeros((max(len(palette), int(free.max(initial=-1)) + 1), 3), np.uint8)
    grown[: len(palette)] = palette
    opacities = np.full(len(grown), 255, np.uint8)
    opacities[: len(alphas)] = alphas[: len(grown)]
    colours = _adapted(new, len(free))
    grown[free[: len(colours)]], opacities[free[: len(colours)]] = colours, 255
    usable = np.flatnonzero(opacities == 255)
    # Entries that are neither opaque before nor set now are not to be taken for colours of their own.
    usable = usable[np.isin(usable, np.concatenate([opaque, free[: len(colours)]]))]
    return grown, opacities, usable


def _adapted(colours: np.ndarray, entries: int) -> np.ndarray:
    """At most `entries` colours that stand for (n, 3) uint8."""
    unique = np.unique(colours, axis=0)
    if len(unique) <= entries or not entries:
        return unique[:entries]
    image = Image.fromarray(np.ascontiguousarray(colours)[None]).quantize(entries, dither=Image.Dither.NONE)
    return np.frombuffer(bytes(image.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)[:entries]


def _is_key(native: Native, data: np.ndarray) -> np.ndarray:
    return np.asarray(np.atleast_3d(data == native.key).all(axis=2))


def _avoid_key(native: Native, data: np.ndarray, changed: np.ndarray) -> None:
    """A new colour that happens to be the transparent one moves by one level."""
    hit = changed & _is_key(native, data)
    top = 255 if native.data.dtype == np.uint8 else np.iinfo(native.data.dtype).max
    moved = data[hit].astype(np.int64)
    data[hit] = np.where(moved >= native.step, moved - native.step, np.minimum(moved + native.step, top))


def _palette(native: Native) -> np.ndarray:
    if native.palette is None:
        raise MediaError("the picture has indices but no palette", "get a whole copy of the file")
    return native.palette


def _inks(rgb: np.ndarray, black: np.ndarray) -> np.ndarray:
    """CMYK that shows `rgb`, with as much of the source's own black as it allows, so that the print keeps its tone."""
    black = np.minimum(black, 255 - rgb.max(1))
    light = np.maximum(255 - black.astype(np.uint32), 1)[:, None]
    return np.concatenate([255 - _divide(255 * rgb.astype(np.uint32), light), black[:, None]], 1)


def _divide(values: np.ndarray, by: np.ndarray | int) -> np.ndarray:
    return np.minimum((values + by // 2) // by, 255).astype(np.uint8)


def _through_pillow(data: np.ndarray, source: str, target: str) -> np.ndarray:
    image = Image.frombytes(source, (data.shape[1], data.shape[0]), np.ascontiguousarray(data).tobytes())
    return np.array(image.convert(target))
