"""Which 256 colours draw one frame of an animated GIF: the source's own exactly, wherever they fit."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deidcli.media.image.modes import nearest

_ENTRIES = 255
_CLEAR = 255
_LEAST_FOR_CHANGED = 32


def indexed(rgba: np.ndarray, drawn: np.ndarray, changed: np.ndarray | None) -> tuple[np.ndarray, bytes, int]:
    """Indices ((height, width) uint8), a table of 256 colours, and the index that leaves a pixel as it was.

    drawn: (height, width) bool, the pixels that this frame sets; all others get the transparent index. changed: the
    pixels whose colours may give way; all others are exact wherever a frame sets no more than 255 of them.
    """
    new = np.zeros_like(drawn) if changed is None else changed & drawn
    palette = _palette(rgba[drawn & ~new][:, :3], rgba[new][:, :3])
    index = np.full(drawn.shape, _CLEAR, np.uint8)
    if drawn.any():
        index[drawn] = nearest(rgba[drawn][:, :3], palette)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return index, table.tobytes(), _CLEAR


def _palette(own: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(n, 3) uint8, 1 to 255 entries."""
    exact = np.unique(own, axis=0) if len(own) else own.reshape(0, 3)
    if len(exact) > _ENTRIES:
        exact = _adaptive(own, _ENTRIES - (_LEAST_FOR_CHANGED if len(new) else 0))
    free = _ENTRIES - len(exact)
    return np.concatenate([exact, _adaptive(new, free)]) if len(new) and free else exact if len(exact) else _black()


def _adaptive(colours: np.ndarray, entries: int) -> np.ndarray:
    unique = np.unique(colours, axis=0)
    if len(unique) <= entries:
        return unique
    image = Image.fromarray(np.ascontiguousarray(colours)[None]).quantize(entries, dither=Image.Dither.NONE)
    return np.frombuffer(bytes(image.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)[:entries]


def _black() -> np.ndarray:
    return np.zeros((1, 3), np.uint8)
