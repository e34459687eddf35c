"""A second look at a written folder: what is wrong is found and named first, and what cannot be known is said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deidcli.evaluation.verify import judged
from deidcli.evaluation.verify.formats import as_text
from deidcli.evaluation.verify.measure import FRAMES, Check, Judge, Seen, chosen, examined, wanted
from deidcli.evaluation.verify.records import Known, Record, Records, load
from deidcli.values import Box
from tests.conftest import read, rows, save

LOOK = ("--detector", "hog", "--quiet")


@pytest.fixture
def out(deid, folder, tmp_path):
    """`folder` with its faces covered by a colour, and sound in every way."""
    how = ("--cells", 3, "--seed", 1, "--recogniser", "dlib")  # which measures in a look, too
    done = deid("anonymize", "--method", "pixelate", *how, *LOOK, folder, tmp_path / "out")
    assert done.status == 0
    return tmp_path / "out"


def look(deid, out, *options):
    """The status and the JSON of a look."""
    done = deid("evaluate", "quick", out, "--json", *LOOK, *options)
    return done.status, json.loads(done.out)


def edit(out, change):
    """Write the manifest anew, each row as `change` returns it."""
    lines = [json.dumps(change(row)) for row in rows(out).values()]
    (out / "deid-manifest.jsonl").write_text("\n".join(lines) + "\n")


def kinds(said, name):
    return [finding["kind"] for each in said["look"] if each["name"] == name for finding in each["findings"]]


def test_a_sound_folder(deid, folder, out):
    status, said = look(deid, out, "--input", folder)
    assert status == 0 and not said["wrong"]
    assert (said["files"], said["written"], said["looked"], said["replaced"]) == (3, 3, 3, 4)
    assert said["measured"] == 4 and said["closest"] > said["threshold"] == 0.6
    assert kinds(said, "none.png") == ["empty"] and kinds(said, "one.png") == ["close"]
    assert said["settings"] == {"pixelate (cells 3)": 3}


def test_distances_are_those_of_the_run(deid, folder, out):
    """Measured in the file as it is stored, they come out as they did before it was encoded, but for JPEG's losses."""
    said = [face["distance"] for row in rows(out).values() for face in row["faces"]]
    assert look(deid, out, "--input", folder)[1]["closest"] == pytest.approx(min(said), abs=0.05)


def test_a_folder_of_frames(deid, folder, tmp_path):
    """It counts as one file, and a frame that was changed shows."""
    for number in range(3):
        shutil.copy(folder / "one.png", folder / "sub" / f"{number:03}.png")
    (folder / "sub" / "three.jpg").unlink()
    out = tmp_path / "out"
    done = deid("anonymize", "--method", "solid", "--sequence", "--no-track", *LOOK, folder, out)
    assert done.status == 0 and sorted(rows(out)) == ["none.png", "one.png", "sub"], done.err
    status, said = look(deid, out, "--input", folder)
    assert status == 0 and (said["files"], said["looked"], said["missing"]) == (3, 3, 0)
    shutil.copy(folder / "one.png", out / "sub" / "001.png")
    status, said = look(deid, out, "--input", folder)
    assert status == 1 and "altered" in kinds(said, "sub")


def test_text(deid, folder, out):
    done = deid("evaluate", "quick", out, "--input", folder, *LOOK)
    text = done.out.decode()
    assert done.status == 0 and text.startswith("Nothing looks wrong. 3 of 3 files were written; 4 faces replaced")
    assert "None of them is still recognised" in text and "What this look cannot tell" in text
    assert "1. " in text and "sub/three.jpg" in text


def test_an_original_put_back_is_recognised(deid, folder, out):
    shutil.copy(folder / "one.png", out / "one.png")
    status, said = look(deid, out, "--input", folder)
    assert status == 1 and said["look"][0]["name"] == "one.png"
    assert kinds(said, "one.png") == ["recognised", "altered"]
    assert "one face is still taken for" in deid("evaluate", "quick", out, "--input", folder, *LOOK).out.decode()


