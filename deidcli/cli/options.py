"""Options that several commands share, each defined once, and the flags that are made from a method's `Options`."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from deidcli import bounded
from deidcli.cli import ELSEWHERE
from deidcli.cli.progress import say
from deidcli.engine import records
from deidcli.engine.face_list import FaceList
from deidcli.engine.labels import read_faces
from deidcli.engine.settings import FALLBACKS, Settings
from deidcli.errors import UsageError
from deidcli.faces.detectors import DEFAULTS, DetectOptions
from deidcli.faces.landmarks import KINDS
from deidcli.faces.tracking import TrackOptions
from deidcli.methods import available

ENVIRONMENT = "DEID_"
CONFIG_SIZE = 1 << 20  # bytes of a file of options
_UNSHOWN = ("seed",)  # options whose values are never printed in an error
Decorator = Callable[[Callable], Callable]


_NAMES = ("FILE", "FOLDER", "DIR")  # how options say that they take a name; an empty one is the working folder's


class Command(click.Command):
    """A command every option of which has an environment variable DEID_NAME, and that reads --config."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; for a flag of another tool the error names what it is called here."""
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in ELSEWHERE:
                raise
            raise UsageError(f"no such option: {error.option_name}", f"it is {ELSEWHERE[error.option_name]}") from error
        for param in self.params:
            if param.metavar in _NAMES and ctx.params.get(param.name or "") == "" != param.default:
                raise UsageError(f"{param.opts[0]}: the name is empty", "name a file or folder, or leave it out")
        return rest

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for param in self.params:
            if isinstance(param, click.Option) and param.name and param.envvar is None:
                param.envvar = ENVIRONMENT + param.name.upper()


class Real(click.FloatRange):
    """A number in a range. Click's own lets nan through, which is in no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that can be worked with", param, ctx)
        return number


def stacked(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, shown in the help in this order."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make the entries of a TOML file the defaults of this command, each checked as if it had been given."""
    if value is None:
        return
    known = {p.name: p for p in ctx.command.params if isinstance(p, click.Option) and p is not param}
    entries = {key.replace("-", "_"): entry for key, entry in _toml(Path(value)).items()}
    for key, entry in entries.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"see `deid {ctx.info_name} --help`"
            raise UsageError(f"{value}: no option is called {records.shortened(key)}", hint)
        _check_entry(ctx, value, known[key], key, entry)
    ctx.default_map = {**(ctx.default_map or {}), **entries}


def _check_entry(ctx: click.Context, file: str, option: click.Option, key: str, entry: Any) -> None:
    """Raises UsageError for an entry that is not of the option's type or out of its range."""
    shown = "" if key in _UNSHOWN else f" = {records.shortened(entry)}"
    values = entry if option.multiple and isinstance(entry, list) else [entry]
    sound = all(_suits(option, each) for each in values)
    try:
        if sound and not option.is_flag:
            option.type_cast_value(ctx, entry)
    except (click.BadParameter, ValueError, TypeError, OverflowError) as error:
        said = error.message if isinstance(error, click.BadParameter) else "not such a value"
        raise UsageError(f"{file}: {key}{shown}: {said}", "give another value") from error
    if not sound:
        raise UsageError(f"{file}: {key}{shown} is not one value of its kind", "give a line like angle = 150")


