"""Steadiness and attacks over the frames of moving pictures of nobody."""

import numpy as np
import pytest
from PIL import Image

from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.video import video
from deidcli.faces.detectors import DetectOptions
from deidcli.methods import find
from deidcli.methods.base import Method
from deidcli.values import CropSpec
from tests.evaluation.conftest import Same


class Blink(Method):
    """Adds a light that is on in every second call only."""

    name, summary = "blink", "a light"
    crop = CropSpec(size=None, margin=0.35, align="box", mask="ellipse", transfer_lighting=False)
    calls = 0

    def apply(self, crops):
        self.calls += 1
        light = 30 * (self.calls % 2)
        return [c.with_pixels(np.clip(c.pixels.astype(int) + light, 0, 255).astype(np.uint8)) for c in crops]


@pytest.fixture
def still(portrait, tmp_path):
    """Six frames of one face; a lamp beside it goes on and off, so that every frame is another one."""
    frames = []
    for number in range(6):
        frame = portrait.copy()
        frame[:12, :12] = 40 * number
        frames.append(Image.fromarray(frame))
    frames[0].save(tmp_path / "still.png", save_all=True, append_images=frames[1:], duration=40)
    return tmp_path / "still.png"


def figures(path, method):
    bench = Bench(Study(path.parent, "still", detect=DetectOptions("hog")))
    run, attacks = video(bench, path, Subject(method.name if method else "original", method))
    return {figure.name: figure.value for figure in run.figures}, attacks


def test_a_face_that_stands_still_is_steady(still):
    for method in (None, Same(), find("solid")()):
        told, attacks = figures(still, method)
        assert (told["frames"], told["tracks"]) == (6, 1) and not attacks, "one track is nobody to choose among"
        assert told["flicker"] == pytest.approx(0, abs=0.3) and told["descriptor steps"] == pytest.approx(0, abs=1e-3)
    assert told["self match rate"] == 0


def test_a_light_that_blinks_flickers(still):
    told, _ = figures(still, Blink())
    assert 10 < told["flicker"] <= 30 and told["descriptor steps"] > 0.01
    assert told["landmark shake"] < 0.2


def test_tracks_are_recognised_over_frames(crowd, tmp_path):
    frames = [Image.fromarray(np.roll(crowd, number, axis=1)) for number in range(6)]
    frames[0].save(tmp_path / "crowd.png", save_all=True, append_images=frames[1:], duration=40)
    told, attacks = figures(tmp_path / "crowd.png", None)
    assert told["tracks"] >= 3 and {attack.name for attack in attacks} == {"averaging (frames)", "linkage (frames)"}


def test_the_command(deid, still, tmp_path):
    asked = ("--methods", "original,solid", "--detector", "hog", "--cache", "none", "--quiet", "--out", tmp_path / "r")
    done = deid("evaluate", "video", still, *asked)
    assert done.status == 0 and b"flicker" in done.out and (tmp_path / "r" / "report.json").exists()
    assert deid("evaluate", "video", tmp_path / "gone.mp4", "--quiet").status == 2
