"""`import deidcli`: light, lazy and typed; it does what the command does, and the README's lines run as they stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deidcli
from deidcli import api
from deidcli.cli.anonymize import command
from deidcli.engine.settings import Settings
from deidcli.errors import MediaError, UsageError
from deidcli.methods import available
from deidcli.values import Box, Face
from tests.conftest import found, read, rows, save, tree

HOUSE = Path(__file__).parents[1]
FACE = Face(Box(20, 20, 60, 70))


@pytest.fixture
def drawn():
    return np.random.default_rng(5).integers(60, 200, (100, 120, 3), dtype=np.uint8)


def modules_after(code):
    """The modules that are loaded once `code` ran in an interpreter of its own."""
    script = f"import sys; {code}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=HOUSE, check=True)
    return set(done.stdout.split())


def test_importing_is_light():
    """Far below 50 ms: nothing but the package itself, and no library with it."""
    before, after = modules_after("pass"), modules_after("import deidcli; dir(deidcli); deidcli.__version__")
    assert after - before == {"deidcli"}


def test_help_imports_no_network_library():
    quiet = "import io; out, sys.stdout = sys.stdout, io.StringIO()"
    loaded = modules_after(f"{quiet}; import deidcli.__main__ as m; m.run(['--help']); sys.stdout = out")
    assert "deidcli.cli" in loaded and not loaded & {"keras", "tensorflow", "dlib"}


def test_names_are_lazy_and_known_to_type_checkers():
    assert sorted(deidcli.__all__) == [name for name in dir(deidcli) if not name.startswith("__")]
    stub = (HOUSE / "deidcli" / "__init__.pyi").read_text()
    assert all(f" as {name}\n" in stub for name in deidcli.__all__) and (HOUSE / "deidcli" / "py.typed").exists()
    assert all(getattr(deidcli, name).__doc__ for name in deidcli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deidcli.nothing


def test_methods():
    known = {info.name: info for info in deidcli.methods()}
    assert set(known) == set(available()) and all(info.summary for info in known.values())
    default, text = known["pixelate"].options["cells"]
    assert default == 6 and "cells" in text


def test_an_image(drawn):
    before = drawn.copy()
    new, [face] = deidcli.anonymize_image(drawn, "solid", faces=[FACE], color="black", verify=False)
    assert np.array_equal(drawn, before) and new.shape == drawn.shape and new.dtype == np.uint8
    assert not new[30:60, 30:50].any() and np.array_equal(new[90:], drawn[90:])
    assert (face.action, face.method, face.face.box) == ("replaced", "solid", FACE.box)


def test_detect_and_replace(portrait):
    [face] = deidcli.detect(portrait, detector="hog")
    assert face.landmarks.shape == (68, 2) and face.box.iou(found(portrait)[0].box) > 0.5
    new, outcomes = deidcli.anonymize_image(portrait, "pixelate", detector="hog", cells=4, verify=False)
    assert len(outcomes) == 1 and not np.array_equal(new, portrait)
    assert deidcli.detect(portrait, detector="hog", min_face=500) == []


def test_a_video_of_arrays(portrait, nobody):
    """One track keeps its number, frames come in order, and those without a face are as they were."""
    import cv2

    blank = cv2.resize(nobody, portrait.shape[1::-1])
    frames = [portrait] * 6 + [blank] * 6
    anonymizer = deidcli.Anonymizer("solid", detector="hog", verify=False, color="black")
    done = list(anonymizer.frames(iter(frames), fps=10))
    assert len(done) == 12
    assert {outcome.face.track for _, outcomes in done[:6] for outcome in outcomes} == {0}
    assert all(outcomes for _, outcomes in done[:6]) and all(found(pixels) == [] for pixels, _ in done[:6])
    assert np.array_equal(done[-1][0], blank) and done[-1][1] == ()
    assert list(anonymizer.frames([])) == []
    assert len(list(anonymizer.frames([blank] * 3, times=[0, 0.5, 0.75]))) == 3


@pytest.mark.parametrize("wrong", [
    np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32), [[1, 2, 3]], None,
])  # fmt: skip
def test_what_is_no_picture_is_refused(wrong):
    anonymizer = deidcli.Anonymizer("blur", verify=False, detector="hog")
    for call in (anonymizer.image, lambda wrong: list(anonymizer.frames([wrong])), deidcli.detect):
        with pytest.raises(UsageError, match="uint8, RGB"):
            call(wrong)


@pytest.mark.parametrize(("method", "options", "said"), [
    ("mosaic", {}, "no method"), ("blur", {"angle": 9}, "--method cleanir"), ("blur", {"blur": 7}, "out of range"),
    ("blur", {"surprise": 1}, "no option is called 'surprise'"), ("blur", {"detector": "nose"}, "no detector"),
    ("ksame-pixel", {}, "has to see all faces first"), ("blur", {"rotations": (45,)}, "rotations"),
])  # fmt: skip
def test_options_that_are_none(method, options, said):
    with pytest.raises(deidcli.DeidError, match=said):
        deidcli.Anonymizer(method, **options)


def test_a_frame_that_cannot_be_searched_ends_the_video(monkeypatch, drawn):
    anonymizer = deidcli.Anonymizer("blur", verify=False, detector="hog")
    monkeypatch.setattr(anonymizer._detector, "detect", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))
    with pytest.raises(MediaError, match="gone"):
        list(anonymizer.frames([drawn] * 3))


def test_it_does_what_the_command_does(deid, folder, tmp_path):
    done = deid("anonymize", "--method", "blur", "--no-verify", "--blur", 0.4, folder, tmp_path / "command")
    seen = []
    report = deidcli.anonymize(
        folder, tmp_path / "library", "blur", blur=0.4, verify=False, detector="hog", on_row=seen.append
    )
    assert tree(tmp_path / "library") == tree(tmp_path / "command")
    assert report.status == done.status == 0 and report.summary.split("; see")[0] in done.err
    assert (report.written, report.replaced, report.covered, report.failed) == (3, 4, 0, ())
    assert list(report.rows) == seen and report.manifest == tmp_path / "library" / "deid-manifest.jsonl"
    known = rows(tmp_path / "command")
    for row in json.loads("[" + ",".join(row.as_json() for row in report.rows) + "]"):
        assert row["settings"] == known[row["input"]]["settings"], "the same settings have the same fingerprint"


def test_a_report_tells_of_failures(folder, tmp_path):
    (folder / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("a text")
    (folder / "raw.cr9").write_bytes(b"raw")
    report = deidcli.anonymize([folder], tmp_path / "out", "solid", verify=False, detector="hog")
    assert report.status == 1 and [row.input for row in report.failed] == ["one.png"] and report.written == 2
    assert report.left_out == {"sidecar": ("notes.txt",), "unknown": ("raw.cr9",)}
    with pytest.raises(UsageError, match="no such file"):
        deidcli.anonymize(folder / "nothing", tmp_path / "out")


def test_every_option_of_the_command_is_one_of_the_library():
    """And each has one home: no method's option is called like one of the run."""
    own = {name for kind in available().values() for name in kind.Options.__dataclass_fields__}
    here = {
        "inputs",
        "output",
        "method",
        "device",
        "files_from",
        "null",
        "dry_run",
        "progress",
        "log_format",
        "quiet",
        "verbose",
        "seed_file",
    }
    names = {param.name for param in command.params} - own - here - {"config", "seed_file", "help"}
    run = set(api.RunOptions.__dataclass_fields__)
    assert not own & run
    for name in sorted(names - run):
        assert isinstance(api._place(name), str)
    assert isinstance(api.settings_from({"min_face": 3, "mask_scale": 1.5, "crf": 20.0, "gap": 0.5}), Settings)
    made = api.settings_from({"min_face": 3, "mask_scale": 1.5, "crf": 20.0, "gap": 0.5, "metadata": "none"})
    assert (made.detect.min_face, made.blend.scale, made.write.video.crf) == (3, 1.5, 20.0)
    assert (made.track.gap, made.write.metadata) == (0.5, "none")


