"""On crops: a table measured on the aligned crops that a paper's networks see, with nothing blended back.

"Deep Autoencoders" (Nousi et al. 2020) measures crops of 64 pixels as they leave the networks. Original and output are
both doubled, because dlib's CNN detector finds faces from 80 pixels on, and stand on a border that repeats their edge.
dlib's recogniser sees nothing of that border: its chip of an upright face lies within the crop. Original and output are
described at the landmarks of the original, as everywhere else here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from deidcli.engine.frames import batched
from deidcli.errors import UsageError
from deidcli.evaluation.bench import Bench, Subject
from deidcli.evaluation.observe import Made, Maker, Original
from deidcli.evaluation.originals import BATCH, Known, Originals, describe
from deidcli.evaluation.plan import Plan
from deidcli.faces.align import align, apply_affine
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.methods.base import Method, crop_of
from deidcli.networks.autoencoder import LUMA
from deidcli.presets import Preset, load_preset
from deidcli.values import Box, Crop, CropSpec, Face, Frame

FACES = 10  # columns of a sheet
SCALE, BORDER = 2, 0.125  # enlargement of a crop, and the border about it on each side as a share of its side
CONFIDENT = 0.0  # margin at which dlib itself takes something for a face
DETECTOR = DetectOptions("cnn", threshold=CONFIDENT, upsample=0, low_light=False)  # f_det of Equation 12


def on_crops(bench: Bench, plan: Plan, preset: str) -> tuple[Bench, Plan]:
    """A bench that has read its photographs, and its plan, on crops as the preset of this name takes them."""
    return CropBench(bench, load_preset(preset)), replace(plan, protocol=f"{plan.protocol}:crops")


class CropBench(Bench):
    """A bench that has read its photographs, on crops as the preset of a method takes them; grey where it sees grey."""

    def __init__(self, bench: Bench, preset: Preset):
        vars(self).update(vars(bench))
        self.spec = crop_of(preset)
        self.crops = CropOriginals(bench.originals, self.spec, preset.config["network"].get("channels") == 1)
        self.originals = self.crops
        self.instruments = replace(bench.instruments, detector=detector(DETECTOR))

    def maker(self, subject: Subject, names: Sequence[str]) -> Maker:
        """What makes the outputs of `subject`. Raises UsageError for a method that takes other crops, or a folder."""
        if subject.method is None and subject.folder is None:
            return super().maker(subject, names)
        if subject.method is None or _cut(subject.method.crop) != _cut(self.spec):
            raise UsageError(f"{subject.label} does not make the crops of this table", "measure it with --photographs")
        return ByCrop(subject.method, self.crops)


class CropOriginals(Originals):
    """The faces of photographs that are known, as crops of `spec`; frames are enlarged crops.

    cut: the crops by name, (size, size, 3) uint8. grey: whether their colour is taken away.
    """

    def __init__(self, whole: Originals, spec: CropSpec, grey: bool):
        super().__init__(whole.folder, whole.detect, whole.judge)
        self.blank, self.failed = whole.blank, whole.failed
        self.cut = {name: _crop(whole.frame(name), known.face, spec, name, grey) for name, known in whole.known.items()}
        for names in batched(iter(self.cut), lambda _: 1, BATCH, longest=BATCH):
            faces = [enlarged_face(self.cut[name]) for name in names]
            rows = describe(self.judge, [(self.frame(n).pixels, f) for n, f in zip(names, faces, strict=True)])
            self.known |= {n: Known(f, row) for n, f, row in zip(names, faces, rows, strict=True)}

    def frame(self, name: str) -> Frame:
        """The enlarged crop of a photograph."""
        return Frame(enlarged(self.cut[name].pixels))


class ByCrop:
    """A method alone on the crops of photographs, its new faces enlarged as the originals are."""

    def __init__(self, method: Method, originals: CropOriginals):
        self.method, self.originals = method, originals

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        made = [enlarged(crop.pixels) for crop in self.method.apply([self.originals.cut[o.name] for o in batch])]
        return [Made(pixels, np.ones(pixels.shape[:2], bool)) for pixels in made]


def sheet(bench: CropBench, subjects: Sequence[Subject]) -> np.ndarray:
    """A row of crops for each subject, and the untouched ones where a subject is the originals; (height, width, 3)
    uint8, enlarged. The faces are the same in all rows, and drawn by the seed.
    """
    names = sorted(bench.originals.known)
    drawn = np.random.default_rng(bench.study.draw).permutation(len(names))[:FACES]
    crops = [bench.crops.cut[names[place]] for place in drawn]
    rows = [crops if subject.method is None else subject.method.apply(crops) for subject in subjects]
    page = np.concatenate([np.concatenate([crop.pixels for crop in row], axis=1) for row in rows], axis=0)
    return cv2.resize(page, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)


def enlarged(crop: np.ndarray) -> np.ndarray:
    """A crop (n, n, 3) uint8, SCALE times as large and with its border."""
    side = SCALE * len(crop)
    room = round(BORDER * side)
    large = cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.pad(large, ((room, room), (room, room), (0, 0)), mode="edge")


def enlarged_face(crop: Crop) -> Face:
    """The face of a crop where `enlarged` shows it."""
    room = round(BORDER * SCALE * len(crop.pixels))

    def placed(points: np.ndarray) -> np.ndarray:
        # Pixel (0, 0) covers [-0.5, 0.5] before and after.
        return (apply_affine(crop.transform, points) + 0.5) * SCALE - 0.5 + room

    box = crop.face.box
    corners = placed(np.array([(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)]))
    points = placed(np.asarray(crop.face.landmarks, np.float64)).astype(np.float32)
    return Face(Box(*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()), crop.face.score, points)


def _crop(frame: Frame, face: Face, spec: CropSpec, name: str, grey: bool) -> Crop:
    crop = align(frame, face, spec, name)
    if not grey:
        return crop
    light = np.clip(crop.pixels @ np.array(LUMA, np.float32) + 0.5, 0, 255).astype(np.uint8)
    return crop.with_pixels(np.repeat(light[..., None], 3, axis=-1))


def _cut(spec: CropSpec) -> tuple:
    return spec.size, spec.margin, spec.align
