"""`deid anonymize` from folder to folder: what is written, what is said, and with which exit status it ends."""

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from deidcli.engine.manifest import Earlier
from deidcli.engine.survey import MANIFEST
from tests.conftest import found, read, rows, save, tree

QUICK = ("--method", "solid", "--no-verify")


def pixels(data):
    import io

    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def covered(path):
    """Whether no face is found any more."""
    return found(read(path)) == []


def test_the_main_job(deid, folder, tiny_preset, tmp_path):
    """Every picture is there, its faces are replaced or covered and are somebody else's, and the manifest says so."""
    before, out = tree(folder), tmp_path / "out"
    done = deid(
        "anonymize", "--method", "cleanir", "--preset", tiny_preset.folder, "--angle", 180, "--seed", 1, folder, out
    )
    assert done.status == 0 and done.out == b"", done.err
    assert "3 of 3 files written" in done.err and str(out) in done.err
    assert tree(folder) == before, "an input was changed"
    written, said = tree(out), rows(out)
    assert sorted(written) == sorted(before) == sorted(said)
    for name, row in said.items():
        assert (row["status"], row["error"], row["method"]) == ("done", None, "cleanir")
        assert row["sha256"] == hashlib.sha256(before[name]).hexdigest()
        assert row["output_sha256"] == hashlib.sha256(written[name]).hexdigest()
        assert row["output"] == str(out / name) and row["options"]["angle"] == 180
        assert pixels(written[name]).shape == (row["size"][1], row["size"][0], 3)
    assert [len(said[name]["faces"]) for name in ("one.png", "sub/three.jpg", "none.png")] == [1, 3, 0]
    for face in said["sub/three.jpg"]["faces"]:
        assert face["action"] in ("replaced", "covered") and (face["distance"] or 1) > 0.6
    assert np.array_equal(pixels(written["none.png"]), pixels(before["none.png"]))


def test_secrets_are_not_written_down(deid, folder, tiny_preset, tmp_path):
    deid(
        "anonymize",
        "--preset",
        tiny_preset.folder,
        "--angle",
        90,
        "--seed",
        424242,
        "--no-verify",
        folder,
        tmp_path / "out",
    )
    assert "424242" not in (tmp_path / "out" / "deid-manifest.jsonl").read_text()


def test_seeds(deid, folder, tiny_preset, tmp_path):
    """The same seed gives the same files, whatever the batches and threads; no seed gives others each time."""
    runs = {"a": (5, 32, 2), "b": (5, 1, 1), "c": (6, 32, 2), "d": (None, 32, 2), "e": (None, 32, 2)}
    shown = {}
    for name, (seed, size, workers) in runs.items():
        extra = ("--seed", seed) if seed else ()
        options = (
            "--preset",
            tiny_preset.folder,
            "--angle",
            90,
            "--no-verify",
            "--batch-size",
            size,
            "--workers",
            workers,
        )
        assert deid("anonymize", *options, *extra, folder / "one.png", tmp_path / f"{name}.png").status == 0
        shown[name] = (tmp_path / f"{name}.png").read_bytes()
    assert shown["a"] == shown["b"]
    assert len(set(shown.values())) == 4


@pytest.mark.parametrize("method", ["solid", "pixelate", "blur"])
def test_classical_methods_hide_the_faces(deid, folder, tmp_path, method):
    assert deid("anonymize", "--method", method, folder, tmp_path / "out").status == 0
    if method == "solid":
        assert covered(tmp_path / "out" / "one.png") and covered(tmp_path / "out" / "sub" / "three.jpg")
    for name in ("one.png", "sub/three.jpg"):
        assert not np.array_equal(read(tmp_path / "out" / name), read(folder / name))


