"""What people and other programs write: read as what it says, or refused in one line with the file's name."""

import json

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deidcli.cli.options import Command, config, method_flags, searching, seed, stacked
from deidcli.engine.face_list import FARTHEST, FaceList, ListedFile, load_faces, misplaced
from deidcli.engine.manifest import Earlier, Manifest
from deidcli.engine.records import DEEPEST, LONGEST
from deidcli.engine.settings import parse_shard
from deidcli.errors import MediaError, UsageError
from deidcli.values import Box, Face, Frame

NUMBERS = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(), st.just(10**40), st.just(-1), st.booleans(),
    st.none(), st.text(max_size=3),
)  # fmt: skip
VALUES = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(["box", "track", "frame", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FACES = st.one_of(
    VALUES,
    st.lists(st.fixed_dictionaries({}, optional={
        "box": st.one_of(VALUES, st.lists(NUMBERS, min_size=4, max_size=4)), "score": NUMBERS, "track": NUMBERS,
        "landmarks": st.one_of(VALUES, st.just([[1, 2]] * 68), st.just([[1, "2"]] * 68)), "frame": NUMBERS,
    }), max_size=2),
)  # fmt: skip
TRACKS = st.one_of(
    VALUES,
    st.lists(st.fixed_dictionaries({}, optional={
        "runs": st.one_of(VALUES, st.lists(st.lists(NUMBERS, min_size=2, max_size=4), max_size=2)),
        "boxes": st.one_of(VALUES, st.lists(st.lists(NUMBERS, min_size=5, max_size=5), max_size=2)),
    }), max_size=2),
)  # fmt: skip
ROWS = st.fixed_dictionaries({}, optional={
    "input": st.one_of(st.just("a.jpg"), VALUES), "frame": NUMBERS, "faces": FACES, "tracks": TRACKS, "size": VALUES,
    "sha256": VALUES, "status": VALUES, "error": VALUES, "settings": VALUES, "output": VALUES,
})  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(["", "1", "-1", "nan", "inf", "1e999", "a.jpg", '"', "²", "\0", "9" * 5000]), st.text(max_size=4)
)
LINES = st.one_of(
    st.binary(max_size=60),
    ROWS.map(lambda row: json.dumps(row).encode()),
    st.lists(CELLS, min_size=1, max_size=8).map(lambda cells: ",".join(cells).encode("utf-8", "replace")),
    st.sampled_from(
        [b"[" * 3000, b'{"input":' * 3000, b"9" * 6000, b'{"input": "a", "faces": [{"box": [1,2,3,1e999]}]}']
    ),
)
HEADS = st.sampled_from([b"", b"\xef\xbb\xbf", b"input,frame,left,top,right,bottom,score\n"])
FILES = st.tuples(HEADS, st.lists(LINES, max_size=4)).map(lambda parts: parts[0] + b"\n".join(parts[1]))


def is_one_line(error, path):
    said = str(error.value)
    return str(path) in said and "\n" not in said and len(said) < 600


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_any_list_of_faces_is_read_or_refused(tmp_path, data):
    path = tmp_path / "list"
    path.write_bytes(data)
    try:
        known = load_faces(path)
    except UsageError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600
        return
    for face in (face for faces in known.frames("a.jpg").values() for face in faces):
        sides = (face.box.left, face.box.top, face.box.right, face.box.bottom)
        assert all(-FARTHEST <= side <= FARTHEST for side in sides) and face.box.width > 0 < face.box.height
        assert np.isfinite(face.score) and isinstance(face.track, int)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_any_manifest_is_read_or_refused(tmp_path, data):
    path = tmp_path / "rows"
    path.write_bytes(data)
    for row in Earlier.load(path).rows.values():
        assert isinstance(row["input"], str)
        assert not Earlier.load(path).has(row["input"], tmp_path / "nothing", None, "5e77")
    try:
        Manifest(path, keep=True).close()
    except UsageError as error:
        assert str(path) in str(error) and path.read_bytes() == data


@pytest.mark.parametrize("text", [
    '{"input": "a.jpg", "faces": [' + '{"box": [1, 2, 3, 4], "x": ' + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1) + "}]}",
    '{"input": "a.jpg", "frame": true, "faces": []}',
    '{"input": "a.jpg", "frame": 1.5, "faces": []}',
    '{"input": "a.jpg", "frame": -1, "faces": []}',
    '{"input": "a.jpg", "frame": 99999999999, "faces": []}',
    '{"input": "", "faces": []}',
    '{"input": "a\\u0000", "faces": []}',
    '{"input": "\\ud800", "faces": []}',
    '{"input": "a.jpg", "faces": {}}',
    '{"input": "a.jpg", "faces": [[1, 2, 3, 4]]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, "3", 4]}]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, true, 4]}]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "score": "high"}]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "track": 1.0}]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "track": -4}]}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4]}], "faces": []}',
    '{"input": "a.jpg", "faces": [{"box": [1, 2, 3, 4], "box": [5, 6, 7, 8]}]}',
    '{"input": "a.jpg", "faces": [], "sha256": 5}',
    '{"input": "a.jpg", "faces": [], "size": [0, 3]}',
    '{"input": "a.jpg", "faces": [], "sha256": "1"}\n{"input": "a.jpg", "faces": [], "sha256": "2"}',
    '{"input": "a.jpg", "status": "done", "faces": [{"frame": 0}]}',
    '{"input": "a.jpg", "status": "done"}',
    '{"input": "a.jpg", "status": "done", "faces": null, "tracks": null}',
    '{"input": "a.jpg", "faces": [' + ", ".join(['{"box": [1, 2, 3, 4]}'] * 5001) + "]}",
    '{"input": "a.jpg", "status": "done", "tracks": [{"runs": [[0, 1]], "boxes": []}]}',
    '{"input": "a.jpg", "status": "done", "tracks": [{"runs": [[5, 1]], "boxes": [[0, 1, 2, 3, 4]]}]}',
    '{"input": "a.jpg", "status": "done", "tracks": [{"runs": [[0, 9999999]], "boxes": [[0, 1, 2, 3, 4]]}]}',
    '{"input": "a.jpg", "status": "done", "tracks": [{"runs": 3, "boxes": [[0, 1, 2, 3, 4]]}]}',
    "input,frame,left,top,right,bottom,score\na.jpg,²,1,2,3,4,1",
    "input,input,frame,left,top,right,bottom,score\na.jpg,b.jpg,0,1,2,3,4,1",
    "input,frame,left,top,right,bottom,score\na.jpg,0,1,2,3,4,inf",
    "input,frame,left,top,right,bottom,score\na.jpg,0,1,2,3,4,1,7",
    "input,frame,left,top,right,bottom,score\n" + "x" * 200_000 + ",0,1,2,3,4,1",
])  # fmt: skip
def test_crafted_lists_are_refused(tmp_path, text):
    path = tmp_path / "list"
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(UsageError) as error:
        load_faces(path)
    assert is_one_line(error, path), error.value


