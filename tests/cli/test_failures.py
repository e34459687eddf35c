"""Whatever goes wrong: one line, the right exit status, nothing half done, and the batch goes on."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from deidcli.engine.output import PART
from deidcli.media.image.reader import ImageWriter
from tests.conftest import found, read, rows, save, tree

QUICK = ("--method", "solid", "--no-verify")


def litter(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(PART)]


def said(done):
    """Every line of standard error that is an error."""
    return [line for line in done.err.splitlines() if line.startswith("deid: ")]


BAD = {
    "zero.jpg": lambda data: b"",
    "cut.jpg": lambda data: data[: len(data) // 3],
    "text.jpg": lambda data: b"this is a note about a picture\n",
    "page.png": lambda data: b"<!doctype html><html></html>",
}


@pytest.fixture
def mixed(folder):
    """The good folder with bad files in between."""
    data = (folder / "sub" / "three.jpg").read_bytes()
    for name, spoil in BAD.items():
        (folder / name).write_bytes(spoil(data))
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    return folder


def test_the_batch_goes_on(deid, mixed, tmp_path):
    done = deid("anonymize", *QUICK, mixed, tmp_path / "out")
    assert done.status == 1
    assert sorted(tree(tmp_path / "out")) == ["none.png", "one.png", "sub/three.jpg"]
    bad = [*BAD, "loop.jpg", "gone.jpg"]
    assert len(said(done)) == len(bad) and all(any(name in line for line in said(done)) for name in bad)
    table = rows(tmp_path / "out")
    for name in bad:
        assert table[name]["status"] == "failed" and table[name]["error"] and table[name]["output"] is None
    assert f"{len(bad)} failed" in done.err and litter(tmp_path) == []


@pytest.mark.parametrize("name", BAD)
def test_nothing_but_bad_files(deid, mixed, tmp_path, name):
    done = deid("anonymize", *QUICK, mixed / name, tmp_path / "out")
    assert done.status == 3 and len(said(done)) == 1 and tree(tmp_path / "out") == {}


def test_bad_files_in_the_other_commands(deid, mixed, tmp_path):
    listed = deid("detect", mixed)
    assert listed.status == 1 and listed.out.count(b"\n") == 9
    dry = deid("anonymize", *QUICK, "--dry-run", mixed, tmp_path / "out")
    assert dry.status == 1 and dry.out.count(b'"error": "') == 6
    cut = deid("align", mixed, tmp_path / "crops")
    assert cut.status == 1 and len(tree(tmp_path / "crops")) == 4
    assert deid("align", mixed / "zero.jpg", tmp_path / "none").status == 3


@contextmanager
def as_nobody():
    """With the rights of another user, for whom permissions count."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared(deid, mixed):
    """A copy of the folder where another user may come."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can take the rights of another user")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copytree(mixed, place / "in", symlinks=True)
        # That user may not be able to import what is imported late.
        deid("anonymize", *QUICK, place / "in", place / "first")
        (place / "out").mkdir()
        for path in (place, place / "in", place / "out"):
            path.chmod(0o777)
        yield place


def test_unreadable_files_and_folders(deid, shared):
    (shared / "in" / "one.png").chmod(0)
    (shared / "in" / "sub").chmod(0)
    for again in ((), ("--resume",)):
        with as_nobody():
            done = deid("anonymize", *QUICK, *again, shared / "in", shared / "out")
        assert done.status == 1, done.err
        table = rows(shared / "out")
        for name in ("one.png", "sub"):
            assert "permission denied" in table[name]["error"]
        assert table["none.png"]["status"] == "done"


def test_read_only_output(deid, shared):
    (shared / "out").chmod(0o555)
    with as_nobody():
        done = deid("anonymize", *QUICK, shared / "in", shared / "out")
    assert done.status in (2, 3) and len(said(done)) == 1 and "ermission denied" in done.err
    with as_nobody():
        done = deid("anonymize", *QUICK, "--manifest", shared / "in" / "rows", shared / "in", shared / "out")
    assert done.status == 3 and {row["status"] for row in rows(shared / "in" / "rows").values()} == {"failed"}
    assert list((shared / "out").iterdir()) == []


def test_a_file_where_a_folder_should_be(deid, folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = deid("anonymize", *QUICK, folder, tmp_path / "out")
    assert done.status in (2, 3) and len(said(done)) == 1 and (tmp_path / "out").read_text() == "mine"
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "sub").write_text("mine")
    done = deid("anonymize", *QUICK, folder, tmp_path / "room")
    assert done.status == 1 and sorted(tree(tmp_path / "room")) == ["none.png", "one.png", "sub"]
    assert deid("align", folder, tmp_path / "out").status == 3


@pytest.fixture
def disk(tmp_path):
    """A file system with room for the small pictures and not for the large one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(deid, folder, disk, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    save(large, folder / "large.png")
    done = deid("anonymize", *QUICK, folder, disk)
    assert done.status in (1, 3) and "no space left" in done.err.lower(), done.err
    assert "large.png" not in tree(disk) and litter(disk) == []
    # While the large file was written there was no room for others either; it was given back.
    done = deid("anonymize", *QUICK, "--resume", folder / "one.png", folder / "none.png", folder / "sub", disk)
    assert done.status == 0 and litter(disk) == [], done.err
    (disk / "fill").write_bytes(b"")
    with (disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)) == 512:
            pass
    for options in (
        ("--overwrite",),
        ("--resume", "--seed", "3"),
        ("--overwrite", "--manifest", tmp_path / "rows.jsonl"),
    ):
        done = deid("anonymize", "--method", "pixelate", "--no-verify", *options, folder, disk)
        # A small file may fit where the earlier manifest lay.
        assert done.status in (1, 3) and "no space left" in done.err.lower() and litter(disk) == []
    assert found(read(disk / "one.png")) == [], "the earlier output still stands"