def test_one_file_to_a_name(deid, folder, tmp_path):
    done = deid("anonymize", *QUICK, folder / "one.png", tmp_path / "new.png")
    assert done.status == 0 and covered(tmp_path / "new.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "new.png"], "a single file needs no manifest"


def test_output_within_input(deid, folder):
    for again in ((), ("--overwrite",)):
        assert deid("anonymize", *QUICK, *again, folder, folder / "clean").status == 0
        assert sorted(tree(folder / "clean")) == ["none.png", "one.png", "sub/three.jpg"]


def test_streams(deid, folder):
    data = (folder / "one.png").read_bytes()
    done = deid("anonymize", *QUICK, "-", "-", stdin=data)
    assert done.status == 0
    assert np.array_equal(pixels(done.out).shape, pixels(data).shape) and found(pixels(done.out)) == []
    assert deid("anonymize", *QUICK, folder / "one.png", "-").out == done.out


def test_a_stream_that_fails_says_nothing_on_standard_output(deid):
    for data in (b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"):
        done = deid("anonymize", *QUICK, "-", "-", stdin=data)
        assert done.status == 3 and done.out == b"" and done.err.startswith("deid: -: ")


@pytest.mark.parametrize("null", [False, True])
def test_files_from(deid, folder, tmp_path, null):
    files = [folder / "one.png", folder / "none.png"]
    text = ("\0" if null else "\n").join(map(str, files)).encode()
    flags = ("--files-from", "-", *(["-0"] if null else []))
    assert deid("anonymize", *QUICK, *flags, tmp_path / "out", stdin=text).status == 0
    (tmp_path / "list").write_bytes(text)
    flags = ("--files-from", tmp_path / "list", *(["-0"] if null else []))
    assert deid("anonymize", *QUICK, *flags, tmp_path / "again").status == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "again") and sorted(tree(tmp_path / "out")) == [
        "none.png",
        "one.png",
    ]


def test_files_from_keep_their_folders(deid, folder, tmp_path, monkeypatch):
    """Two files of one name do not meet in the output; an absolute name, or one that leads out, is its last word."""
    (folder / "sub" / "one.png").write_bytes((folder / "one.png").read_bytes())
    monkeypatch.chdir(folder)
    names = ["./one.png", "sub/one.png", "../in/none.png" if folder.name == "in" else str(folder / "none.png")]
    done = deid("anonymize", *QUICK, "--files-from", "-", tmp_path / "out", stdin="\n".join(names).encode())
    assert done.status == 0, done.err
    assert sorted(rows(tmp_path / "out")) == sorted(tree(tmp_path / "out")) == ["none.png", "one.png", "sub/one.png"]
    names = [str(folder / "one.png"), str(folder / "sub" / "one.png")]
    done = deid("anonymize", *QUICK, "--files-from", "-", tmp_path / "no", stdin="\n".join(names).encode())
    assert done.status == 2 and "would both be written" in done.err


def test_a_second_run_forgets_nothing(deid, folder, tmp_path):
    """What exists is left alone, and the manifest still tells what it is."""
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, folder, out).status == 0
    before, known = tree(out), rows(out)
    assert deid("anonymize", *QUICK, folder, out).status == 3
    assert tree(out) == before
    earlier = Earlier.load(out / MANIFEST).rows
    assert earlier == known and {row["status"] for row in earlier.values()} == {"done"}
    assert "3 of 3 files are done already" in deid("anonymize", *QUICK, "--resume", folder, out).err
    save(np.zeros((9, 9, 3), np.uint8), tmp_path / "more" / "new.png")
    assert deid("anonymize", *QUICK, tmp_path / "more", out).status == 0
    assert sorted(rows(out)) == sorted([*known, "new.png"]), "another input into the same folder"


def test_an_earlier_output_of_what_fails_is_told(deid, folder, tmp_path):
    """It must not pass for what this run made: of another method, maybe."""
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, folder, out).status == 0
    (folder / "one.png").write_bytes(b"torn")
    done = deid("anonymize", *QUICK, "--overwrite", folder, out)
    row = rows(out)["one.png"]
    assert done.status == 1 and "the output of an earlier run is still there" in done.err and "one.png" in tree(out)
    assert row["status"] == "failed" and row["output"] == str(out / "one.png") and row["output_sha256"] is None
    (out / "one.png").unlink()
    deid("anonymize", *QUICK, "--overwrite", folder, out)
    assert rows(out)["one.png"]["output"] is None and "stands" not in rows(out)["one.png"]["error"]


@pytest.mark.parametrize(("mode", "status", "files"), [("copy", 0, 3), ("skip", 0, 2), ("fail", 1, 2)])
def test_on_no_face(deid, folder, tmp_path, mode, status, files):
    done = deid("anonymize", *QUICK, "--on-no-face", mode, folder, tmp_path / "out")
    assert done.status == status and len(tree(tmp_path / "out")) == files
    said = rows(tmp_path / "out")["none.png"]
    assert said["status"] == {"copy": "done", "skip": "skipped", "fail": "failed"}[mode]
    assert ("no face was found" in done.err) == (mode == "fail")


def test_existing_files_are_left_alone(deid, folder, tmp_path):
    out = tmp_path / "out"
    save(np.zeros((5, 5, 3), np.uint8), out / "one.png")
    kept = (out / "one.png").read_bytes()
    done = deid("anonymize", *QUICK, folder, out)
    assert done.status == 1 and "--overwrite" in done.err and (out / "one.png").read_bytes() == kept
    assert deid("anonymize", *QUICK, "--overwrite", folder, out).status == 0
    assert covered(out / "one.png") and (out / "one.png").read_bytes() != kept


