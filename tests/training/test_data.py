"""Packs and the batches that are drawn from them."""

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.attributes import load_labels
from deidcli.faces.canonical import ibug, mean_mesh
from deidcli.faces.recognisers.shipped import WEIGHTS
from deidcli.training.data import (
    MARGIN,
    Pack,
    Textures,
    check_apart,
    describe_crops,
    labelled,
    load_pack,
    load_textures,
    origin_of,
    unwrapped,
    write_textures,
)
from deidcli.training.sampling import Augment, batches
from deidcli.values import Box, Crop, Face


def drawn(count=10, side=8, folder="a", seed=0):
    random = np.random.default_rng(seed)
    crops = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Pack(
        crops,
        random.standard_normal((count, 128)).astype(np.float32),
        np.array([f"{folder}/{i}" for i in range(count)]),
    )


def run(pack, epoch, size=4, steps=5, seed=1):
    return list(batches(pack, size, seed, epoch, steps))


def test_there_and_back(tmp_path):
    first, second = drawn(3), drawn(2, folder="b", seed=1)
    for name, pack in (("first.npz", first), ("second.npz", second)):
        pack.save(tmp_path / name)
    both = load_pack(tmp_path / "first.npz", tmp_path / "second.npz")
    assert len(both) == 5 and both.side == 8
    assert np.array_equal(both.crops, np.concatenate([first.crops, second.crops]))
    assert np.array_equal(both.descriptors, np.concatenate([first.descriptors, second.descriptors]))
    assert list(both.names) == [*first.names, *second.names]


def test_packs_that_do_not_fit(tmp_path):
    drawn(2, 8).save(tmp_path / "8.npz")
    drawn(2, 16).save(tmp_path / "16.npz")
    with pytest.raises(UsageError, match="different sizes"):
        load_pack(tmp_path / "8.npz", tmp_path / "16.npz")
    pack = drawn(3)
    Pack(pack.crops, pack.descriptors[:2], pack.names).save(tmp_path / "odd.npz")
    with pytest.raises(UsageError, match="damaged"):
        load_pack(tmp_path / "odd.npz")


@pytest.mark.parametrize("data", [b"", b"no pack", b"PK\x03\x04 and nothing more"])
def test_files_that_are_no_packs(tmp_path, data):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(UsageError, match="not a pack"):
        load_pack(tmp_path / "x.npz")
    with pytest.raises(UsageError, match="not a pack"):
        load_pack(tmp_path / "missing.npz")


def test_loading_runs_no_code(tmp_path):
    """A pickle in the place of the names is refused, not opened."""
    pack = drawn(1)
    np.savez(tmp_path / "x.npz", crops=pack.crops, descriptors=pack.descriptors, names=np.array([{"a": 1}], object))
    with pytest.raises(UsageError, match="not a pack"):
        load_pack(tmp_path / "x.npz")


def test_an_epoch_is_the_same_each_time():
    pack = drawn()
    for epoch in (0, 3):
        for (a, rows), (b, again) in zip(run(pack, epoch), run(pack, epoch), strict=True):
            assert np.array_equal(a, b) and np.array_equal(rows, again)
    first, other, seeded = (np.concatenate([rows for _, rows in run(pack, *how)]) for how in ((0,), (1,), (0, 4, 5, 2)))
    assert not np.array_equal(first, other) and not np.array_equal(first, seeded)


def test_every_face_once_before_any_twice():
    """Also over the border of an epoch, which need not be one of the pack."""
    pack = drawn(10)
    order = np.concatenate([rows for epoch in range(4) for _, rows in run(pack, epoch, size=3, steps=5)])
    assert len(order) == 60
    for start in range(0, 60, 10):
        assert sorted(order[start : start + 10]) == list(range(10))


def test_crops_belong_to_their_rows_and_half_are_mirrored():
    pack = drawn(10)
    mirrored = 0
    before = pack.crops.copy()
    for crops, rows in run(pack, 0, size=10, steps=20):
        for crop, row in zip(crops, rows, strict=True):
            flipped = np.array_equal(crop, pack.crops[row, :, ::-1])
            assert flipped or np.array_equal(crop, pack.crops[row])
            mirrored += flipped
    assert 70 < mirrored < 130
    assert np.array_equal(pack.crops, before), "the pack itself was mirrored"


def test_a_pack_smaller_than_a_batch():
    assert [len(rows) for _, rows in run(drawn(3), 0, size=8, steps=2)] == [8, 8]


def test_labels_and_landmarks_there_and_back(tmp_path):
    """A label or landmarks that one of two packs lacks are said to be missing in its rows."""
    first, second = drawn(3), drawn(2, folder="b", seed=1)
    points = np.random.default_rng(0).random((3, 68, 2)).astype(np.float32)
    Pack(first.crops, first.descriptors, first.names, points, {"age": np.array(["1", "", "30"])}).save(
        tmp_path / "a.npz"
    )
    second.save(tmp_path / "b.npz")
    both = load_pack(tmp_path / "a.npz", tmp_path / "b.npz")
    assert list(both.label("age")) == ["1", "", "30", "", ""]
    assert np.array_equal(both.landmarks[:3], points) and np.isnan(both.landmarks[3:]).all()
    assert list(both.where(both.label("age") == "30").names) == ["a/2"]
    with pytest.raises(UsageError, match="age"):
        both.label("gender")