def test_a_face_that_the_run_did_not_know(deid, folder, out):
    """Of the three in a row the first is forgotten and as it was."""

    def forget(row):
        left = [face for face in row["faces"] if face["box"][0] > 224]
        return row | ({"faces": left, "output_sha256": None} if row["input"] == "sub/three.jpg" else {})

    pixels = np.hstack([read(folder / "sub/three.jpg")[:, :224], read(out / "sub/three.jpg")[:, 224:]])
    Image.fromarray(pixels).save(out / "sub/three.jpg", quality=95)
    edit(out, forget)
    status, said = look(deid, out, "--input", folder)
    assert status == 1 and kinds(said, "sub/three.jpg")[0] == "untouched" and said["counts"]["close"] == 3
    status, said = look(deid, out)
    assert status == 1 and kinds(said, "sub/three.jpg")[0] == "suspect", "without the original it only looks like one"


def test_what_lies_beside_the_manifest(deid, folder, out, nobody):
    save(nobody, out / "more" / "stray.png")
    save(nobody, folder / "late.png")
    status, said = look(deid, out, "--input", folder)
    assert status == 1 and said["counts"]["stray"] == said["counts"]["unlisted"] == 1
    assert [each["name"] for each in said["look"][:2]] == ["more/stray.png", "late.png"]


def test_files_that_moved_on(deid, folder, out, tmp_path):
    """The folder as a whole may lie elsewhere; a result that is gone is said to be, in one line."""
    out.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "one.png").unlink()
    (folder / "none.png").unlink()
    done = deid("evaluate", "quick", tmp_path / "elsewhere", "--input", folder, *LOOK)
    assert done.status == 0 and "1 of 3 results are not where they were written" in done.out.decode()
    shutil.rmtree(tmp_path / "elsewhere" / "sub")
    (tmp_path / "elsewhere" / "none.png").unlink()
    done = deid("evaluate", "quick", tmp_path / "elsewhere", *LOOK)
    assert done.status == 1 and "Not one written file could be looked at again" in done.out.decode()


