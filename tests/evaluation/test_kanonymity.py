"""The verifier: it passes what is true, and no lie that it can see."""

import copy
import json

import pytest

from deidcli.errors import UsageError
from deidcli.evaluation.kanonymity import check
from deidcli.presets import sha256


@pytest.fixture
def run(tmp_path):
    """The rows of a sound run: 4 people, two surrogates, k = 2, a picture of each person and one more of the first."""
    made = []
    for number, person in enumerate(["p0", "p1", "p2", "p3", "p0"]):
        place = tmp_path / "out" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"picture %d" % number)
        group = "g0" if person in ("p0", "p1") else "g1"
        face = {"action": "replaced", "person": person, "surrogate": f"s{group}", "group": group, "guarantee": "k"}
        made.append({
            "input": place.name, "output": str(place), "status": "done", "output_sha256": sha256(place),
            "faces": [face], "options": {"k": 2}, "settings": "same",
        })  # fmt: skip
    return made


@pytest.fixture
def verdict(tmp_path):
    """What the verifier says of rows."""

    def said(rows, **options):
        path = tmp_path / "out" / "deid-manifest.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return check([path], **options)

    return said


def test_a_sound_run(run, verdict):
    said = verdict(run)
    assert said.holds and (said.people, said.surrogates, said.least, said.files) == (4, 2, 2, 5)
    assert "2-anonymity holds" in said.line()
    assert not verdict(run, k=3).holds, "more is asked for than was promised"


def face(row, **changes):
    row["faces"][0].update(changes)


LIES = {
    "one person for two": (lambda r: face(r[1], person="p0"), "shown for 1 people"),
    "another surrogate": (lambda r: face(r[4], surrogate="sg1"), "person p0 has 2 surrogates"),
    "a surrogate of its own": (lambda r: face(r[1], surrogate="new"), "shown for 1 people, not for 2"),
    "another group": (lambda r: face(r[4], group="g1"), "person p0 is in 2 groups"),
    "no person": (lambda r: face(r[0], person=None), "has no person"),
    "no word of a promise": (lambda r: face(r[0], guarantee="trust me"), "has no person"),
    "another promise": (lambda r: face(r[0], guarantee="open"), "promise different things"),
    "a covered face counts as shown": (lambda r: face(r[3], action="covered"), "shown for 1 people"),
    "a row left out": (lambda r: r.pop(3), "shown for 1 people"),
    "a smaller k in one row": (lambda r: r[0].update(options={"k": 1}), "promises k = 1"),
    "different k": (lambda r: r[0].update(options={"k": 3}), "promises k = 2, others 3"),
    "a method without k": (lambda r: r[0].update(options={}), "promises k = None"),
    "two runs": (lambda r: r[0].update(settings="other"), "different inputs or settings"),
    "a checksum": (lambda r: r[0].update(output_sha256="0" * 64), "is not what was written"),
    "an output that is not there": (lambda r: r[0].update(output="/no/where.png", input="x"), "is not there"),
    "faces that are none": (lambda r: r[0].update(faces=[1]), "is not understood"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(run, verdict, lie):
    tell, reason = LIES[lie]
    tampered = copy.deepcopy(run)
    tell(tampered)
    said = verdict(tampered)
    assert not said.holds and any(reason in problem for problem in said.problems), said.problems
    assert "does not hold" in said.line()


def test_an_output_that_was_changed(run, verdict, tmp_path):
    (tmp_path / "out" / "2.png").write_bytes(b"another picture")
    assert "is not what was written" in verdict(run).problems[0]


def test_a_folder_that_was_moved(run, verdict, tmp_path):
    verdict(run)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert check([tmp_path / "elsewhere" / "deid-manifest.jsonl"]).holds


def test_the_last_row_of_a_file_counts(run, verdict):
    old = copy.deepcopy(run[0])
    face(old, surrogate="earlier")
    assert verdict([old, *run]).holds


def test_failed_files_hide_nobody(run, verdict):
    run[1]["status"] = "failed"
    assert not verdict(run).holds


def test_tracks_count_as_faces_do(run, verdict):
    """Those of a video that were replaced at least once; one that was covered throughout hides nobody."""
    for row in run:
        shown = {key: row["faces"][0][key] for key in ("person", "surrogate", "group", "guarantee")}
        row["faces"], row["tracks"] = (
            [],
            [{"track": 0, "replaced": 3, "covered": 1, **shown}, {"track": 1, "covered": 9}],
        )
    assert verdict(run).holds
    run[1]["tracks"][0]["surrogate"] = "another"
    assert not verdict(run).holds


def test_diverse(run, verdict):
    for row in run:
        face(row, guarantee="diverse", surrogate="s" + row["faces"][0]["person"])
    said = verdict(run)
    assert said.holds and said.least == 2 and "each group" in said.line()
    face(run[1], surrogate="sp0")
    assert not verdict(run).holds


def test_open(run, verdict):
    for row in run:
        face(row, guarantee="open", surrogate="s" + row["faces"][0]["person"])
    said = verdict(run)
    assert said.holds and "there is no number of people behind one" in said.line()
    face(run[4], surrogate="another")
    assert not verdict(run).holds


def test_no_manifest(tmp_path):
    (tmp_path / "torn.jsonl").write_bytes(b'{"input": "a", \n')
    assert not check([tmp_path / "torn.jsonl"]).holds
    (tmp_path / "empty.jsonl").write_bytes(b"")
    for name in ("empty.jsonl", "none.jsonl"):
        with pytest.raises(UsageError):
            check([tmp_path / name])


def test_tracks_of_videos_count(run, verdict):
    """A track that was replaced in some frames is shown; one that was covered throughout is not."""
    for row in run:
        track = {key: value for key, value in row.pop("faces")[0].items() if key != "action"}
        row["tracks"] = [{**track, "replaced": 4, "covered": 1}, {"covered": 3}]
    assert verdict(run).holds and verdict(run).people == 4
    run[1]["tracks"][0] = {"covered": 5}
    assert "shown for 1 people" in verdict(run).problems[0]
    run[1]["tracks"][0] = {"replaced": 5}
    assert "has no person" in verdict(run).problems[0]
