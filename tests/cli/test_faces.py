"""`deid detect` and back: its list, edited or not, decides what `deid anonymize --faces` covers."""

import csv
import io
import json
import os

import numpy as np
import pytest

from deidcli.faces.recognisers.shipped import WEIGHTS
from deidcli.training.data import load_pack, load_textures
from tests.conftest import read, save, tree

QUICK = ("--method", "solid", "--color", "black", "--no-verify", "--seed", "1")


def table(done):
    return {row["input"]: row for row in map(json.loads, done.out.splitlines())}


def covers(path, box):
    left, top, right, bottom = (max(0, int(v)) for v in box)
    return not read(path)[top:bottom, left:right].any()


def test_json(deid, folder):
    done = deid("detect", folder)
    said = table(done)
    assert done.status == 0 and {name: len(row["faces"]) for name, row in said.items()} == {
        "one.png": 1, "sub/three.jpg": 3, "none.png": 0,
    }  # fmt: skip
    for row in said.values():
        assert row["size"] and row["frame"] == 0
        for face in row["faces"]:
            assert len(face["box"]) == 4 and np.shape(face["landmarks"]) == (68, 2) and face["score"] > 0


def test_csv(deid, folder):
    done = deid("detect", "--format", "csv", folder)
    lines = list(csv.DictReader(io.StringIO(done.out.decode())))
    assert done.status == 0 and sorted(line["input"] for line in lines) == [
        "none.png",
        "one.png",
        *["sub/three.jpg"] * 3,
    ]
    assert [line["left"] for line in lines if line["input"] == "none.png"] == [""]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_there_and_back(deid, folder, tmp_path, form):
    (tmp_path / "faces").write_bytes(deid("detect", "--format", form, folder).out)
    assert deid("anonymize", *QUICK, folder, tmp_path / "searched").status == 0
    done = deid("anonymize", *QUICK, "--faces", tmp_path / "faces", folder, tmp_path / "given")
    assert done.status == 0 and "4 faces replaced" in done.err
    searched, given = tree(tmp_path / "searched"), tree(tmp_path / "given")
    assert sorted(searched) == sorted(given)
    for name in searched:
        a, b = (read(tmp_path / kind / name).astype(int) for kind in ("searched", "given"))
        assert (np.abs(a - b) > 8).mean() < 1e-3


@pytest.mark.parametrize("form", ["json", "csv"])
def test_edited(deid, folder, tmp_path, form):
    """One box taken away, one drawn where nothing was found."""
    added = [10, 20, 60, 80]
    if form == "json":
        said = table(deid("detect", folder))
        gone = said["sub/three.jpg"]["faces"].pop(1)["box"]
        kept = [face["box"] for face in said["sub/three.jpg"]["faces"]]
        said["none.png"]["faces"].append({"box": added})
        text = "\n".join(map(json.dumps, said.values()))
    else:
        head, *lines = deid("detect", "--format", "csv", folder).out.decode().splitlines()
        crowd = [line for line in lines if "three" in line]
        boxes = [[float(v) for v in line.split(",")[2:6]] for line in crowd]
        gone, kept = boxes[1], [boxes[0], boxes[2]]
        lines.remove(crowd[1])
        lines = [line for line in lines if "none" not in line] + [f"none.png,0,{','.join(map(str, added))},"]
        text = "\n".join([head, *lines])
    (tmp_path / "faces").write_text(text)
    assert deid("anonymize", *QUICK, "--faces", tmp_path / "faces", folder, tmp_path / "out").status == 0
    assert covers(tmp_path / "out" / "none.png", added)
    assert all(covers_dark(tmp_path / "out" / "sub" / "three.jpg", box) for box in kept)
    rows, columns = slice(int(gone[1]), int(gone[3])), slice(int(gone[0]) + 40, int(gone[2]) - 40)
    before, after = (read(path / "sub" / "three.jpg")[rows, columns]
                     for path in (folder, tmp_path / "out"))  # fmt: skip
    assert np.abs(before.astype(int) - after).max() < 40, "the face that was taken off the list stays as it was"


def covers_dark(path, box):
    """As `covers`, for a JPEG, whose black is not quite black."""
    left, top, right, bottom = (max(0, int(v)) for v in box)
    return read(path)[top:bottom, left:right].max() < 40


def test_a_file_that_is_not_listed_is_refused(deid, folder, tmp_path):
    (tmp_path / "faces").write_bytes(deid("detect", folder / "one.png").out)
    done = deid("anonymize", *QUICK, "--faces", tmp_path / "faces", folder, tmp_path / "out")
    assert done.status == 1 and sorted(tree(tmp_path / "out")) == ["one.png"]