@pytest.mark.parametrize("head", [b"", b"input,frame,left,top,right,bottom,score\n"], ids=["json", "csv"])
def test_a_line_without_end_is_refused_before_it_is_read(tmp_path, head):
    path = tmp_path / "list"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(LONGEST + 100)
    with pytest.raises(UsageError, match="longer than") as error:
        load_faces(path)
    assert is_one_line(error, path)


FRAME = Frame(np.zeros((100, 200, 3), np.uint8))
POINTS = np.full((68, 2), 50, np.float32)


@pytest.mark.parametrize(("face", "said"), [
    (Face(Box(5000, 5000, 5100, 5100)), "outside"),
    (Face(Box(-50, 10, -20, 40)), "outside"),
    (Face(Box(10, 150, 60, 190)), "outside"),
    (Face(Box(300, 10, 340, 60)), "outside"),
    (Face(Box(120, 20, 180, 90), landmarks=POINTS), "lie elsewhere"),
    (Face(Box(-30, -30, 30, 30)), ""),
    (Face(Box(150, 60, 260, 190)), ""),
    (Face(Box(10, 10, 90, 90), landmarks=POINTS), ""),
    (Face(Box(-300, -300, 400, 400)), ""),
    (Face(Box(-9e4, -9e4, 9e4, 9e4)), "times as large"),
])  # fmt: skip
def test_where_a_given_face_may_lie(face, said):
    assert said in misplaced(face, FRAME) and bool(said) == bool(misplaced(face, FRAME))


def test_a_list_speaks_of_frames_that_are_there():
    known = FaceList({"a": ListedFile({0: [Face(Box(0, 0, 9, 9))], 4: [Face(Box(0, 0, 9, 9))], 7: []})})
    known.check_end("a", 5)
    known.check_end("b", 1)
    for frames in (1, 4):
        with pytest.raises(MediaError, match="a has no frame 4"):
            known.check_end("a", frames)


def test_a_list_speaks_of_inputs_of_the_run():
    known = FaceList({"a": ListedFile({0: [Face(Box(0, 0, 9, 9))]}), "none": ListedFile({0: []})})
    known.check_files({"a", "b"})
    with pytest.raises(UsageError, match="faces of a, which this run has no input for"):
        known.check_files({"b"})


