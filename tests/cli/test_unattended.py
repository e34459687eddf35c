"""Runs that nobody watches: what is new is done, time ends them cleanly, and inputs go only when all is safe."""

import json
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from deidcli.engine.files import LOCK
from deidcli.engine.run import Run
from deidcli.engine.unattended import parsed_time
from deidcli.errors import UsageError
from tests.conftest import found, read, rows, save, tree

CRON = Path(__file__).parents[2] / "examples" / "cron"
QUICK = ("--method", "solid", "--no-verify", "--incremental")
SURE = ("--method", "solid", "--on-no-face", "skip", "--incremental", "--remove-source")


def aged(folder, seconds=100):
    """As files are that were not changed a moment ago."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))
    return folder


def test_only_what_is_new_or_changed(deid, folder, portrait, tmp_path):
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, aged(folder), out).status == 0
    first = tree(out)
    shutil.copy(folder / "one.png", folder / "new.png")
    save(np.fliplr(portrait), folder / "one.png")
    done = deid("anonymize", *QUICK, folder, out)
    assert done.status == 0 and "2 of 4 files are done already" in done.err and "2 of 2 files written" in done.err
    second = tree(out)
    assert second["one.png"] != first["one.png"] and second["sub/three.jpg"] == first["sub/three.jpg"]
    assert found(read(out / "new.png")) == []


def test_same_size_and_time_are_not_read(deid, folder, tmp_path, monkeypatch):
    """One that only looks changed is read, found to be the same and not done again; a fresh one is always read."""
    from deidcli.engine import manifest

    out, asked = tmp_path / "out", []
    assert deid("anonymize", *QUICK, aged(folder), out).status == 0
    (folder / "none.png").touch()
    digest = manifest.digest
    monkeypatch.setattr(manifest, "digest", lambda path: asked.append(path.name) or digest(path))
    done = deid("anonymize", *QUICK, folder, out)
    assert "3 of 3 files are done already" in done.err and set(asked) == {"none.png"}
    assert deid("anonymize", "--method", "solid", "--no-verify", "--resume", folder, out).status == 0
    assert set(asked) == {"none.png", "one.png", "three.jpg"}, "--resume compares the bytes of all"


def test_a_change_within_the_clock_is_seen(deid, folder, nobody, tmp_path):
    """Same size, same time, other bytes: such a file has no stamp in the manifest, because it was just written."""
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, folder, out).status == 0
    assert rows(out)["none.png"]["stamp"] is None
    then, size = (folder / "none.png").stat().st_mtime_ns, (folder / "none.png").stat().st_size
    (folder / "none.png").write_bytes((folder / "none.png").read_bytes()[: size - 4] + b"abcd")
    os.utime(folder / "none.png", ns=(then, then))
    assert "2 of 3 files are done already" in deid("anonymize", *QUICK, folder, out).err


def test_a_missing_output_is_made_again(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, aged(folder), tmp_path / "out").status == 0
    (tmp_path / "out" / "one.png").unlink()
    assert "2 of 3 files are done already" in deid("anonymize", *QUICK, folder, tmp_path / "out").err
    assert (tmp_path / "out" / "one.png").exists()


def test_since(deid, folder, tmp_path):
    aged(folder, 10 * 86400)
    (folder / "one.png").touch()
    done = deid("anonymize", "--method", "solid", "--no-verify", "--since", "2d", folder, tmp_path / "out")
    assert done.status == 0 and sorted(tree(tmp_path / "out")) == ["one.png"] and "2 older" in done.err
    assert deid("anonymize", *QUICK, "--since", "soon", folder, tmp_path / "out").status == 2


def test_moments():
    assert parsed_time("2026-11-29T22:00+00:00") == 1795989600
    assert parsed_time("2h") == pytest.approx(time.time() - 7200, abs=5)
    for text in ("", "2 h", "yesterday", "99999999999d"):
        with pytest.raises(UsageError):
            parsed_time(text)


def test_time_ends_a_run_cleanly(deid, folder, tmp_path):
    """Nothing is begun when no time is left, the status is not 0, and the next run goes on."""
    out = tmp_path / "out"
    done = deid("anonymize", *QUICK, "--max-minutes", "0", folder, out)
    assert done.status == 1 and tree(out) == {} and "3 left for the next run" in done.err
    done = deid("anonymize", *QUICK, "--max-minutes", "60", folder, out)
    assert done.status == 0 and len(tree(out)) == 3 and "left for" not in done.err
    closed = deid("anonymize", "--method", "ksame-pixel", "--max-minutes", "5", folder, tmp_path / "no")
    assert closed.status == 2 and "closed set" in closed.err


def test_time_that_ends_in_the_middle(deid, folder, tmp_path, monkeypatch):
    from deidcli.engine.unattended import Deadline

    asked = iter([False, True, True])
    monkeypatch.setattr(Deadline, "over", property(lambda self: next(asked, True)))
    done = deid("anonymize", *QUICK, "--workers", "1", folder, tmp_path / "out")
    assert done.status == 1 and len(tree(tmp_path / "out")) == 1 and "2 left for the next run" in done.err
    monkeypatch.undo()
    monkeypatch.setenv("DEID_DETECTOR", "hog")
    done = deid("anonymize", *QUICK, folder, tmp_path / "out")
    assert done.status == 0 and "1 of 3 files are done already" in done.err


def test_quarantine(deid, folder, tmp_path):
    (folder / "sub" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "bad.gif").write_bytes(b"GIF89a")
    aside = tmp_path / "aside"
    done = deid("anonymize", *QUICK, "--quarantine", aside, folder, tmp_path / "out")
    assert done.status == 1 and tree(aside) == {"bad.gif": b"GIF89a", "sub/bad.jpg": b"\xff\xd8\xff"}
    assert (folder / "bad.gif").exists(), "inputs stay where they are"
    assert "2 failed (bad.gif, sub/bad.jpg)" in done.err
    assert deid("anonymize", *QUICK, "--quarantine", aside, folder, tmp_path / "out").status == 1, "once more"


@pytest.mark.parametrize("place", ["out", "out/aside", "in", "in/sub"])
def test_a_quarantine_among_other_files(deid, folder, tmp_path, place):
    done = deid("anonymize", *QUICK, "--quarantine", tmp_path / place, folder, tmp_path / "out")
    assert done.status == 2 and "--quarantine" in done.err and not (tmp_path / "out").exists()


def test_sources_are_removed_when_all_is_safe(deid, folder, tmp_path):
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "notes.txt").write_text("mine")
    out = tmp_path / "out"
    done = deid("anonymize", *SURE, "--quarantine", tmp_path / "aside", folder, out)
    assert done.status == 1 and sorted(tree(folder)) == ["none.png", "notes.txt"], "no face was found in that one"
    assert sorted(tree(out)) == ["one.png", "sub/three.jpg"] and sorted(tree(tmp_path / "aside")) == ["bad.jpg"]
    assert "2 sources removed" in done.err
    assert deid("anonymize", *SURE, folder, out).status == 0, "nothing is left to do"


@pytest.mark.parametrize(
    "weak",
    [("--no-verify",), ("--on-no-face", "copy"), ("--min-face", "20"), ("--threshold", "2"), ("--distance", "0.1"),
     ("--detect-every", "8"), ("--salvage",), ("--metadata", "all"), ("--unknown", "copy"),
     ("--method", "ksame-pixel", "--seed", "1")],
)  # fmt: skip
def test_nothing_weakens_what_removal_relies_on(deid, folder, tmp_path, weak):
    done = deid("anonymize", *SURE, *weak, folder, tmp_path / "out")
    assert done.status == 2 and "--remove-source does not go with" in done.err
    assert len(tree(folder)) == 3 and not (tmp_path / "out").exists()


def test_without_a_manifest_nothing_is_removed(deid, folder, tmp_path):
    done = deid("anonymize", *SURE[:4], "--remove-source", folder / "one.png", tmp_path / "one.png")
    assert done.status == 2 and (folder / "one.png").exists()
    done = deid("anonymize", *SURE, "--manifest", "/dev/null", folder, tmp_path / "out")
    assert done.status == 2 and len(tree(folder)) == 3


@pytest.mark.parametrize("what", ["output", "frames", "source", "link"])
def test_a_source_that_is_not_safe_stays(deid, folder, tmp_path, monkeypatch, what):
    """Its output was changed, cannot be read, or the source is another one by now: status 1, one line, and it stays."""
    out, remove = tmp_path / "out", Run._remove

    def spoilt(self, job, row):
        if job.name == "one.png":
            if what == "output":
                (out / "one.png").write_bytes(b"other")
            elif what == "frames":
                row = row | {"frames": 2}
            elif what == "source":
                save(np.zeros((50, 50, 3), np.uint8), folder / "one.png")
        remove(self, job, row)

    if what == "link":
        shutil.move(folder / "one.png", tmp_path / "elsewhere.png")
        (folder / "one.png").symlink_to(tmp_path / "elsewhere.png")
    monkeypatch.setattr(Run, "_remove", spoilt)
    done = deid("anonymize", *SURE, folder, out)
    assert done.status == 1 and "not removed" in done.err and (folder / "one.png").exists()
    assert not (folder / "sub" / "three.jpg").exists()


def test_killed_between_the_manifest_and_the_removal(deid, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert deid("anonymize", *SURE, "--workers", "1", folder, out).status == 130
    assert len(tree(folder)) == 3 and len(tree(out)) >= 1
    assert deid("anonymize", *SURE, folder, out).status == 0
    assert sorted(tree(folder)) == ["none.png"] and sorted(tree(out)) == ["one.png", "sub/three.jpg"]


def test_a_log_for_programs(deid, folder, tmp_path):
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    done = deid("anonymize", *QUICK, "--log-format", "json", folder, tmp_path / "out")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert done.status == 1 and all({"time", "event", "message"} <= set(line) for line in lines)
    assert {line["input"]: line["status"] for line in lines if line["event"] in ("file", "failed")} == {
        "bad.jpg": "failed", "none.png": "done", "one.png": "done", "sub/three.jpg": "done"}  # fmt: skip
    end = lines[-1]
    assert end["event"] == "end" and end["status"] == 1 and end["files"] == {"done": 3, "failed": 1}
    assert end["failed"] == ["bad.jpg"] and end["faces"]["replaced"] == 4


def test_waiting_for_another_run(deid, folder, tmp_path, monkeypatch):
    """Without --lock wait the second run says so and ends; with it, it goes on when the first one is over."""
    from deidcli.engine import run
    from deidcli.engine.output import OutputFolder

    other = OutputFolder(tmp_path / "out")
    other.lock()
    done = deid("anonymize", *QUICK, folder, tmp_path / "out")
    assert done.status == 3 and "another run writes" in done.err and tree(tmp_path / "out").keys() <= {LOCK}
    monkeypatch.setattr(run, "WAIT", 0.0)
    monkeypatch.setattr(run.time, "sleep", lambda _: other.close())
    done = deid("anonymize", *QUICK, "--lock", "wait", folder, tmp_path / "out")
    assert done.status == 0 and "waiting for it" in done.err and len(tree(tmp_path / "out")) == 3


def test_what_the_other_run_did_is_not_done_again(deid, folder, tmp_path, monkeypatch):
    """Nor do inputs that went meanwhile, as with --remove-source, count as failed."""
    from deidcli.engine import run
    from deidcli.engine.output import OutputFolder

    out, first = tmp_path / "out", []
    other = OutputFolder(out)
    other.lock()

    def meanwhile(_):
        other.close()
        first.append(deid("anonymize", *QUICK, folder, out).status)
        (folder / "one.png").unlink()

    monkeypatch.setattr(run.time, "sleep", meanwhile)
    done = deid("anonymize", *QUICK, "--lock", "wait", folder, out)
    assert first == [0] and done.status == 0 and "0 of 0 files written" in done.err and "2 as before" in done.err
    assert len((out / "deid-manifest.jsonl").read_text().splitlines()) == 3 and (out / "one.png").is_file()


def test_a_clock_that_jumps(deid, folder, tmp_path, monkeypatch):
    """Back by a year while the run goes on: nothing ends early, and what seems to come from the future is read."""
    now, jump = time.time_ns(), 365 * 86400 * 10**9
    aged(folder)
    monkeypatch.setattr(time, "time_ns", lambda: now - jump)
    monkeypatch.setattr(time, "time", lambda: (now - jump) / 1e9)
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, "--max-minutes", "60", folder, out).status == 0
    assert all(row["stamp"] is None for row in rows(out).values())
    assert "3 of 3 files are done already" in deid("anonymize", *QUICK, folder, out).err


def _commands():
    lines = (CRON / "crontab").read_text().splitlines()
    return [line.split(None, 5)[5] for line in lines if line and line[0] in "0123456789"]


def test_the_crontab(deid, folder, tmp_path):
    """Its command lines as they stand, with other folders: twice, then the weekly look."""
    place = {"/srv/footage": folder, "/srv/clean": tmp_path / "out", "/srv/quarantine": tmp_path / "aside"}
    nightly, weekly = ([place.get(word, word) for word in shlex.split(line)] for line in _commands())
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    for _ in range(2):
        done = deid(*nightly[1:])
        assert done.status == 1 and done.err.splitlines()[-1].count("bad.jpg") == 1, done.err
    assert len(tree(tmp_path / "out")) == 3 and list(tree(tmp_path / "aside")) == ["bad.jpg"]
    words = weekly[1 : weekly.index(">")]
    done = deid(*words, "--recogniser", "dlib")
    assert done.status == 1 and b'name="bad.jpg"' in done.out and b'failures="1"' in done.out


def test_the_timer(tmp_path):
    """systemd takes the units as they are, and both command lines are one and the same."""
    unit = (CRON / "deid.service").read_text()
    started = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    assert started.replace("--log-format json", "--progress none") == _commands()[0]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd")
    (tmp_path / "deid").write_text("#!/bin/sh\n")
    (tmp_path / "deid").chmod(0o755)
    (tmp_path / "deid.service").write_text(unit.replace("=deid ", f"={tmp_path}/deid "))
    shutil.copy(CRON / "deid.timer", tmp_path)
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "deid.service"), str(tmp_path / "deid.timer")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ours = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or line.startswith("deid.")]
    assert ours == [], checked.stderr
