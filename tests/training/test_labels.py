"""Labels: a CSV's words and numbers as targets; what is kept from training; pictures changed a little."""

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.networks.classifiers import Head
from deidcli.training.classifiers import held_out, with_labels, with_targets
from deidcli.training.data import Pack
from deidcli.training.sampling import StrongAugment

MOOD, AGE = Head("mood", ("good", "bad")), Head("age", ("0", "10", "20"))


def pack(*names):
    return Pack(np.zeros((len(names), 8, 8, 3), np.uint8), np.zeros((len(names), 128)), np.array(names))


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,mood,age\na/1.jpg,bad,14\na/2.jpg,odd,5\nb/1.jpg,good,\nb/2.jpg,good,99\n")
    return path


def test_targets(labels):
    given = with_labels(pack("b/2.jpg", "x.jpg", "a/1.jpg", "a/2.jpg", "b/1.jpg"), [labels])
    kept, targets = with_targets(given, (MOOD, AGE))
    assert list(kept.names) == ["b/2.jpg", "a/1.jpg"]
    assert np.array_equal(targets["mood"], [[1, 0], [0, 1]])
    assert np.allclose(targets["age"], [[0, 0, 1], [0, 0.6, 0.4]])
    assert np.allclose(targets["age"] @ AGE.places, [20, 14]), "the mean place is the number"


def test_labels_that_are_missing(labels):
    with pytest.raises(UsageError, match="mood"):
        with_targets(pack("a/1.jpg"), (MOOD,))
    with pytest.raises(UsageError, match="--labels"):
        with_labels(pack("x.jpg"), [labels])
    with pytest.raises(UsageError, match="mood"):
        with_targets(with_labels(pack("a/2.jpg"), [labels]), (MOOD,))


def test_held_out_by_name_alone():
    names = np.array([f"{i}.jpg" for i in range(2000)])
    kept = held_out(names, 0.1)
    assert 140 < kept.sum() < 260
    assert np.array_equal(held_out(names[::-1], 0.1)[::-1], kept)


def test_pictures_are_changed_a_little():
    picture = np.random.default_rng(1).integers(60, 200, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    crops = np.stack([picture] * 6)
    made = StrongAugment()(crops, np.random.default_rng(3))
    assert made.shape == crops.shape and made.dtype == np.uint8
    assert len({face.tobytes() for face in made}) == 6, "two draws are alike"
    assert np.array_equal(made, StrongAugment()(crops, np.random.default_rng(3)))
    still = StrongAugment(False, 0, 0, 0, 0, 0, 0, 0)(crops, np.random.default_rng(3))
    assert np.array_equal(still, crops)