def _suits(option: click.Option, value: Any) -> bool:
    """Whether a value of TOML is of the option's type; click would take a list for its text, or 1.5 for 1."""
    if option.is_flag or isinstance(option.type, click.types.BoolParamType):
        return isinstance(value, bool)
    if isinstance(option.type, (click.types.IntParamType, Secretive)):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(option.type, click.types.FloatParamType):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and "\0" not in str(value)


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_SIZE + 1)
        if len(text) > CONFIG_SIZE:
            raise ValueError(f"it is longer than {CONFIG_SIZE} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        said: object = error.strerror
    except RecursionError:
        said = "its tables lie too deep within each other"
    except ValueError as error:
        said = error
    raise UsageError(f"--config {path}: {said}", "give a TOML file with lines like angle = 150")


inputs = click.argument("inputs", nargs=-1, metavar="INPUT...")

config = click.option(
    "--config", metavar="FILE", is_eager=True, expose_value=False, callback=_read_config,
    help="TOML file with defaults for these options, like angle = 150.",
)  # fmt: skip

listing = stacked(
    click.option("--files-from", metavar="FILE", help="Read the inputs from FILE, one a line; - for standard input."),
    click.option("-0", "--null", is_flag=True, help="Names of --files-from end with a zero byte (find -print0)."),
)

searching = stacked(
    click.option("--threshold", type=Real(), help="Lowest score of a face; default: the detector's own."),
    click.option("--min-face", type=click.IntRange(0), default=0, show_default=True,
                 help="Leave out faces whose shorter side is below this many pixels."),
    click.option("--upsample", type=click.IntRange(0, 4),
                 help="Double the picture so many times before the search: finds smaller faces, takes longer; "
                      "default: the detector's own."),
    click.option("--rotations", default="0", show_default=True, metavar="DEGREES,...",
                 help="Search the picture turned, too: some of 0,90,180,270."),
    click.option("--low-light/--no-low-light", default=None,
                 help="Search dark pictures a second time, brightened; default: the detector's own."),
    click.option("--landmarks", type=click.Choice(KINDS),
                 help="How faces are located: by the mesh, profiles too, or by dlib's trees; default: mesh where its "
                      "weights are installed."),
)  # fmt: skip

detection = stacked(
    click.option("--detector", help="What finds the faces: centerface, cnn, hog, mtcnn, yunet:FILE or all; default: "
                                    "centerface where its weights are installed, else cnn."),
    searching,
)  # fmt: skip


tracking = stacked(
    click.option("--track/--no-track", default=True, show_default=True,
                 help="Follow the faces of a video from frame to frame; otherwise each frame is treated alone."),
    click.option("--detect-every", type=click.IntRange(1), default=None, metavar="N",
                 help="Search every Nth frame of a video and carry the faces through those between; "
                      "default: one in an eighth of a second."),
    click.option("--gap", type=Real(0, 10), default=TrackOptions().gap, show_default=True, metavar="SECONDS",
                 help="How long a face of a video may be lost, and is covered all the while, if it is found again."),
    click.option("--hold", type=Real(0, 10), default=TrackOptions().hold, show_default=True, metavar="SECONDS",
                 help="How long a face of a video is covered before it was first and after it was last found."),
)  # fmt: skip


def track_options(options: dict[str, Any]) -> TrackOptions:
    """What the options of `tracking` ask for. Raises UsageError."""
    return TrackOptions(**{name: options[name] for name in ("track", "detect_every", "gap", "hold")})


def whole(text: str, said: str) -> int:
    """`text` as a whole number, 0 included. Raises UsageError that repeats what was `said`."""
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise UsageError(f"{said}: {text!r} is no whole number", "write digits, with commas between several")
    return int(text)


def rotations(options: dict[str, Any]) -> tuple[int, ...]:
    """The turns of --rotations, in degrees. Raises UsageError."""
    said = f"--rotations {options['rotations']}"
    return tuple(whole(turn, said) for turn in str(options["rotations"]).split(","))


def detect_options(options: dict[str, Any]) -> DetectOptions:
    """What the options of `detection` ask for. Raises UsageError."""
    names = {item.name for item in dataclasses.fields(DetectOptions)} - {"rotations"}
    given = {name: value for name, value in options.items() if name in names and value is not None}
    wanted = DetectOptions(**given, rotations=rotations(options))
    note_detector(wanted, options)
    return wanted


def note_detector(wanted: DetectOptions, options: dict[str, Any]) -> None:
    """Say that the first choice of detectors is not installed, where the second is taken without being asked for."""
    silent = options["detector"] is not None or options.get("faces") or options.get("quiet")
    if wanted.detector != DEFAULTS[0] and not silent:
        say(f"deid: {DEFAULTS[0]} is not installed (see `deid doctor`): {wanted.detector} searches")


def recogniser(default: str) -> Decorator:
    """The option that says who takes two faces for one person. default: what the help says of it."""
    text = f"What takes two faces for one person: dlib, sface, both, facenet or onnx:FILE; default: {default}."
    return click.option("--recogniser", help=text)


faces = stacked(
    click.option("--faces", metavar="FILE",
                 help="Take the faces from FILE and do not search: what `deid detect` printed, a manifest, or labels "
                      "of a data set (COCO, CVAT, or a folder of YOLO's or Pascal VOC's)."),
    click.option("--faces-class", metavar="NAME,...",
                 help="Which classes of such labels are faces; all: every one; default: those called so."),
)  # fmt: skip


def given_faces(options: dict[str, Any], names: Iterable[str]) -> FaceList | None:
    """The list of --faces, None without one. names: of the inputs. Raises UsageError."""
    if not options["faces"]:
        return None
    classes = [word for word in (options["faces_class"] or "").split(",") if word]
    return read_faces(Path(options["faces"]), names, classes)


people = stacked(
    click.option("--keep-people", metavar="FOLDER",
                 help="Leave the people of these pictures as they are (they consented): only where both recognisers "
                      "are sure; everybody in doubt is replaced."),
    click.option("--only-people", metavar="FOLDER",
                 help="Replace the people of these pictures and nobody else; people in doubt are replaced, too."),
    click.option("--zones", metavar="FILE",
                 help="JSON lines of polygons that are always covered, or never touched (docs/people.md)."),
    click.option("--decisions", metavar="FILE",
                 help="What was decided on the page of `deid review`: the command as before, with this, does again "
                      "only what changed."),
)  # fmt: skip

unattended = stacked(
    click.option("--incremental", is_flag=True,
                 help="As --resume, for runs that come again and again: an input of the same size and time as before "
                      "is not even read; of others the bytes are compared."),
    click.option("--since", metavar="WHEN",
                 help="Leave out inputs that were last changed before: 36h, 7d, or a date like 2026-11-29T22:00."),
    click.option("--max-minutes", type=Real(0, 1e6),
                 help="Begin no further file after so long, and end with status 1; the next run goes on."),
    click.option("--quarantine", metavar="DIR",
                 help="Copy inputs that fail to DIR; with --remove-source they are moved there. It holds open faces."),
    click.option("--remove-source", is_flag=True,
                 help="Remove an input when its output is on the disk, verified, listed in the manifest and read "
                      "again. Refused together with whatever makes search or verification weaker."),
    click.option("--lock", "wait", type=click.Choice(("fail", "wait")), default="fail", show_default=True,
                 callback=lambda ctx, param, value: value == "wait", envvar=f"{ENVIRONMENT}LOCK",
                 help="What to do while another run writes into OUTPUT."),
    click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True,
                 help="Lines on standard error: for people, or an object of JSON each."),
)  # fmt: skip

