"""Pixels in a file's own mode, to upright RGB and back. Pure functions; no file is touched here.

The way back changes only the pixels it is told to: everything else, alpha and palettes included, stays bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deidcli.errors import MediaError


@dataclass(frozen=True)
class Native:
    """One picture as its file holds it.

    mode: Pillow's name of the mode, or "LA;16", "RGB;16", "RGBA;16" for the depths that Pillow does not hold.
    data: (height, width) or (height, width, channels); uint8, uint16, int32 or float32; mode "1" holds 0 and 255.
    palette: (entries, 3) uint8 for P and PA. alphas: (entries,) uint8, how opaque each is; None where all are wholly.
    inverted: greater values are darker. key: (channels,) the one value that is transparent, as PNG may name it.
    """

    mode: str
    data: np.ndarray
    palette: np.ndarray | None = None
    alphas: np.ndarray | None = None
    inverted: bool = False
    key: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.data.shape[1], self.data.shape[0]


def upright(native: Native, orientation: int) -> Native:
    """The picture as it is meant to be seen. orientation: 1 to 8, as the EXIF tag 274 numbers them."""
    return replace(native, data=np.ascontiguousarray(turn(native.data, orientation)))


def turn(data: np.ndarray, orientation: int) -> np.ndarray:
    """(height, width, ...) as it is stored, turned as it is meant to be seen; a view."""
    if orientation >= 5:
        data = data.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        data = data[::-1]
    if orientation in (2, 3, 6, 7):
        data = data[:, ::-1]
    return data


def turn_back(data: np.ndarray, orientation: int) -> np.ndarray:
    """The opposite of `turn`; a view."""
    # Only the two quarter turns are not their own opposite.
    return turn(data, {6: 8, 8: 6}.get(orientation, orientation))


def to_rgb(native: Native) -> np.ndarray:
    """(height, width, 3) uint8. Alpha is left out: the colour under it is shown as it is stored."""
    mode, data = native.mode, native.data
    if mode in ("P", "PA"):
        index = data if mode == "P" else data[..., 0]
        palette = _palette(native)
        return palette[np.minimum(index, len(palette) - 1)]
    if mode == "CMYK":
        return _divide((255 - data[..., :3].astype(np.uint32)) * (255 - data[..., 3:].astype(np.uint32)), 255)
    if mode == "YCbCr":
        return _through_pillow(data, "YCbCr", "RGB")
    shown = _eight_bits(_colours(native), unit(native))
    shown = 255 - shown if native.inverted else shown
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)


def with_rgb(native: Native, rgb: np.ndarray, changed: np.ndarray) -> Native:
    """The picture with the pixels of `changed` ((height, width) bool) taken from `rgb` ((height, width, 3) uint8)."""
    data = native.data.copy()
    if native.mode == "1":
        # Dithered as a whole, so that the error has somewhere to go, and only then cut to the changed pixels.
        data[changed] = np.asarray(Image.fromarray(rgb).convert("1"))[changed].astype(np.uint8) * 255
    else:
        data[changed] = _stored(native, rgb[changed], data[changed])
    return replace(native, data=data if native.key is None else _same_holes(native, data))


def unit(native: Native) -> float:
    """What one step of eight bits is worth here. Raises MediaError where the range of a wide mode is open."""
    if native.data.dtype == np.uint8:
        return 1
    if native.data.dtype == np.uint16:
        return 257
    low, high = float(native.data.min()), float(native.data.max())
    for top, worth in ((1.0, 1 / 255), (255.0, 1.0), (65535.0, 257.0)):
        if low >= 0 and high <= top and (worth >= 1 or native.mode == "F"):
            return worth
    raise MediaError(
        f"pixel values from {low:g} to {high:g} have no agreed white", "scale them to 0..1, 0..255 or 0..65535"
    )


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma of (..., 3) uint8, rounded as Pillow does."""
    return ((rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16).astype(np.uint8)


def nearest(rgb: np.ndarray, palette: np.ndarray, entries: np.ndarray | None = None) -> np.ndarray:
    """(n,) uint8: for each of (n, 3) colours the palette entry (of `entries`, their indices) at the least distance."""
    entries = np.arange(len(palette)) if entries is None else entries
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, place = np.unique(packed, return_inverse=True)
    points = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.float32)
    targets = palette[entries].astype(np.float32)
    scores = (targets**2).sum(1) - 2 * points @ targets.T
    return entries[scores.argmin(1)].astype(np.uint8)[place.reshape(-1)]


