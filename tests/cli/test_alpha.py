"""Faces that alpha draws, or that wide numbers hide from eight bits, are found and covered in every look."""

import cv2
import numpy as np
import pytest
from PIL import Image

from deidcli.faces.looks import all_looks
from deidcli.media.open import open_reader
from tests.conftest import found, rows

KINDS = ["rgba.png", "palette.png", "la.png", "sixteen.png", "lossless.webp", "quality.avif", "alpha.tif"]


def colour_to_alpha(portrait):
    alpha = 255 - portrait.min(axis=2)
    colours = 255 - (255 - portrait.astype(float)) * 255 / np.maximum(alpha, 1)[..., None]
    return np.dstack([np.clip(colours, 0, 255).round(), alpha]).astype(np.uint8)


def ink(portrait, level):
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    return np.dstack([np.full_like(portrait, level), grey if level else 255 - grey])


def hidden(portrait):
    return np.dstack([portrait, np.zeros(portrait.shape[:2], np.uint8)])


DRAWN = {
    "colour to alpha": colour_to_alpha,
    "black ink": lambda portrait: ink(portrait, 0),
    "white ink": lambda portrait: ink(portrait, 255),
    "hidden below": hidden,
}


def write(pixels, path):
    image = Image.fromarray(pixels)
    if path.name == "palette.png":
        image.quantize(256, method=Image.Quantize.FASTOCTREE).save(path)
    elif path.name == "la.png":
        image.convert("LA").save(path)
    elif path.name == "sixteen.png":
        cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257)
    else:
        settings = {".webp": {"lossless": True, "exact": True}, ".avif": {"quality": 95}}.get(path.suffix, {})
        image.save(path, **settings)


def looks_of(path):
    with open_reader(path) as reader:
        return [look for frame in reader.frames() for look in all_looks(frame)]


@pytest.mark.parametrize("name", DRAWN)
def test_a_face_in_alpha_is_covered(deid, tmp_path, portrait, name):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    kinds = [kind for kind in KINDS if name != "hidden below" or kind in ("rgba.png", "sixteen.png", "alpha.tif")]
    for kind in kinds:
        write(DRAWN[name](portrait), folder / kind)
    assert deid("anonymize", "--method", "solid", "--no-verify", "--workers", 1, folder, out).status == 0
    for kind in kinds:
        assert [face["action"] for face in rows(out)[kind]["faces"]] == ["replaced"], kind
        for look in looks_of(out / kind):
            assert not found(look, upsample=0), kind


WIDE = {
    "ten.png": lambda grey: grey.astype(np.uint16) * 4,
    "eight.png": lambda grey: grey.astype(np.uint16),
    "dark.tif": lambda grey: grey.astype(np.float32) / 2000,
    "bright.tif": lambda grey: _with_a_spot(grey.astype(np.float32) / 255, 1.01),
    "spot.tif": lambda grey: _with_a_spot(grey.astype(np.float32) / 255, 900.0),
}


def _with_a_spot(values, spot):
    values[5, 5] = spot
    return values


def test_wide_numbers_hide_no_face(deid, tmp_path, portrait):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    for name, make in WIDE.items():
        Image.fromarray(make(grey)).save(folder / name)
    assert deid("anonymize", "--method", "solid", "--no-verify", "--workers", 1, folder, out).status == 0
    for name, make in WIDE.items():
        assert [face["action"] for face in rows(out)[name]["faces"]] == ["replaced"], name
        assert not any(found(look, upsample=0) for look in looks_of(out / name)), name
        old, new = make(grey), np.array(Image.open(out / name))
        assert new.dtype == old.dtype and np.array_equal(new[:20], old[:20]), name