workers = click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True,
    help="Threads that read, search and write; 0: one a processor core.",
)  # fmt: skip

device = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu (by ONNX Runtime), gpu or gpu:N (by Keras); auto takes a GPU that is there.",
)

progress = stacked(
    click.option("--progress", type=click.Choice(["auto", "bar", "plain", "json", "none"]), default="auto",
                 show_default=True, help="How progress is shown on standard error."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("-v", "--verbose", is_flag=True, help="Say what was done to every file."),
)  # fmt: skip


class Secretive(click.ParamType):
    """A whole number that is never shown, in an error neither."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if not isinstance(value, str) or not re.fullmatch(r"[+-]?[0-9]{1,4000}", value.strip()):
            self.fail("not a whole number (the value is not shown)", param, ctx)
        return int(value)


def _seed_of_file(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make what a file holds the seed: its number, or a number made of its text."""
    if value is None:
        return
    try:
        with Path(value).open("rb") as file:
            text = bounded.read(file, bounded.SECRET).strip()
    except (bounded.TooLong, OSError) as error:
        said = getattr(error, "strerror", error)
        raise UsageError(f"--seed-file {value}: {said}", "give a file that holds the seed") from error
    if not text:
        raise UsageError(f"--seed-file {value} is empty", "write a number or a long random text into it")
    number = re.fullmatch(rb"[+-]?[0-9]{1,4000}", text)
    seed = int(text) if number else int.from_bytes(hashlib.sha256(text).digest(), "big")
    if ctx.params.get("seed") is not None:
        raise UsageError("--seed and --seed-file both say the seed", "leave one out")
    ctx.params["seed"] = seed


seed = stacked(
    click.option(
        "--seed", type=Secretive(), is_eager=True,
        help="Make random draws repeatable. Whoever knows the seed can repeat them too; without one they are secret.",
    ),
    click.option(
        "--seed-file", metavar="FILE", expose_value=False, callback=_seed_of_file,
        help="Take the seed from FILE (a number, or any text), so that it is in no list of processes and no log.",
    ),
)  # fmt: skip

fallback = click.option(
    "--fallback", type=click.Choice(FALLBACKS), default=Settings().fallback, show_default=True,
    help="What covers a face that the method cannot replace.",
)  # fmt: skip


def method_flags(function: Callable) -> Callable:
    """A flag for every setting of every method; the default None means that it was not given."""
    return stacked(*(_flag(name, owners) for name, owners in sorted(_settings().items())))(function)


def _settings() -> dict[str, list[tuple[str, dataclasses.Field]]]:
    """For each setting the methods that have it."""
    owners: dict[str, list[tuple[str, dataclasses.Field]]] = {}
    for name, kind in available().items():
        for item in dataclasses.fields(kind.Options):
            owners.setdefault(item.name, []).append((name, item))
    return owners


def _flag(name: str, owners: list[tuple[str, dataclasses.Field]]) -> Decorator:
    """The flag of a setting. Where several methods have one of this name, each keeps its help, range and default."""
    items = [item for _, item in owners]
    choices = list(dict.fromkeys(choice for item in items for choice in item.metadata.get("choices") or ()))
    kind = click.Choice(choices) if choices else type(items[0].default)
    said: dict[str, dict[str, list[str]]] = {}
    for method, item in owners:
        span = f"{_range(item)}default: {item.default}"
        said.setdefault(item.metadata["help"], {}).setdefault(span, []).append(method)
    text = " ".join(
        " ".join([f"{help.capitalize()}.", *(f"[{', '.join(methods)}; {span}]" for span, methods in spans.items())])
        for help, spans in said.items()
    )
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    return click.option(flag, name, type=kind, default=None, help=text)


def _range(item: dataclasses.Field) -> str:
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if low is None and high is None:
        return ""
    return f"{low:g} to {high:g}; " if low is not None and high is not None else (
        f"at least {low:g}; " if low is not None else f"at most {high:g}; ")  # fmt: skip


def parsed(name: str, text: str) -> Any:
    """The value that `text` is for the setting `name` of a method. Raises UsageError."""
    if name not in _settings():
        raise UsageError(f"no method has an option {name!r}", f"there are {', '.join(_settings())}")
    kind: type = type(_settings()[name][0][1].default)
    try:
        return click.BOOL.convert(text, None, None) if kind is bool else kind(text)
    except (ValueError, click.BadParameter) as error:
        raise UsageError(f"{name}={text}: not a {kind.__name__}", "give another value") from error
