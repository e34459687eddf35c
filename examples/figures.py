"""People to the waist: a face of the face model on a drawn head, with hair, neck and clothes in tones that fit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from hair import Comb, Hair
from nobody import MARGIN, Drawn
from paint import Canvas, Colour, blurred, ellipse, mirror, smooth, tint

from deidcli.faces.align import apply_affine, compose, invert

INSET = 0.965  # how far the face is cut inside its jaw: the texture ends there
FEATHER = 0.022  # width of that cut's soft edge, as a share of the face square
BROW = 0.16  # height at which the face gives way to drawn skin: above it textures show hair


@dataclass(frozen=True)
class Look:
    """neck and shoulders: half widths in face squares. style: crew, shirt, scoop or blazer, a colour over another."""

    face: str
    hair: Hair
    style: str
    colour: Colour
    second: Colour = (238, 236, 230)
    neck: float = 0.24
    shoulders: float = 1.0


@dataclass(frozen=True)
class Place:
    """Where a figure is: the middle (x, y) of its face square and that square's side in pixels; tilt in degrees."""

    x: float
    y: float
    size: float
    tilt: float = 0.0


def draw(canvas: Canvas, look: Look, place: Place, face: Drawn, seed: int) -> np.ndarray:
    """Draw a figure and return the landmarks (68, 2) of its face on the canvas."""
    figure = Figure(canvas, look, place, face)
    comb = Comb(canvas, figure.head, look.hair, np.random.default_rng(seed))
    comb.behind()
    figure.neck()
    figure.clothes()
    figure.ears()
    figure.skull()
    figure.face_on_skull()
    comb.before()
    return apply_affine(figure.to_canvas, face.landmarks)


