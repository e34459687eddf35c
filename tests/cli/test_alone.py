"""A tool that is safe to leave alone: lists that do not fit, links, two runs, names, signals, closed streams."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import read, rows, save, tree

SOLID = ("--method", "solid", "--color", "black", "--no-verify")
HOUSE = Path(__file__).parents[2]


@pytest.fixture
def drawn(tmp_path):
    """Two pictures without a face and an animation of two frames; lists say where faces are."""
    shades = np.random.default_rng(7).integers(60, 200, (4, 70, 90, 3), dtype=np.uint8)
    for name, pixels in zip(("a.png", "b.png"), shades, strict=False):
        save(pixels, tmp_path / "in" / name)
    pages = [Image.fromarray(pixels) for pixels in shades[2:]]
    pages[0].save(tmp_path / "in" / "film.png", save_all=True, append_images=pages[1:], duration=100)
    return tmp_path / "in"


def listed(path, *entries):
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


BOX = {"box": [10, 10, 50, 60]}
EMPTY = [{"input": name, "faces": []} for name in ("a.png", "b.png", "film.png")]


def with_faces(drawn, tmp_path, **faces):
    """A list for all files of the folder; faces: those of some, by the file's stem."""
    return listed(tmp_path / "list", *({**row, "faces": faces.get(Path(row["input"]).stem, [])} for row in EMPTY))


def test_a_list_that_fits(deid, drawn, tmp_path):
    done = deid("anonymize", *SOLID, "--faces", with_faces(drawn, tmp_path, a=[BOX]), drawn, tmp_path / "out")
    assert done.status == 0 and "1 faces replaced, 0 covered; 2 without a face copied" in done.err, done.err
    assert not read(tmp_path / "out" / "a.png")[15:55, 15:45].any()


@pytest.mark.parametrize("box", [[5000, 5000, 5100, 5100], [-90, 0, -20, 50], [0, 120, 50, 150], [300, 0, 340, 60]])
def test_a_face_outside_of_its_picture(deid, drawn, tmp_path, box):
    faces = with_faces(drawn, tmp_path, a=[{"box": box}], b=[BOX])
    done = deid("anonymize", *SOLID, "--faces", faces, drawn, tmp_path / "out")
    assert done.status == 1 and sorted(tree(tmp_path / "out")) == ["b.png", "film.png"]
    assert done.err.count("deid: ") == 1 and "a.png, frame 0" in done.err and "outside" in done.err


@pytest.mark.parametrize("frame", [1, 2, 99])
def test_a_frame_that_does_not_exist(deid, drawn, tmp_path, frame):
    faces = listed(tmp_path / "list", *EMPTY, {"input": "b.png", "frame": frame, "faces": [BOX]})
    done = deid("anonymize", *SOLID, "--faces", faces, drawn, tmp_path / "out")
    assert done.status == 1 and f"b.png has no frame {frame}" in done.err and "b.png" not in tree(tmp_path / "out")
    faces = listed(tmp_path / "list", *EMPTY, {"input": "film.png", "frame": frame, "faces": [BOX]})
    done = deid("anonymize", *SOLID, "--faces", faces, drawn, tmp_path / "film")
    assert (done.status == 0) is (frame == 1) and ("film.png" in tree(tmp_path / "film")) is (frame == 1)


@pytest.mark.parametrize("name", ["c.png", "sub/a.png", "A.png", str(Path("/") / "a.png")])
def test_faces_of_a_file_that_is_no_input(deid, drawn, tmp_path, name):
    faces = listed(tmp_path / "list", *EMPTY, {"input": name, "faces": [BOX]})
    done = deid("anonymize", *SOLID, "--faces", faces, drawn, tmp_path / "out")
    assert done.status == 2 and name in done.err and str(faces) in done.err and not (tmp_path / "out").exists()


