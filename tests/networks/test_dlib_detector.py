"""The detector against dlib's own: the layout of the pyramid, the same boxes, the same scores."""

import numpy as np
import pytest

from deidcli.networks import dlib_detector, dlib_files
from deidcli.networks.dlib_detector import detect

from .dlib_drawn import model, needs_data, photographs, scene

dlib = pytest.importorskip("dlib")


@pytest.fixture(scope="module")
def theirs():
    network = dlib.cnn_face_detection_model_v1(model(dlib_files.DETECTOR))

    def run(picture, upsample=0):
        found = [(each.rect, each.confidence) for each in network(picture, upsample)]
        return [(r.left(), r.top(), r.right(), r.bottom(), score) for r, score in found]

    return run


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)) - shared)


def assert_same(received, expected):
    assert len(received) == len(expected)
    for ours, other in zip(received, expected, strict=True):
        assert overlap(ours, other) >= 0.98
        assert abs(ours[4] - other[4]) < 0.02


@pytest.mark.parametrize("size", [(360, 640), (250, 250), (720, 1280), (101, 333), (640, 90), (37, 41), (5, 300)])
def test_levels_lie_inside_the_frame_and_apart(size):
    layout = dlib_detector.tiling(*size)
    used = np.zeros((layout.height, layout.width), int)
    for left, top, width, height in layout.tiles:
        assert left >= 11 and top >= 11
        used[top : top + height, left : left + width] += 1
    assert used.max() == 1
    assert used.sum() == (layout.tiles[:, 2] * layout.tiles[:, 3]).sum()
    assert tuple(layout.tiles[0]) == (11, 11, size[1], size[0])


def test_frame_of_a_video_is_dlibs():
    layout = dlib_detector.tiling(360, 640)
    assert (layout.height, layout.width, len(layout.tiles)) == (1353, 662, 22)
    assert tuple(layout.tiles[1]) == (11, 381, 533, 300)


def test_levels_keep_their_corner_pixels():
    ramp = np.repeat(np.arange(12, dtype="float32")[None, :, None], 3, 2).repeat(7, 0)
    smaller = dlib_detector.resized(ramp, 10, 5)
    assert smaller[0, :, 0] == pytest.approx(np.linspace(0, 11, 10), abs=1e-3)
    assert dlib_detector.resized(ramp, 1, 1)[0, 0, 0] == 0


def test_a_window_goes_back_to_its_level():
    layout = dlib_detector.tiling(360, 640)
    first = dlib_detector.to_photograph(np.array([[111.0, 211.0]]), layout, 39.5)[0]
    assert first == pytest.approx([60.5, 160.5, 139.5, 239.5])
    second = dlib_detector.to_photograph(np.array([[111.0, 481.0]]), layout, 39.5)[0]
    assert second == pytest.approx([60.5 * 1.2 + 0.3, 60.5 * 1.2 + 0.3, 139.5 * 1.2 + 0.3, 139.5 * 1.2 + 0.3])


@pytest.mark.parametrize(
    ("size", "faces"),
    [
        ((360, 640), [(20, 30, 140), (220, 60, 240), (480, 180, 130)]),
        ((333, 301), [(0, 0, 170), (131, 163, 170)]),
        ((250, 250), [(0, 0, 250)]),
        ((160, 420), [(10, 0, 150), (260, 5, 155)]),
        ((200, 150), []),
    ],
)
def test_boxes_of_drawn_faces(theirs, size, faces):
    picture = scene(*size, faces)
    expected = theirs(picture)
    assert len(expected) >= len(faces) > 0 or not faces
    assert_same(detect([picture])[0], expected)


def test_upsampled(theirs):
    picture = scene(110, 160, [(20, 15, 85)])
    expected = theirs(picture, 1)
    assert expected and not detect([picture])[0]
    assert_same(detect([picture], upsample=1)[0], expected)


def test_pictures_of_many_sizes_together():
    pictures = [scene(200 + 7 * i, 240 - 9 * i, [(10, 5, 150 + i)], seed=i) for i in range(6)]
    pictures += [pictures[0], np.zeros((1, 1, 3), "uint8"), np.zeros((9, 40, 3), "uint8")]
    together = detect(pictures)
    for picture, found in zip(pictures, together, strict=True):
        assert_same(found, detect([picture])[0])
    assert all(together[:7]) and together[7:] == [[], []]
    assert detect([]) == []


def test_threshold_sorts_and_bounds():
    picture = scene(240, 320, [(20, 20, 200)])
    many, few = detect([picture], -1.2)[0], detect([picture])[0]
    scores = [found[4] for found in many]
    assert len(many) > len(few) >= 1
    assert scores == sorted(scores, reverse=True) and scores[-1] > -1.2
    assert many[: len(few)] == few


def test_many_sizes_need_few_traces():
    """A network that is compiled anew for each size would take a second each."""
    detector = dlib_detector._load()
    detect([scene(*size, []) for size in ((100, 300), (200, 200), (300, 140))])
    function = detector.network.predict_function
    if not hasattr(function, "experimental_get_tracing_count"):
        pytest.skip("this backend does not count its traces")
    before = function.experimental_get_tracing_count()
    detect([scene(90 + 21 * i, 400 - 17 * i, []) for i in range(10)])
    assert function.experimental_get_tracing_count() == before


@needs_data
def test_boxes_of_photographs(theirs):
    pictures = photographs("lfw/images/*/*.jpg", 10) + photographs("scenes/alex-lacamoire.png", 1)
    received = detect(pictures)
    assert sum(map(len, received)) >= 10
    for picture, found in zip(pictures, received, strict=True):
        assert_same(found, theirs(picture))
