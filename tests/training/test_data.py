"""Packs and the batches that are drawn from them."""

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.training.data import Pack, batches, load_pack


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
