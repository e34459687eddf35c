"""Looks: the ways in which viewers show one frame, where its colours alone do not settle what is seen.

A picture with alpha is seen over light and over dark grounds, and some viewers leave alpha out; a flat or dark picture
is seen after its contrast was raised. A face that shows in any of these looks is a face of the frame.
"""

from __future__ import annotations

import numpy as np

WHITE, BLACK = 255, 0
FLAT = 8
"""Levels, of 256, that a look has to span for anything to be seen in it."""
LOW_CONTRAST = 80
"""Levels that a picture's values span when a stretched look is searched as well."""
LOW_IN_FILMS = 24
"""The same for a frame of a video: there are many, and detectors see much in few levels."""


def over(colours: np.ndarray, alpha: np.ndarray, ground: int, associated: bool = False) -> np.ndarray:
    """A frame as it is seen over a grey ground.

    colours: (height, width, 3) uint8. alpha: (height, width) uint8, 255 where opaque. ground: 0 to 255. associated:
    whether the colours are multiplied by alpha already. Returns (height, width, 3) uint8.
    """
    seen = np.empty_like(colours)
    clear = (255 - alpha.astype(np.uint16)) * ground
    for channel in range(3):
        plane = colours[..., channel].astype(np.uint16)
        total = (plane * 255 if associated else plane * alpha) + clear
        seen[..., channel] = np.minimum((total + 127) // 255, 255)
    return seen


def looks(
    colours: np.ndarray, alpha: np.ndarray | None, associated: bool = False
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The look in which faces are replaced, and the other ones in which they are searched too.

    colours, alpha, associated: as in `over`; alpha None, or 255 throughout, is a frame with one look, which is
    `colours` itself. The first look is over white, or over black where nothing is seen over white. The others are over
    the other ground, the colours without alpha, and alpha itself, positive and negative; flat ones are left out.

    Whoever writes pixels of the first look back has to write them opaque.
    """
    if alpha is None or int(alpha.min(initial=255)) == 255:
        return colours, ()
    light, dark = over(colours, alpha, WHITE, associated), over(colours, alpha, BLACK, associated)
    first, second = (dark, light) if is_flat(light) and not is_flat(dark) else (light, dark)
    plane = grey(alpha)
    others = [look for look in (second, colours, plane, 255 - plane) if not is_flat(look)]
    return first, tuple(_distinct(first, others))


def stretched(pixels: np.ndarray, below: int = LOW_CONTRAST) -> np.ndarray | None:
    """A flat, dark or washed-out picture (height, width, 3) uint8 with its contrast raised; None for any other.

    below: levels that the values of such a picture span at most.
    """
    sample = pixels[::4, ::4]
    low, high = np.percentile(sample, (0.1, 99.9)) if sample.size else (0, 255)
    if high - low >= below or int(pixels.max(initial=0)) - int(pixels.min(initial=255)) < 2:
        return None
    steps = (np.arange(256) - low) * (255 / max(high - low, 1))
    return np.clip(np.rint(steps), 0, 255).astype(np.uint8)[pixels]


def continued(pixels: np.ndarray) -> np.ndarray | None:
    """A picture (height, width, 3) uint8 with the rows above a missing lower part mirrored down in its place.

    A detector finds a face that a border cuts by its mirror image. Missing are rows at the bottom that are all of one
    colour. None where there are none, or nothing else.
    """
    apart = np.abs(pixels.astype(np.int16) - pixels[-1, -1].astype(np.int16)).max(axis=(1, 2))
    rows = np.flatnonzero(apart >= FLAT)
    if not len(rows) or rows[-1] == len(pixels) - 1:
        return None
    last = int(rows[-1])
    whole = pixels.copy()
    below = whole[last + 1 :]
    mirror = pixels[last::-1][: len(below)]
    below[: len(mirror)] = mirror
    return whole


def is_flat(look: np.ndarray) -> bool:
    """Whether a look (height, width, 3) uint8 spans so few levels that nothing is seen in it."""
    return all(int(np.ptp(look[..., channel])) < FLAT for channel in range(look.shape[2]))


def grey(plane: np.ndarray) -> np.ndarray:
    """(height, width) uint8 as (height, width, 3)."""
    return np.repeat(plane[..., None], 3, axis=2)


def _distinct(first: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
    """Those looks that differ visibly from the first and from each other."""
    kept = [first]
    for look in others:
        if not any(_alike(look, other) for other in kept):
            kept.append(look)
    return kept[1:]


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(np.maximum(a, b) - np.minimum(a, b) < FLAT))