def test_a_pack_that_was_changed_is_refused(tmp_path):
    drawn(3).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as stored:
        columns = dict(stored)
    columns["crops"][1, 2, 3] += 1
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(UsageError, match="damaged"):
        load_pack(tmp_path / "a.npz")


def test_what_a_pack_was_made_of(tmp_path):
    drawn(1).save(tmp_path / "a.npz", "some word")
    (tmp_path / "b.npz").write_bytes(b"torn")
    assert origin_of(tmp_path / "a.npz") == "some word"
    assert origin_of(tmp_path / "b.npz") is None and origin_of(tmp_path / "none.npz") is None


def test_labels_from_csv(tmp_path):
    (tmp_path / "l.csv").write_text("image,mood,age\na/0,happy,\na/1,sad,7\n")
    labels = load_labels(tmp_path / "l.csv")
    columns = labelled(["a/1", "a/9", "a/0"], labels)
    assert list(columns["mood"]) == ["sad", "", "happy"] and list(columns["age"]) == ["7", "", ""]
    with pytest.raises(UsageError, match="none of the files"):
        labelled(["x"], labels)
    for text in ("", "image\na/0\n"):
        (tmp_path / "l.csv").write_text(text)
        with pytest.raises(UsageError, match="first column"):
            load_labels(tmp_path / "l.csv")


def test_a_person_or_a_picture_on_both_sides():
    with pytest.raises(UsageError, match="people"):
        check_apart(drawn(3), drawn(2, seed=1))
    with pytest.raises(UsageError, match="crops"):
        check_apart(drawn(3), drawn(5, folder="b"))
    check_apart(drawn(3), drawn(2, folder="b", seed=1))


def test_a_folder_of_crops(tmp_path, portraits):
    """Its descriptors come from the crops and are those of its people: near each other, far from strangers."""
    from PIL import Image

    from deidcli.faces.align import align
    from deidcli.values import CropSpec, Frame
    from tests.conftest import found

    spec = CropSpec(128, MARGIN)
    crops = [align(Frame(p), found(p)[0], spec).pixels for p in portraits[:2]]
    for name, crop in zip(("a/0.png", "b/0.png", "b/1.png"), (*crops, crops[1][:, ::-1]), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(tmp_path / name)
    pack = load_pack(tmp_path)
    assert list(pack.names) == ["a/0.png", "b/0.png", "b/1.png"] and pack.side == 128
    assert np.allclose(pack.descriptors, describe_crops(pack.crops))
    apart = np.linalg.norm(pack.descriptors[1] - pack.descriptors, axis=1)
    assert apart[2] < 0.45 < apart[0]
    Image.fromarray(crops[0][:64]).save(tmp_path / "c.png")
    with pytest.raises(UsageError, match="square"):
        load_pack(tmp_path)


def test_balanced_rows():
    pack = drawn(12)
    labels = {"mood": np.array(["calm"] * 8 + ["happy"] * 2 + [""] * 2)}
    pack = Pack(pack.crops, pack.descriptors, pack.names, None, labels)
    rows = np.concatenate([r for _, r in batches(pack, 50, 1, 0, 20, balance="mood")])
    count = np.bincount(rows, minlength=12)
    assert 400 < count[:8].sum() < 600 and 400 < count[8:10].sum() < 600 and not count[10:].any()


@pytest.mark.parametrize("augment", [Augment(False, 0.1), Augment(False, 0.0, 0.1), Augment(True, 0.05, 0.05)])
def test_varied_crops(augment):
    """Small variations of the same picture, never the same twice, and of the same kind."""
    smooth = np.tile(np.linspace(40, 200, 32).astype(np.uint8)[None, :, None], (6, 32, 1, 3))
    smooth = np.ascontiguousarray(smooth.reshape(6, 32, 32, 3))
    made = augment(smooth, np.random.default_rng(0))
    assert made.shape == smooth.shape and made.dtype == np.uint8
    assert not np.array_equal(made[0], made[1])
    assert np.abs(made.astype(int) - smooth).mean() < 80
    assert np.array_equal(made, augment(smooth, np.random.default_rng(0)))


def textures(count=3, side=8):
    random = np.random.default_rng(1)
    return Textures(
        random.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        random.integers(0, 256, (count, side, side), dtype=np.uint8),
        *(random.standard_normal((count, *shape)).astype(np.float32) for shape in ((468, 3), (128,), (128,))),
        np.array([f"a/{i}.jpg" for i in range(count)]),
        {"age": np.array([str(i) for i in range(count)])},
    )


def test_textures_there_and_back(tmp_path):
    pack = textures()
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
    monkeypatch.setattr("deidcli.training.data.mesh_of", lambda crop: mesh)
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:, :100] = 200
    crop = Crop(pixels, np.eye(2, 3), Face(Box(40, 40, 160, 160), landmarks=ibug(mesh)), "a/b.jpg#0")
    pack = unwrapped([crop], 64, {"age": {"a/b.jpg": "30"}})
    assert list(pack.names) == ["a/b.jpg"] and list(pack.labels["age"]) == ["30"]
    assert pack.textures[0, 32, 12].min() > 180 and pack.textures[0, 32, 52].max() < 20
    assert np.abs(pack.shapes[0] - mean_mesh()).max() < 0.02