def test_memory_that_runs_out(deid, folder, tmp_path, monkeypatch):
    """While one file is written: that file fails."""
    write = ImageWriter.write

    def short(self, frame, changed):
        if frame.width > 600:
            raise MemoryError
        return write(self, frame, changed)

    monkeypatch.setattr(ImageWriter, "write", short)
    done = deid("anonymize", *QUICK, folder, tmp_path / "out")
    assert done.status == 1 and "MemoryError" in rows(tmp_path / "out")["sub/three.jpg"]["error"]
    assert sorted(tree(tmp_path / "out")) == ["none.png", "one.png"] and litter(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anonymize", "--method", "blur", "--angle", "90", "IN", "OUT"], ["--angle", "--method cleanir"]),
        (["anonymize", "--method", "solid", "--cells", "4", "IN", "OUT"], ["--cells", "--method pixelate"]),
        (["anonymize", "--method", "mosaic", "IN", "OUT"], ["mosaic", "pixelate"]),
        (["anonymize", "--method", "blur", "--blur", "7", "IN", "OUT"], ["--blur", "7"]),
        (["anonymize", "--method", "blur", "--blur", "nan", "IN", "OUT"], ["--blur", "nan"]),
        (["anonymize", "--method", "solid", "--color", "nope", "IN", "OUT"], ["--color", "nope"]),
        (["anonymize", "--method", "solid", "--mask-scale", "nan", "IN", "OUT"], ["--mask-scale", "nan"]),
        (["anonymize", "--method", "solid", "--feather", "inf", "IN", "OUT"], ["--feather", "inf"]),
        (["anonymize", "--method", "solid", "--threshold", "nan", "IN", "OUT"], ["--threshold", "nan"]),
        (["anonymize", "--method", "solid", "--detector", "nose", "IN", "OUT"], ["nose", "hog"]),
        (["anonymize", "--method", "solid", "--device", "tpu", "IN", "OUT"], ["--device tpu"]),
        (["anonymize", "--method", "solid", "--shard", "0/3", "IN", "OUT"], ["--shard 0/3"]),
        (["anonymize", "--method", "solid", "--shard", "4/3", "IN", "OUT"], ["--shard 4/3"]),
        (["anonymize", "--method", "solid", "--faces", "nothing", "IN", "OUT"], ["nothing", "check the name"]),
        (["anonymize", "--method", "solid", "--files-from", "nothing", "OUT"], ["nothing"]),
        (["anonymize", "--method", "solid", "--manifest", "IN/one.png", "IN", "OUT"], ["one.png"]),
        (["anonymize", "--method", "solid", "IN", "IN"], ["written over"]),
        (["anonymize", "--method", "solid", "IN", "-"], ["standard output"]),
        (["anonymize", "--method", "solid", "--resume", "IN/one.png", "-"], ["--manifest"]),
        (["anonymize", "--method", "solid", "nothing", "OUT"], ["nothing"]),
        (["anonymize", "--method", "solid", "OUT"], ["no input"]),
        (["anonymize", "--surprise", "IN", "OUT"], ["--surprise"]),
        (["anonymise"], ["anonymise"]),
        (["align", "--pack", "IN", "IN/one.png"], ["written over"]),
        (["align", "--only", "nothing", "IN", "OUT"], ["--only"]),
    ],
)
def test_usage_errors_touch_nothing(deid, folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    place = {"IN": str(folder), "OUT": str(tmp_path / "out"), "IN/one.png": str(folder / "one.png")}
    done = deid(*[place.get(a, a) for a in arguments])
    assert done.status == 2 and done.out == b"", done.err
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err and tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_usage_error_keeps_an_earlier_manifest(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, folder, tmp_path / "out").status == 0
    before = (tmp_path / "out" / "deid-manifest.jsonl").read_bytes()
    assert deid("anonymize", *QUICK, "--detector", "nose", folder, tmp_path / "out").status == 2
    assert (tmp_path / "out" / "deid-manifest.jsonl").read_bytes() == before


def test_a_damaged_preset_ends_the_run_before_it_begins(deid, folder, tiny_preset, tmp_path):
    """Otherwise every face would be covered, and nobody would know why."""
    shutil.copytree(tiny_preset.folder, tmp_path / "preset")
    (tmp_path / "preset" / "encoder.weights.h5").write_bytes(b"not these")
    done = deid("anonymize", "--preset", tmp_path / "preset", folder, tmp_path / "out")
    assert done.status == 3 and "damaged" in done.err and not (tmp_path / "out").exists()


def test_a_method_that_fails_covers(deid, folder, tiny_preset, tmp_path, monkeypatch):
    from deidcli.methods.cleanir import Cleanir

    monkeypatch.setattr(Cleanir, "apply", lambda self, crops: (_ for _ in ()).throw(RuntimeError("out of order")))
    done = deid("anonymize", "--preset", tiny_preset.folder, folder, tmp_path / "out")
    assert done.status == 0 and "0 faces replaced, 4 covered" in done.err
    assert found(read(tmp_path / "out" / "sub" / "three.jpg")) == []
    faces = rows(tmp_path / "out")["one.png"]["faces"]
    assert [(face["action"], face["method"]) for face in faces] == [("covered", "solid")]
    assert "out of order" in faces[0]["reason"]


def test_pipes_do_not_hold_the_batch_up(deid, folder, tmp_path):
    os.mkfifo(folder / "pipe.jpg")
    assert deid("anonymize", *QUICK, folder, tmp_path / "out").status == 0


@pytest.mark.parametrize("begin", [b"\xff\xd8\xff\xe0", b""], ids=["jpeg", "zeros"])
def test_a_file_larger_than_any_picture_fails_alone(deid, folder, tmp_path, begin):
    """Holes take no room on a disk: 20 GB of them took all memory, and the batch with it."""
    with (folder / "hole.jpg").open("wb") as file:
        file.write(begin)
        file.truncate(20 << 30)
    done = deid("anonymize", *QUICK, folder, tmp_path / "out")
    assert done.status == 1 and done.err.count("hole.jpg: too large for a picture: it holds more than 2048 MB") == 1
    assert (tmp_path / "out" / "one.png").exists() and not (tmp_path / "out" / "hole.jpg").exists()


def test_no_input_is_read_without_end(deid, tmp_path, monkeypatch):
    from deidcli import bounded

    monkeypatch.setattr(bounded, "PICTURE", 1000)
    done = deid("anonymize", *QUICK, "-", tmp_path / "out.png", stdin=bytes(1001))
    assert done.status == 3 and "too large" in done.err
    monkeypatch.setattr(bounded, "LIST", 100)
    done = deid("anonymize", *QUICK, "--files-from", "-", tmp_path / "out", stdin=b"name\n" * 21)
    assert done.status == 2 and "it holds more than" in done.err


@pytest.mark.parametrize("flag", ["--faces", "--quarantine", "--manifest", "--keep-people", "--config", "--seed-file"])
def test_an_empty_name_is_not_the_working_folder(deid, folder, tmp_path, flag, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    done = deid("anonymize", *QUICK, flag, "", folder, tmp_path / "out")
    assert done.status == 2 and flag in done.err and done.err.count("\n") == 1 and tree(tmp_path) == before


def test_a_list_without_an_end_is_no_list(deid, folder, tmp_path):
    done = deid("anonymize", *QUICK, "--faces", "/dev/zero", folder, tmp_path / "out")
    assert done.status == 2 and "--faces /dev/zero: it is no file" in done.err