def test_the_list_of_another_file(deid, drawn, tmp_path):
    """By the sha256 that a manifest, and `deid detect`, has of each file; and by the size."""
    assert (
        deid("anonymize", *SOLID, "--faces", with_faces(drawn, tmp_path, a=[BOX]), drawn, tmp_path / "out").status == 0
    )
    manifest = tmp_path / "out" / "deid-manifest.jsonl"
    (tmp_path / "found").write_bytes(deid("detect", drawn).out)
    (drawn / "a.png").write_bytes((drawn / "b.png").read_bytes())
    for place in (manifest, tmp_path / "found"):
        done = deid("anonymize", *SOLID, "--faces", place, drawn, tmp_path / f"{place.name}-out")
        assert done.status == 1 and "a.png is not the file" in done.err, done.err
        assert sorted(tree(tmp_path / f"{place.name}-out")) == ["b.png", "film.png"]
    save(np.zeros((9, 9, 3), np.uint8), drawn / "a.png")
    faces = listed(tmp_path / "list", *EMPTY[1:], {**EMPTY[0], "size": [90, 70]})
    assert (
        "made of 90x70 pixels, and it has 9x9" in deid("anonymize", *SOLID, "--faces", faces, drawn, tmp_path / "n").err
    )


@pytest.mark.parametrize("option", ["--faces", "--config", "--manifest", "--files-from", "--seed-file"])
@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(40), b"[" * 9000, b'{"input": 3, "faces": 4}\n'])
def test_crafted_files_are_one_line(deid, drawn, tmp_path, option, data):
    path = tmp_path / "crafted"
    path.write_bytes(data)
    done = deid("anonymize", *SOLID, option, path, drawn, tmp_path / "out")
    if option != "--seed-file":  # takes any text
        assert done.status == 2 and path.read_bytes() == data
        last = done.err.strip().splitlines()[-1]
        assert (str(path) in last or option == "--files-from") and len(last) < 500, done.err
    assert "Traceback" not in done.err