def test_a_file_that_could_not_be_searched_is_refused(deid, folder, tmp_path):
    """Its line says so; that it lists no faces does not mean that there are none."""
    good = (folder / "one.png").read_bytes()
    (folder / "one.png").write_bytes(good[:300])
    (tmp_path / "faces").write_bytes(deid("detect", folder).out)
    (folder / "one.png").write_bytes(good)
    done = deid("anonymize", *QUICK, "--faces", tmp_path / "faces", folder, tmp_path / "out")
    assert done.status == 1 and "one.png" not in tree(tmp_path / "out")


def test_an_edited_list_is_not_taken_for_done(deid, folder, tmp_path):
    """--resume must not leave out a file whose list has a face more now."""
    said = table(deid("detect", folder))
    out, faces = tmp_path / "out", tmp_path / "faces"
    for boxes in ([], [{"box": [10, 20, 60, 80]}]):
        said["none.png"]["faces"] = boxes
        faces.write_text("\n".join(map(json.dumps, said.values())))
        assert deid("anonymize", *QUICK, "--faces", faces, "--resume", folder, out).status == 0
    assert covers(out / "none.png", [10, 20, 60, 80])


@pytest.mark.parametrize("form", ["json", "csv"])
def test_names_of_any_kind(deid, portrait, tmp_path, form):
    name = os.fsdecode(b"caf\xe9 ") + 'ü☃, "quoted".png'
    save(portrait, tmp_path / "in" / name)
    done = deid("detect", "--format", form, tmp_path / "in")
    assert done.status == 0
    (tmp_path / "faces").write_bytes(done.out)
    done = deid("anonymize", *QUICK, "--faces", tmp_path / "faces", tmp_path / "in", tmp_path / "out")
    assert done.status == 0 and "1 faces replaced" in done.err


def test_detect_reads_a_stream(deid, folder):
    done = deid("detect", "-", stdin=(folder / "one.png").read_bytes())
    assert done.status == 0 and len(table(done)["-"]["faces"]) == 1


def test_crops_in_a_folder(deid, folder, tmp_path):
    done = deid("align", "--size", 48, folder, tmp_path / "crops")
    assert done.status == 0
    crops = tree(tmp_path / "crops")
    assert sorted(crops) == ["one.png.0.0.png", *(f"sub/three.jpg.0.{n}.png" for n in range(3))]
    assert all(read(tmp_path / "crops" / name).shape == (48, 48, 3) for name in crops)


@pytest.mark.parametrize("name", ["faces.npz", "faces"])
def test_crops_in_a_pack(deid, folder, tmp_path, name):
    done = deid("align", "--pack", "--size", 32, folder, tmp_path / name)
    assert done.status == 0 and "4 faces of 3 files" in done.err
    pack = load_pack(tmp_path / name)
    assert pack.crops.shape == (4, 32, 32, 3) and pack.descriptors.shape == (4, 128) and pack.crops.dtype == np.uint8
    assert sorted(pack.names) == ["one.png", *["sub/three.jpg"] * 3]
    again = deid("align", "--pack", "--largest", "--size", 32, folder, tmp_path / name)
    assert again.status == 0 and len(load_pack(tmp_path / name)) == 2


@pytest.mark.skipif(WEIGHTS.find() is None, reason="the weights of sface are missing")
def test_textures_in_a_pack(deid, folder, tmp_path):
    options = ("align", "--pack", "--frame", "canonical", "--size", 64, folder, tmp_path / "faces.npz")
    done = deid(*options)
    assert done.status == 0 and "4 faces of 3 files" in done.err
    pack = load_textures(tmp_path / "faces.npz")
    assert pack.textures.shape == (4, 64, 64, 3) and pack.sface.shape == (4, 128)
    assert pack.seen.mean() > 100 and np.ptp(pack.textures[0]) > 50
    assert "up to date" in deid(*options).err
    assert deid("align", "--frame", "canonical", folder, tmp_path / "crops").status == 2


def test_crops_of_some_people(deid, portrait, tmp_path):
    for person in ("Ada", "Ben"):
        save(portrait, tmp_path / "in" / person / "1.png")
    (tmp_path / "people.csv").write_text("person,split\nAda,train\nBen,val\n")
    options = ("align", "--pack", "--only", tmp_path / "people.csv", "--size", 16)
    assert deid(*options, "--split", "val", tmp_path / "in", tmp_path / "val.npz").status == 0
    assert list(load_pack(tmp_path / "val.npz").names) == ["Ben/1.png"]
    assert deid(*options, "--split", "test", tmp_path / "in", tmp_path / "test.npz").status == 3


def test_crops_of_long_names(deid, portrait, tmp_path):
    """A crop's name is longer than its picture's; where that is too long, one file fails in one line."""
    save(portrait, tmp_path / "in" / ("n" * 250 + ".png"))
    save(portrait, tmp_path / "in" / "short.png")
    done = deid("align", tmp_path / "in", tmp_path / "crops")
    assert done.status == 1 and "too long" in done.err and list(tree(tmp_path / "crops")) == ["short.png.0.0.png"]
