"""Backgrounds: drawn places, softened as if a lens looked at people in front. Sizes are pixels, colours 0 to 255."""

from __future__ import annotations

import cv2
import numpy as np
from paint import Canvas, Colour, blurred, ellipse, smooth, tint


def gradient(width: int, height: int, top: Colour, low: Colour) -> np.ndarray:
    """(height, width, 3) float32 from one colour to another."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(np.float32(top) * (1 - down) + np.float32(low) * down, (height, width, 3)).copy()


def rectangle(left: float, top: float, right: float, low: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, low), (left, low)], np.float64)


def grain(pixels: np.ndarray, rng: np.random.Generator, strength: float = 1.6) -> np.ndarray:
    """uint8 with a little noise, the same over faces and drawing, which makes them one picture."""
    noise = cv2.GaussianBlur(rng.normal(0, 1.6 * strength, pixels.shape[:2]).astype(np.float32), (0, 0), 0.7)
    return np.clip(pixels + noise[..., None] + 0.5, 0, 255).astype(np.uint8)


def softened(canvas: Canvas, width: float) -> Canvas:
    return Canvas(canvas.width, canvas.height, blurred(canvas.rgb, width))


def studio(width: int, height: int, light: Colour, dark: Colour, rng: np.random.Generator) -> Canvas:
    """A backdrop that is lit in the middle, with discs of light out of focus."""
    canvas = Canvas(width, height, gradient(width, height, dark, tint(dark, 0.7)))
    canvas.fill(ellipse(width * 0.42, height * 0.4, width * 0.5, height * 0.45), light, width * 0.13, 0.95)
    for _ in range(14):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height * 0.8), rng.uniform(0.02, 0.06) * width
        canvas.fill(ellipse(x, y, r, r), tint(light, 1.5), r * 0.08, rng.uniform(0.05, 0.16))
    return softened(canvas, width * 0.004)


def room(width: int, height: int) -> Canvas:
    """A living room: a window with the light of the afternoon, a shelf, a lamp, a plant and the back of a sofa."""
    canvas = Canvas(width, height, gradient(width, height, (226, 214, 196), (205, 188, 166)))
    w, h = width, height
    _window(canvas, rectangle(0.06 * w, 0.06 * h, 0.3 * w, 0.58 * h))
    _shelf(canvas, rectangle(0.66 * w, 0.16 * h, 0.95 * w, 0.19 * h))
    for left, colour in ((0.38, (120, 150, 160)), (0.5, (200, 150, 110))):
        canvas.fill(rectangle(left * w, 0.08 * h, (left + 0.09) * w, 0.3 * h), (245, 242, 235))
        canvas.fill(rectangle((left + 0.012) * w, 0.1 * h, (left + 0.078) * w, 0.28 * h), colour, low=tint(colour, 0.7))
    canvas.fill(ellipse(0.3 * w, 0.25 * h, 0.5 * w, 0.5 * h), (255, 236, 200), 0.12 * w, 0.22)
    canvas.fill(rectangle(-0.1 * w, 0.66 * h, 1.1 * w, 1.1 * h), (128, 104, 92), 0.01 * w, low=(90, 70, 64))
    _plant(canvas, 0.96 * w, 0.68 * h, 0.26 * h)
    return softened(canvas, 0.0045 * width)


def street(width: int, height: int, rng: np.random.Generator) -> Canvas:
    """A street of painted houses on a clear morning."""
    canvas = Canvas(width, height, gradient(width, height, (150, 190, 225), (235, 236, 228)))
    left = -0.04 * width
    colours = [(214, 150, 118), (226, 200, 150), (160, 180, 172), (200, 128, 110), (222, 214, 198), (150, 162, 184)]
    for colour in colours:
        right = left + width * rng.uniform(0.17, 0.21)
        _house(canvas, rectangle(left, height * rng.uniform(0.06, 0.2), right, 0.78 * height), colour)
        left = right
    canvas.fill(rectangle(-1, 0.77 * height, width + 1, height + 1), (178, 172, 164), 2, low=(150, 144, 138))
    canvas.fill(ellipse(0.8 * width, 0, 0.5 * width, 0.6 * height), (255, 240, 205), 0.1 * width, 0.25)
    return softened(canvas, 0.0022 * width)


def terrace(width: int, height: int) -> Canvas:
    """A café terrace by the sea, under a striped awning."""
    w, h = width, height
    canvas = Canvas(w, h, gradient(w, h, (128, 186, 222), (238, 232, 214)))
    canvas.fill(rectangle(0, 0.47 * h, w, 0.72 * h), (70, 140, 165), 0.004 * h, low=(120, 180, 185))
    hills = smooth([(0, 0.42), (0.15, 0.36), (0.32, 0.43), (0.5, 0.4), (0.7, 0.45), (0.85, 0.39), (1.0, 0.42)]) * (w, h)
    canvas.fill(np.concatenate([hills, [(w, 0.48 * h), (0, 0.48 * h)]]), (128, 150, 150), 2, low=(150, 170, 165))
    canvas.fill(rectangle(-1, 0.7 * h, w + 1, h + 1), (214, 190, 158), 2, low=(180, 150, 120))
    for x in np.linspace(0.02, 0.98, 13) * w:
        canvas.fill(rectangle(x, 0.56 * h, x + 0.008 * w, 0.74 * h), (248, 246, 240))
    canvas.fill(rectangle(0, 0.55 * h, w, 0.57 * h), (250, 248, 244))
    canvas = softened(canvas, 0.003 * w)
    _awning(canvas, 16, 0.13 * h)
    return canvas


def landscape(width: int, height: int, rng: np.random.Generator) -> Canvas:
    """Hills in the evening behind a lake, and nobody there."""
    w, h = width, height
    canvas = Canvas(w, h, gradient(w, h, (92, 130, 180), (252, 206, 150)))
    canvas.fill(ellipse(0.68 * w, 0.44 * h, 0.2 * w, 0.2 * w), (255, 226, 170), 0.07 * w, 0.7)
    canvas.fill(ellipse(0.68 * w, 0.44 * h, 0.035 * w, 0.035 * w), (255, 246, 220), 0.003 * w)
    for level, colour in enumerate([(150, 140, 165), (108, 116, 146), (74, 96, 112), (48, 74, 78)]):
        _ridge(canvas, 0.42 + 0.055 * level, 0.09 - 0.012 * level, colour, rng)
    canvas.fill(rectangle(-1, 0.68 * h, w + 1, h + 1), (216, 178, 142), 2, low=(58, 84, 112))
    for _ in range(130):
        y = rng.uniform(0.69, 0.99)
        x, half = rng.normal(0.68, 0.03 + 0.5 * (y - 0.69)), rng.uniform(0.01, 0.05)
        canvas.fill(ellipse(x * w, y * h, half * w, 0.0016 * h), (255, 224, 176), 1.0, 0.5)
    for x in rng.uniform(0, 0.36, 26):
        _fir(canvas, x * w, (0.7 + 0.25 * (0.36 - x)) * h, rng.uniform(0.1, 0.2) * h)
    return canvas


def planter(canvas: Canvas, left: float, right: float, top: float, rng: np.random.Generator) -> None:
    """A box of flowers in front of everything, from `top` down to the edge."""
    canvas.fill(rectangle(left, top, right, canvas.height + 1), (120, 88, 66), 1.5, low=(84, 60, 46))
    size = 0.016 * canvas.height
    petals = [(226, 92, 96), (246, 190, 84), (238, 236, 230), (206, 110, 170)]
    for number in range(int((right - left) / size * 5)):
        x, y = rng.uniform(left, right), top + rng.normal(-0.3, 1.1) * size
        green = (70 + rng.uniform(-15, 30), 118 + rng.uniform(-25, 30), 62)
        canvas.fill(ellipse(x, y, size * 0.5, size * 0.9), green, 0.6)
        if number % 4 == 0:
            for turn in range(0, 360, 72):
                dx, dy = np.cos(np.radians(turn)), np.sin(np.radians(turn))
                canvas.fill(
                    ellipse(x + dx * size * 0.4, y - size + dy * size * 0.4, size * 0.36, size * 0.36),
                    petals[number // 4 % 4],
                )
            canvas.fill(ellipse(x, y - size, size * 0.25, size * 0.25), (250, 220, 120))


def table(canvas: Canvas, x: float, y: float, half: float) -> None:
    """A round table with two cups, its near edge below the picture or not."""
    canvas.fill(ellipse(x, y + half * 0.05, half, half * 0.26), (96, 72, 58), half * 0.03)
    canvas.fill(ellipse(x, y, half, half * 0.25), (236, 226, 212), 1.0)
    for dx in (-0.42, 0.38):
        cup, size = x + dx * half, half * 0.1
        canvas.fill(ellipse(cup, y + size * 0.35, size * 1.8, size * 0.5), (250, 250, 248), 1.0)
        wall = [(-1, -1), (-0.9, -0.3), (-0.55, 0.3), (0, 0.42), (0.55, 0.3), (0.9, -0.3), (1, -1)]
        canvas.fill(ellipse(cup + size, y - size * 0.35, size * 0.5, size * 0.42), (70, 120, 150), 1.0)
        canvas.fill(ellipse(cup + size, y - size * 0.35, size * 0.28, size * 0.24), (236, 226, 212), 1.0)
        canvas.fill(smooth(wall) * size + (cup, y), (96, 150, 178), 1.0, low=(60, 104, 134))
        canvas.fill(ellipse(cup, y - size, size, size * 0.3), (92, 58, 40), 0.6)


def _window(canvas: Canvas, frame: np.ndarray) -> None:
    (left, top), (right, low) = frame[0], frame[2]
    edge = 0.012 * canvas.width
    canvas.fill(rectangle(left - edge, top - edge, right + edge, low + edge), (250, 248, 242))
    canvas.fill(frame, (168, 206, 232), low=(240, 240, 220))
    canvas.fill(
        ellipse((left + right) / 2, low, (right - left) * 0.46, (low - top) * 0.28), (130, 165, 110), edge, within=frame
    )
    middle = (left + right) / 2
    canvas.fill(rectangle(middle - edge / 3, top, middle + edge / 3, low), (250, 248, 242))
    for x, sign in ((left, -1), (right, 1)):
        drape = smooth(
            [(x - sign * 3 * edge, top - 2 * edge), (x - sign * 2 * edge, low), (x + sign * 3 * edge, low + 2 * edge)]
        )
        canvas.fill(np.concatenate([drape, [(x + sign * 3 * edge, top - 2 * edge)]]), (196, 122, 96), edge / 3)


def _shelf(canvas: Canvas, board: np.ndarray) -> None:
    (left, top), (right, _) = board[0], board[2]
    colours = [(170, 80, 70), (80, 110, 130), (220, 190, 120), (90, 120, 90), (235, 230, 220), (120, 90, 130)]
    width = (right - left) / 16
    for number in range(13):
        high = canvas.height * (0.085 + 0.02 * ((number * 7) % 4))
        x = left + width * (number + 1)
        canvas.fill(
            rectangle(x, top - high, x + width * 0.9, top), colours[number % 6], low=tint(colours[number % 6], 0.75)
        )
    canvas.fill(board, (140, 104, 76), 1.0)


def _plant(canvas: Canvas, x: float, y: float, size: float) -> None:
    for angle in np.linspace(-70, 70, 11):
        turn = np.radians(angle)
        tip = np.array([x + size * np.sin(turn), y - size * np.cos(turn)])
        side = np.array([np.cos(turn), np.sin(turn)]) * size * 0.08
        middle = (tip + (x, y)) / 2
        leaf = smooth([(x, y), middle + side, tip, middle - side], closed=True)
        canvas.fill(leaf, (86 + abs(angle) / 3, 128, 84), 1.0, low=(60, 96, 66))


def _house(canvas: Canvas, wall: np.ndarray, colour: Colour) -> None:
    (left, top), (right, low) = wall[0], wall[2]
    w, h = right - left, low - top
    canvas.fill(wall, colour, low=tint(colour, 0.84))
    canvas.fill(rectangle(left - 0.02 * w, top - 0.03 * h, right + 0.02 * w, top), tint(colour, 0.6))
    for row in (0.08, 0.38):
        for column in (0.12, 0.42, 0.72):
            x, y = left + column * w, top + row * h
            canvas.fill(rectangle(x - 0.02 * w, y - 0.01 * h, x + 0.18 * w, y + 0.21 * h), (244, 240, 232))
            canvas.fill(rectangle(x, y, x + 0.16 * w, y + 0.19 * h), (96, 120, 140), low=(150, 170, 180))
    canvas.fill(
        rectangle(left + 0.08 * w, low - 0.3 * h, left + 0.6 * w, low - 0.06 * h), (90, 104, 112), low=(140, 140, 130)
    )
    canvas.fill(rectangle(left + 0.7 * w, low - 0.3 * h, left + 0.92 * w, low), tint(colour, 0.45))
    canvas.fill(
        rectangle(left + 0.04 * w, low - 0.34 * h, left + 0.64 * w, low - 0.28 * h), (232, 226, 214), low=(190, 80, 70)
    )


def _awning(canvas: Canvas, stripes: int, depth: float) -> None:
    width = canvas.width / stripes
    for number in range(stripes):
        colour = (208, 78, 66) if number % 2 else (248, 242, 230)
        middle = (number + 0.5) * width
        canvas.fill(rectangle(number * width, 0, (number + 1) * width, depth), tint(colour, 0.86), 0.5, low=colour)
        canvas.fill(ellipse(middle, depth - 1, width / 2, width * 0.4, 0, 180), colour, 0.5, low=tint(colour, 0.85))


def _ridge(canvas: Canvas, height: float, swing: float, colour: Colour, rng: np.random.Generator) -> None:
    x = np.linspace(-0.05, 1.05, 14)
    crest = smooth(np.column_stack([x, height - swing * rng.uniform(0, 1, 14)])) * (canvas.width, canvas.height)
    canvas.fill(
        np.concatenate([crest, [crest[-1] * (1, 0) + (0, 0.69 * canvas.height), (crest[0, 0], 0.69 * canvas.height)]]),
        colour,
        1.0,
        low=tint(colour, 1.25),
    )


def _fir(canvas: Canvas, x: float, y: float, size: float) -> None:
    for level in range(6):
        top, half = y - size * (1 - level * 0.14), size * (0.05 + 0.035 * level)
        low = top + size * 0.3
        canvas.fill(np.array([(x, top), (x + half, low), (x - half, low)]), (30 + 3 * level, 52, 54), 0.8)