def test_a_manifest_option_spares_other_files(deid, drawn, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for more in ((), ("--overwrite",), ("--resume",)):
        done = deid("anonymize", *SOLID, *more, "--manifest", tmp_path / "notes.txt", drawn, tmp_path / "out")
        assert done.status == 2 and "not a manifest" in done.err and (tmp_path / "notes.txt").read_text() == "mine"
    assert deid("anonymize", *SOLID, "--manifest", tmp_path / "rows", drawn, tmp_path / "out").status == 0
    assert (
        deid("anonymize", *SOLID, "--overwrite", "--manifest", tmp_path / "rows", drawn, tmp_path / "out").status == 0
    )


@pytest.mark.parametrize("inputs", [[""], ["", "a.png"], ["in", ""]])
def test_an_empty_name_is_not_the_working_folder(deid, drawn, tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    done = deid("anonymize", *SOLID, *inputs, "out")
    assert done.status == 2 and "''" in done.err and not (tmp_path / "out").exists()
    assert deid("anonymize", *SOLID, "in", "").status == 2 and sorted(os.listdir(tmp_path)) == ["in"]


def test_everything_in_the_folder_is_counted(deid, drawn, tmp_path):
    for name in ("a.json", "notes.txt", "c.xml", "scan.psd", "raw.cr2", "no suffix", "song.mp3", ".DS_Store"):
        (drawn / name).write_bytes(b"something else")
    (drawn / "._a.jpg").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    (drawn / "._a.png").write_bytes(b"")
    os.mkfifo(drawn / "pipe.jpg")
    faces = with_faces(drawn, tmp_path, a=[BOX])
    done = deid("anonymize", *SOLID, "-v", "--faces", faces, drawn, tmp_path / "out")
    assert done.status == 0, done.err
    last = done.err.strip().splitlines()[-1]
    assert "3 of 3 files written; 1 faces replaced, 0 covered; 2 without a face copied" in last
    for said in ("2 shadow (", "3 sidecar (", "1 sound (.mp3)", "1 special (.jpg)", "1 system (", "3 unknown ("):
        assert said in last, last
    assert "scan.psd: left out (unknown)" in done.err and sorted(tree(tmp_path / "out")) == [
        "a.png",
        "b.png",
        "film.png",
    ]
    done = deid("anonymize", *SOLID, "--unknown", "copy", "--faces", faces, drawn, tmp_path / "copied")
    assert done.status == 0 and "6 copied" in done.err and "2 shadow" in done.err
    assert (tmp_path / "copied" / "scan.psd").read_bytes() == b"something else"
    assert "._a.jpg" not in tree(tmp_path / "copied") and rows(tmp_path / "copied")["a.json"]["status"] == "copied"
    done = deid("anonymize", *SOLID, "--unknown", "fail", "--faces", faces, drawn, tmp_path / "failed")
    assert done.status == 1 and "3 failed" in done.err and "scan.psd" in done.err and "3 sidecar" in done.err


def test_a_sequence_does_not_hide_other_media(deid, drawn, tmp_path):
    frames = drawn / "frames"
    for number in range(3):
        save(read(drawn / "a.png"), frames / f"{number}.png")
    (frames / "labels.txt").write_text("1 2 3")
    done = deid("anonymize", *SOLID, "--sequence", "--min-face", 9999, drawn, tmp_path / "out")
    assert done.status == 0 and "4 of 4 files written" in done.err and "1 sidecar (.txt)" in done.err
    save(read(drawn / "b.png"), frames / "sub" / "poster.png")
    done = deid("anonymize", *SOLID, "--sequence", "--min-face", 9999, drawn, tmp_path / "again")
    assert done.status == 0 and "not taken as one sequence, since sub/poster.png lies in it too" in done.err
    assert "7 of 7 files written" in done.err and "frames/sub/poster.png" in tree(tmp_path / "again")


ODD = ["\x1b[31mred.png", "a\rb.png", "\u202egnp.exe.png", "bell\x07.png", "line\ndeid: all done.png"]


@pytest.mark.parametrize("name", ODD)
def test_names_cannot_act_on_a_terminal(deid, drawn, tmp_path, name):
    (drawn / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    (drawn / f"{name}.psd").write_bytes(b"x")
    done = deid("anonymize", *SOLID, "-v", "--min-face", 9999, "--progress", "plain", drawn, tmp_path / "out")
    assert done.status == 1 and not set(done.err) & set("\x1b\r\u202e\x07")
    assert (
        "\\x1b[31mred" in done.err or "\\r" in done.err or "\\u202e" in done.err or "\\x07" in done.err or "\n" in name
    )
    assert "\ndeid: all done" not in done.err, "no name begins a line of the log"
    assert name in rows(tmp_path / "out"), "the manifest has it as it is"
    said = deid("anonymize", *SOLID, drawn / f"{name}x", tmp_path / "o").err
    assert not set(said) & set("\x1b\r\u202e\x07") and "\ndeid: all done" not in said


def test_a_folder_here_is_no_preset(deid, drawn, tmp_path, monkeypatch):
    (tmp_path / "cleanir-64").mkdir()
    (tmp_path / "cleanir-64" / "config.json").write_text('{"method": "cleanir", "files": {"planted": "0"}}')
    monkeypatch.chdir(tmp_path)
    from deidcli.presets import load_preset

    assert load_preset("cleanir-64").folder.is_absolute() and "planted" not in load_preset("cleanir-64").config["files"]
    assert "planted" in load_preset("./cleanir-64").config["files"]


def test_a_seed_from_a_file_or_the_environment_is_written_nowhere(deid, drawn, tmp_path, monkeypatch):
    faces = with_faces(drawn, tmp_path, a=[BOX])
    (tmp_path / "seed").write_text("424242\n")
    said = {}
    flags = ("--method", "solid", "--no-verify", "--faces", faces, "-v", "--progress", "json")
    for name, more in (
        ("file", ("--seed-file", tmp_path / "seed")),
        ("flag", ("--seed", 424242)),
        ("other", ("--seed", 5)),
    ):
        done = deid("anonymize", *flags, *more, drawn, tmp_path / name)
        assert done.status == 0 and "424242" not in done.err
        said[name] = rows(tmp_path / name)["a.png"]["settings"]
    monkeypatch.setenv("DEID_SEED", "424242")
    assert deid("anonymize", *flags, drawn, tmp_path / "env").status == 0
    said["env"] = rows(tmp_path / "env")["a.png"]["settings"]
    assert said["file"] == said["flag"] == said["env"] != said["other"]
    for name in said:
        assert b"424242" not in (tmp_path / name / "deid-manifest.jsonl").read_bytes()
    (tmp_path / "seed").write_text("a long sentence that is a secret")
    done = deid("anonymize", *flags, "--seed-file", tmp_path / "seed", drawn, tmp_path / "text")
    assert done.status == 2 and "--seed" in done.err and "sentence" not in done.err, "the environment says one, too"
    monkeypatch.delenv("DEID_SEED")
    assert deid("anonymize", *flags, "--seed-file", tmp_path / "seed", drawn, tmp_path / "text").status == 0
    assert deid("anonymize", *flags, "--seed-file", tmp_path / "nothing", drawn, tmp_path / "x").status == 2


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command(*arguments, **options):
    """`deid ARGUMENTS` in a process of its own, that hears signals."""
    return subprocess.Popen(
        [sys.executable, "-m", "deidcli", *map(str, arguments)], cwd=HOUSE, text=True, stderr=subprocess.PIPE,
        preexec_fn=lambda: [signal.signal(kind, signal.SIG_DFL) for kind in STOPS], **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "after"), [*((kind, after) for kind in STOPS[:2] for after in (0.08, 0.2, 0.5, 1.0)), (STOPS[2], 1.0)]
)
def test_a_signal_at_any_moment(drawn, tmp_path, kind, after):
    """During the imports, too: one line, the status of the signal, and nothing half done."""
    for number in range(40):
        save(read(drawn / "a.png"), drawn / f"{number}.png")
    process = command("anonymize", *SOLID, "--workers", 1, drawn, tmp_path / "out")
    time.sleep(after)
    process.send_signal(kind)
    said = process.communicate(timeout=60)[1]
    # Before the first line of ours ran, the interpreter speaks for itself.
    ours = any(f"/deidcli/{place}" in said for place in ("__main__", "cli", "engine", "api", "faces", "media"))
    assert process.returncode in (0, 128 + kind, -kind) or not ours, said
    assert "Traceback" not in said or not ours, said
    if process.returncode == 128 + kind:
        assert said.count("run it again with --resume") == 1, said
    left = [path.name for path in (tmp_path / "out").rglob("*")] if (tmp_path / "out").exists() else []
    assert not [name for name in left if name.endswith((".deid-part", ".deid-lock"))], left


STUCK = """
import os, sys, threading, time
sys.argv = "deid anonymize --method solid --no-verify --detector hog --workers 2".split() + [{source!r}, {target!r}]
from deidcli import __main__ as main
from deidcli.engine import find, local
local.GRACE = 0.3
main.PATIENCE = 3.0
def stuck(*_):
    print("stuck", flush=True)
    {wait}
find.open_reader = stuck
main.main()
"""


@pytest.mark.parametrize("wait", ["threading.Event().wait()", "time.sleep(600)"])
def test_ctrl_c_during_a_file_that_is_stuck(drawn, tmp_path, wait):
    code = STUCK.format(source=str(drawn), target=str(tmp_path / "out"), wait=wait)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=HOUSE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline().startswith("stuck")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said and time.monotonic() - began < 30
    assert list((tmp_path / "out").glob(".*")) == [] or not (tmp_path / "out").exists()


def test_two_runs_at_once(deid, drawn, tmp_path):
    """One works, and the other says so, with status 3 and without a trace."""
    code = STUCK.format(source=str(drawn), target=str(tmp_path / "out"), wait="threading.Event().wait(60)")
    (tmp_path / "out").mkdir()
    first = subprocess.Popen([sys.executable, "-c", code], cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.stdout.readline()
    try:
        for more in ((), ("--resume",), ("--overwrite",), ("--shard", "1/2")):
            done = deid("anonymize", *SOLID, *more, drawn, tmp_path / "out")
            assert done.status == 3 and f"another run writes into {tmp_path / 'out'} (process {first.pid}" in done.err
            assert tree(tmp_path / "out").keys() <= {".deid-lock"}
    finally:
        first.kill()
        first.wait()
    done = deid("anonymize", *SOLID, "--min-face", 9999, drawn, tmp_path / "out")
    assert done.status == 0 and f"process {first.pid}" in done.err and len(tree(tmp_path / "out")) == 3


@pytest.mark.parametrize("closed", ["2>&-", "2>&- <&-", "2>/dev/full"])
def test_a_standard_error_that_is_closed(drawn, tmp_path, closed):
    """The next file that is opened must not get its number: messages would go into an output."""
    (drawn / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    faces = with_faces(drawn, tmp_path, a=[BOX])
    line = f'"$0" -m deidcli anonymize --method solid --no-verify -v --faces "$1" "$2" "$3" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, faces, drawn, tmp_path / "out"], cwd=HOUSE, capture_output=True
    )
    assert done.returncode == 1 and done.stdout == b"", done
    said = (tmp_path / "out" / "deid-manifest.jsonl").read_text()
    assert sorted(tree(tmp_path / "out")) == ["a.png", "b.png", "film.png"], said
    assert (tmp_path / "out" / "b.png").read_bytes().startswith(b"\x89PNG") and len(rows(tmp_path / "out")) == 4


def test_a_standard_output_that_is_closed(drawn, tmp_path):
    faces = listed(tmp_path / "list", EMPTY[0])
    line = '"$0" -m deidcli anonymize --method solid --no-verify --faces "$1" "$2" - >&-'
    done = subprocess.run(["sh", "-c", line, sys.executable, faces, drawn / "a.png"], cwd=HOUSE, capture_output=True)
    assert done.returncode != 0 and b"Traceback" not in done.stderr, done


def test_outputs_have_the_permissions_of_inputs(deid, drawn, tmp_path):
    modes = {"a.png": 0o600, "b.png": 0o444, "film.png": 0o664}
    for name, mode in modes.items():
        (drawn / name).chmod(mode)
    assert (
        deid("anonymize", *SOLID, "--faces", with_faces(drawn, tmp_path, a=[BOX]), drawn, tmp_path / "out").status == 0
    )
    assert {name: (tmp_path / "out" / name).stat().st_mode & 0o777 for name in modes} == modes


def test_links_in_the_output_are_not_written_through(deid, drawn, tmp_path):
    """At the final name, whatever kind it is, with --overwrite; the input that it leads to stays as it was."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(drawn / "a.png")
    os.link(drawn / "b.png", out / "b.png")
    before = tree(drawn)
    faces = with_faces(drawn, tmp_path, a=[BOX], b=[BOX])
    done = deid("anonymize", *SOLID, "--overwrite", "--faces", faces, drawn, out)
    assert done.status in (0, 2) and tree(drawn) == before
    (out / "a.png").unlink(missing_ok=True)
    (out / "a.png").symlink_to(tmp_path / "elsewhere")
    done = deid("anonymize", *SOLID, "--overwrite", "--faces", faces, drawn, out)
    assert tree(drawn) == before and not (tmp_path / "elsewhere").exists()
    if done.status == 0:
        assert not (out / "a.png").is_symlink() and not read(out / "b.png")[15:55, 15:45].any()
