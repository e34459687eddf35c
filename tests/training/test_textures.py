"""Packs of textures in the canonical frame."""

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.canonical import mean_mesh
from deidcli.faces.mesh import ibug
from deidcli.faces.recognisers.sface import WEIGHTS
from deidcli.training.textures import Textures, load_textures, unwrapped, write_textures
from deidcli.values import Box, Crop, Face


def drawn(count=3, side=8):
    random = np.random.default_rng(1)
    return Textures(
        random.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        random.integers(0, 256, (count, side, side), dtype=np.uint8),
        *(random.standard_normal((count, *shape)).astype(np.float32) for shape in ((468, 3), (128,), (128,))),
        np.array([f"a/{i}.jpg" for i in range(count)]),
        {"age": np.array([str(i) for i in range(count)])},
    )


def test_there_and_back(tmp_path):
    pack = drawn()
    write_textures(pack, tmp_path / "x.npz", "said")
    read = load_textures(tmp_path / "x.npz")
    assert read.side == 8 and list(read.labels["age"]) == ["0", "1", "2"]
    for name in ("textures", "seen", "shapes", "dlib", "sface", "names"):
        assert np.array_equal(getattr(read, name), getattr(pack, name))
    assert list(read.where(np.array([2])).names) == ["a/2.jpg"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no pack")
    with pytest.raises(UsageError, match="not a pack of textures"):
        load_textures(tmp_path / "x.npz")


@pytest.mark.skipif(WEIGHTS.find() is None, reason="the weights of sface are missing")
def test_a_face_that_looks_ahead_has_the_mean_shape(monkeypatch):
    """What lies at a point of the mesh lies at the same point of the frame."""
    mesh = mean_mesh() * 60 + (100, 100, 0)
    monkeypatch.setattr("deidcli.training.textures.mesh_of", lambda crop: mesh)
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:, :100] = 200
    crop = Crop(pixels, np.eye(2, 3), Face(Box(40, 40, 160, 160), landmarks=ibug(mesh)), "a/b.jpg#0")
    pack = unwrapped([crop], 64, {"age": {"a/b.jpg": "30"}})
    assert list(pack.names) == ["a/b.jpg"] and list(pack.labels["age"]) == ["30"]
    assert pack.textures[0, 32, 12].min() > 180 and pack.textures[0, 32, 52].max() < 20
    assert np.abs(pack.shapes[0] - mean_mesh()).max() < 0.02
