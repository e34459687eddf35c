"""Make the pictures of examples/in: drawn scenes with faces of the face model, which show nobody.

    python examples/make.py

The same seed makes the same pictures. At the end every file is read back: dlib's detector must find the faces that were
drawn and no others, and its landmarks must sit right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import nobody
import numpy as np
import scenery
from figures import Look, Place, draw
from hair import Hair
from nobody import Drawn
from paint import Canvas
from PIL import Image, ImageDraw, ImageFont, ImageOps

from deidcli.faces.align import INNER
from deidcli.faces.blend import face_size
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.values import Face

OUT = Path(__file__).parent / "in"
MOST = 2_500_000  # bytes of all files together
NEAR = 0.06  # how far dlib's landmarks may lie from where they were drawn, as a share of the face square
FINE = 2  # scenes are drawn this much larger and shrunk, which smooths every edge

BLOND, BROWN, BLACK, GREY, WHITE = (186, 146, 94), (96, 64, 44), (40, 34, 34), (92, 90, 90), (196, 188, 178)
WOMAN, MAN = {"neck": 0.2, "shoulders": 0.86}, {"neck": 0.245, "shoulders": 1.0}
LOOKS = {
    "ada": Look("ada", Hair("long", BLOND, length=1.5), "scoop", (58, 112, 122), **WOMAN),
    "ben": Look("ben", Hair("cropped", BLACK, volume=0.0), "shirt", (188, 204, 226), **MAN),
    "cleo": Look("cleo", Hair("curly", BLACK, volume=0.14), "crew", (208, 152, 56), **WOMAN),
    "dai": Look("dai", Hair("short", BLACK, volume=0.05), "blazer", (62, 72, 98), **MAN),
    "esha": Look("esha", Hair("long", BLACK, part=0.0, length=1.6), "scoop", (152, 44, 74), **WOMAN),
    "finn": Look("finn", Hair("short", (168, 164, 160), volume=0.01, hairline=-0.04), "shirt", (110, 130, 112), **MAN),
    "gao": Look("gao", Hair("long", BLACK, part=0.1, length=1.15), "blazer", (92, 104, 96), **WOMAN),
    "hari": Look("hari", Hair("short", BLACK, volume=0.04, part=0.1), "shirt", (232, 226, 214), **MAN),
    "ines": Look("ines", Hair("bun", WHITE, volume=0.02), "blazer", (124, 54, 64), **WOMAN),
    "jon": Look("jon", Hair("short", BROWN, volume=0.05, part=0.1), "crew", (72, 98, 142), **MAN),
    "kofi": Look("kofi", Hair("cropped", GREY, volume=0.0), "blazer", (86, 78, 70), **MAN),
    "lin": Look("lin", Hair("bun", (58, 42, 36), volume=0.01), "scoop", (96, 150, 130), **WOMAN),
}


@dataclass
class Scene:
    """A picture in the making. landmarks: of each face drawn in it, (68, 2) in pixels of the finished picture."""

    canvas: Canvas
    faces: dict[str, Drawn]
    rng: np.random.Generator
    landmarks: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, x: float, y: float, size: float, tilt: float = 0.0) -> None:
        """Draw a figure; x, y and size are pixels of the finished picture, tilt is in degrees."""
        place = Place(x * FINE, y * FINE, size * FINE, tilt)
        points = draw(self.canvas, LOOKS[name], place, self.faces[name], int(self.rng.integers(1 << 30)))
        self.landmarks.append((points + 0.5) / FINE - 0.5)

    def finish(self) -> np.ndarray:
        """The picture at its own size, (height, width, 4) uint8; the last channel is 255 where it is opaque."""
        size = self.canvas.width // FINE, self.canvas.height // FINE
        alpha = cv2.resize(self.canvas.alpha, size, interpolation=cv2.INTER_AREA)
        rgb = cv2.resize(self.canvas.rgb * self.canvas.alpha, size, interpolation=cv2.INTER_AREA)
        rgb = scenery.grain(rgb / np.maximum(alpha, 1e-3)[..., None], self.rng)
        return np.dstack([rgb, np.round(alpha * 255).astype(np.uint8)])


def portrait(scene: Scene) -> None:
    scene.canvas = scenery.studio(1000 * FINE, 1200 * FINE, (222, 206, 186), (120, 104, 98), scene.rng)
    scene.add("ada", 500, 560, 430, -4)
    # The folds of the shirt further down look like a face to a detector that is asked for every doubtful one.
    scene.canvas.cut(1100 * FINE)


def group(scene: Scene) -> None:
    scene.canvas = scenery.room(1400 * FINE, 900 * FINE)
    scene.add("ines", 420, 320, 150)
    scene.add("hari", 985, 305, 165, 6)
    scene.add("kofi", 700, 345, 185)
    scene.add("cleo", 235, 520, 205, -6)
    scene.add("dai", 1165, 530, 225, 20)


def pair(scene: Scene) -> None:
    scene.canvas = Canvas(800 * FINE, 620 * FINE)
    scene.add("jon", 540, 270, 215, -7)
    scene.add("esha", 270, 300, 205, 5)


def street(scene: Scene) -> None:
    scene.canvas = scenery.street(1100 * FINE, 720 * FINE, scene.rng)
    for name, x, y, size, tilt in (
        ("finn", 480, 425, 62, 0), ("lin", 640, 432, 60, -4), ("hari", 930, 418, 66, 0), ("gao", 130, 430, 68, 3),
        ("ben", 310, 432, 84, -3), ("ada", 790, 440, 80, 5),
    ):  # fmt: skip
        scene.add(name, x, y, size, tilt)
    scenery.planter(scene.canvas, -1, 1101 * FINE, 610 * FINE, scene.rng)


def badge(scene: Scene) -> None:
    scene.canvas = Canvas(
        520 * FINE, 340 * FINE, scenery.gradient(520 * FINE, 340 * FINE, (248, 248, 246), (226, 230, 234))
    )
    photo = Scene(
        scenery.studio(190 * FINE, 230 * FINE, (206, 222, 232), (150, 172, 190), scene.rng), scene.faces, scene.rng
    )
    photo.add("gao", 95, 105, 92)
    scene.canvas.rgb[75 * FINE : 305 * FINE, 30 * FINE : 220 * FINE] = photo.canvas.rgb
    scene.landmarks = [points + (30, 75) for points in photo.landmarks]
    _print_badge(scene.canvas)


def sideways(scene: Scene) -> None:
    scene.canvas = scenery.studio(750 * FINE, 1000 * FINE, (196, 208, 196), (88, 106, 104), scene.rng)
    scene.add("ben", 375, 440, 330, 3)


def grey(scene: Scene) -> None:
    scene.canvas = scenery.studio(560 * FINE, 720 * FINE, (222, 222, 222), (84, 84, 84), scene.rng)
    scene.add("finn", 280, 310, 250, -3)


def no_face(scene: Scene) -> None:
    scene.canvas = scenery.landscape(1200 * FINE, 800 * FINE, scene.rng)


def terrace(scene: Scene) -> None:
    scene.canvas = scenery.terrace(1200 * FINE, 800 * FINE)
    scene.add("kofi", 610, 350, 150, -3)
    scene.add("lin", 300, 405, 175, 7)
    scene.add("jon", 915, 400, 180, -9)
    scenery.table(scene.canvas, 600 * FINE, 745 * FINE, 330 * FINE)


@dataclass(frozen=True)
class Picture:
    """A file of examples/in: what is on it, and how it is stored."""

    name: str
    paint: Callable[[Scene], None]
    save: Callable[[np.ndarray, Path], None]


def save_jpeg(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels[..., :3]).save(path, quality=88)


def save_sideways(pixels: np.ndarray, path: Path) -> None:
    """Stored lying down, with what a telephone writes beside the pixels: `deid` has to scrub it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Example", "Camera that never was"
    exif.get_ifd(0x8769).update({0x9003: "2024:05:01 12:00:00", 0xA430: "Nobody"})
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 28.0, 40.0), 3: "W", 4: (0.0, 0.0, 5.0)})
    lying = Image.fromarray(pixels[..., :3]).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, quality=88, exif=exif)