def from_pillow(image: Image.Image) -> Native:
    """The loaded pixels of a Pillow image. Raises MediaError for a mode that has no way to RGB and back."""
    mode = image.mode
    if mode in ("P", "PA"):
        palette = np.frombuffer(bytes(image.getpalette("RGB") or [0, 0, 0]), np.uint8).reshape(-1, 3)
        return Native(mode, np.array(image), palette, alphas(image, len(palette)))
    if mode == "1":
        return Native("1", np.array(image).astype(np.uint8) * 255)
    if mode.startswith("I;16"):
        return Native("I;16", np.array(image).astype(np.uint16))
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"):
        raise MediaError(f"pictures of mode {mode} are not supported", "convert it to RGB first")
    return Native(mode, np.array(image))


def to_pillow(native: Native) -> Image.Image:
    """A Pillow image of the same mode and palette. The modes with 16 bits a channel have none."""
    if native.mode == "1":
        return Image.fromarray(native.data).convert("1", dither=Image.Dither.NONE)
    data = native.data.astype("<u2") if native.mode == "I;16" else native.data
    image = Image.frombytes(native.mode, native.size, data.tobytes())
    if native.palette is not None:
        image.putpalette(native.palette.tobytes())
    return image


def to_rgba(native: Native) -> np.ndarray:
    """(height, width, 4) uint8 of a mode that Pillow holds, the alpha of a palette included."""
    image = to_pillow(native)
    if native.alphas is not None:
        image.info["transparency"] = native.alphas.tobytes()
    return np.array(image.convert("RGBA"))


def alphas(image: Image.Image, entries: int) -> np.ndarray | None:
    """(entries,) uint8: how opaque each palette entry of a Pillow image is; None where all are wholly."""
    clear = image.info.get("transparency")
    if clear is None:
        return None
    alpha = np.full(max(entries, 256), 255, np.uint8)
    if isinstance(clear, bytes):
        alpha[: len(clear)] = np.frombuffer(clear, np.uint8)
    else:
        alpha[clear] = 0
    return alpha[:entries]


def _colours(native: Native) -> np.ndarray:
    if native.mode in ("LA", "LA;16"):
        return native.data[..., 0]
    return native.data[..., :3] if native.mode in ("RGBA", "RGBA;16") else native.data


def _eight_bits(values: np.ndarray, worth: float) -> np.ndarray:
    if worth == 1 and values.dtype == np.uint8:
        return values
    return np.clip(np.rint(values / np.float32(worth)), 0, 255).astype(np.uint8)


def _stored(native: Native, rgb: np.ndarray, old: np.ndarray) -> np.ndarray:
    mode = native.mode
    if mode == "P":
        return _entries(native, rgb, old)
    if mode == "PA":
        return np.stack([_entries(native, rgb, old[:, 0]), old[:, 1]], 1)
    if mode == "CMYK":
        return _inks(rgb, old[:, 3])
    if mode == "YCbCr":
        return _through_pillow(rgb[None], "RGB", "YCbCr")[0]
    colours = rgb if mode.startswith("RGB") else luma(rgb)
    colours = 255 - colours if native.inverted else colours
    worth = unit(native)
    wide = colours if worth == 1 else colours.astype(np.float64) * worth
    wide = (wide if native.mode == "F" else np.rint(wide)).astype(old.dtype)
    if mode.startswith(("LA", "RGBA")):
        return np.concatenate([wide.reshape(len(old), -1), old[:, -1:]], 1)
    return wide


def _palette(native: Native) -> np.ndarray:
    if native.palette is None:
        raise MediaError("the picture has indices but no palette", "get a whole copy of the file")
    return native.palette


def _same_holes(native: Native, data: np.ndarray) -> np.ndarray:
    """`data` transparent exactly where the source was: a new colour that happens to be the key moves by one."""
    was, now = (np.atleast_3d(values == native.key).all(axis=2) for values in (native.data, data))
    data[was] = native.data[was]
    if native.mode != "1":
        data[now & ~was] ^= 1
    return data


def _entries(native: Native, rgb: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Palette entries for colours, each as opaque as the entry that stood there."""
    if native.alphas is None:
        return nearest(rgb, _palette(native))
    new, before = old.copy(), native.alphas[np.minimum(old, len(native.alphas) - 1)]
    for alpha in np.unique(before):
        new[before == alpha] = nearest(rgb[before == alpha], _palette(native), np.flatnonzero(native.alphas == alpha))
    return new


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
