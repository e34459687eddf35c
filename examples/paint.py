"""Drawing with soft edges: a canvas of RGB and alpha, smooth outlines, and layers that are laid over it.

Points are pixels (x, y); colours are RGB from 0 to 255; widths and softness are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Colour = tuple[float, float, float]
_BITS = 4  # fractional bits of the coordinates that OpenCV's fills take


class Canvas:
    """rgb: (height, width, 3) float32, 0 to 255. alpha: (height, width, 1) float32, 0 to 1; 0 where nothing is."""

    def __init__(self, width: int, height: int, background: np.ndarray | None = None):
        self.width, self.height = width, height
        self.rgb = np.zeros((height, width, 3), np.float32) if background is None else background.astype(np.float32)
        self.alpha = np.full((height, width, 1), 0.0 if background is None else 1.0, np.float32)

    def cut(self, height: int) -> None:
        """Drop what lies below row `height`."""
        self.height, self.rgb, self.alpha = height, self.rgb[:height], self.alpha[:height]

    def lay(self, colour: np.ndarray | Colour, cover: np.ndarray, window: tuple[slice, slice]) -> None:
        """Put a colour, one or (h, w, 3), over a window by its cover (h, w) from 0 to 1."""
        cover, below = cover[..., None], self.alpha[window]
        alpha = cover + below * (1 - cover)
        rgb = np.asarray(colour, np.float32) * cover + self.rgb[window] * below * (1 - cover)
        self.rgb[window] = rgb / np.maximum(alpha, 1e-6)
        self.alpha[window] = alpha

    def fill(
        self,
        outline: np.ndarray,
        colour: Colour,
        soft: float = 0.0,
        opacity: float = 1.0,
        low: Colour | None = None,
        within: np.ndarray | None = None,
    ) -> None:
        """Fill an outline (n, 2). low: the colour at its lower end, if that differs; within: an outline that clips."""
        window, cover = self.cover(outline, soft)
        if not cover.size:
            return
        if within is not None:
            cover = cover * self._cover_in(window, within, 0.8)
        down = np.linspace(0, 1, cover.shape[0], dtype=np.float32)[:, None, None]
        paint = np.float32(colour) * (1 - down) + np.float32(colour if low is None else low) * down
        self.lay(np.broadcast_to(paint, (*cover.shape, 3)), cover * opacity, window)

    def line(self, points: np.ndarray, colour: Colour, width: float, soft: float = 0.0, opacity: float = 1.0) -> None:
        """A line of a width along points (n, 2)."""
        step = np.gradient(points, axis=0)
        across = np.column_stack([-step[:, 1], step[:, 0]]) / np.maximum(np.linalg.norm(step, axis=1)[:, None], 1e-6)
        side = across * width / 2
        self.fill(np.concatenate([points + side, (points - side)[::-1]]), colour, soft, opacity)

    def cover(self, outline: np.ndarray, soft: float) -> tuple[tuple[slice, slice], np.ndarray]:
        """The window that an outline with its soft edge touches, and how far each pixel of it is covered."""
        border = 3 * soft + 2
        limit = (self.width, self.height)
        low = np.clip(np.floor(outline.min(axis=0) - border), 0, limit).astype(int)
        high = np.clip(np.ceil(outline.max(axis=0) + border), low, limit).astype(int)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        return window, self._cover_in(window, outline, soft)

    def _cover_in(self, window: tuple[slice, slice], outline: np.ndarray, soft: float) -> np.ndarray:
        rows, columns = window
        cover = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        if not cover.size:
            return cover.astype(np.float32)
        fixed = np.round((outline - (columns.start, rows.start)) * (1 << _BITS)).astype(np.int32)
        cv2.fillPoly(cover, [fixed], 255, lineType=cv2.LINE_AA, shift=_BITS)
        share = cover.astype(np.float32) / 255
        return blurred(share, soft) if soft > 0.3 else share

    def lay_strokes(self, strokes: np.ndarray) -> None:
        """Lay a layer of `strokes_layer` over everything."""
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(strokes[..., 3]))
        window = slice(y, y + height), slice(x, x + width)
        alpha = strokes[window][..., 3].astype(np.float32) / 255
        self.lay(strokes[window][..., :3] / np.maximum(alpha[..., None], 1 / 255), alpha, window)

    def strokes_layer(self) -> np.ndarray:
        """An empty layer (height, width, 4) uint8 for `stroke`; its colours are multiplied by its alpha."""
        return np.zeros((self.height, self.width, 4), np.uint8)


def blurred(image: np.ndarray, width: float) -> np.ndarray:
    """A float32 image under a Gaussian of any width: a wide one is applied to a smaller image, which looks the same."""
    factor = max(1, int(width / 4))
    if factor == 1:
        return cv2.GaussianBlur(image, (0, 0), width, borderType=cv2.BORDER_REPLICATE)
    size = max(2, -(-image.shape[1] // factor)), max(2, -(-image.shape[0] // factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), width / factor, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def stroke(layer: np.ndarray, points: np.ndarray, colour: np.ndarray, width: int) -> None:
    """A thin line on a layer, smooth at its edges, which OpenCV offers for whole pixels of width only."""
    rgb = np.clip(colour, 0, 255)
    fixed = np.round(points * (1 << _BITS)).astype(np.int32)
    cv2.polylines(layer, [fixed], False, (*map(float, rgb), 255.0), width, cv2.LINE_AA, _BITS)


def smooth(points: Sequence[Sequence[float]] | np.ndarray, closed: bool = False, steps: int = 12) -> np.ndarray:
    """A Catmull-Rom curve through points (n, 2), `steps` of them from each to the next."""
    p = np.asarray(points, np.float64)
    ends = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    q = np.concatenate([ends[0], p, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = [_piece(q[i : i + 4], t) for i in range(len(q) - 3)]
    return np.concatenate([*pieces, p[:1] if closed else p[-1:]])


def _piece(q: np.ndarray, t: np.ndarray) -> np.ndarray:
    a, b, c, d = q
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def ellipse(
    x: float, y: float, half_width: float, half_height: float, start: float = 0, stop: float = 360
) -> np.ndarray:
    """Points (64, 2) of an ellipse, or of its arc between two angles in degrees, 0 to the right and 90 down."""
    angle = np.radians(np.linspace(start, stop, 64))
    return np.column_stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)])


def mirror(points: np.ndarray) -> np.ndarray:
    """Points of a face square on its other side, in the opposite order."""
    return (np.asarray(points) * (-1, 1) + (1, 0))[::-1]


def tint(colour: Colour | np.ndarray, factor: float) -> Colour:
    """A colour made darker (below 1), or lighter."""
    rgb = np.asarray(colour, np.float64)
    mixed = rgb * factor if factor <= 1 else 255 - (255 - rgb) / factor
    return tuple(np.clip(mixed, 0, 255).tolist())