def save_gif(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels[..., :3]).quantize(256, method=Image.Quantize.MEDIANCUT).save(path)


PICTURES = (
    Picture("portrait.jpg", portrait, save_jpeg),
    Picture("group.jpg", group, save_jpeg),
    Picture("pair.png", pair, lambda pixels, path: Image.fromarray(pixels).save(path, optimize=True)),
    Picture("street.webp", street, lambda pixels, path: Image.fromarray(pixels[..., :3]).save(path, quality=86)),
    Picture("badge.gif", badge, save_gif),
    Picture("sideways.jpg", sideways, save_sideways),
    Picture(
        "grey.png", grey, lambda pixels, path: Image.fromarray(pixels[..., :3]).convert("L").save(path, optimize=True)
    ),
    Picture("no_face.jpg", no_face, save_jpeg),
    Picture("trip/café terrace.jpg", terrace, save_jpeg),
)


def make(faces: dict[str, Drawn], out: Path, seed: int, only: Iterable[str] = ()) -> None:
    """Write the pictures (or only some of them, by name) and check each."""
    for number, picture in enumerate(PICTURES):
        if only and picture.name not in only:
            continue
        scene = Scene(Canvas(1, 1), faces, np.random.default_rng([seed, number]))
        picture.paint(scene)
        path = out / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(scene.finish(), path)
        worst = check(path, scene.landmarks)
        print(
            f"{picture.name:24} {path.stat().st_size:8} bytes  {len(scene.landmarks)} faces, landmarks {worst:.3f} off"
        )
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert total < MOST, f"{total} bytes are more than {MOST}"