def test_a_list_is_of_this_very_file():
    known = FaceList({"a": ListedFile({}, "5e77", {0: (200, 100), 1: (10, 10)})})
    known.check_frame("a", FRAME, "5e77")
    with pytest.raises(MediaError, match="not the file"):
        known.check_frame("a", FRAME, "77e5")
    with pytest.raises(MediaError, match="10x10 pixels, and it has 200x100"):
        known.check_frame("a", Frame(FRAME.pixels, 1), "5e77")


@pytest.mark.parametrize(
    "text", ["", "1", "0/1", "2/1", "1/0", "²/³", "1/1/1", "-1/2", "1/" + "9" * 5000, "a/b", "1/ 2", "1/200000"]
)
def test_shards_that_are_none(text):
    with pytest.raises(UsageError, match="not a part") as error:
        parse_shard(text)
    assert len(str(error.value)) < 200


def test_shards():
    assert parse_shard("1/1") == (1, 1) and parse_shard("3/16") == (3, 16)


@click.command(cls=Command)
@stacked(method_flags, searching, seed, click.option("--flag", is_flag=True), click.option("--name"), config)
def options(**given):
    click.echo(json.dumps({key: value for key, value in given.items() if value is not None}))


def configured(tmp_path, data):
    path = tmp_path / "deid.toml"
    path.write_bytes(data)
    return path, CliRunner().invoke(options, ["--config", str(path)])


TOML = st.one_of(
    st.binary(max_size=40),
    st.tuples(
        st.sampled_from([
            "angle", "cells", "min_face", "upsample", "seed", "flag", "name", "config", "color", "x", "threshold",
        ]),
        st.one_of(
            st.sampled_from([
                "nan", "inf", "-inf", "1e400", "true", "[]", "[1]", "{}", "1979-05-27", '"²"', '"\\u0000"', "0x10",
            ]),
            st.integers().map(str), st.floats().map(str), st.just("[" * 2000 + "]" * 2000),
        ),
    ).map(lambda pair: f"{pair[0]} = {pair[1]}".encode()),
)  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TOML)
def test_any_file_of_options_is_read_or_refused(tmp_path, data):
    path, done = configured(tmp_path, data)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, UsageError), done.exception
        assert str(path) in str(done.exception) and len(str(done.exception)) < 600


@pytest.mark.parametrize(("data", "said"), [
    (b"cells = 1.5", "cells"), (b"cells = true", "cells"), (b"min-face = 1e400", "min_face"),
    (b"threshold = nan", "threshold"),
    (b"flag = 3", "flag"), (b"flag = 'yes'", "flag"), (b"cells = [3]", "cells"), (b"name = {a = 1}", "name"),
    (b"config = 'other.toml'", "config"), (b"angel = 3", "angel"), (b"cells", "Expected"), (b"\xff\xfe", "deid.toml"),
    (b"name = '\\u0000'\nname = 3", "deid.toml"), (b"x = " + b"[" * 5000, "deep"), (b"#" * (1 << 21), "longer"),
])  # fmt: skip
def test_crafted_options_are_refused(tmp_path, data, said):
    path, done = configured(tmp_path, data)
    assert isinstance(done.exception, UsageError) and str(path) in str(done.exception) and said in str(done.exception)


def test_good_options(tmp_path):
    _, done = configured(tmp_path, b"cells = 4\nmin-face = 20\nflag = true\nseed = 7\nthreshold = 0.25\nname = 'x'")
    assert json.loads(done.output) == {
        "cells": 4, "min_face": 20, "flag": True, "seed": 7, "threshold": 0.25, "rotations": "0", "name": "x",
    }  # fmt: skip


def test_a_seed_without_end_is_refused(tmp_path):
    done = CliRunner().invoke(options, ["--seed-file", "/dev/zero"])
    assert isinstance(done.exception, UsageError) and "--seed-file /dev/zero: it holds more than 1 MB" in str(
        done.exception
    )


@pytest.mark.parametrize("value", ["12x", "1.57", "\u00b2"], ids=["letter", "point", "power"])
def test_a_seed_is_in_no_error(tmp_path, value):
    done = CliRunner().invoke(options, ["--seed", value])
    assert done.exit_code == 2 and value not in done.output
    done = CliRunner().invoke(options, [], env={"DEID_SEED": value})
    assert done.exit_code == 2 and value not in done.output
    _, done = configured(tmp_path, f"seed = '{value}'".encode())
    assert isinstance(done.exception, UsageError) and value not in str(done.exception)
