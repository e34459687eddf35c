"""`deid blur`: deface's flags mean what its users know, or say what does it here; and misspelt words find their way."""

import math

import numpy as np
import pytest

from tests.conftest import read, rows, save, tree


def test_beside_the_input(deid, folder):
    """One file, or a folder, without a word: the result lies beside it."""
    done = deid("blur", folder / "one.png")
    assert done.status == 0, done.err
    assert not np.array_equal(read(folder / "one_anonymized.png"), read(folder / "one.png"))
    assert deid("blur", folder / "sub").status == 0 and (folder / "sub_anonymized/three.jpg").exists()
    assert deid("blur", folder / "one.png").status == 3, "nothing is written over"


def test_flags_are_those_of_anonymize(deid, folder, tmp_path):
    both = ["--seed", "3", folder]
    scale = round((2 * 1.5 - 1) / math.sqrt(2), 3)
    here = ["--threshold", "0.1", "--mask-scale", scale, "--metadata", "all", "--streams", "none"]
    assert deid("blur", "-t", "0.1", "--mask-scale", "1.5", "-m", *both, "-o", tmp_path / "a").status == 0
    assert deid("anonymize", "-m", "blur", *here, *both, tmp_path / "b").status == 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    first, second = (rows(tmp_path / name)["one.png"]["settings"] for name in "ab")
    assert first == second, "and --resume takes the one for the other"


@pytest.mark.parametrize("word, method", [("blur", "blur"), ("solid", "solid"), ("mosaic", "pixelate")])
def test_what_hides_a_face(deid, folder, tmp_path, word, method):
    assert deid("blur", "--replacewith", word, folder / "one.png", "-o", tmp_path / "one.png").status == 0
    assert (
        deid("blur", "--replacewith", word, folder / "one.png", folder / "none.png", "-o", tmp_path / "x").status == 0
    )
    assert rows(tmp_path / "x")["one.png"]["method"] == method
    if word == "solid":
        assert (read(tmp_path / "one.png") == 0).all(axis=2).mean() > 0.1, "black, as by deface"


@pytest.mark.parametrize("flags, instead", [
    (["--replacewith", "none"], "deid detect"), (["--replacewith", "img"], "cleanir"), (["-s", "640x360"], "searched"),
    (["--boxes"], "ellipse"), (["--draw-scores"], "deid detect"), (["-p"], "--preview-sheet"),
    (["--ep", "x"], "--device"),
    (["--ffmpeg-config", "{}"], "--codec"), (["--mosaicsize", "20"], "--cells"), (["--replaceimg", "x"], "new face"),
])  # fmt: skip
def test_what_is_not_here_names_what_is(deid, folder, tmp_path, flags, instead):
    done = deid("blur", *flags, folder, "-o", tmp_path / "out")
    assert done.status == 2 and instead in done.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, nearest", [
    (["anonymize", "--treshold", "1", "a", "b"], "'--threshold'"), (["anonimize", "a", "b"], "'anonymize'"),
    (["anonymize", "-t", "0.5", "a", "b"], "--threshold here"), (["anonymize", "-o", "x", "a"], "OUTPUT here"),
    (["anonymize", "--replacewith", "blur", "a", "b"], "--method blur"),
    (["detect", "--scale", "640x360"], "--mask-scale"),
    (["blur", "--keep-audo", "a"], "'--keep-audio'"), (["evaluate", "peple", "x"], "'people'"),
    (["anonymize", "--keep-audio", "a", "b"], "which is the default"),
])  # fmt: skip
def test_the_nearest_word_is_named(deid, arguments, nearest):
    done = deid(*arguments)
    assert done.status == 2 and nearest in done.err, done.err


def test_the_nearest_word_of_a_file_and_of_the_library(deid, folder, tmp_path):
    import deidcli
    from deidcli.errors import UsageError

    (tmp_path / "own.toml").write_text("min_fase = 3\n")
    done = deid("anonymize", "--config", tmp_path / "own.toml", folder, tmp_path / "out")
    assert done.status == 2 and "did you mean min_face?" in done.err
    with pytest.raises(UsageError, match="did you mean min_face"):
        deidcli.anonymize(folder, tmp_path / "out", min_fase=3)


@pytest.mark.parametrize("words, nearest, status", [
    (["anonymize", "--method", "cleaner"], "cleanir", 2),
    (["anonymize", "--method", "cleanir", "--preset", "cleanir256"], "cleanir-256", 3),
    (["anonymize", "--method", "blur", "--detector", "centreface"], "centerface", 2),
])  # fmt: skip
def test_the_nearest_name_of_a_method_a_preset_and_a_detector(deid, folder, tmp_path, words, nearest, status):
    done = deid(*words, folder, tmp_path / "out")
    assert done.status == status and f"did you mean {nearest}?" in done.err, done.err


def test_several_inputs_without_a_folder(deid, folder, portrait):
    save(portrait, folder / "two.png")
    assert deid("blur", folder / "one.png", folder / "two.png").status == 0
    assert (folder / "one_anonymized.png").exists() and (folder / "two_anonymized.png").exists()
    assert deid("blur", "cam").status == 2 and deid("blur").status == 2