def test_the_secret_is_in_no_text():
    anonymizer = deidcli.Anonymizer("blur", verify=False, detector="hog", seed=424242)
    shown = repr(anonymizer.settings) + repr(anonymizer.method.secret) + repr(anonymizer.settings.detect)
    assert "424242" not in shown and "key=" not in shown


def snippets(path):
    """The Python examples of a page."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md"])
def test_the_examples_of_the_pages_run(page, portrait, tmp_path, monkeypatch):
    save(portrait, tmp_path / "in" / "one.png")
    save(portrait, tmp_path / "one.jpg")
    monkeypatch.chdir(tmp_path)
    found_ = snippets(HOUSE / page)
    assert found_
    for text in found_:
        exec(compile(text, page, "exec"), {})
    assert sorted(tree(tmp_path / "out")) == ["one.png"] and (tmp_path / "safe.jpg").exists()
    assert not np.array_equal(read(tmp_path / "out" / "one.png"), portrait)


@pytest.mark.parametrize(
    "page, least", [("README.md", 11), ("docs/labels.md", 5), ("docs/people.md", 4), ("docs/review.md", 3)]
)
def test_the_commands_of_the_pages_are_commands(page, least):
    """Every `deid ...` line of a page has a command and options that exist."""
    import click

    from deidcli.cli import main

    text = (HOUSE / page).read_text(encoding="utf-8")
    lines = [line.strip() for line in re.findall(r"^    (.*\bdeid .*)$", text, re.MULTILINE)]
    assert len(lines) >= least
    for line in lines:
        for part in re.findall(r"deid ([a-z].*?)(?: #.*|[|;&>]|$)", line):
            words, group, context = part.split(), main, click.Context(main)
            while isinstance(group, click.Group) and words:
                group = group.get_command(context, words.pop(0))
                assert group is not None, line
            known = {name for param in group.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
            for word in words:
                if word.startswith("-") and word != "-":
                    assert word.split("=")[0] in known, f"{word} in {line}"
