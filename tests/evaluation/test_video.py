"""Steadiness and attacks over the frames of moving pictures of nobody."""

import json

import numpy as np
import pytest
from PIL import Image

from deidcli.evaluation import measures
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.video import SPELL, _motions, _Track, _VideoStats, video
from deidcli.faces.align import MEAN_SHAPE
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
    run, attacks = video(bench, [path], Subject(method.name if method else "original", method))
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


def talking(amplitudes, seed, frames=2 * SPELL):
    """Landmarks (frames, 68, 2) of a head that moves about; each point by its own amplitude."""
    generator = np.random.default_rng(seed)
    still = MEAN_SHAPE + generator.normal(0, 0.02, (1, 68, 2))
    waves = generator.normal(0, 1, (frames, 68, 1)) * amplitudes[None, :, None]
    angles, places = generator.uniform(-0.3, 0.3, frames), generator.uniform(0, 400, (frames, 1, 2))
    turns = np.array([[[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in angles])
    return np.einsum("npi,nij->npj", still + waves, 120 * turns) + places


def test_motion_is_told_without_place_size_turn_and_looks():
    amplitudes = np.random.default_rng(3).uniform(0.002, 0.05, 68)
    points = talking(amplitudes, 1)
    told = measures.motion(points)
    assert told.shape == (272,) and np.isfinite(told).all()
    assert measures.motion(points * 3 + 50) == pytest.approx(told, abs=1e-6)
    others = np.random.default_rng(4).uniform(0.002, 0.05, 68)
    same, other = (measures.motion(talking(each, 2)) for each in (amplitudes, others))
    assert np.linalg.norm(same - told) < np.linalg.norm(other - told) / 2


def test_who_moves_alike_is_recognised_by_that_alone():
    stats = _VideoStats()
    for number in range(4):
        points = list(talking(np.random.default_rng(number).uniform(0.002, 0.05, 68), number))
        lost = [np.full((68, 2), np.nan)] * len(points)
        stats.tracks[f"{number}"] = _Track(points=points, new_points=points if number < 3 else lost)
    kept, linked = _motions(Subject("same", Same()), stats)
    assert (kept.name, linked.name) == ("motion (frames)", "motion linkage (frames)")
    for attack in (kept, linked):
        assert attack.rank1.value == 1 and attack.rank1.count == 3, "whose new face is nowhere found is not asked for"
        assert attack.chance == 1 / 4 and "4 tracks" in attack.note
    short = _VideoStats(tracks={name: _Track(points=t.points[:SPELL]) for name, t in stats.tracks.items()})
    assert not list(_motions(Subject("same", Same()), short))


def test_the_command(deid, still, tmp_path):
    asked = ("--methods", "original,solid", "--detector", "hog", "--cache", "none", "--quiet", "--out", tmp_path / "r")
    done = deid("evaluate", "video", still, *asked)
    assert done.status == 0 and b"flicker" in done.out
    few = deid(
        "evaluate", "video", still, still, "--methods", "original", "--limit", 2, *asked[2:6], "--json", "--quiet"
    )
    figures = {figure["name"]: figure["value"] for figure in json.loads(few.out)["figures"]}
    assert few.status == 0 and figures["frames"] == 4 and figures["tracks"] == 1, few.err
    assert (tmp_path / "r" / "report.json").exists()
    assert deid("evaluate", "video", tmp_path / "gone.mp4", "--quiet").status == 2
