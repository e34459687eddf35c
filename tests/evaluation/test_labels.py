"""Labels and thresholds that are read off originals, closed sets on the bench, and what a resumed evaluation redoes."""

import dataclasses

import numpy as np
import pytest

from deidcli.cli import evaluate
from deidcli.errors import MethodError, UsageError
from deidcli.evaluation import bench as provenance
from deidcli.evaluation import everything, parts
from deidcli.evaluation.attacks import AttackOptions, Scene, load_attack_set
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.everything import Evaluation, evaluate_all, evaluate_table, write_labels
from deidcli.evaluation.observe import Instruments
from deidcli.evaluation.originals import SkinToneLabeller, group_of
from deidcli.evaluation.plan import Plan, evaluate_subject, from_folder
from deidcli.evaluation.tables import AS_TURNED_BY_0, table
from deidcli.faces.detectors import DetectOptions
from deidcli.methods import find
from deidcli.methods.base import Secret
from tests.evaluation.conftest import PEOPLE, Same, Swap
from tests.evaluation.test_bench import Tells


class Darker(Same):
    """The same face in another light."""

    def apply(self, crops):
        return [crop.with_pixels((crop.pixels * np.array([0.5, 0.4, 0.35])).astype(np.uint8)) for crop in crops]


class Reads:
    """Takes light faces for glad."""

    name, classes = "light", {"expression": ("glad", "sad")}

    def read(self, pairs):
        light = np.array([frame.pixels[_inside(face.box)].mean() > 90 for frame, face in pairs], float)
        return {"expression": np.column_stack([light, 1 - light])}


def _inside(box):
    return slice(round(box.top), round(box.bottom)), slice(round(box.left), round(box.right))


def told(bench, plan, method):
    run, outputs = evaluate_subject(bench, Subject(method.name, method), plan)
    return {figure.name: figure.value for figure in run.figures}, outputs


def test_groups_end_where_they_are_said_to():
    assert group_of("age", np.array([12.9, 13, 44, 45, 80])).tolist() == [0, 1, 3, 4, 5]
    assert group_of("tone", np.array([-31, -30, 27.9, 28, 50])).tolist() == [0, 1, 2, 3, 4]
    assert group_of("gender", np.array([1.0])) is None


def test_tone_is_kept_by_what_does_nothing_and_lost_by_darkness(bench, plan):
    bench.instruments = Instruments(bench.instruments.detector, (SkinToneLabeller(),))
    same = told(bench, plan, Same())[0]
    assert same["tone difference"] < 2 and same["tone group kept"] > 0.7
    dark = told(bench, plan, Darker())[0]
    assert dark["tone difference"] > 15 and dark["tone group kept"] < 0.3


def test_the_operating_point_is_that_of_the_originals(bench, plan):
    """At a rate that 84 pairs of strangers cannot resolve, not one of them may match."""
    subject = Subject("same", Same())
    outputs = bench.observe(subject, plan.replaced)
    figures = {figure.name: figure for figure in parts.match_rate_at_far(bench, outputs, plan.pairs).figures}
    limit = figures["threshold at FAR 0.001"]
    names = sorted(bench.originals.known)
    strange = [
        float(bench.judge.distance(*bench.originals.descriptors([a, b])))
        for i, a in enumerate(names) for b in names[i + 1 :] if a.split("/")[0] != b.split("/")[0]
    ]  # fmt: skip
    assert limit.count == len(strange) and limit.value == pytest.approx(min(strange)) and limit.value < min(strange)
    assert figures["match rate at FAR 0.001"].value == 1
    swapped = bench.observe(Subject("swap", Swap()), plan.replaced)
    apart = parts.pair_distances(bench, swapped, plan.pairs).same
    assert parts.match_rate_at_far(bench, swapped, plan.pairs).figures[0].value == np.mean(apart <= limit.value) < 0.5


def test_labels_beside_a_reference(bench, plan):
    labeller = Tells()
    bench.instruments = Instruments(bench.instruments.detector, (labeller,))
    reference = bench.observe(Subject("same", Same()), plan.replaced)
    for turn, kept in ((0, 1.0), (1, 0.0)):
        labeller.turn = turn
        outputs = bench.observe(Subject("same", Same()), plan.replaced)
        (figure,) = parts.agreement(bench, outputs, reference, "gender", "as before").figures
        assert (figure.name, figure.value, figure.count) == ("as before", kept, len(outputs.names))
    assert parts.agreement(bench, outputs, reference, "mood", "x").figures == (), "nobody tells it"


def closed(name, k):
    kind = find(name)
    return kind(kind.Options(k=k), Secret.seeded(1))


