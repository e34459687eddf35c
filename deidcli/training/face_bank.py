"""Which faces a face model learns from (`plain`), and which of these its bank lends to others (`presentable`).

What a face of the bank shows beside itself would be drawn into photographs: glasses, hair over the forehead, a shadow
across one cheek, the colour of a stage light. Measures find most of it; `--without` names what somebody saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deidcli.faces.canonical import LEFT_LIDS, RIGHT_LIDS, SIZE
from deidcli.faces.face_model import FaceModel, ridge
from deidcli.faces.glasses import glasses_lines
from deidcli.faces.regions import COARSE, features, filled, rim_distance, shrunk, skin

# Shares of the faces that are learnt from, by how unlike what is kept predicts they are, by what is dark or bright on
# their foreheads (hair), and by fine lines about their eyes (glasses).
LIKELY, BARE, UNGLAZED = 0.62, 0.75, 0.8
KEPT_PENALTY = 8.0  # of the ridge regressions on what is kept
# What each blemish of `blemishes` may be in a face of the bank.
BOUNDS = np.array([0.115, 0.17, 0.55, 0.27, 0.27, 22.0, 8.5])
# Share of each third of the tones that the bank takes: the faces whose worst blemish is the smallest. Dark skin shines
# more, so that one bound for all would leave few dark faces.
CLEAREST = 0.64
SMOOTH, WIDE = 6.0, 12.0  # standard deviations in pixels of the frame
COLUMNS, SIDE = 20, 96  # of a sheet


def plain(textures: Sequence[np.ndarray], known: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(n,) bool: the faces that the components are learnt from.

    textures: (256, 256, 3) float32 each. known: (n, k), what is kept of them. free: (n,) bool, those who are in the
    data once; people who were drawn many times only teach expression.
    """
    small = np.stack([shrunk(texture) for texture in textures])
    flat = small.reshape(len(small), -1)
    fit = known @ ridge(known, flat - flat.mean(axis=0), KEPT_PENALTY) + flat.mean(axis=0)
    apart = np.abs(flat - fit).reshape(small.shape)
    face = shrunk((rim_distance() > 6).astype(np.float32)) > 0.9
    forehead = face & (np.arange(COARSE)[:, None] < COARSE // 4)
    eyes = filled((LEFT_LIDS, RIGHT_LIDS), 22) * (filled((LEFT_LIDS, RIGHT_LIDS), 8) < 0.5) * (features(6) < 0.5)
    frames = shrunk(eyes)
    fine = np.stack([np.abs(g - cv2.GaussianBlur(g, (0, 0), 2)) for g in small.mean(axis=3)])
    unlike = apart.mean(axis=3)[:, face].mean(axis=1)
    hair = (apart.max(axis=3) > 0.22)[:, forehead].mean(axis=1)
    lines = (fine * frames).sum(axis=(1, 2)) / frames.sum()
    bounds = [np.quantile(v[free], q) for v, q in ((unlike, LIKELY), (hair, BARE), (lines, UNGLAZED))]
    return free & (unlike <= bounds[0]) & (hair <= bounds[1]) & (lines <= bounds[2])


def drawn_bank(model: FaceModel) -> np.ndarray:
    """Each face of a model's bank but the mirrored ones as it is drawn in its own tone, (people, 256, 256, 3) uint8."""
    kept, pictures = np.zeros(len(model.kept_mean), np.float32), []
    for own, texture in zip(model.bank_kept[: model.people], model.bank_texture, strict=False):
        kept[: len(own)] = own
        picture = model.base(kept) + model.picture(texture, mean=False)
        pictures.append(np.clip(picture * 255, 0, 255).astype(np.uint8))
    return np.stack(pictures)


def presentable(pictures: np.ndarray, tones: np.ndarray) -> np.ndarray:
    """(n,) bool: the faces that the bank takes. pictures: (n, 256, 256, 3) uint8. tones: (n,), how light each is."""
    found = np.stack([blemishes(picture) for picture in pictures])
    hue = found[:, 5]
    found[:, 5] = np.abs(hue - np.median(hue))
    worst = (found / BOUNDS).max(axis=1)
    third = np.digitize(tones, np.quantile(tones, [1 / 3, 2 / 3]))
    bounds = np.array([np.quantile(worst[third == n], CLEAREST) if (third == n).any() else 0.0 for n in range(3)])
    return worst <= bounds[third]


def blemishes(picture: np.ndarray) -> np.ndarray:
    """What of a face (256, 256, 3) uint8 is not the person, (7,).

    How strong the lines about both eyes are, how far the sides differ, how far the forehead and the rim of forehead and
    temples differ in lightness, how hard shadows are, all as shares of the skin's lightness; the skin's hue in degrees;
    the deviation of its colour.
    """
    rows, within = np.arange(SIZE)[:, None], rim_distance()
    inner, forehead, rim = within > 12, (within > 8) & (rows < 75), (within > 6) & (within < 40) & (rows < 150)
    light = picture.astype(np.float32).mean(axis=2) / 255
    smooth = cv2.GaussianBlur(light, (0, 0), SMOOTH)
    bare, brow = max(float(np.median(smooth[skin()])), 0.05), float(np.median(smooth[forehead]))
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)[skin()][:, 1:] - 128
    return np.array(
        [
            min(glasses_lines(picture.astype(np.float32) / 255)),
            np.abs(smooth - smooth[:, ::-1])[inner].mean() / max(float(smooth[inner].mean()), 0.05),
            np.percentile(np.abs(smooth - brow)[forehead], 92) / max(brow, 0.05),
            np.abs(smooth - bare)[rim].mean() / bare,
            np.percentile(np.abs(smooth - cv2.GaussianBlur(smooth, (0, 0), WIDE))[skin()], 95) / bare,
            np.degrees(np.arctan2(*lab.mean(axis=0)[::-1])),
            np.hypot(*lab.std(axis=0)),
        ]
    )


def save_bank_sheet(pictures: np.ndarray, path: Path) -> None:
    """Write a PNG with all faces of a bank (n, 256, 256, 3) uint8, COLUMNS in a row."""
    height = -(-len(pictures) // COLUMNS) * SIDE
    sheet = Image.new("RGB", (COLUMNS * SIDE, height))
    for place, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
