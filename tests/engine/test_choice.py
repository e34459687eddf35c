"""Who is changed: people who are kept or alone replaced, zones, decisions. Whatever is not certain is replaced."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deidcli.engine.choice import KEEP, ONLY, Chooser, People, _TrackMatches
from deidcli.engine.frames import Choice
from deidcli.engine.zones import Instructions, Zone, fill, lies_within, load_instructions
from deidcli.errors import MediaError, UsageError
from deidcli.faces.people import LOOSE, OTHER, SAME, SPLIT, STRICT, UNSURE, is_comparable, judged
from deidcli.faces.recognisers.shipped import WEIGHTS
from deidcli.values import Box, Frame
from tests.conftest import found, read, rows, save, tree

SURE, FAR, BETWEEN = STRICT * 0.9, LOOSE * 1.1, (STRICT + LOOSE) / 2
TORN = np.array([BETWEEN[0], FAR[1]])  # one of them is sure that it is nobody


def test_both_have_to_be_sure():
    pairs = [SURE, FAR, BETWEEN, (SURE[0], BETWEEN[1]), (SURE[0], FAR[1]), (FAR[0], SURE[1]), (FAR[0], BETWEEN[1])]
    assert judged(np.array(pairs)).tolist() == [SAME, OTHER, UNSURE, UNSURE, SPLIT, SPLIT, SPLIT]
    assert judged(np.array([[0.1], [9.0]]), STRICT[:1], LOOSE[:1]).tolist() == [SAME, OTHER], "by one of them alone"


def test_a_face_that_looks_away_is_not_told(face):
    """Turned by what moves the tip of its nose, or small, or without landmarks: nobody can say who it is."""
    assert is_comparable(face) and not is_comparable(replace(face, landmarks=None))
    assert not is_comparable(replace(face, box=face.box.scaled(30 / face.box.width)))
    turned = face.landmarks.copy()
    turned[30, 0] += 0.35 * (turned[45, 0] - turned[36, 0])
    assert not is_comparable(replace(face, landmarks=turned))


def choice(flag, *looks):
    seen = _TrackMatches()
    for look in looks:
        seen.add(np.array(look))
    return People(None, flag).choice(seen)


@pytest.mark.parametrize("looks, action, doubt", [
    ([SURE], "leave", False), ([SURE, SURE, BETWEEN], "leave", False), ([BETWEEN], "replace", True),
    ([SURE, FAR], "replace", True), ([SURE, BETWEEN, BETWEEN], "replace", True), ([FAR], "replace", False),
    ([], "replace", False), ([TORN], "replace", False), ([SURE, TORN], "leave", False),
    ([TORN, TORN, SURE], "replace", True),
])  # fmt: skip
def test_who_is_kept(looks, action, doubt):
    """A track is left only where it was surely the person, and never surely somebody else."""
    made = choice(KEEP, *looks)
    assert (made.action, made.doubt) == (action, doubt)


@pytest.mark.parametrize("looks, action, doubt", [
    ([FAR], "leave", False), ([FAR, BETWEEN], "replace", True), ([BETWEEN], "replace", True),
    ([SURE], "replace", False), ([SURE, FAR], "replace", True), ([], "replace", True),
    ([TORN], "replace", True), ([FAR, TORN], "replace", True),
])  # fmt: skip
def test_who_alone_is_replaced(looks, action, doubt):
    """A track is left only where it was surely nobody of them at every look."""
    made = choice(ONLY, *looks)
    assert (made.action, made.doubt) == (action, doubt)


# --- By the command. The three portraits are of three people.


@pytest.fixture
def both():
    """Both recognisers are there."""
    if WEIGHTS.find() is None:
        pytest.skip("the weights of sface are missing")


@pytest.fixture
def people(portraits, both, tmp_path):
    save(portraits[1], tmp_path / "people" / "sub" / "second.png")
    return tmp_path / "people"


def actions(row):
    """What became of the faces of the crowd, from left to right."""
    return [face["action"] for face in sorted(row["faces"], key=lambda face: face["box"][0])]


def test_one_is_kept(deid, folder, people, tmp_path, crowd):
    done = deid("anonymize", "-m", "blur", "--keep-people", people, folder, tmp_path / "out")
    assert done.status == 0, done.err
    row = rows(tmp_path / "out")["sub/three.jpg"]
    assert actions(row) == ["replaced", "left", "replaced"] and "1 left as they were" in done.err
    [kept] = [face for face in row["faces"] if face["action"] == "left"]
    assert kept["match"] and not kept["doubt"] and "--keep-people: a match" in kept["choice"]
    before, after = read(folder / "sub/three.jpg"), read(tmp_path / "out/sub/three.jpg")
    left, top, right, bottom = map(int, kept["box"])
    old, new = (pixels[top:bottom, left:right].astype(int) for pixels in (before, after))
    assert np.abs(old - new).mean() < 2, "but for what JPEG changes"


def test_one_alone_is_replaced(deid, folder, people, tmp_path):
    done = deid("anonymize", "-m", "blur", "--only-people", people, folder, tmp_path / "out")
    row = rows(tmp_path / "out")["sub/three.jpg"]
    assert done.status == 0 and actions(row)[1] == "replaced"
    # The others are left where it is sure that they are others; drawn faces are often alike, and then it is not.
    for face in row["faces"]:
        assert face["action"] == ("left" if "nobody of them" in face["choice"] else "replaced"), face
    doubts = sum(face["doubt"] for each in rows(tmp_path / "out").values() for face in each["faces"])
    assert (f"{doubts} of them in doubt" in done.err) == bool(doubts)


def test_a_face_that_cannot_be_told_is_replaced(deid, people, portraits, tmp_path):
    """Too small for a recogniser: replaced under both, and under --only-people in doubt."""
    import cv2

    small = cv2.resize(portraits[0], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    save(np.pad(small, ((40, 40), (40, 40), (0, 0)), mode="edge"), tmp_path / "in" / "a.png")
    entry = json.dumps({"input": "a.png", "faces": [{"box": [54, 54, 82, 84]}]})
    (tmp_path / "faces.jsonl").write_text(entry)
    for flag, doubt in (("--keep-people", False), ("--only-people", True)):
        out, given = tmp_path / flag, ["--faces", tmp_path / "faces.jsonl"]
        assert deid("anonymize", "-m", "blur", flag, people, *given, tmp_path / "in", out).status == 0
        [face] = rows(out)["a.png"]["faces"]
        assert face["action"] in ("replaced", "covered") and face["doubt"] == doubt


@pytest.mark.parametrize("case", ["missing", "empty", "nobody", "several", "broken"])
def test_people_that_cannot_be_told_stop_the_run(deid, folder, people, nobody, crowd, tmp_path, case):
    if case == "missing":
        people = tmp_path / "nothing"
    elif case == "empty":
        people = tmp_path / "empty"
        people.mkdir()
    elif case == "broken":
        (people / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    else:
        save(nobody if case == "nobody" else crowd, people / "x.png")
    for flag in ("--keep-people", "--only-people"):
        done = deid("anonymize", "-m", "blur", flag, people, folder, tmp_path / "out")
        assert done.status == 2 and done.err.count("\n") == 1 and flag in done.err
        assert case not in ("nobody", "several", "broken") or "x." in done.err
        assert not tree(tmp_path / "out") if (tmp_path / "out").exists() else True


def test_keep_and_only_are_not_given_together(deid, folder, people, tmp_path):
    both = ["--keep-people", people, "--only-people", people]
    assert deid("anonymize", "-m", "blur", *both, folder, tmp_path / "out").status == 2
    assert deid("anonymize", "-m", "blur", both[0], people, "-", "-", stdin=b"x").status == 2


def test_other_people_are_another_run(deid, folder, people, portraits, tmp_path):
    """--resume does again what was done for other people."""
    call = ["anonymize", "-m", "blur", "--keep-people", people, "--resume", folder, tmp_path / "out"]
    assert deid(*call).status == 0 and "3 of 3 files are done already" in deid(*call).err
    save(portraits[0], people / "first.png")
    done = deid(*call)
    assert "0 of 3 files are done already" in done.err
    assert actions(rows(tmp_path / "out")["sub/three.jpg"]) == ["left", "left", "replaced"]


def test_a_dry_run_says_who_would_be_left(deid, folder, people, tmp_path):
    done = deid("anonymize", "--dry-run", "--keep-people", people, folder, tmp_path / "out")
    said = {row["input"]: row["faces"] for row in map(json.loads, done.out.splitlines())}
    assert sum(face.get("action") == "leave" for face in said["sub/three.jpg"]) == 1


# --- Zones.

SQUARE = [[0, 0], [40, 0], [40, 30], [0, 30]]


def lines(path, *entries):
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def test_zones_are_covered_and_faces_in_others_left(deid, folder, crowd, tmp_path):
    boxes = sorted((face.box for face in found(crowd)), key=lambda box: box.left)
    around = boxes[0].scaled(1.3)
    corners = [[around.left, around.top], [around.right, around.top], [around.right, around.bottom],
               [around.left, around.bottom]]  # fmt: skip
    half = [[boxes[1].left, boxes[1].top], [boxes[1].center[0], boxes[1].top], [boxes[1].center[0], boxes[1].bottom],
            [boxes[1].left, boxes[1].bottom]]  # fmt: skip
    zones = lines(tmp_path / "zones.jsonl", {"zone": "cover", "polygon": SQUARE},
                  {"zone": "never", "polygon": corners, "input": "sub/*"},
                  {"zone": "never", "polygon": half, "input": "sub/three.jpg"})  # fmt: skip
    done = deid("anonymize", "-m", "blur", "--zones", zones, folder, tmp_path / "out")
    assert done.status == 0, done.err
    found_ = rows(tmp_path / "out")
    assert actions(found_["sub/three.jpg"]) == ["left", "replaced", "replaced"], "one that is half in it is replaced"
    assert found_["none.png"]["zones"] == 1 and "without a face" not in done.err
    assert "; zones covered in " in done.err
    after = read(tmp_path / "out/none.png")
    assert (after[:30, :40] == after[0, 0]).all() and (after[40:] == read(folder / "none.png")[40:]).all()


@pytest.mark.parametrize("entry", [
    {"zone": "Cover", "polygon": SQUARE}, {"zone": "cover", "polygon": SQUARE[:2]}, {"zone": "cover"},
    {"zone": "cover", "polygon": [[0, 0], [1, "x"], [2, 2]]}, {"zone": "cover", "polygon": SQUARE, "begin": 3},
    {"zone": "cover", "polygon": SQUARE, "from": 5, "to": 2}, {"zone": "cover", "polygon": SQUARE, "input": "lost.png"},
    {"zone": "cover", "polygon": SQUARE, "size": [5]}, {"polygon": SQUARE}, "x", None,
    {"input": "one.png", "track": 0, "box": [1, 2, 3, 4], "action": "leave"},
])  # fmt: skip
def test_zones_that_are_not_understood_stop_the_run(deid, folder, tmp_path, entry):
    path = tmp_path / "zones.jsonl"
    path.write_text("" if entry is None else entry if entry == "x" else json.dumps(entry))
    done = deid("anonymize", "-m", "blur", "--zones", path, folder, tmp_path / "out")
    assert done.status == 2 and done.err.count("\n") == 1 and "zones.jsonl" in done.err
    assert not (tmp_path / "out").exists()


def test_a_zone_of_another_size_fails_its_file(deid, folder, tmp_path):
    zones = lines(tmp_path / "zones.jsonl", {"zone": "cover", "polygon": SQUARE, "size": [224, 224]})
    done = deid("anonymize", "-m", "blur", "--zones", zones, folder, tmp_path / "out")
    assert done.status == 1 and sorted(tree(tmp_path / "out")) == ["one.png"]


def test_zones_hold_in_their_time():
    zone = Zone("never", "*", tuple(map(tuple, SQUARE)), 1, 2)
    pixels = np.zeros((60, 80, 3), np.uint8)
    assert [zone.holds(Frame(pixels, time=t)) for t in (None, 0, 1, 1.5, 2, 2.1)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    cover = Zone("cover", "*", tuple(map(tuple, SQUARE)), 1, 2)
    assert cover.holds(Frame(pixels)), "a picture has no time, and is covered"
    with pytest.raises(MediaError, match="draw it anew"):
        Zone("cover", "*", tuple(map(tuple, SQUARE)), size=(10, 10)).mask(Frame(pixels))


def test_fill_and_within():
    pixels = np.random.default_rng(2).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = Zone("cover", "*", tuple(map(tuple, SQUARE))).mask(Frame(pixels))
    frame, changed = fill(Frame(pixels), [mask], None)
    assert np.array_equal(changed, mask) and len(np.unique(frame.pixels[mask], axis=0)) == 1
    assert np.array_equal(frame.pixels[~mask], pixels[~mask])
    assert lies_within(Box(-5, 2, 20, 20), mask) and not lies_within(Box(30, 10, 50, 20), mask)
    assert not lies_within(Box(100, 100, 120, 120), mask), "nothing of it is in the picture"


# --- Decisions.


def decided(row, face, action):
    return {"input": row["input"], "frame": face["frame"], "track": face["track"], "box": face["box"], "action": action,
            "sha256": row["sha256"]}  # fmt: skip


def test_decisions_do_again_what_changed(deid, folder, tmp_path):
    call = ["anonymize", "-m", "pixelate", folder, tmp_path / "out"]
    assert deid(*call).status == 0
    row, before = (
        rows(tmp_path / "out")["sub/three.jpg"],
        {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*g")},
    )
    faces = sorted(row["faces"], key=lambda face: face["box"][0])
    decisions = [decided(row, faces[0], "leave"), decided(row, faces[2], "cover")]
    path = lines(tmp_path / "decisions.jsonl", *decisions)
    done = deid(*call, "--decisions", path)
    assert done.status == 0 and "2 of 3 files are done already" in done.err
    assert actions(rows(tmp_path / "out")["sub/three.jpg"]) == ["left", "replaced", "covered"]
    changed = [p.name for p, when in before.items() if p.stat().st_mtime_ns != when]
    assert changed == ["three.jpg"]
    assert "3 of 3 files are done already" in deid(*call, "--decisions", path).err
    zone = {"zone": "cover", "polygon": SQUARE, "input": "none.png"}
    done = deid(*call, "--decisions", lines(path, *decisions, zone))
    assert "2 of 3 files are done already" in done.err and rows(tmp_path / "out")["none.png"]["zones"] == 1


def test_decisions_on_another_face_or_file_fail_the_file(deid, folder, tmp_path):
    call = ["anonymize", "-m", "pixelate", folder, tmp_path / "out"]
    deid(*call)
    row = rows(tmp_path / "out")["one.png"]
    good = decided(row, row["faces"][0], "leave")
    for bad in (good | {"box": [0, 0, 20, 20]}, good | {"track": 4}, good | {"sha256": "0" * 64}, good | {"frame": 3}):
        done = deid(*call, "--decisions", lines(tmp_path / "d.jsonl", bad))
        assert done.status == 1 and "one.png" in done.err and "decided on" in done.err, bad
        assert rows(tmp_path / "out")["one.png"]["status"] == "failed"
    done = deid(*call, "--decisions", lines(tmp_path / "d.jsonl", good, good))
    assert done.status == 2 and "line 2" in done.err
    done = deid(*call, "--decisions", lines(tmp_path / "d.jsonl", good | {"action": "hide"}))
    assert done.status == 2 and "line 1" in done.err


def test_wishes_are_told_apart_by_file(tmp_path):
    entry = {"input": "a.png", "track": 0, "box": [1, 2, 3, 4], "action": "leave"}
    first = load_instructions(lines(tmp_path / "a", entry), "--decisions")
    other = load_instructions(lines(tmp_path / "b", entry | {"action": "cover"}), "--decisions")
    assert first.mark("a.png") != other.mark("a.png") != "" and first.mark("b.png") == "" == Instructions().mark(
        "a.png"
    )
    with pytest.raises(UsageError, match="no input of this run"):
        first.check_files({"b.png"})


def test_nothing_is_chosen_without_being_asked():
    assert Chooser().people is None and Choice() == Choice("replace", "", False, False)


# --- Videos: a track is one person, and is chosen for as a whole.


@pytest.fixture
def clip(portraits, tmp_path):
    """An animation of two portraits side by side for two seconds; in the last frames the first is covered by a bar."""
    from PIL import Image

    frames = []
    for index in range(10):
        pixels = np.hstack([np.roll(portraits[0], 2 * index, axis=1), portraits[1]])
        frames.append(Image.fromarray(pixels))
    (tmp_path / "film").mkdir()
    frames[0].save(tmp_path / "film/clip.png", save_all=True, append_images=frames[1:], duration=200)
    return tmp_path / "film"


def test_a_track_is_chosen_for_as_a_whole(deid, clip, people, tmp_path):
    done = deid("anonymize", "-m", "solid", "--keep-people", people, clip, tmp_path / "out")
    assert done.status == 0, done.err
    tracks = sorted(rows(tmp_path / "out")["clip.png"]["tracks"], key=lambda track: track["boxes"][0][1])
    assert [track.get("left", 0) for track in tracks] == [0, 10] and tracks[1]["match"]
    assert [run[2] for track in tracks for run in track["runs"]] == ["replaced", "left"]


def test_a_decision_on_a_track_and_a_zone_in_time(deid, clip, tmp_path):
    call = ["anonymize", "-m", "solid", clip, tmp_path / "out"]
    assert deid(*call).status == 0
    row = rows(tmp_path / "out")["clip.png"]
    tracks = sorted(row["tracks"], key=lambda track: track["boxes"][0][1])
    frame, *box = tracks[0]["boxes"][0]
    entry = {"input": "clip.png", "frame": frame, "track": tracks[0]["track"], "box": box, "action": "leave"}
    zone = {"zone": "cover", "polygon": SQUARE, "from": 0.9, "to": 1.3, "input": "clip.png"}
    done = deid(*call, "--decisions", lines(tmp_path / "d.jsonl", entry, zone))
    assert done.status == 0, done.err
    row = rows(tmp_path / "out")["clip.png"]
    assert sorted(track.get("left", 0) for track in row["tracks"]) == [0, 10] and row["zones"] == 2
    done = deid(*call, "--decisions", lines(tmp_path / "d.jsonl", entry | {"box": [300, 0, 320, 20]}))
    assert done.status == 3 and "not the one that was decided on" in done.err


def test_a_closed_set_leaves_out_who_is_left(deid, folder, people, tmp_path):
    """The person who is left is in no group, and the promise is checked without them."""
    call = ["anonymize", "-m", "ksame-pixel", "--k", "2", "--seed", "1", "--keep-people", people]
    done = deid(*call, folder, tmp_path / "out")
    assert done.status == 0, done.err
    found_ = rows(tmp_path / "out")["sub/three.jpg"]["faces"]
    assert sum(face["action"] == "left" and "person" not in face for face in found_) == 1
    assert deid("evaluate", "kanonymity", tmp_path / "out/deid-manifest.jsonl").status == 0


def test_verify_knows_who_was_left(deid, folder, people, tmp_path):
    deid("anonymize", "-m", "solid", "--keep-people", people, folder, tmp_path / "out")
    done = deid("verify", folder, tmp_path / "out")
    assert done.status == 0 and b"1 left as they were" in done.out, done.out


# --- Error rates.


def test_rates_of_drawn_people(both):
    """Twins are taken for each other, and nobody else for anybody."""
    from deidcli.evaluation.detection import people_rates

    random = np.random.default_rng(3)
    people, described, centre = {}, {}, np.zeros(256)
    for number in range(12):
        centre = centre if number == 1 else random.standard_normal(256)
        for picture in range(3):
            row = centre + 0.02 * random.standard_normal(256)
            row[:128] /= np.linalg.norm(row[:128])
            described[f"{number}/{picture}"] = row
            people.setdefault(str(number), []).append(f"{number}/{picture}")
    done = {(each.by, each.people): each for each in people_rates(described, people, [1, 5, 50], 1, 0)}
    assert {size for _, size in done} == {1, 5}, "a folder of more people than there are is left out"
    both, dlib = done["both", 1], done["dlib", 1]
    assert (both.left.count, both.left.of, both.missed.count) == (24, 24, 0)
    assert (both.left_strangers.count, both.left_strangers.of) == (4, 12 * 22), "two pictures of each twin of the other"
    assert both.left_strangers.most > both.left_strangers.share and dlib.left_strangers.count >= 4


def test_rates_of_the_command(deid, both, portraits, tmp_path):
    for number, portrait in enumerate(portraits):
        for turn in range(2):
            save(np.roll(portrait, turn, axis=1), tmp_path / "set" / f"p{number}" / f"{turn}.png")
    call = ["evaluate", "people", tmp_path / "set", "--sizes", "1,3", "--cache", "none", "--json"]
    done = deid(*call)
    assert done.status == 0, done.err
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["by"], row["people"]) for row in told] == [(by, n) for n in (1, 3) for by in ("both", "dlib", "sface")]
    assert told[0]["left"] == {"count": 3, "of": 3} and told[0]["missed"]["count"] == 0
    assert b"strangers left" in deid(*call[:-1]).out
    assert deid(*call, "--pictures", "2").status == 2
