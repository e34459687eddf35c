"""Pictures that are drawn here, in every mode, and a run of one of them through reader and writer."""

import io

import numpy as np
from PIL import Image

from deidcli.media.open import open_reader
from deidcli.media.stream import WriteOptions

MARK = b"MARKER-of-a-person-4711"


def noise(shape, seed=0, top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def smooth(height=48, width=64):
    """(height, width, 3) uint8, gentle enough for a lossy codec."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], 2).astype(np.uint8)


def drawn(mode, size=(37, 29), seed=0):
    """A Pillow image of noise in one of Pillow's modes."""
    width, height = size
    bands = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1)
    if mode == "1":
        return Image.fromarray(noise((height, width), seed, 2) * 255).convert("1", dither=Image.Dither.NONE)
    if mode == "I;16":
        return Image.frombytes("I;16", size, noise((height, width), seed, 65536, "<u2").tobytes())
    if mode == "F":
        return Image.fromarray(noise((height, width), seed, 1000, np.float32) / np.float32(1000))
    image = Image.frombytes(mode, size, noise((height, width, bands), seed, 251).tobytes())
    if mode == "P":
        image.putpalette(noise(256 * 3, seed + 1).tobytes())
    return image


def saved(image, kind, **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def region(height, width):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


def negative(frame):
    """The frame with a quarter of it inverted, and the mask of that quarter."""
    mask = region(frame.height, frame.width)
    pixels = frame.pixels.copy()
    pixels[mask] = 255 - pixels[mask]
    return frame.with_pixels(pixels), mask


def through(data, change=True, metadata="safe", which=lambda index: True):
    """The bytes that come out; `change` inverts a quarter of every frame for which `which(index)` holds."""
    target = io.BytesIO()
    with open_reader(data, "drawn") as reader:
        writer = reader.writer(target, WriteOptions(metadata))
        for frame in reader.frames():
            new, mask = negative(frame) if change and which(frame.index) else (frame, None)
            writer.write(new, mask)
        writer.finish()
    return target.getvalue()


def frames(data):
    with open_reader(data, "drawn") as reader:
        return list(reader.frames())
