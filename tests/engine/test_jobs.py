"""Which file becomes which: trees are mirrored, nothing is written over, no name breaks it."""

import os
import sys

import pytest
from PIL import Image

from deidcli.engine import jobs as room
from deidcli.engine.jobs import check_apart, list_jobs, shard
from deidcli.engine.survey import MANIFEST, walk
from deidcli.errors import UsageError

TREE = ["a.jpg", "b/c.PNG", "b/d/e.webp", "b/d/Ünï cödé ☃.tif", "with space/ f .gif"]


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(
        path, path.suffix[1:].replace("jpg", "jpeg").replace("tif", "tiff").upper()[:4]
    )
    return path


@pytest.fixture
def tree(tmp_path):
    for name in TREE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path)
    return tmp_path / "in"


def names(inputs, output="out"):
    return [job.name for job in list_jobs([str(i) for i in inputs], str(output))]


def refused(*inputs, output):
    with pytest.raises(UsageError) as caught:
        list_jobs([str(i) for i in inputs], str(output))
    assert caught.value.hint
    return str(caught.value)


def test_one_folder_is_mirrored(tree, tmp_path):
    jobs = list_jobs([str(tree)], str(tmp_path / "out"))
    assert sorted(job.name for job in jobs) == sorted(TREE)
    for job in jobs:
        assert job.source == tree / job.name and job.target == tmp_path / "out" / job.name


def test_the_order_is_the_same_everywhere(tree):
    assert names([tree]) == names([tree]) and names([f"{tree}/"]) == names([tree])


