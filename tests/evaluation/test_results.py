"""report.json: strict JSON that comes back as the same values."""

import json
import math

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.evaluation.results import Attack, Curve, Figure, Judge, Matrix, Results, Run, Worst

FIGURE = Figure("match rate", 0.25, 0.2, 0.3, 40, "lower")
RUN = Run(
    label="cleanir 90°", method="cleanir", options={"angle": 90.0}, preset="cleanir-64", checksum="ab",
    protocol="pairs",
    data="lfw", split="val", seed=1, version="0", commit="", judge=Judge("dlib", 0.6, 0.98, 0.01), figures=(FIGURE,),
    curves=(Curve("CMC", (1, 2), (0.5, 1.0), (0.4, 0.9), (0.6, 1.0), "rank", "share"),),
    matrices=(Matrix("expression", ("a", "b"), ("a", "b"), ((1, 2), (3, 4))),),
    worst=(Worst("x", 0.4, "in/x.png", "out/x.png"),), seconds=2.5,
)  # fmt: skip
ATTACK = Attack("naive", "cleanir 90°", "cleanir", FIGURE, FIGURE, 0.02, True, "compared")


def test_what_is_saved_comes_back(tmp_path):
    results = Results((RUN,), (ATTACK,), "2020-01-01T00:00:00Z")
    results.save(tmp_path / "report")
    assert Results.load(tmp_path / "report" / "report.json") == results == Results.load(tmp_path / "report")


def test_nan_is_null(tmp_path):
    Results((), (), "").save(tmp_path)
    figure = Figure("f", float("nan"), count=int(np.int64(3)))
    Results((), (Attack("a", "b", "c", figure, FIGURE, float("inf"), False),)).save(tmp_path)
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["attacks"][0]["rank1"]["value"] is None
    assert math.isnan(Results.load(tmp_path).attacks[0].rank1.value)


def test_numpy_numbers_are_written(tmp_path):
    Results(
        (), (Attack("a", "b", "c", Figure("f", np.float32(0.5), count=np.int64(2)), FIGURE, 0, np.bool_(True)),)
    ).save(tmp_path)
    attack = Results.load(tmp_path).attacks[0]
    assert (attack.rank1.value, attack.rank1.count, attack.breaks) == (0.5, 2, True)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 9}', '{"schema": 1, "runs": [{"label": 1}]}', '{"schema": 1, "x": 1}']
)
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError, match="report"):
        Results.load(tmp_path)