class Figure:
    """One figure on its canvas. body and head: (2, 3), from the face square to the canvas; the head may be tilted."""

    def __init__(self, canvas: Canvas, look: Look, place: Place, face: Drawn):
        self.canvas, self.look, self.face, self.unit = canvas, look, face, place.size
        turn = np.radians(place.tilt)
        rotation = place.size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        center = np.array([place.x, place.y])
        self.head = np.column_stack([rotation, center - rotation @ (0.5, 0.5)])
        # The head turns about the top of the neck, which stays on the upright body.
        neck = apply_affine(self.head, np.array([[0.5, 0.86]]))[0]
        self.body = np.column_stack([np.eye(2) * place.size, neck - place.size * np.array([0.5, 0.94])])
        scale = (1 + 2 * MARGIN) / face.pixels.shape[0]
        from_drawn = np.array([[scale, 0, scale / 2 - MARGIN], [0, scale, scale / 2 - MARGIN]])
        self.to_canvas = compose(self.head, from_drawn)
        self.points = apply_affine(from_drawn, face.landmarks)
        self.skin = self._skin()

    def neck(self) -> None:
        """Neck and chest, in the shade of the chin."""
        n, low = self.look.neck, 1.32
        side = np.array(
            [(0.5 - n, 0.7), (0.5 - n, 1.0), (0.48 - n, 1.12), (0.44 - n, 1.2), (0.4 - n, low), (0.35, 1.9)]
        )
        outline = apply_affine(self.body, smooth(np.concatenate([side, mirror(side)])))
        self.canvas.fill(outline, tint(self.skin, 0.8), 0.004 * self.unit, low=tint(self.skin, 0.97))
        for x in (0.5 - n - 0.01, 0.5 + n + 0.01):
            self._fill(ellipse(x, 0.98, 0.08, 0.3), tint(self.skin, 0.5), 0.05, 0.5, self.body, outline)
        shade = apply_affine(self.head, self._jaw(1.0) + (0, 0.09))
        self.canvas.fill(shade, tint(self.skin, 0.42), 0.05 * self.unit, 0.62, within=outline)

    def clothes(self) -> None:
        """Shoulders and what covers them."""
        wear = {"crew": self._crew, "scoop": self._scoop, "shirt": self._shirt, "blazer": self._blazer}
        wear[self.look.style]()

    def ears(self) -> None:
        for x in (0.075, 0.925):
            self._fill(ellipse(x, 0.475, 0.05, 0.115), tint(self.skin, 0.86), 0.007)
            self._fill(ellipse(x, 0.47, 0.025, 0.075), tint(self.skin, 0.66), 0.014, 0.6)

    def skull(self) -> None:
        """The head under face and hair, in the face's own colours carried on outward, darker where it turns away."""
        outline = apply_affine(self.head, self._head_outline())
        window, cover = self.canvas.cover(outline, 0.006 * self.unit)
        pixels, alpha = self._warped(window)
        self.canvas.lay(_carried_on(pixels, alpha, 0.07 * self.unit), cover, window)
        inside = blurred(cover, 0.05 * self.unit)
        rim = np.clip(1 - (inside - 0.5) * 2, 0, 1) * cover
        self.canvas.lay(tint(self.skin, 0.45), 0.38 * rim, window)

    def face_on_skull(self) -> None:
        window, _ = self.canvas.cover(apply_affine(self.head, self._head_outline()), 1.0)
        pixels, alpha = self._warped(window)
        self.canvas.lay(pixels, alpha, window)

    def _crew(self) -> None:
        self._torso(self.look.colour, 0.16, 0.09)
        rim = apply_affine(self.body, self._opening(0.16, 0.09))
        self.canvas.line(rim, tint(self.look.colour, 0.72), 0.035 * self.unit, 0.004 * self.unit)

    def _scoop(self) -> None:
        self._torso(self.look.colour, 0.3, 0.14)

    def _shirt(self) -> None:
        n = self.look.neck
        self._torso(self.look.colour, 0.24, 0.06)
        line = np.array([(0.5, 1.45), (0.5, 6.0)])
        self.canvas.line(
            apply_affine(self.body, line), tint(self.look.colour, 0.3), 0.012 * self.unit, 0.004 * self.unit, 0.4
        )
        for y in (1.62, 1.95, 2.28, 2.61):
            self._fill(ellipse(0.53, y, 0.018, 0.018), tint(self.look.colour, 0.55), 0.002, 1.0, self.body)
        self._flaps(self.look.colour, [(0.42 - n, 1.09), (0.5, 1.44), (0.31, 1.6), (0.4 - n, 1.26)])

    def _blazer(self) -> None:
        n = self.look.neck
        self._torso(self.look.colour, 0.22, 0.06)
        front = np.concatenate([self._opening(0.22, 0.0), [(0.74, 1.7), (0.5, 2.27), (0.26, 1.7)]])
        self._fill(front, self.look.second, 0.003, 1.0, self.body, low=tint(self.look.second, 0.85))
        self._flaps(self.look.second, [(0.43 - n, 1.1), (0.5, 1.42), (0.34, 1.55), (0.41 - n, 1.24)])
        lapel = [(0.46 - n, 1.15), (0.5, 2.26), (0.1, 1.75), (0.2, 1.66), (0.08, 1.58), (0.39 - n, 1.2)]
        self._flaps(tint(self.look.colour, 1.12), lapel)
        seam = np.array([(0.5, 2.26), (0.51, 6.0)])
        self.canvas.line(
            apply_affine(self.body, seam), tint(self.look.colour, 0.6), 0.012 * self.unit, 0.005 * self.unit
        )

    def _torso(self, colour: Colour, depth: float, wide: float) -> None:
        """Both shoulders down past the edge, with an opening `wide` past the neck and `depth` below it."""
        side = self._shoulder(wide)
        outline = np.concatenate([side[::-1], self._opening(depth, wide), mirror(side)[::-1]])
        self._fill(outline, tint(colour, 1.04), 0.004, 1.0, self.body, low=tint(colour, 0.5))
        self._folds(colour)

    def _opening(self, depth: float, wide: float) -> np.ndarray:
        """The neckline from left to right."""
        left = self._shoulder(wide)[0]
        low = left[1] + depth
        half = [left, (0.5 - (0.5 - left[0]) * 0.62, left[1] + depth * 0.72), (0.43, low - depth * 0.03)]
        return smooth(np.concatenate([half, [(0.5, low)], mirror(half)]), steps=6)

    def _shoulder(self, wide: float) -> np.ndarray:
        """From beside the neck over the left shoulder down the arm."""
        s, n = self.look.shoulders, self.look.neck
        start = 0.5 - n - wide
        slope = (start - (0.44 - n)) / ((0.62 - s) - (0.44 - n))
        top = (start, 1.17 + 0.23 * max(0.0, slope))
        return smooth([top, (0.62 - s, 1.4), (0.5 - s, 1.62), (0.42 - s, 2.1), (0.36 - s, 3.4), (0.36 - s, 6.0)])

    def _folds(self, colour: Colour) -> None:
        """A few soft folds, and light on the shoulder."""
        s = self.look.shoulders
        lines = [((0.78 - s, 1.75), (0.84 - s, 2.3), (0.8 - s, 3.0)), ((0.3, 2.3), (0.38, 2.6), (0.34, 3.2))]
        for line in [*lines, ((0.12, 1.75), (0.2, 1.95), (0.3, 2.1))]:
            for points in (smooth(line), mirror(smooth(line))):
                fold = apply_affine(self.body, points)
                self.canvas.line(fold, tint(colour, 0.4), 0.05 * self.unit, 0.045 * self.unit, 0.3)
        light = smooth([(0.6 - s, 1.56), (0.75 - s, 1.44), (0.1, 1.38)])
        self.canvas.line(apply_affine(self.body, light), tint(colour, 1.8), 0.05 * self.unit, 0.05 * self.unit, 0.35)

    def _flaps(self, colour: Colour, left: list[tuple[float, float]]) -> None:
        for points in (np.array(left), mirror(np.array(left))):
            self._fill(points + (0, 0.03), tint(colour, 0.35), 0.025, 0.45, self.body)
            self._fill(points, tint(colour, 1.15), 0.003, 1.0, self.body, low=tint(colour, 0.92))

    def _fill(
        self,
        outline: np.ndarray,
        colour: Colour,
        soft: float,
        opacity: float = 1.0,
        affine: np.ndarray | None = None,
        within: np.ndarray | None = None,
        low: Colour | None = None,
    ) -> None:
        """Fill an outline given in face squares; on the head unless another map is given."""
        points = apply_affine(self.head if affine is None else affine, outline)
        self.canvas.fill(points, colour, soft * self.unit, opacity, low, within)

    def _jaw(self, scale: float) -> np.ndarray:
        jaw = smooth(self.points[:17], steps=4)
        return np.array([0.5, 0.5]) + (jaw - (0.5, 0.5)) * scale

    def _head_outline(self) -> np.ndarray:
        jaw = self._jaw(1.0)
        top = smooth([jaw[-1], (0.9, 0.1), (0.76, -0.13), (0.5, -0.23), (0.24, -0.13), (0.1, 0.1), jaw[0]])
        return np.concatenate([jaw, top[1:-1]])

    def _face_outline(self) -> np.ndarray:
        jaw = self._jaw(INSET)
        return np.concatenate([jaw, [(0.84, 0.26), (0.74, BROW), (0.5, BROW - 0.03), (0.26, BROW), (0.16, 0.26)]])

    def _warped(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """The face as it lies in a window, and the soft cut of its face."""
        rows, columns = window
        shift = np.array([[1, 0, -columns.start], [0, 1, -rows.start]], np.float64)
        size = columns.stop - columns.start, rows.stop - rows.start
        pixels = _resampled(self.face.pixels, compose(shift, self.to_canvas), size)
        outline = apply_affine(compose(shift, self.head), smooth(self._face_outline()[::2], closed=True, steps=4))
        alpha = np.zeros(size[::-1], np.float32)
        cv2.fillPoly(alpha, [np.round(outline).astype(np.int32)], 1.0)
        return pixels, blurred(alpha, FEATHER * self.unit)

    def _skin(self) -> Colour:
        """The median colour of both cheeks."""
        points = self.face.landmarks
        spots = [(points[a] + points[b]) / 2 for a, b in ((2, 31), (14, 35), (3, 48), (13, 54))]
        patches = [self.face.pixels[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9].reshape(-1, 3) for x, y in spots]
        return tuple(np.median(np.concatenate(patches), axis=0).tolist())


def _resampled(pixels: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`pixels` under an affine map, float32, without aliasing where it shrinks."""
    scale = float(np.hypot(affine[0, 0], affine[1, 0]))
    if scale < 0.7:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.45 / scale)
    flat = invert(affine)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, flat, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _carried_on(pixels: np.ndarray, alpha: np.ndarray, width: float) -> np.ndarray:
    """The colours under `alpha`, carried on into what lies around it."""
    core = np.clip(alpha * 2 - 1, 0, 1)[..., None]
    total, weight = np.zeros_like(pixels), np.zeros_like(core)
    for reach, share in ((1, 1.0), (3, 1e-3), (9, 1e-6)):
        total += share * blurred(pixels * core, width * reach)
        weight += share * blurred(core, width * reach)[..., None]
    return total / np.maximum(weight, 1e-12)