def test_several_folders_keep_their_names(tree, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    write(other / "a.jpg")
    write(tmp_path / "single.jpg")
    listed = list_jobs([str(tree), str(other), str(tmp_path / "single.jpg")], str(tmp_path / "out"))
    by_name = {job.name: job.target for job in listed}
    assert by_name["in/a.jpg"] == tmp_path / "out" / "in" / "a.jpg"
    assert by_name["more/a.jpg"] == tmp_path / "out" / "more" / "a.jpg"
    assert by_name["single.jpg"] == tmp_path / "out" / "single.jpg"
    assert len(listed) == len(TREE) + 2


def test_one_file_goes_into_a_folder_or_to_a_name(tree, tmp_path):
    (tmp_path / "made.d").mkdir()
    for output, target in (("out", "out/a.jpg"), ("new.jpg", "new.jpg"), ("made.d", "made.d/a.jpg")):
        [job] = list_jobs([str(tree / "a.jpg")], str(tmp_path / output))
        assert job.target == tmp_path / target


def test_streams(tree):
    [job] = list_jobs(["-"], "-")
    assert (job.source, job.target, job.name) == (None, None, "-")
    [job] = list_jobs([str(tree / "a.jpg")], "-")
    assert job.target is None
    assert "cannot be combined" in refused("-", tree, output="out")
    assert "standard output" in refused(tree, output="-")


def test_missing_input(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing", output="out")
    assert "no such file" in refused("n" * 300, output="out")
    assert "no such file" in refused("nu\0ll", output="out")


def test_output_is_input(tree, tmp_path):
    assert "would be written over" in refused(tree, output=tree)
    assert "would be written over" in refused(tree / "a.jpg", output=tree / "a.jpg")
    assert "would be written over" in refused(tree / "a.jpg", output=tree)
    (tmp_path / "link").symlink_to(tree)
    assert "would be written over" in refused(tree, output=tmp_path / "link")
    assert "would be written over" in refused(tree, output=tree / "b" / "..")


def test_two_inputs_one_output(tree, tmp_path):
    twin = write(tmp_path / "other" / "a.jpg")
    said = refused(tree / "a.jpg", twin, output=tmp_path / "out")
    assert str(tree / "a.jpg") in said and str(twin) in said
    assert "would both be written" in refused(tree, tmp_path / "other" / ".." / "in", output=tmp_path / "out")


def test_two_outputs_that_are_one_through_a_link(tree, tmp_path):
    out = tmp_path / "out"
    (out / "more").mkdir(parents=True)
    (out / "in").symlink_to(out / "more")
    write(tmp_path / "more" / "a.jpg")
    assert "would both be written" in refused(tree, tmp_path / "more", output=out)


def test_names_that_differ_by_case_only(tree, tmp_path, monkeypatch):
    """Two files on a system that tells them apart; one where the system does not."""
    write(tree / "A.jpg")
    assert len(names([tree])) == len(TREE) + 1
    monkeypatch.setattr(room.os.path, "normcase", str.lower)
    assert "would both be written" in refused(tree, output=tmp_path / "out")


def test_output_within_input_is_not_read_again(tree):
    write(tree / "out" / "a.jpg")
    (tree / "way in").symlink_to(tree / "out")
    assert sorted(names([tree], tree / "out")) == sorted(TREE)


def test_input_within_output(tree):
    assert sorted(names([tree], tree.parent)) == sorted(TREE)


def test_an_output_does_not_leave_its_folder(tree, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "b").symlink_to(tmp_path / "elsewhere")
    assert "outside" in refused(tree, output=out)


def test_links_are_followed_and_loops_left_out(tree, tmp_path):
    write(tmp_path / "far" / "away.jpg")
    (tree / "far").symlink_to(tmp_path / "far")
    (tree / "b" / "up").symlink_to(tree)
    (tree / "b" / "self").symlink_to(tree / "b")
    assert sorted(names([tree])) == sorted([*TREE, "far/away.jpg"])


def test_a_link_to_itself_is_one_bad_file(tree):
    (tree / "loop.jpg").symlink_to(tree / "loop.jpg")
    (tree / "gone.jpg").symlink_to(tree / "nothing")
    assert sorted(names([tree])) == sorted([*TREE, "loop.jpg", "gone.jpg"])


def test_what_counts_as_a_picture(tree):
    """By content or by suffix; what the tool itself writes never does."""
    (tree / "note.txt").write_text("no picture")
    (tree / "note.jpg").write_text("no picture either, but it has to be reported")
    (tree / "empty.png").touch()
    write(tree / "plain.png").rename(tree / "plain")
    write(tree / "x.png").rename(tree / ".0123456789abcdef01234567.deid-part")
    (tree / MANIFEST).write_text("{}\n")
    assert sorted(names([tree])) == sorted([*TREE, "note.jpg", "empty.png", "plain"])


def test_pipes_are_left_alone(tree):
    os.mkfifo(tree / "pipe.jpg")
    os.mkfifo(tree / "pipe")
    assert sorted(names([tree])) == sorted(TREE)


def test_a_folder_that_cannot_be_listed_stands_for_itself(tree, monkeypatch):
    """It may hold faces: its absence from the output must be an error, not a silence."""
    listing = type(tree).iterdir

    def refuse(path):
        if path.name == "d":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(type(tree), "iterdir", refuse)
    listed = sorted(path.relative_to(tree).as_posix() for path in walk(tree))
    assert listed == sorted([name for name in TREE if "/d/" not in name] + ["b/d"])


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_names_of_any_bytes(tree):
    long, odd = "ä" * 125 + ".jpg", os.fsdecode(b"caf\xe9 \xff.jpg")
    for name in (long, odd, "-dash.jpg", "new\nline.jpg"):
        write(tree / name)
    found = list_jobs([str(tree)], "out")
    assert {long, odd, "-dash.jpg", "new\nline.jpg"} <= {job.name for job in found}
    assert sum(len(shard(found, i, 3)) for i in (1, 2, 3)) == len(found)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_partition(tmp_path, count):
    listed = [room.Job(tmp_path / f"{n}.jpg", None, f"folder/{n}.jpg") for n in range(200)]
    parts = [shard(listed, index, count) for index in range(1, count + 1)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in listed)
    assert max(map(len, parts)) < 2 * 200 / count + 1
    again = shard(listed[::-1][50:], 1, count)
    assert {j.name for j in again} == {j.name for j in parts[0]} & {j.name for j in listed[::-1][50:]}


def test_a_list_is_not_written_over_a_picture(tree, tmp_path):
    jobs = list_jobs([str(tree)], str(tmp_path / "out"))
    for path in (tree / "a.jpg", tmp_path / "out" / "a.jpg"):
        with pytest.raises(UsageError, match="would be written over"):
            check_apart(path, jobs)
    check_apart(tmp_path / "out" / "rows.jsonl", jobs)


@pytest.mark.parametrize("name", ["a" * 251 + ".mp4", "ä" * 125 + ".mkv", "short.mp4", "é" * 60 + "☃" * 42 + ".ts"])
def test_the_sheet_of_a_long_name(name, tmp_path):
    from deidcli.engine.jobs import sheet_path

    place = sheet_path(tmp_path / name)
    assert len(place.name.encode()) <= 255 and place.name.endswith(".tracks.png") and place.parent == tmp_path
    place.write_bytes(b"")
    other = sheet_path(tmp_path / (name[:-5] + "x" + name[-4:]))
    assert other != place