def test_dry_run_writes_nothing(deid, folder, tmp_path):
    before = tree(tmp_path)
    done = deid("anonymize", *QUICK, "--dry-run", folder, tmp_path / "out")
    assert done.status == 0 and tree(tmp_path) == before and not (tmp_path / "out").exists()
    said = {row["input"]: row for row in map(json.loads, done.out.splitlines())}
    assert {name: len(row["faces"]) for name, row in said.items()} == {"one.png": 1, "none.png": 0, "sub/three.jpg": 3}
    assert said["one.png"]["output"] == str(tmp_path / "out" / "one.png")


def test_shards_make_the_whole(deid, folder, portrait, tmp_path):
    for number in range(4):
        save(portrait[number:], folder / f"more{number}.png")
    options = ("anonymize", "--method", "pixelate", "--no-verify", "--seed", 2)
    assert deid(*options, folder, tmp_path / "whole").status == 0
    for index in (1, 2, 3):
        assert deid(*options, "--shard", f"{index}/3", folder, tmp_path / "parts").status == 0
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    manifests = sorted(p.name for p in (tmp_path / "parts").glob("deid-manifest*"))
    assert manifests == [f"deid-manifest-{index}-of-3.jsonl" for index in (1, 2, 3)]


def test_min_face_and_mask_scale(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, "--min-face", 2000, folder / "one.png", tmp_path / "a.png").status == 0
    assert np.array_equal(read(tmp_path / "a.png"), read(folder / "one.png"))
    areas = []
    for scale in (0.6, 1.0, 1.5):
        deid("anonymize", *QUICK, "--mask-scale", scale, folder / "one.png", tmp_path / f"{scale}.png")
        areas.append(np.count_nonzero(read(tmp_path / f"{scale}.png") != read(folder / "one.png")))
    assert areas == sorted(areas) and areas[0] * 2 < areas[2]


def test_what_is_said(deid, folder, tmp_path):
    quiet = deid("anonymize", *QUICK, "-q", folder, tmp_path / "q")
    assert (quiet.status, quiet.out, quiet.err) == (0, b"", "")
    loud = deid("anonymize", *QUICK, "-v", folder, tmp_path / "v")
    assert "sub/three.jpg: done, 3 faces" in loud.err
    lines = deid("anonymize", *QUICK, "--progress", "json", folder, tmp_path / "j").err.splitlines()
    steps = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(step["done"], step["total"]) for step in steps] == [(1, 3), (2, 3), (3, 3)]


def test_names_of_any_kind(deid, portrait, tmp_path):
    names = ["with space.png", "Ünï ☃\u2028.png", "ä" * 125 + ".png", os.fsdecode(b"caf\xe9\xff.png"), "new\nline.png"]
    for name in names:
        save(portrait, tmp_path / "in" / name)
    out = tmp_path / "out"
    done = deid("anonymize", *QUICK, tmp_path / "in", out)
    assert done.status == 0, done.err
    assert sorted(tree(out)) == sorted(names) == sorted(rows(out))
    assert all(covered(out / name) for name in names)
    again = deid("anonymize", *QUICK, "--resume", tmp_path / "in", out)
    assert again.status == 0
    assert deid("anonymize", *QUICK, "--seed", 4, "--shard", "1/1", tmp_path / "in", tmp_path / "shard").status == 0
    assert sorted(tree(tmp_path / "shard")) == sorted(names)


def test_names_of_any_kind_have_their_own_axis(deid, portrait, tiny_preset, tmp_path):
    name = os.fsdecode(b"\xff.png")
    save(portrait, tmp_path / name)
    options = ("--preset", tiny_preset.folder, "--angle", 90, "--seed", 1, "--no-verify")
    assert deid("anonymize", *options, tmp_path / name, tmp_path / "out").status == 0
    manifest = tmp_path / "out" / "deid-manifest.jsonl"
    assert [face["action"] for face in rows(manifest)[name]["faces"]] == ["replaced"]


def test_pages_are_pictures(deid, portrait, nobody, tmp_path):
    """Each frame of a moving picture is searched; the file stays one that moves."""
    frames = [Image.fromarray(np.roll(portrait, shift, axis=1)) for shift in (0, 4, 8)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:], duration=80)
    assert (
        deid("anonymize", *QUICK, tmp_path / "moving.png", tmp_path / "out.png", "--manifest", tmp_path / "m").status
        == 0
    )
    row = rows(tmp_path / "m")["moving.png"]
    assert row["frames"] == 3 and [track["frames"] for track in row["tracks"]] == [[0, 2]]
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.n_frames == 3


def test_an_empty_folder_is_no_error(deid, tmp_path):
    (tmp_path / "in").mkdir()
    done = deid("anonymize", *QUICK, tmp_path / "in", tmp_path / "out")
    assert done.status == 0 and "0 of 0 files" in done.err
