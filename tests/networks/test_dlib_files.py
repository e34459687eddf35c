"""The reader of dlib's files: the numbers of both models, and what it says of files that are not whole."""

import math
import struct
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from deidcli.errors import MissingDependency, PresetError
from deidcli.networks import dlib_files as files
from deidcli.presets import dlib_weights


@pytest.fixture(scope="module")
def recogniser():
    return files.read_network(dlib_weights(files.RECOGNISER))


@pytest.fixture(scope="module")
def detector():
    return files.read_network(dlib_weights(files.DETECTOR))


def kinds(network):
    return Counter(record.kind for record in network.layers)


def weights(network):
    return [record.values[0] for record in network.layers if record.kind in (files.CONV, files.AFFINE, files.NORM)]


def test_recogniser_has_29_convolutions_and_a_projection(recogniser):
    assert kinds(recogniser) == {
        "con_4": 29, "affine_": 29, "relu_": 29, "add_prev_": 14, "avg_pool_2": 5, "max_pool_2": 1, "fc_2": 1
    }  # fmt: skip
    assert sum(values.size for values in weights(recogniser)) == 5_581_824
    assert recogniser.layers[0].values[8] == (32, 3, 7, 7)
    assert recogniser.layers[-1].values[2].shape == (256, 128, 1, 1)


def test_recogniser_values(recogniser):
    assert recogniser.loss.values == pytest.approx((0.04, 0.6))
    assert recogniser.input.values == pytest.approx((122.782, 117.001, 104.298, 150, 150))
    first, last = recogniser.layers[0].values[0].ravel(), recogniser.layers[-1].values[2].ravel()
    assert first[0] == pytest.approx(-0.0293299, abs=1e-7)
    assert all(np.isfinite(values).all() for values in weights(recogniser))
    assert last[[0, -1]] == pytest.approx([-0.00674625, 0.00627936], abs=1e-7)


def test_detector_scans_windows_of_80_pixels(detector):
    assert kinds(detector) == {"con_4": 7, "bn_con2": 6, "relu_": 6}
    assert detector.loss.values[1:3] == (80, 80)
    assert detector.loss.values[6] == pytest.approx(0.33828, abs=1e-5)
    filters = [record.values[8] for record in detector.layers if record.kind == files.CONV]
    assert filters[0] == (16, 3, 5, 5) and filters[-1] == (1, 45, 9, 9)
    assert all((record.values[6] > 0).all() for record in detector.layers if record.kind == files.NORM)


def integer(value):
    size = max(1, math.ceil(abs(value).bit_length() / 8))
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value):
    mantissa, exponent = math.frexp(value)
    return integer(int(mantissa * 2**53)) + integer(exponent - 53)


def text(value):
    return integer(len(value)) + value.encode()


def tensor(*values, shape):
    sizes = b"".join(integer(size) for size in (2, *shape))
    return sizes + struct.pack(f"<{len(values)}f", *values)


def tiny(kind="relu_"):
    """A network of one layer, written here: what the reader must understand in a hundred bytes."""
    empty = tensor(shape=(0, 0, 0, 0))
    shape = b"".join(integer(size) for size in (1, 1, 2, 1, 1))
    affine = text("affine_") + tensor(1.5, -2, 0.25, 300, shape=(4, 1, 1, 1)) + shape + shape + integer(0)
    first = affine + b"110" + empty * 3 + integer(1)
    entrance = text("input_rgb_image_pyramid") + real(122.5) + real(-0.125) + real(1e-9)
    loss = text("loss_metric_2") + real(0.04) + real(0.6)
    return integer(1) + loss + integer(2) + integer(1) + integer(3) + entrance + first + text(kind) + b"110" + empty * 3


def test_reads_what_was_written(tmp_path):
    (tmp_path / "net.dat").write_bytes(tiny())
    network = files.read_network(tmp_path / "net.dat")
    assert network.loss == files.Record("loss_metric_2", (0.04, 0.6))
    assert network.input.values == (122.5, -0.125, 1e-9)
    assert [record.kind for record in network.layers] == ["affine_", "relu_"]
    assert network.layers[0].values[0].ravel().tolist() == [1.5, -2, 0.25, 300]


@pytest.mark.parametrize("cut", [0, 1, 10, 60, 150, -1])
def test_a_file_that_is_cut_off_is_named(tmp_path, cut):
    (tmp_path / "cut.dat").write_bytes(tiny()[:cut])
    with pytest.raises(PresetError, match=r"cut\.dat"):
        files.read_network(tmp_path / "cut.dat")


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" * 20, bytes(500), b"\x01" * 500])
def test_a_file_that_is_no_network_is_named(tmp_path, data):
    (tmp_path / "other.dat").write_bytes(data)
    with pytest.raises(PresetError, match=r"other\.dat"):
        files.read_network(tmp_path / "other.dat")


def test_damage_is_told_or_harmless(tmp_path):
    path, draws = tmp_path / "net.dat", np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(tiny())
        data[draws.integers(len(data))] = draws.integers(256)
        path.write_bytes(data)
        try:
            files.read_network(path)
        except PresetError as error:
            assert "net.dat" in str(error)


def test_an_unknown_layer_is_named(tmp_path):
    (tmp_path / "net.dat").write_bytes(tiny("mish_"))
    with pytest.raises(PresetError, match="mish_"):
        files.read_network(tmp_path / "net.dat")


def test_missing_files_are_told():
    with pytest.raises(MissingDependency, match=r"nothing\.dat"):
        dlib_weights("nothing.dat")
    with pytest.raises(PresetError, match="cannot be read"):
        files.read_network(dlib_weights(files.DETECTOR).with_name("nothing.dat"))


def test_importing_loads_neither_dlib_nor_weights():
    code = (
        "import sys; from deidcli.networks import dlib_detector, dlib_recogniser;"
        "assert not {'dlib', 'face_recognition_models', 'pkg_resources'} & set(sys.modules);"
        "assert dlib_detector._load.cache_info().currsize == dlib_recogniser.load.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
