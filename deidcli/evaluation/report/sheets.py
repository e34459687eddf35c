"""Sheets: pairs of pictures, before and after, side by side in one PNG."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deidcli.errors import DeidError, UsageError
from deidcli.media.open import open_reader
from deidcli.values import Box

SIDE = 150  # pixels of one picture of a pair
GAP, LINE, TEXT = 12, 17, 13
PAPER, INK, FAINT, EMPTY = (250, 250, 248), (25, 28, 32), (95, 100, 108), (226, 227, 224)
SURROUNDINGS = 1.9  # how much of the picture is shown, in sides of the face's box


@dataclass(frozen=True)
class Tile:
    """A pair. before, after: (height, width, 3) uint8 of any size, or None where there is none. title, note: below."""

    before: np.ndarray | None
    after: np.ndarray | None
    title: str
    note: str = ""


def sheet(tiles: Sequence[Tile], columns: int = 4) -> Image.Image:
    """The pairs in rows from left to right, each with two lines of text below."""
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    width, height = 2 * SIDE + 2 + GAP, SIDE + 2 * LINE + 8 + GAP
    page = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    for index, tile in enumerate(tiles):
        _paste(page, tile, GAP + index % columns * width, GAP + index // columns * height)
    return page


def save(page: Image.Image, path: Path) -> None:
    """Write a PNG. Raises UsageError for a path that cannot be written."""
    try:
        page.save(path, "PNG", optimize=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}", "name a file like look.png") from error


def png(page: Image.Image) -> bytes:
    """The bytes of a PNG."""
    held = io.BytesIO()
    page.save(held, "PNG", optimize=True)
    return held.getvalue()


def around(path: Path | None, frame: int = 0, box: Box | None = None) -> np.ndarray | None:
    """The square about a face, or the whole picture where there is no box; None where the file cannot be read."""
    if path is None:
        return None
    try:
        with open_reader(path) as reader:
            pixels = next(each.pixels for each in reader.frames() if each.index == frame)
    except (DeidError, OSError, StopIteration):
        return None
    return pixels if box is None else _cut(pixels, box)


def _cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    half = SURROUNDINGS * max(box.width, box.height) / 2
    (x, y), (height, width) = box.center, pixels.shape[:2]
    top, bottom = int(np.clip(y - half, 0, height - 1)), int(np.clip(y + half, 1, height))
    left, right = int(np.clip(x - half, 0, width - 1)), int(np.clip(x + half, 1, width))
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def _paste(page: Image.Image, tile: Tile, x: int, y: int) -> None:
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT)
    for pixels, left in ((tile.before, x), (tile.after, x + SIDE + 2)):
        draw.rectangle((left, y, left + SIDE - 1, y + SIDE - 1), fill=EMPTY)
        if pixels is None:
            draw.text((left + SIDE / 2, y + SIDE / 2), "not at hand", FAINT, font, anchor="mm")
        else:
            picture = _fitted(pixels)
            page.paste(picture, (left + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2))
    for number, (text, colour) in enumerate(((tile.title, INK), (tile.note, FAINT))):
        draw.text((x, y + SIDE + 4 + number * LINE), _short(text, font), colour, font)


def _fitted(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = SIDE / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _short(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its middle left out where it is too wide: the end of a name tells files apart."""
    # Pillow's own font knows no other letters, and no font of the system is the same everywhere.
    room, text = 2 * SIDE, unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    keep = len(text)
    while keep > 2 and font.getlength(text if keep == len(text) else _middle(text, keep)) > room:
        keep -= 1
    return text if keep == len(text) else _middle(text, keep)


def _middle(text: str, keep: int) -> str:
    return f"{text[: keep // 2]}...{text[len(text) - (keep - keep // 2) :]}"