@pytest.mark.parametrize("name", ["ksame-pixel", "ksame-eigen"])
def test_a_closed_set_is_shown_to_its_method(bench, plan, name):
    """All seven share one face: nobody is told from the others by it, and everybody is linked."""
    figures, outputs = told(bench, plan, closed(name, PEOPLE))
    assert figures["faces covered"] == 0 and figures["rank-1"] < 0.6 < figures["linkability"]
    assert figures["DIV"] < 0.2 and figures["ANON"] > 1


def test_an_attack_on_a_closed_set_has_one_of_its_own(album, bench):
    """The method that was measured knows other pictures than those of the attack, and keeps them."""
    options = AttackOptions(people=PEOPLE, training=0)
    crowd = load_attack_set(album, None, options, 1)
    bench.read(crowd.names)
    method = closed("ksame-pixel", 3)
    bench.observe(Subject("few", method), crowd.probes[:4])
    scene = Scene(bench, Subject("few", method), crowd, options)
    assert scene.method is not method and not scene.outputs.covered.any()
    with pytest.raises(MethodError, match="first pass"):
        method._known("somebody else#0")
    assert scene.with_other_secret().method is not scene.method


def test_every_method_has_a_name_that_makes_it(album, tmp_path, known_faces):
    bench = Bench(Study(album, "album", detect=DetectOptions("hog"), cache=known_faces), labellers=(Tells(),))
    plan = from_folder(album, 4, 1, 3, 1)
    bench.read(plan.names)
    table = write_labels(bench, tmp_path / "deep" / "labels.csv")
    lines = table.read_text().splitlines()
    assert lines[0] == "image,gender" and len(lines) == len(bench.originals.known) + 1
    assert {line.split(",")[1] for line in lines[1:]} == {"m", "f"}
    names = evaluate.every()
    assert {"blur", "cleanir", "ksame-select:select=gender"} <= set(names)
    wanted, missing = evaluate.existing(names, 1, table)
    assert not missing and [subject.label for subject in wanted] == names
    chosen = next(s.method for s in wanted if s.label.startswith("ksame-select"))
    assert chosen.options.labels == str(table) and chosen.weights
    assert write_labels(bench, tmp_path / "none.csv", "mood") is None


def test_only_other_weights_are_measured_again(album, tmp_path, monkeypatch, known_faces):
    plan = Plan("lfw", (("person1/1.png", "person1/2.png", True), ("person1/1.png", "person2/2.png", False)))
    order = Evaluation(plan, None, (), AttackOptions(), tmp_path, lambda label: tmp_path / label)
    done = []

    def counted(bench, subject, *rest):
        done.append(subject.label)
        return evaluate_subject(bench, subject, *rest)

    monkeypatch.setattr(everything, "evaluate_subject", counted)

    def go(resume, weights):
        bench = Bench(Study(album, "album", detect=DetectOptions("hog"), cache=known_faces))
        bench.read(plan.names)
        monkeypatch.setattr(Same, "weights", property(lambda self: weights))
        return list(evaluate_all(bench, [Subject("original"), Subject("same", Same())], order, resume))

    go(False, "old")
    monkeypatch.setattr(provenance, "commit", lambda: "another")
    go(True, "old")
    assert done == ["original", "same"]
    last = go(True, "new")
    assert done == ["original", "same", "same"]
    assert [(step.run.label, step.run.checksum, step.run.commit == "another") for step in last] == [
        ("original", "", False), ("same", "new", True)
    ]  # fmt: skip


def test_the_rows_of_a_table_stand_beside_its_reference(album, bench, tmp_path, monkeypatch):
    chosen = dataclasses.replace(table("cleanir-2"), reference="same")
    bench.instruments = Instruments(bench.instruments.detector, (Reads(),))
    plan = chosen.plan({f"person{i}": [f"person{i}/1.png", f"person{i}/2.png"] for i in (1, 2, 3)}, 1, None)
    bench.read(plan.names)
    subjects = [Subject("original"), Subject("dark", Darker()), Subject("same", Same())]
    rows = {
        run.label: run for run in evaluate_table(bench, chosen, subjects, plan, tmp_path, False, lambda label: None)
    }
    as_at_0 = {label: run.figure(AS_TURNED_BY_0).value for label, run in rows.items()}
    assert as_at_0 == {"original": 1, "dark": 0, "same": 1}
    assert rows["dark"].figure("expression kept").value == 0 and rows["same"].figure("match rate at FAR 0.001")
    monkeypatch.setattr(bench, "observe", lambda *_: pytest.fail("it was measured again"))
    again = evaluate_table(bench, chosen, subjects, plan, tmp_path, True, lambda label: None)
    assert [run.label for run in again] == ["original", "dark", "same"]
    with pytest.raises(UsageError, match="other settings"):
        list(
            evaluate_table(
                bench, chosen, subjects, dataclasses.replace(plan, pairs=plan.pairs[1:]), tmp_path, True, print
            )
        )
