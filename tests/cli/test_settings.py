"""Where settings come from, and the commands that tell about the installation."""

import json
import shutil
from dataclasses import asdict, fields

import pytest

from deidcli import __version__
from deidcli.cli.options import parsed
from deidcli.errors import UsageError
from deidcli.methods import available, find
from deidcli.methods.cleanir import Cleanir
from deidcli.presets import FETCH, Packaged, presets
from tests.conftest import rows, tree


@pytest.fixture
def pretend(monkeypatch, tiny_preset):
    """The tiny preset stands for the one that is named by default."""
    monkeypatch.setenv("DEID_MODELS", str(tiny_preset.folder.parent))
    return tiny_preset


def used(deid, folder, out, *options):
    """The method and options that a run wrote into its manifest."""
    done = deid("anonymize", "--no-verify", *options, folder / "none.png", out)
    assert done.status == 0, done.err
    row = rows(out)["none.png"]
    return row["method"], row["options"]


def test_defaults(deid, folder, pretend, tmp_path):
    method, options = used(deid, folder, tmp_path / "out")
    assert method == "cleanir" and options == asdict(Cleanir.Options())
    assert (options["angle"], options["preset"]) == (120, "cleanir-256")


def test_environment(deid, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DEID_METHOD", "pixelate")
    monkeypatch.setenv("DEID_CELLS", "3")
    assert used(deid, folder, tmp_path / "a") == ("pixelate", {"cells": 3})
    assert used(deid, folder, tmp_path / "b", "--cells", 4) == ("pixelate", {"cells": 4}), "the command line wins"
    monkeypatch.setenv("DEID_CELLS", "many")
    assert deid("anonymize", folder, tmp_path / "c").status == 2


def test_environment_of_flags(deid, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DEID_DRY_RUN", "1")
    monkeypatch.setenv("DEID_METHOD", "solid")
    done = deid("anonymize", folder, tmp_path / "out")
    assert done.status == 0 and done.out.count(b"\n") == 3 and not (tmp_path / "out").exists()


def test_config(deid, folder, tmp_path, monkeypatch):
    (tmp_path / "deid.toml").write_text('method = "blur"\nblur = 0.5\non-no-face = "copy"\nverify = false\n')
    config = ("--config", tmp_path / "deid.toml")
    assert used(deid, folder, tmp_path / "a", *config) == ("blur", {"blur": 0.5})
    assert used(deid, folder, tmp_path / "b", *config, "--blur", 0.3) == ("blur", {"blur": 0.3}), (
        "the command line wins"
    )
    monkeypatch.setenv("DEID_BLUR", "0.4")
    assert used(deid, folder, tmp_path / "c", *config) == ("blur", {"blur": 0.4}), "the environment wins"
    monkeypatch.delenv("DEID_BLUR")
    monkeypatch.setenv("DEID_CONFIG", str(tmp_path / "deid.toml"))
    assert used(deid, folder, tmp_path / "d") == ("blur", {"blur": 0.5})


def test_dlib_alone_verifies_where_sface_is_missing_and_a_line_says_so(deid, folder, tmp_path, monkeypatch):
    """Said once, and not of a run that asks for it or verifies nothing."""
    monkeypatch.setattr("deidcli.faces.recognisers.SFACE", Packaged("nowhere", "none.onnx", FETCH))
    said, words = "dlib alone verifies new faces", ("anonymize", "--method", "solid", folder / "none.png")
    assert deid(*words, tmp_path / "a").err.count(said) == 1
    assert said not in deid(*words, "--recogniser", "dlib", tmp_path / "b").err
    assert said not in deid(*words, "--no-verify", tmp_path / "c").err
    assert f"recogniser dlib          run `{FETCH}`" in deid("doctor").out.decode()
    resumed = deid(*words, "--resume", "--recogniser", "dlib", tmp_path / "a")
    assert "1 of 1 files are done already" in resumed.err


@pytest.mark.parametrize(
    "text", ["angel = 150", "angle = ", "angle = 'steep'", "angle = 500", "\udcff", "[angle]\na = 1"]
)
def test_config_that_makes_no_sense(deid, folder, pretend, tmp_path, text):
    (tmp_path / "deid.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = deid("anonymize", "--config", tmp_path / "deid.toml", folder, tmp_path / "out")
    assert done.status == 2 and "Traceback" not in done.err and not (tmp_path / "out").exists()


def test_config_that_is_not_there(deid, folder, tmp_path):
    assert deid("anonymize", "--config", tmp_path / "none.toml", folder, tmp_path / "out").status == 2


def test_help_and_version(deid):
    for arguments in (["--help"], ["-h"], ["anonymize", "--help"], ["models", "list", "--help"]):
        done = deid(*arguments)
        assert done.status == 0 and done.out.startswith(b"Usage: deid")
    assert deid("--version").out.decode().split()[-1] == __version__
    assert deid().status == 2


def test_models(deid, pretend):
    done = deid("models", "list")
    assert done.status == 0 and any(line.startswith(b"cleanir-256") for line in done.out.splitlines())
    assert deid("models", "show", "cleanir-256").out == b"Tiny.\n"
    assert json.loads(deid("models", "show", "--json", pretend.folder).out)["method"] == "cleanir"
    whole = deid("models", "verify", "cleanir-256")
    assert whole.status == 0 and whole.out.startswith(b"cleanir-256: whole, ")
    assert deid("models", "show", "nothing").status == 3


@pytest.fixture
def damaged(pretend, tmp_path, monkeypatch):
    """Three presets beside each other: one whole, one with other weights, one without a configuration to speak of."""
    for name in ("a-weights", "b-config", "c-whole"):
        shutil.copytree(pretend.folder, tmp_path / "models" / name)
    (tmp_path / "models" / "a-weights" / "identity.npz").write_bytes(b"other")
    (tmp_path / "models" / "b-config" / "config.json").write_text("[]")
    monkeypatch.setenv("DEID_MODELS", str(tmp_path / "models"))


def test_damaged_models(deid, damaged):
    listed = deid("models", "list")
    assert listed.status == 3 and b"c-whole" in listed.out and "b-config" in listed.err
    verified = deid("models", "verify")
    assert verified.status == 3 and b"c-whole: whole" in verified.out
    assert "identity.npz is damaged" in verified.err and "b-config" in verified.err
    assert deid("models", "verify", "c-whole").status == 0


def test_doctor(deid, pretend):
    done = deid("doctor")
    said = done.out.decode()
    assert done.status == 0, said
    for word in (__version__, "tensorflow", "dlib", "cleanir-256", "picture codecs", "CPU"):
        assert word in said
    assert "all that is needed is there" in said
    for word in ("scipy", "faiss-cpu", "scikit-learn", "pillow-heif"):
        assert word in said, "what the package itself asks for"


def test_doctor_names_what_is_missing_or_too_old(deid, pretend, monkeypatch):
    from importlib import metadata

    wanted = ["numpy>=9999", "no-such-package>=1", "neither>=1; python_version < '3'", "one-more>=1; extra == 'eval'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    done = deid("doctor")
    said = done.out.decode()
    assert done.status == 3 and "2 missing" in said, said
    assert "numpy >=9999, not" in said and "pip install 'no-such-package>=1'" in said
    assert "neither" not in said and "one-more" in said


def test_doctor_names_what_is_damaged(deid, damaged):
    done = deid("doctor")
    said = done.out.decode()
    assert done.status == 3 and "b-config" in said and "identity.npz is damaged" in said and "Traceback" not in done.err


@pytest.mark.parametrize("preset", [*presets()], ids=lambda p: p.name)
def test_shipped_presets_are_whole(preset):
    preset.verify()
    assert preset.card.strip()


@pytest.mark.parametrize("preset", [p for p in presets() if p.method in available()], ids=lambda p: p.name)
def test_shipped_presets_do_the_main_job(deid, folder, tmp_path, preset):
    own = {item.name for item in fields(find(preset.method).Options)}
    options = ["--method", preset.method, "--preset" if "preset" in own else "--gallery", preset.folder, "--seed", 1]
    if find(preset.method).closed:
        options += ["--k", 2]
    done = deid("anonymize", *options, folder, tmp_path / "out")
    assert done.status == 0 and sorted(tree(tmp_path / "out")) == sorted(tree(folder))
    faces = [face for row in rows(tmp_path / "out").values() for face in row["faces"]]
    least = 2 if preset.method == "fatm" else 3  # its few donors were not drawn to be unlike these people
    assert len(faces) == 4 and sum(face["action"] == "replaced" for face in faces) >= least


def test_yes_and_no_of_a_method_that_is_named_in_one_word():
    assert parsed("paper", "true") is True and parsed("paper", "false") is False
    with pytest.raises(UsageError, match="paper=maybe: not a bool"):
        parsed("paper", "maybe")


def test_a_flag_of_two_methods_keeps_what_each_says_of_it():
    """Help, range and default of --k are others for the closed sets and for ksame-m, and both are said."""
    from deidcli.cli.anonymize import command

    (help,) = [param.help for param in command.params if param.name == "k"]
    first, second = help.split("] ")
    assert "ksame-pixel" in first and "at least 2; default: 5" in first and "ksame-m" not in first
    assert "faces of the gallery" in second and second.endswith("[ksame-m; at least 0; default: 0]")
    (help,) = [param.help for param in command.params if param.name == "preset"]
    assert help.count("Name or folder of the weights.") == 1 and help.count("default:") == 4
