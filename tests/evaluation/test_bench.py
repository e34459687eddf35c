"""Known answers of whole runs: methods that do nothing, cover all, or swap people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deidcli.cli.evaluate import make_bench
from deidcli.errors import MediaError, UsageError
from deidcli.evaluation import originals
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.observe import ByMethod, Instruments
from deidcli.evaluation.plan import evaluate_subject
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.recognisers import recogniser
from deidcli.methods import find
from deidcli.methods.base import Secret
from tests.conftest import save
from tests.evaluation.conftest import PEOPLE, Knows, Same, Swap


def figures(bench, plan, method, labels=False):
    if labels:
        bench.instruments = Instruments(bench.instruments.detector, (Knows(bench, plan.names),))
    run, outputs = evaluate_subject(bench, Subject(method.name if method else "original", method), plan)
    return {figure.name: figure.value for figure in run.figures}, run, outputs


def test_a_method_that_does_nothing_scores_as_the_originals(bench, plan):
    kept = ("match rate", "self match rate", "stranger match rate", "rank-1", "faces found", "look kept")
    before, run, _ = figures(bench, plan, None, labels=True)
    after, _, _ = figures(bench, plan, Same(), labels=True)
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert before["match rate"] == run.judge.true_accepts and before["stranger match rate"] == run.judge.false_accepts
    assert after["self match rate"] == after["rank-1"] == after["look kept"] == 1 and after["DEID"] == 0
    assert after["SSIM"] > 0.97 and after["landmark error"] < 0.02 and after["pose difference"] < 2


def test_solid_scores_nothing_and_keeps_nothing(bench, plan):
    after, run, _ = figures(bench, plan, find("solid")(), labels=True)
    assert after["match rate"] == after["self match rate"] == 0 and after["DEID"] == 1
    assert after["faces found"] == after["FCNS"] == after["look kept"] == 0
    assert np.isnan(after["landmark error"]) and np.isnan(after["pose difference"])
    assert after["face SSIM"] < 0.7 < 0.9 < figures(bench, plan, None)[0]["SSIM"]
    confusion = next(matrix for matrix in run.matrices if matrix.name == "look")
    cells = np.array(confusion.cells)
    assert cells.sum() >= PEOPLE and cells[:, confusion.columns.index("nobody")].sum() == cells.sum()


def test_swapped_people_are_private_and_useless(bench, plan):
    after, run, _ = figures(bench, plan, Swap(), labels=True)
    assert after["match rate"] == after["self match rate"] == after["rank-1"] == 0 and after["DEID"] == 1
    assert after["look kept"] == 0 and after["faces found"] == 1, (
        "the picture is one of a face, and of the wrong person"
    )
    assert not np.trace(next(matrix for matrix in run.matrices if matrix.name == "look").cells)


class Tells:
    """A labeller that tells two genders and four races by where a picture stands in its batch, right or turned over."""

    classes = {"gender": ("m", "f"), "race": ("a", "b", "c", "d"), "age": ()}

    def __init__(self):
        self.turn = 0

    def read(self, pairs):
        rows = (np.arange(len(pairs)) + self.turn) % 4
        return {"gender": np.eye(2)[rows % 2], "race": np.eye(4)[rows], "age": 20.0 + rows}


def test_attributes_are_those_of_the_paper(bench, plan):
    labeller = Tells()
    bench.instruments = Instruments(bench.instruments.detector, (labeller,))
    everything = replace(plan, also=tuple(sorted(plan.names)))
    assert figures(bench, everything, None)[0]["ATTR"] == 1
    labeller.turn = 1
    after = figures(bench, everything, None)[0]
    assert after["ATTR"] == after["gender kept"] == after["race kept"] == 0, "one further: all four claims are wrong"
    labeller.turn = 2
    after = figures(bench, everything, None)[0]
    assert 0 < after["ATTR"] < 1 == after["gender kept"] and after["age difference"] == 2


def test_a_run_says_where_it_comes_from(bench, plan):
    method = find("pixelate")(find("pixelate").Options(cells=4), Secret.seeded(1))
    _, run, outputs = figures(bench, plan, method)
    assert (run.method, run.options, run.data, run.seed) == ("pixelate", {"cells": 4}, "album", 1)
    assert run.judge.recogniser == "dlib" and run.judge.threshold == 0.6 and run.version
    own = originals.describe(bench.judge, [(bench.originals.frame(run.worst[0].name).pixels,
                                            bench.originals.known[run.worst[0].name].face)])  # fmt: skip
    nearest = bench.judge.distance(own[0], outputs.of([run.worst[0].name])[0])
    assert run.worst[0].distance == pytest.approx(float(nearest), abs=1e-5)
    assert [w.distance for w in run.worst] == sorted(w.distance for w in run.worst)
    assert all(figure.count for figure in run.figures if "rate" in figure.name)


def test_worst_outputs_are_written_where_they_are_wanted(bench, plan, tmp_path):
    run, _ = evaluate_subject(bench, Subject("blur", find("blur")()), plan, tmp_path / "worst")
    assert run.worst and all(Path(w.after).parent == tmp_path / "worst" for w in run.worst)
    assert not evaluate_subject(bench, Subject("blur", find("blur")()), plan)[0].worst[0].after


def test_what_was_found_is_kept_over_runs(album, tmp_path, monkeypatch):
    study = Study(album, "album", detect=DetectOptions("hog"), cache=tmp_path)
    names = ["person1/1.png", "person2/2.png"]
    first = Bench(study)
    first.read(names)
    monkeypatch.setattr(originals, "find", lambda *_: pytest.fail("it was searched again"))
    second = Bench(study)
    second.read(names)
    assert np.array_equal(first.originals.descriptors(names), second.originals.descriptors(names))
    assert np.array_equal(first.originals.landmarks(names), second.originals.landmarks(names))
    assert first.originals.known[names[0]].face.box == second.originals.known[names[0]].face.box
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 40_000, "numbers, and no picture"


def test_another_search_is_not_taken_from_the_cache(album, tmp_path, monkeypatch):
    study = Study(album, "album", detect=DetectOptions("hog"), cache=tmp_path)
    Bench(study).read(["person1/1.png"])
    searched = []
    monkeypatch.setattr(originals, "find", lambda jobs, options: searched.extend(jobs) or iter(()))
    with pytest.raises(MediaError):
        Bench(replace(study, detect=DetectOptions("hog", upsample=0))).read(["person1/1.png"])
    assert len(searched) == 1


def test_measurements_are_by_dlib_and_verification_as_a_run_verifies(album, tmp_path, monkeypatch):
    """A recogniser that is named does both, and so does one whose threshold is given."""
    made = []
    monkeypatch.setattr("deidcli.evaluation.bench.recogniser", lambda name: made.append(name) or recogniser("dlib"))
    monkeypatch.setattr("deidcli.faces.recognisers.default", lambda: "run's")
    common = {"device": "cpu", "cache": "none", "quiet": True, "detector": "hog", "rotations": "0", "seed": 1}
    for words in ({}, {"recogniser": "named"}, {"distance": 0.5}):
        options = {"recogniser": None, "distance": None, "verify": True, **common, **words}
        bench = make_bench(album, "album", options, labels=False)
        assert isinstance(bench.maker(Subject("blur", find("blur")()), []), ByMethod)
    assert made == ["dlib", "run's", "named", "dlib"]


def test_bad_pictures_are_left_out_and_said(tmp_path, portrait, nobody):
    save(portrait, tmp_path / "a" / "1.png")
    save(nobody, tmp_path / "a" / "none.png")
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bench = Bench(Study(tmp_path, "x", detect=DetectOptions("hog")))
    assert bench.read(["a/1.png", "a/none.png", "a/bad.png", "a/missing.png"]) == ["a/1.png"]
    assert bench.originals.blank == {"a/none.png"} and set(bench.originals.failed) == {"a/bad.png", "a/missing.png"}


def test_nothing_to_measure_is_an_error(tmp_path, nobody):
    save(nobody, tmp_path / "a" / "none.png")
    with pytest.raises(MediaError, match="no face"):
        Bench(Study(tmp_path, "x", detect=DetectOptions("hog"))).read(["a/none.png"])
    with pytest.raises(UsageError, match="no folder"):
        Bench(Study(tmp_path / "gone", "x"))
    with pytest.raises(UsageError, match="cache"):
        Bench(Study(tmp_path, "x", cache=tmp_path / "a" / "none.png" / "below"))
