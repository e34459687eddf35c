"""A run that was stopped: nothing half done, and going on leads to the very files of a run that was not."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deidcli.engine.output import PART
from tests.conftest import rows, save, tree

QUICK = ("--method", "pixelate", "--no-verify", "--seed", "3")
FILES = 12


@pytest.fixture
def many(tmp_path, crowd):
    """Pictures that take a moment each."""
    for number in range(FILES):
        save(np.roll(crowd, 9 * number, axis=0), tmp_path / "in" / f"folder {number % 3}" / f"{number:02}.png")
    return tmp_path / "in"


def started(*arguments):
    command = [sys.executable, "-m", "deidcli", "anonymize", *map(str, arguments)]
    # A shell lets what it runs in the background ignore Ctrl-C, and children inherit that.
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_listen)


def _listen():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(process, out, kind, after=3):
    """Send a signal once `after` files are in their place; the exit status and what was said."""
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if len(list(out.rglob("*.png"))) >= after:
            process.send_signal(kind)
            break
        time.sleep(0.01)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def test_killed_and_resumed_equals_uninterrupted(deid, many, tiny_preset, tmp_path):
    """With the network, whose batches are other ones after the resumption, and with verification."""
    options = ("--method", "cleanir", "--preset", tiny_preset.folder, "--angle", "120", "--seed", "5")
    options = (*options, "--batch-size", "7", many)
    status, _ = stopped(started("--workers", "1", *options, tmp_path / "killed"), tmp_path / "killed", signal.SIGKILL)
    assert status == -signal.SIGKILL
    left = {name: data for name, data in tree(tmp_path / "killed").items() if not name.endswith(PART)}
    assert 3 <= len(left) < FILES
    assert deid("anonymize", *options, tmp_path / "whole").status == 0
    whole = tree(tmp_path / "whole")
    assert all(whole[name] == data for name, data in left.items()), "what stood under a final name was whole"
    done = deid("anonymize", "--resume", *options, tmp_path / "killed")
    assert done.status == 0 and f"of {FILES} files are done already" in done.err
    assert tree(tmp_path / "killed") == whole
    assert sorted(rows(tmp_path / "killed")) == sorted(whole)


def test_interrupted(deid, many, tmp_path):
    """Ctrl-C: status 130, one line, no litter, safe to resume."""
    out = tmp_path / "out"
    status, said = stopped(started("--workers", "1", *QUICK, many, out), out, signal.SIGINT)
    assert status == 130 and "--resume" in said and "Traceback" not in said, said
    assert [name for name in tree(out) if name.endswith(PART)] == []
    before = tree(out)
    assert 3 <= len(before) < FILES
    assert deid("anonymize", *QUICK, "--resume", many, out).status == 0
    after = tree(out)
    assert len(after) == FILES and all(after[name] == data for name, data in before.items())


def test_resume_does_only_what_is_missing(deid, many, tmp_path):
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, many, out).status == 0
    first = tree(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    gone, spoilt = sorted(times)[2], sorted(times)[5]
    gone.unlink()
    spoilt.write_bytes(b"torn by something else")
    done = deid("anonymize", *QUICK, "--resume", many, out)
    assert done.status == 0 and f"{FILES - 2} of {FILES} files are done already" in done.err and "2 of 2" in done.err
    assert tree(out) == first
    untouched = {path for path, then in times.items() if path.stat().st_mtime_ns == then}
    assert untouched == set(times) - {gone, spoilt}


def test_resume_after_a_torn_manifest(deid, many, tmp_path):
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, many, out).status == 0
    first, manifest = tree(out), out / "deid-manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    done = deid("anonymize", *QUICK, "--resume", many, out)
    assert done.status == 0 and f"{FILES - 1} of {FILES}" in done.err and tree(out) == first
    assert all(json.loads(line) for line in manifest.read_text().splitlines())


def test_other_settings_do_all_again(deid, folder, tmp_path):
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, folder, out).status == 0
    first = tree(out)
    done = deid("anonymize", *QUICK, "--cells", 3, "--resume", folder, out)
    assert done.status == 0 and "0 of 3 files are done already" in done.err
    assert tree(out)["one.png"] != first["one.png"]


def test_failed_files_are_tried_again(deid, folder, tmp_path):
    good = (folder / "one.png").read_bytes()
    (folder / "one.png").write_bytes(good[:500])
    assert deid("anonymize", *QUICK, folder, tmp_path / "out").status == 1
    (folder / "one.png").write_bytes(good)
    done = deid("anonymize", *QUICK, "--resume", folder, tmp_path / "out")
    assert done.status == 0 and "2 of 3 files are done already" in done.err
    assert len(tree(tmp_path / "out")) == 3


def test_an_input_that_became_unreadable_fails_alone(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, folder, tmp_path / "out").status == 0
    (folder / "one.png").unlink()
    (folder / "one.png").symlink_to("nowhere")
    done = deid("anonymize", *QUICK, "--resume", folder, tmp_path / "out")
    assert done.status in (1, 3) and "one.png" in done.err and "Traceback" not in done.err


def test_a_closed_pipe_ends_quietly(folder):
    """`deid detect in | head -0`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "deidcli", "detect", "-q", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(60) == 1 and "Traceback" not in said and "Exception ignored" not in said, said
    assert os.listdir(folder)