def check(path: Path, drawn: list[np.ndarray]) -> float:
    """The worst distance of dlib's landmarks from those drawn (root mean square, in face squares).

    Fails where dlib finds another number of faces, or lies further off than NEAR.
    """
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    found = locate(pixels, detector(DetectOptions(detector="hog", upsample=1, low_light=False)).detect([pixels])[0])
    assert len(found) == len(drawn), f"{path}: {len(found)} faces found, {len(drawn)} drawn"
    worst = max((min(_distance(face, points) for face in found) for points in drawn), default=0.0)
    assert worst <= NEAR, f"{path}: landmarks lie {worst:.3f} off"
    return worst


def _distance(face: Face, points: np.ndarray) -> float:
    assert face.landmarks is not None, "landmarks that cannot be right"
    return float(np.sqrt(np.mean(np.sum((face.landmarks - points)[INNER] ** 2, axis=1)))) / face_size(face)


def _print_badge(canvas: Canvas) -> None:
    """The words and the lines of a visitor's badge."""
    image = Image.fromarray(np.clip(canvas.rgb, 0, 255).astype(np.uint8))
    pen, dark = ImageDraw.Draw(image), (44, 62, 84)
    pen.rectangle((0, 0, image.width, 52 * FINE), fill=dark)
    words = [((30, 12), "VISITOR", 26, (250, 250, 250)), ((245, 90), "N. O. Body", 30, dark)]
    words += [((245, 135), "Nobody's Faces Ltd.", 18, (90, 104, 120)), ((245, 165), "No. 0042", 18, (90, 104, 120))]
    for (x, y), text, size, colour in words:
        pen.text((x * FINE, y * FINE), text, fill=colour, font=ImageFont.load_default(size * FINE))
    for number, wide in enumerate([3, 1, 2, 1, 1, 3, 2, 1, 3, 1, 1, 2, 3, 1, 2, 2, 1, 3, 1, 2]):
        x = (245 + 12 * number) * FINE
        pen.rectangle((x, 230 * FINE, x + wide * 3 * FINE, 300 * FINE), fill=dark)
    canvas.rgb[:] = np.asarray(image, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pictures of PICTURES; all of them where none is named")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)  # sums in one order on every machine
    make(nobody.Faces(), options.out, options.seed, options.names)


if __name__ == "__main__":
    main()
