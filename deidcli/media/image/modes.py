"""Pixels in a file's own mode, turned upright, and to Pillow and back. Pure functions; no file is touched here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deidcli.errors import MediaError


@dataclass(frozen=True)
class Native:
    """One picture as its file holds it.

    mode: Pillow's name of the mode, or "LA;16", "RGB;16", "RGBA;16" for the depths that Pillow does not hold. L, LA,
    RGB, RGBA and CMYK may hold any type of number; channels behind those that the mode names are further planes.
    data: (height, width) or (height, width, channels); mode "1" holds 0 and 255.
    palette: (entries, 3) uint8 for P and PA. alphas: (entries,) uint8, how opaque each is; None where all are wholly.
    inverted: greater values are darker. key: (channels,) the one value that is transparent, as PNG may name it.
    associated: the colours are multiplied by alpha. room: how many entries a palette can grow to. step: what one level
    is worth where few bits were spread to eight.
    """

    mode: str
    data: np.ndarray
    palette: np.ndarray | None = None
    alphas: np.ndarray | None = None
    inverted: bool = False
    key: np.ndarray | None = None
    room: int = 0
    associated: bool = False
    step: int = 1

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
