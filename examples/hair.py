"""Hair in strands, combed between guides. Shapes are in the unit of the face square: hairline 0, chin 1, middle 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from paint import Canvas, Colour, ellipse, mirror, smooth, stroke, tint

from deidcli.faces.align import apply_affine


@dataclass(frozen=True)
class Hair:
    """style: short, cropped, curly, long or bun. volume: how far it stands off the skull. part: where it is parted,
    as a distance from the middle. length: where long hair ends. hairline: its height; 0 is the forehead's upper end."""

    style: str
    colour: Colour
    volume: float = 0.06
    part: float = -0.12
    length: float = 1.5
    hairline: float = 0.03


class Comb:
    """Draws one head of hair. head: (2, 3), from the face square to the canvas. rng: makes every strand its own."""

    def __init__(self, canvas: Canvas, head: np.ndarray, hair: Hair, rng: np.random.Generator):
        self.canvas, self.head, self.hair, self.rng = canvas, head, hair, rng
        self.unit = float(np.hypot(head[0, 0], head[1, 0]))
        self.layer = canvas.strokes_layer()

    def behind(self) -> None:
        """What lies behind neck and shoulders."""
        if self.hair.style != "long":
            return
        end = self.hair.length
        side = np.array([(0.3, -0.15), (0.06, 0.0), (0.0, 0.3), (-0.03, 0.8), (0.0, 0.3 + 0.65 * end), (0.16, end)])
        outline = smooth(np.concatenate([side, mirror(side)]), closed=True)
        self._base(outline, 0.4)
        t = np.linspace(0, 1, 14)[:, None]
        left = np.array([[0.0, 0.3]]) * (1 - t) + np.array([[0.02, end]]) * t
        self._strands(np.array([left, left * (-1, 1) + (1, 0)]), 1500, 0.012, wave=0.02, shade=0.5)
        self._finish()

    def before(self) -> None:
        """What lies over the forehead, the temples and the shoulders."""
        draw = {
            "short": self._short, "cropped": self._cropped, "curly": self._curly, "long": self._long, "bun": self._bun
        }  # fmt: skip
        draw[self.hair.style]()
        self._finish()

    def _short(self) -> None:
        roots, tips = self._hairline(), self._skull()
        self._cap(roots, tips, 0.5)
        self._strands(self._swept(roots, tips), 5200, 0.007)

    def _bun(self) -> None:
        x, y = 0.5, -0.3 - self.hair.volume
        self._base(ellipse(x, y, 0.17, 0.14), 0.5)
        ring = [ellipse(x, y, 0.17 * r, 0.14 * r, 130, 410)[::5] for r in np.linspace(0.2, 1, 6)]
        self._strands(np.array(ring), 700, 0.006)
        roots, tips = self._hairline(), self._skull()
        self._cap(roots, tips, 0.55)
        t = np.linspace(-0.03, 1, 12)[None, :, None]
        self._strands(roots[:, None] * (1 - t) + tips[:, None] * t, 5200, 0.004)

    def _cropped(self) -> None:
        roots, tips = self._hairline(), self._skull()
        self._cap(roots, tips, 0.75)
        self._curls(roots, tips, 12000, 0.0045)

    def _curly(self) -> None:
        roots, tips = self._hairline(), self._skull()
        self._cap(roots, tips, 0.6)
        self._curls(roots, tips, 4200, 0.024)

    def _long(self) -> None:
        left, right = self._curtain(self.hair.part), self._curtain(-self.hair.part)
        for guides in (left, right * (-1, 1) + (1, 0)):
            body = guides[:, : int(0.9 * guides.shape[1])]
            self._base(np.concatenate([body[0], body[-1][::-1]]), 0.55)
            self._strands(guides, 5200, 0.012, wave=0.03, thin_out=3)

    def _hairline(self) -> np.ndarray:
        """From the left sideburn over the forehead to the right one, (n, 2)."""
        top = self.hair.hairline
        side = np.array(
            [
                (0.105, 0.45),
                (0.12, 0.34),
                (0.125, 0.25),
                (0.155, 0.15 + top / 2),
                (0.25, 0.07 + top),
                (0.37, 0.02 + top),
            ]
        )
        return smooth(np.concatenate([side, [(0.5, top)], mirror(side)]), steps=5)

    def _skull(self) -> np.ndarray:
        """The outer edge from ear to ear, with as many points as the hairline."""
        v = self.hair.volume
        side = np.array(
            [(0.088, 0.44), (0.075 - v / 3, 0.32), (0.06 - v / 2, 0.16), (0.09 - v / 2, 0.0), (0.19, -0.13 - v * 0.8)]
            + [(0.34, -0.205 - v)]
        )
        return smooth(np.concatenate([side, [(0.5, -0.225 - v)], mirror(side)]), steps=5)

    def _swept(self, roots: np.ndarray, tips: np.ndarray) -> np.ndarray:
        """Guides that rise from the forehead and fall away from the parting, and hug the temples: (n, 12, 2)."""
        count, t = len(roots), np.linspace(-0.04, 1, 12)[None, :, None]
        top = np.clip(1.25 - np.abs(roots[:, 0] - 0.5) / 0.36, 0, 1)
        toward_middle = np.sign(count / 2 - np.arange(count)) * 9 * (1 - top)
        away = np.sign(-self.hair.part) * 5 * top
        ends = tips[np.clip(np.arange(count) + toward_middle + away, 0, count - 1).astype(int)]
        rising = np.concatenate([0 * t, -0.035 * np.sin(np.pi * t)], axis=2) * top[:, None, None]
        return roots[:, None] * (1 - t) + ends[:, None] * t + rising

    def _curtain(self, part: float) -> np.ndarray:
        """Guides of the left half of long hair, the inner one first: (n, k, 2)."""
        x, v, end, top = 0.5 + part, self.hair.volume, self.hair.length, self.hair.hairline
        inner = [
            (x, top - 0.02), (0.34 + part / 2, 0.03 + top), (0.175, 0.16), (0.1, 0.36), (0.08, 0.62), (0.1, 0.9),
            (0.17, 0.55 + 0.45 * end), (0.25, end)
        ]  # fmt: skip
        outer = [
            (x, -0.25 - v), (0.24 + part / 2, -0.2 - v), (0.07 - v / 2, -0.02), (0.01 - v / 2, 0.3), (-0.02 - v, 0.62),
            (-0.06 - v, 0.9), (-0.05 - v, 0.6 + 0.4 * end), (0.07, end + 0.05)
        ]  # fmt: skip
        return self._between(smooth(inner, steps=8), smooth(outer, steps=8))

    def _between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Guides from one curve (k, 2) to another: (10, k, 2)."""
        share = np.linspace(0, 1, 10)[:, None, None]
        return first[None] * (1 - share) + last[None] * share

    def _cap(self, roots: np.ndarray, tips: np.ndarray, shade: float) -> None:
        """The ground under hair that grows from a hairline; it begins a little behind, so that skin shows between."""
        self._base(np.concatenate([roots * 0.86 + tips * 0.14, tips[::-1]]), shade)

    def _base(self, outline: np.ndarray, shade: float) -> None:
        self.canvas.fill(apply_affine(self.head, outline), tint(self.hair.colour, shade), soft=0.007 * self.unit)

    def _strands(
        self, guides: np.ndarray, count: int, loose: float, wave: float = 0.0, shade: float = 1.0, thin_out: int = 8
    ) -> None:
        """Comb strands between neighbouring guides (n, k, 2); they may end in the last part of `thin_out`.

        loose: how far they stray, wave: how far they swing, both in face squares.
        """
        steps = guides.shape[1]
        t = np.linspace(0, 1, steps)[:, None]
        for place in self.rng.uniform(0, len(guides) - 1, self._number(count)):
            low = min(int(place), len(guides) - 2)
            path = guides[low] * (low + 1 - place) + guides[low + 1] * (place - low)
            path = path + self.rng.normal(0, loose, 2) * (0.15 + t)
            swing = np.sin(2 * np.pi * (1.6 * t + 0.06 * place + self.rng.normal(0, 0.05)))
            path = path + np.concatenate([swing, 0.2 * swing], axis=1) * wave * t
            first = int(self.rng.integers(0, steps // 2)) * int(self.rng.integers(0, 2))
            last = steps - int(self.rng.integers(0, max(1, steps // thin_out)))
            self._strand(path[first:last], t[first:last, 0], shade)

    def _strand(self, path: np.ndarray, t: np.ndarray, shade: float) -> None:
        """One strand in short pieces: lighter where the hair turns to the light, darker at its ends."""
        tone, shine = self.rng.normal(0.9, 0.13) * shade, 0.3 + self.rng.normal(0, 0.08)
        points = apply_affine(self.head, path)
        for i in range(0, len(points) - 1, 2):
            light = tone * (0.82 + 0.28 * np.exp(-(((t[i] - shine) / 0.2) ** 2)) - 0.12 * t[i])
            stroke(self.layer, points[i : i + 3], np.array(tint(self.hair.colour, light)), self._width())

    def _curls(self, roots: np.ndarray, tips: np.ndarray, count: int, radius: float) -> None:
        """Little arcs all over the band between roots and tips (n, 2)."""
        for _ in range(self._number(count)):
            place, t = self.rng.uniform(0, len(roots) - 1.001), self.rng.uniform(-0.02, 1.02)
            i, share = int(place), place % 1
            root, tip = (line[i] * (1 - share) + line[i + 1] * share for line in (roots, tips))
            x, y = root * (1 - t) + tip * t + self.rng.normal(0, radius, 2)
            turn, size = self.rng.uniform(0, 360), radius * self.rng.uniform(0.5, 1.2)
            arc = ellipse(x, y, size, size, turn, turn + 220)[::6]
            light = self.rng.normal(0.85, 0.15) * (1.1 - 0.5 * abs(x - 0.42)) * (1.15 - 0.4 * (y + 0.2))
            stroke(self.layer, apply_affine(self.head, arc), np.array(tint(self.hair.colour, light)), self._width())

    def _number(self, count: int) -> int:
        """Fewer strands on a small head, where one is at least a pixel wide."""
        return int(count * np.clip(self.unit / 450, 0.25, 1.6))

    def _width(self) -> int:
        return max(1, round(self.unit * 0.0024))

    def _finish(self) -> None:
        self.canvas.lay_strokes(self.layer)
        self.layer = self.canvas.strokes_layer()
