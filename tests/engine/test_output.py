"""Where files go: nothing outside the output folder is opened for writing, one run at a time, no litter."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deidcli.engine import files
from deidcli.engine.files import LOCK, PART, digest
from deidcli.engine.manifest import DONE, Earlier, Manifest, Row
from deidcli.engine.output import OutputFolder
from deidcli.errors import DeidError, MediaError, UsageError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def written(folder, path, data=b"new", source=None):
    target = folder.target(path, source)
    target.open().write(data)
    target.commit()
    return path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("make", [lambda target: target.open(), lambda target: target.open_folder()])
def test_a_file_that_is_swept_before_it_is_locked_is_made_again(root, make, monkeypatch):
    """Another part of the run clears up, and cannot tell a file that is not locked yet from one that was left."""
    lock, taken = fcntl.flock, []

    def late(fd, how):
        monkeypatch.undo()
        taken.extend(names(root))
        other = os.open(root, files.FOLDER)
        files.remove_unheld(other, taken[0])
        os.close(other)
        lock(fd, how)

    target = OutputFolder(root).target(root / "a")
    monkeypatch.setattr(fcntl, "flock", late)
    make(target)
    assert names(root) == taken and taken[0].endswith(PART)
    if target.folder:
        (target.folder / "0.png").touch()
    target.commit()
    assert names(root)[0] == "a"


def test_threads_do_not_sweep_away_what_others_begin(root, monkeypatch):
    """While the folder is swept for the first time another thread begins a file, which is not locked yet."""
    folder, scandir = OutputFolder(root), os.scandir
    other = folder.target(root / "b")
    thread = threading.Thread(target=other.open)

    def slow(fd):
        monkeypatch.setattr(os, "scandir", scandir)
        thread.start()
        thread.join(0.2)
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", slow)
    monkeypatch.setattr(files, "ours", lambda file, name, fd: True)
    written(folder, root / "a")
    thread.join()
    other.commit()
    assert names(root) == ["a", "b"]


def test_a_temporary_file_is_private_random_and_exclusive(root):
    folder, seen = OutputFolder(root), set()
    for _ in range(3):
        target = folder.target(root / "a.jpg")
        target.open()
        [part] = [path for path in root.iterdir() if path.name.endswith(PART)]
        assert stat.S_IMODE(part.stat().st_mode) == 0o600 and part.stat().st_nlink == 1
        seen.add(part.name)
        target.discard()
    assert len(seen) == 3 and names(root) == []
    folder.close()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling"])
def test_what_lies_at_the_final_name_is_not_written_through(root, tmp_path, kind):
    original = tmp_path / "original.jpg"
    original.write_bytes(b"original")
    if kind == "hard link":
        os.link(original, root / "a.jpg")
    else:
        (root / "a.jpg").symlink_to(original if kind == "symlink" else tmp_path / "nowhere")
    with pytest.raises(MediaError, match="exists"):
        written(OutputFolder(root), root / "a.jpg")
    written(OutputFolder(root, overwrite=True), root / "a.jpg")
    assert original.read_bytes() == b"original" and (root / "a.jpg").read_bytes() == b"new"
    assert not (root / "a.jpg").is_symlink() and not (tmp_path / "nowhere").exists()


def test_a_folder_that_becomes_a_link_is_not_followed(root, tmp_path):
    """Put there after the run has begun: the names below the output folder are resolved from the opened folder."""
    folder, elsewhere = OutputFolder(root), tmp_path / "elsewhere"
    elsewhere.mkdir()
    written(folder, root / "sub" / "a.jpg")
    (root / "sub").rename(root / "old")
    (root / "sub").symlink_to(elsewhere)
    with pytest.raises(MediaError, match="leads out"):
        folder.target(root / "sub" / "b.jpg").open()
    assert names(elsewhere) == []


def test_links_within_the_output_folder_work(root):
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    written(OutputFolder(root), root / "link" / "a.jpg")
    assert (root / "real" / "a.jpg").read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(root):
    target = OutputFolder(root).target(root / "a.jpg")
    target.open().write(b"new")
    (root / "a.jpg").write_bytes(b"somebody's")
    with pytest.raises(MediaError, match="exists"):
        target.commit()
    assert (root / "a.jpg").read_bytes() == b"somebody's" and names(root) == ["a.jpg"]


@pytest.mark.parametrize("again", ["nothing", "another folder"])
def test_an_output_folder_that_is_moved_ends_the_writing(root, tmp_path, again):
    folder = OutputFolder(root)
    written(folder, root / "a.jpg")
    begun = folder.target(root / "b.jpg")
    begun.open().write(b"x")
    root.rename(tmp_path / "moved")
    if again == "another folder":
        root.mkdir()
    for step in (begun.commit, folder.target(root / "c.jpg").open, folder.target(root / "sub" / "c.jpg").open):
        with pytest.raises(MediaError, match="moved or replaced"):
            step()
    assert names(tmp_path / "moved") == ["a.jpg"] and (not root.exists() or names(root) == [])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_outputs_keep_the_permissions_of_inputs(root, tmp_path, mode):
    source = tmp_path / "in" / "private" / "a.jpg"
    source.parent.mkdir(parents=True)
    source.parent.chmod(0o750)
    source.write_bytes(b"x")
    source.chmod(mode)
    path = written(OutputFolder(root), root / "private" / "a.jpg", source=source)
    assert stat.S_IMODE(path.stat().st_mode) == mode and stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    frames = OutputFolder(root).target(root / "frames", source)
    (frames.open_folder() / "1.png").write_bytes(b"x")
    frames.commit()
    assert stat.S_IMODE((root / "frames" / "1.png").stat().st_mode) == mode & 0o666


def test_what_a_killed_run_left_is_cleared_and_what_is_in_use_is_not(root):
    (root / f".dead{PART}").write_bytes(b"half")
    (root / f".dead-folder{PART}").mkdir()
    (root / f".dead-folder{PART}" / "1.png").write_bytes(b"half")
    (root / f".link{PART}").symlink_to(root / "keep")
    (root / "keep").write_bytes(b"mine")
    other = OutputFolder(None).target(root / "other.jpg")
    other.open()
    written(OutputFolder(root), root / "a.jpg")
    assert len([name for name in names(root) if name.endswith(PART)]) == 1, "another process's is in use"
    other.discard()
    assert names(root) == ["a.jpg", "keep"]


def test_switching_between_a_file_and_frames_after_a_kill(root):
    """Either kind of remains is cleared; frames of an earlier run give way to the file, other things do not."""
    (root / f".half{PART}").mkdir()
    folder = OutputFolder(root, overwrite=True)
    frames = folder.target(root / "clip.mp4")
    (frames.open_folder() / "000001.png").write_bytes(b"x")
    frames.commit()
    written(folder, root / "clip.mp4")
    assert (root / "clip.mp4").read_bytes() == b"new"
    again = folder.target(root / "clip.mp4")
    (again.open_folder() / "000001.png").write_bytes(b"x")
    again.commit()
    assert names(root) == ["clip.mp4", "clip.mp4/000001.png"]
    (root / "clip.mp4" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(MediaError, match="other things"):
        written(folder, root / "clip.mp4")
    assert (root / "clip.mp4" / "notes.txt").read_bytes() == b"mine"


def test_one_run_at_a_time(root):
    first, second, part = OutputFolder(root), OutputFolder(root), OutputFolder(root)
    first.lock()
    for other, shared in ((second, False), (part, True)):
        with pytest.raises(DeidError, match=f"another run writes into .*process {os.getpid()}"):
            other.lock(shared)
    first.close()
    assert names(root) == []
    second.lock()
    assert second.stale == ""
    second.close()


def test_parts_of_one_run_share_the_folder(root):
    parts = [OutputFolder(root) for _ in range(3)]
    for part in parts:
        part.lock(shared=True)
    with pytest.raises(DeidError, match="another run"):
        OutputFolder(root).lock()
    for part in parts:
        part.close()
    assert names(root) == []


def test_a_stale_lock_is_recognised(root):
    """Of a process that was killed: it is said, and the run goes on."""
    script = (
        "import time; from pathlib import Path; from deidcli.engine.output import OutputFolder;"
        f"OutputFolder(Path({str(root)!r})).lock(); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    process.stdout.read(1)
    with pytest.raises(DeidError, match=f"process {process.pid}"):
        OutputFolder(root).lock()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(root) == [LOCK]
    folder = OutputFolder(root)
    folder.lock()
    assert f"process {process.pid}" in folder.stale
    folder.close()
    assert names(root) == []


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 9000, b'{"pid": 1e999, "host": 3}', b"[" * 4000]
)
def test_a_lock_file_may_hold_anything(root, said):
    (root / LOCK).write_bytes(said)
    folder = OutputFolder(root)
    folder.lock()
    folder.close()
    assert names(root) == []


@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder"])
def test_a_lock_is_not_written_through_a_link(root, tmp_path, kind):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    if kind == "hard link":
        os.link(mine, root / LOCK)
    elif kind == "symlink":
        (root / LOCK).symlink_to(mine)
    else:
        (root / LOCK).mkdir()
    folder = OutputFolder(root)
    try:
        folder.lock()
    except (DeidError, OSError):
        assert kind == "folder"
    folder.close()
    assert mine.read_bytes() == b"mine"


NOTES = {
    "text": b"my notes\n",
    "one line": b"no end",
    "json": b'{"a": 1}\n',
    "detections": b'{"input": "a.jpg", "frame": 0, "faces": []}\n',
    "row at the end": b"notes\n" + Row("a", None, DONE).as_json().encode() + b"\n",
    "binary": b"\x89PNG\r\n\x1a\n" + bytes(300),
}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("data", NOTES.values(), ids=NOTES)
def test_only_a_manifest_is_written_over(tmp_path, data, keep):
    path = tmp_path / "notes"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="not a manifest"):
        Manifest(path, keep)
    assert path.read_bytes() == data


@pytest.mark.parametrize("keep", [False, True])
def test_a_manifest_behind_a_link(tmp_path, keep):
    """A symbolic link is refused; of a hard link the other name keeps what it had."""
    row = Row("a.jpg", None, DONE).as_json().encode() + b"\n"
    (tmp_path / "other").write_bytes(row)
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(UsageError, match="is a link"):
        Manifest(tmp_path / "link", keep)
    os.link(tmp_path / "other", tmp_path / "hard")
    manifest = Manifest(tmp_path / "hard", keep)
    manifest.add(Row("b.jpg", None, DONE))
    manifest.close()
    assert (tmp_path / "other").read_bytes() == row
    assert list(Earlier.load(tmp_path / "hard").rows) == (["a.jpg"] if keep else []) + ["b.jpg"]


def test_two_runs_into_one_manifest(tmp_path):
    first = Manifest(tmp_path / "rows", keep=False)
    for keep in (False, True):
        with pytest.raises(DeidError, match="another run writes the manifest"):
            Manifest(tmp_path / "rows", keep)
    first.add(Row("a.jpg", None, DONE))
    first.close()
    Manifest(tmp_path / "rows", keep=True).close()
    assert json.loads((tmp_path / "rows").read_bytes())["input"] == "a.jpg"


def test_a_manifest_may_go_nowhere():
    for _ in range(2):
        manifest = Manifest(Path(os.devnull), keep=False)
        manifest.add(Row("a.jpg", None, DONE))
    manifest.close()


def test_the_digest_of_frames_knows_only_frames(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(name.encode())
    before = digest(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"beside")
    assert digest(tmp_path) == before
    (tmp_path / "2.png").write_bytes(b"other")
    assert digest(tmp_path) != before
