"""Manifests, targets and lists of faces: what is on disk is whole, and what is torn is known to be."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from deidcli.engine.face_list import COLUMNS, face_entry, load_faces
from deidcli.engine.manifest import DONE, FAILED, SKIPPED, Earlier, Manifest, Row
from deidcli.engine.output import PART, OutputFolder
from deidcli.errors import MediaError, UsageError
from deidcli.values import UNTRACKED, Box, Face

ODD = "caf\udce9 ☃ \u2028 \u0085.jpg"


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def done(tmp_path):
    """A file, its output, and the row that says so."""
    source, target = tmp_path / "a.jpg", tmp_path / "out.jpg"
    source.write_bytes(b"in"), target.write_bytes(b"out")
    row = Row("a.jpg", str(target), DONE, digest(b"in"), digest(b"out"), settings="5e77")
    return source, target, row


def recorded(path, *rows):
    manifest = Manifest(path, keep=path.exists())
    for row in rows:
        manifest.add(row)
    manifest.close()
    return path


def test_row_by_row(tmp_path, done):
    path = recorded(tmp_path / "deep" / "rows.jsonl", done[2], Row(ODD, None, FAILED, error="torn"))
    read = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert [row["input"] for row in read] == ["a.jpg", ODD]
    assert Earlier.load(path).rows[ODD]["error"] == "torn"


def test_without_keep_it_begins_anew(tmp_path, done):
    path = recorded(tmp_path / "rows.jsonl", done[2])
    Manifest(path, keep=False).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_last_line_is_dropped(tmp_path, done, cut):
    """Also where the tear goes through a letter."""
    path = recorded(tmp_path / "rows.jsonl", done[2], Row("☃" * 9, None, DONE))
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[1]
    for end in {len(whole) - cut, len(whole) - len(line) + 12 + cut}:
        path.write_bytes(whole[:end])
        assert list(Earlier.load(path).rows) == ["a.jpg"]
        recorded(path, Row("b.jpg", None, DONE))
        assert [json.loads(row)["input"] for row in path.read_text().splitlines()] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("junk", [b"5\n", b"[]\n", b"null\n", b"\n", b"\xff\xfe\n", b'{"other": 1}\n'])
def test_lines_that_are_no_rows_are_ignored(tmp_path, done, junk):
    path = recorded(tmp_path / "rows.jsonl", done[2])
    path.write_bytes(junk + path.read_bytes())
    assert list(Earlier.load(path).rows) == ["a.jpg"]


def test_no_manifest_no_rows(tmp_path):
    assert Earlier.load(tmp_path / "nothing").rows == {}


def test_a_manifest_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--manifest"):
        Manifest(tmp_path / "file" / "rows.jsonl", keep=False)


def test_earlier_has(tmp_path, done):
    source, target, row = done
    earlier = Earlier.load(recorded(tmp_path / "rows.jsonl", row))
    assert earlier.has("a.jpg", source, target, "5e77")
    assert not earlier.has("b.jpg", source, target, "5e77"), "another file"
    assert not earlier.has("a.jpg", source, target, "0e77"), "other settings"
    assert not earlier.has("a.jpg", None, target, "5e77"), "standard input"
    target.write_bytes(b"changed")
    assert not earlier.has("a.jpg", source, target, "5e77"), "another output"
    target.unlink()
    assert not earlier.has("a.jpg", source, target, "5e77"), "no output"
    target.write_bytes(b"out"), source.write_bytes(b"new")
    assert not earlier.has("a.jpg", source, target, "5e77"), "another input"
    source.unlink()
    assert not earlier.has("a.jpg", source, target, "5e77"), "no input: the run will say so"


def test_earlier_knows_skipped_and_failed(tmp_path, done):
    source, target, row = done
    for status, known in ((SKIPPED, True), (FAILED, False), ("odd", False)):
        other = Row("a.jpg", None, status, row.sha256, None, settings="5e77")
        path = recorded(tmp_path / f"{status}.jsonl", row, other)
        assert Earlier.load(path).has("a.jpg", source, target, "5e77") is known, "the last row counts"


def target_at(path, overwrite):
    return OutputFolder(None, overwrite).target(path)


def parts(folder):
    return [path.name for path in folder.rglob(f"*{PART}")]


def test_target_is_there_whole_or_not_at_all(tmp_path):
    target = target_at(tmp_path / "deep" / "a.jpg", overwrite=False)
    target.open().write(b"half")
    assert not target.path.exists() and len(parts(tmp_path)) == 1
    target.discard()
    assert not target.path.exists() and parts(tmp_path) == []
    target.open().write(b"whole")
    assert target.commit() == digest(b"whole")
    assert target.path.read_bytes() == b"whole" and parts(tmp_path) == []
    target.discard()
    assert target.path.exists(), "what is committed stays"


def test_target_exists(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"old")
    with pytest.raises(MediaError, match="--overwrite"):
        target_at(tmp_path / "a.jpg", overwrite=False).open()
    target = target_at(tmp_path / "a.jpg", overwrite=True)
    target.open().write(b"new")
    assert (tmp_path / "a.jpg").read_bytes() == b"old"
    target.commit()
    assert (tmp_path / "a.jpg").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["ä" * 125 + ".jpg", os.fsdecode(b"\xff\xe9.jpg"), " .jpg"])
def test_target_of_any_name(tmp_path, name):
    target = target_at(tmp_path / name, overwrite=False)
    target.open().write(b"x")
    target.commit()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_replaced_link_does_not_change_what_it_points_at(tmp_path):
    (tmp_path / "original").write_bytes(b"original")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "original")
    target = target_at(tmp_path / "a.jpg", overwrite=True)
    target.open().write(b"new")
    target.commit()
    assert (tmp_path / "original").read_bytes() == b"original" and (tmp_path / "a.jpg").read_bytes() == b"new"


@pytest.mark.parametrize(("step", "overwrite"), [("fsync", False), ("link", False), ("replace", True)])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch, step, overwrite):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    target = target_at(tmp_path / "a.jpg", overwrite)
    target.open().write(b"x" * 100)
    with pytest.raises(MediaError, match="no space left"):
        target.commit()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be written"):
        target_at(tmp_path / "file" / "a.jpg", overwrite=False).open()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KiB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_small_disk(small_disk):
    target = target_at(small_disk / "a.jpg", overwrite=False)
    file = target.open()
    with pytest.raises((MediaError, OSError)):
        file.write(os.urandom(100_000))
        target.commit()
    target.discard()
    assert list(small_disk.iterdir()) == []


def test_what_no_longer_fits_is_dropped_without_another_error(small_disk):
    """A little that still stands in the buffer when the disk is full."""
    target = target_at(small_disk / "a.jpg", overwrite=False)
    target.open().write(b"little")
    with (small_disk / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while file.write(bytes(4096)):
            pass
    target.discard()
    assert [path.name for path in small_disk.iterdir()] == ["fill"]


def test_a_manifest_on_a_small_disk(small_disk):
    """A line that does not fit leaves no half of itself, and the next one that fits is whole."""
    manifest = Manifest(small_disk / "rows.jsonl", keep=False)
    manifest.add(Row("a.jpg", None, DONE))
    with pytest.raises(MediaError, match="No space left"):
        manifest.add(Row("b" * 100_000, None, DONE))
    manifest.add(Row("c.jpg", None, DONE))
    manifest.close()
    assert [json.loads(row)["input"] for row in manifest.path.read_text().splitlines()] == ["a.jpg", "c.jpg"]


FACES = [Face(Box(1.5, 2, 30.25, 40), 0.75, np.arange(136, dtype=np.float32).reshape(68, 2)), Face(Box(5, 6, 7, 8))]


def test_faces_in_json(tmp_path):
    path = tmp_path / "faces.jsonl"
    entries = [face_entry(face) for face in FACES]
    rows = [{"input": ODD, "frame": 0, "faces": entries}, {"input": ODD, "frame": 2, "faces": entries[:1]}]
    rows += [{"input": "none.jpg", "faces": []}, {"input": "bad.jpg", "faces": [], "error": "could not be read"}]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    given = load_faces(path)
    first, second = given.of(ODD, 0)
    assert first.box == FACES[0].box and first.score == 0.75 and np.array_equal(first.landmarks, FACES[0].landmarks)
    assert second == FACES[1]
    assert [len(given.of(ODD, n)) for n in range(3)] == [2, 0, 1] and given.of("none.jpg", 0) == []
    for name in ("other.jpg", "bad.jpg"):
        with pytest.raises(MediaError, match="not in the list of faces"):
            given.of(name, 0)


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_faces_in_csv(tmp_path, start):
    path = tmp_path / "faces.csv"
    rows = [",".join(COLUMNS), f'"{ODD}",0,1,2,3,4,0.5', f'"{ODD}",0,5,6,7,8,', "none.jpg,0,,,,,"]
    path.write_bytes((start + "\r\n".join(rows)).encode("utf-8", "surrogateescape"))
    given = load_faces(path)
    boxes = Face(Box(1, 2, 3, 4), 0.5, track=UNTRACKED), Face(Box(5, 6, 7, 8), track=UNTRACKED)
    assert given.of(ODD, 0) == list(boxes)
    assert given.of("none.jpg", 0) == []


HEAD = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "a.jpg,0,,10,20,30,1",
        HEAD + "a.jpg,0,1,10,20",
        HEAD + "a.jpg,0",
        HEAD + "a.jpg,0,x,10,20,30,1",
        HEAD + "a.jpg,0,30,10,20,30,1",
        HEAD + "a.jpg,0,nan,10,20,30,1",
        HEAD + "a.jpg,,1,10,20,30,1",
        "input,left\na.jpg,3",
        "no json",
        '{"input": "a.jpg"}',
        '{"input": 5, "faces": []}',
        '{"input": "a.jpg", "faces": null}',
        '{"input": "a.jpg", "faces": [{"box": [1, 2, 3]}]}',
        '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, Infinity]}]}',
        '{"input": "a.jpg", "faces": [{"box": [0, 0, 1e9, 1e9]}]}',
        '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "landmarks": [[1, 2]]}]}',
        json.dumps({"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "landmarks": [[float("nan"), 2]] * 68}]}),
        "[1]",
        "5",
        "\x00\xff\x01",
    ],
)
def test_faces_that_make_no_sense_are_refused(tmp_path, text):
    """A box that cannot be read is a face that would be left as it is."""
    path = tmp_path / "faces"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load_faces(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_faces_that_are_not_there(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UsageError, match="deid detect"):
            load_faces(path)