def test_files_that_cannot_be_read(deid, folder, out):
    (out / "one.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    status, said = look(deid, out, "--input", folder)
    assert status == 1 and said["look"][0]["name"] == "one.png" and "unreadable" in kinds(said, "one.png")


def test_another_original_is_not_compared(deid, folder, out, nobody):
    save(nobody, folder / "one.png")
    status, said = look(deid, out, "--input", folder)
    assert status == 0 and "changed" in kinds(said, "one.png") and said["measured"] == 3


def test_failed_files(deid, folder, tmp_path):
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    assert deid("anonymize", "--method", "solid", *LOOK, folder, tmp_path / "out").status == 1
    status, said = look(deid, tmp_path / "out", "--input", folder)
    assert status == 1 and said["failed"] == 1 and kinds(said, "torn.jpg") == ["failed"]


def test_without_verification(deid, folder, tmp_path):
    """A method that leaves everybody as they were, and a run that did not look."""
    options = ("--method", "blur", "--blur", 0.05, "--no-verify", *LOOK)
    assert deid("anonymize", *options, folder, tmp_path / "out").status == 0
    status, said = look(deid, tmp_path / "out", "--input", folder)
    assert status == 1 and said["counts"]["recognised"] >= 2 and said["unverified"] == 4
    assert said["linkable"] == 4 and said["linked"] >= 3, "each lies nearest to its own original"


def test_several_inputs_and_several_manifests(deid, folder, portrait, tmp_path):
    save(portrait, tmp_path / "other" / "two.png")
    for part in ("1/2", "2/2"):
        options = ("--method", "solid", "--shard", part, *LOOK)
        assert deid("anonymize", *options, folder, tmp_path / "other", tmp_path / "out").status == 0
    records = load(tmp_path / "out", folder)
    found = {record.name: record.before for record in records.records}
    assert len(found) == 4 and found["in/one.png"] == folder / "one.png" and found["other/two.png"] is None
    assert not records.strays and not records.unlisted


def test_sheet(deid, folder, out, tmp_path):
    sheet = tmp_path / "look.png"
    done = deid("evaluate", "quick", out, "--input", folder, "--sheet", sheet, *LOOK)
    assert done.status == 0 and "shows faces as they were" in done.err
    with Image.open(sheet) as page:
        assert page.width > 3 * 300 and page.height > 150 and len(page.getcolors(1 << 20)) > 1000
    assert deid("evaluate", "quick", out, "--sheet", sheet, *LOOK).status == 2, "nothing is written over"
    assert deid("evaluate", "quick", out, "--sheet", tmp_path / "look.jpg", *LOOK).status == 2
    inside = deid("evaluate", "quick", out, "--sheet", out / "sub" / "look.png", *LOOK)
    assert inside.status == 2 and "would show real faces" in inside.err


@pytest.mark.parametrize("line", ["", '{"input": "a.png"', '{"input": "a.png", "faces": [{"box": [1, 2]}]}'])
def test_a_manifest_that_is_none(deid, tmp_path, line):
    (tmp_path / "deid-manifest.jsonl").write_text(line + "\n")
    done = deid("evaluate", "quick", tmp_path, *LOOK)
    assert done.status == 2 and done.err.count("\n") == 1 and "Traceback" not in done.err


def test_folders_that_are_not_there(deid, out, tmp_path):
    assert deid("evaluate", "quick", tmp_path / "none").status == 2
    assert deid("evaluate", "quick", out, "--input", tmp_path / "none").status == 2
    assert deid("evaluate", "quick", out, "--manifest", tmp_path / "none").status == 2


def _record(name, *said, frames=1):
    faces = tuple(Known(0, Box(0, 0, 9, 9), n, "replaced", "blur", each, "") for n, each in enumerate(said))
    return Record(name, "done", None, "there", "", "", frames, faces, "blur", "")


def test_the_likeliest_trouble_is_looked_at_first():
    records = [_record(f"{n:02}", 0.7 + n / 100) for n in range(40)] + [_record("close", 0.61), _record("not", None)]
    names = [record.name for record in chosen(records, 12)]
    assert names[0] == "not" and "close" in names[:4] and len(set(names)) == 12
    spread = [int(name) for name in names if name.isdigit()]
    assert max(spread) > 20, "the others are from all over"
    assert sorted(r.name for r in chosen(records, 0)) == sorted(r.name for r in records)


def test_time_ends_a_look():
    records = [_record("a"), _record("b")]
    assert len(list(examined(records, Check, 0, 1e-9))) == 1, "one at least"
    assert len(list(examined(records, Check, 0, 0))) == 2


def test_frames_of_a_video_are_spread():
    frames = wanted(100)
    assert len(frames) == FRAMES and min(frames) == 0 and max(frames) == 99
    assert wanted(1) == {0} and max(wanted(10**6)) < 1000
    assert max(wanted(10**6, reach=0)) == 10**6 - 1, "deid verify looks at all of it"


class _Judge:
    name = "drawn"

    def distance(self, a, b):
        return np.linalg.norm(a - b, axis=-1)


def test_a_sample_says_how_much_it_leaves_open():
    records = [_record(f"{n}", 0.9) for n in range(100)]
    descriptors = np.eye(30)
    checks = [
        Check(record, 1, (Seen(0, Box(0, 0, 9, 9), 0, "replaced", "blur", 0.9, 0.9, "", (row, -row)),))
        for record, row in zip(records[:30], descriptors, strict=True)
    ]
    verdict = judged(Records(tuple(records), (), (), True), checks, [Judge(_Judge(), 0.6)], "hog")
    assert not verdict.complete and verdict.most == pytest.approx(0.095, abs=0.001), "the rule of three"
    assert (verdict.linked, verdict.linkable) == (0, 30)
    assert "at most 9.5% of all faces are" in as_text(verdict) and "70 written files" in as_text(verdict)
    whole = replace(verdict, looked=100)
    assert whole.complete and "at most" not in as_text(whole)


def test_names_do_not_command_the_terminal():
    verdict = judged(Records((_record("a\x1b[2J\nb", 0.9),), (), (), False), [], [Judge(_Judge(), 0.6)], "hog")
    assert "\x1b" not in as_text(verdict) and "a\\x1b[2J\\nb" in as_text(verdict)
