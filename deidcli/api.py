"""The library behind the command: `import deidcli` offers what is defined here, and loads it when it is first used.

Pictures are arrays (height, width, 3) uint8, RGB. Whatever cannot be carried out raises a `DeidError`.

    import deidcli
    report = deidcli.anonymize("in/", "out/", method="blur", min_face=16)
    print(report.written, "files written,", report.replaced, "faces replaced")
    pixels, faces = deidcli.anonymize_image(pixels, method="cleanir", angle=150)

Options are those of the command without dashes (`deid anonymize --help`): the method's own, like `angle` or `k`, and
those of the run, like `detector`, `min_face`, `verify`, `recogniser`, `metadata`, `detect_every`, `fallback`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.engine.buckets import place_of
from deidcli.engine.find import Finder
from deidcli.engine.frames import FileFailure, FileFrame, FrameOrFailure, Source, batched
from deidcli.engine.jobs import Job, Listing, list_files
from deidcli.engine.labels import FORMATS
from deidcli.engine.manifest import SALVAGED, Row
from deidcli.engine.pipeline import Watch, unwatched
from deidcli.engine.replace import Outcome, Replacer, Request
from deidcli.engine.run import Run, Tally
from deidcli.engine.settings import RunOptions, Settings, parse_shard
from deidcli.engine.unattended import parsed_time
from deidcli.errors import MediaError, UsageError
from deidcli.faces.blend import BlendOptions
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import recogniser
from deidcli.faces.tracking import TrackOptions
from deidcli.media.stream import ReadOptions, VideoOptions, WriteOptions
from deidcli.methods import available, make
from deidcli.methods.base import Method
from deidcli.values import Face, Frame

THREADS = 2  # that search frames while others are replaced
BATCH = 8  # frames that are replaced in one go
_RENAMED = {"mask_scale": "scale"}
_PARTS: dict[str, type] = {
    "detect": DetectOptions,
    "track": TrackOptions,
    "blend": BlendOptions,
    "read": ReadOptions,
    "write": WriteOptions,
    "video": VideoOptions,
}
_NESTED = {*_PARTS, "faces", "inputs", "choice"}
_OF_FILES = ("faces", "keep_people", "only_people", "zones", "decisions")  # options about the files of a run
_PATHS = (*_OF_FILES, "manifest", "quarantine")


@dataclass(frozen=True)
class MethodInfo:
    """A method. name: the word after --method. options: for each of its settings the default and what it means."""

    name: str
    summary: str
    options: Mapping[str, tuple[Any, str]]


@dataclass(frozen=True)
class Report:
    """What a run has done. rows: one for each file (`deidcli.engine.manifest.Row`). status: the exit status of the
    command. summary: its last line. manifest: where the rows are on the disk. left_out: names of files that were
    neither read nor written, by kind. problems: what a closed-set method promised and does not hold."""

    rows: tuple[Row, ...]
    status: int
    summary: str
    manifest: Path | None
    left_out: Mapping[str, tuple[str, ...]]
    replaced: int
    covered: int
    problems: tuple[str, ...] = ()

    @property
    def written(self) -> int:
        """How many files were written."""
        return sum(row.output is not None and row.error is None for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of files that were not written, or not whole."""
        return tuple(row for row in self.rows if row.error or row.status == SALVAGED)


def methods() -> tuple[MethodInfo, ...]:
    """Every method that is installed, those of other packages included."""
    return tuple(
        MethodInfo(
            name, kind.summary, {item.name: (item.default, item.metadata["help"]) for item in fields(kind.Options)}
        )
        for name, kind in available().items()
    )


def detect(pixels: np.ndarray, **options: Any) -> list[Face]:
    """The faces of a picture, best first, with landmarks where they can be located. options: of `DetectOptions`."""
    wanted = settings_from(options).detect
    return locate(checked_pixels(pixels), detector(wanted).detect([pixels])[0])


def anonymize_image(
    pixels: np.ndarray, method: str = "cleanir", *, faces: Sequence[Face] | None = None, **options: Any
) -> tuple[np.ndarray, tuple[Outcome, ...]]:
    """A picture with every face replaced or covered, and what was done to each.

    faces: those to replace, None to search for them. For many pictures make one `Anonymizer`. Raises DeidError where a
    face could neither be replaced nor covered.
    """
    return Anonymizer(method, **options).image(pixels, faces)


def anonymize(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    method: str = "cleanir",
    *,
    on_row: Callable[[Row], object] = bool,
    on_frame: Watch = unwatched,
    **options: Any,
) -> Report:
    """Replace every face of files and folders, as `deid anonymize` does.

    on_row: is called with the row of each file when it is in its place. on_frame: is called with each frame of a video
    that was written (file, frames so far, frames in all or None). Raises UsageError before anything is written for
    what cannot be carried out; a file that fails does not raise, it has a row with an error.
    """
    given = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    run = plan([str(path) for path in given], str(output), method, options)
    rows, tally = [], Tally()
    for row in run.rows(on_frame):
        rows.append(row)
        tally.add(row)
        on_row(row)
    return concluded(run, tally, rows)


def plan(
    inputs: Sequence[str],
    output: str,
    method: str | Method,
    options: Mapping[str, Any],
    listed: Sequence[str] = (),
) -> Run:
    """The run that `anonymize` would do, checked and not begun. listed: further inputs (--files-from)."""
    own, settings, run = split_options(method, options)
    made = method if isinstance(method, Method) else make(method, own, settings.seed)
    files: Listing = list_files(inputs, output, run.sequence, listed, run.unknown, run.sidecars, run.column)
    if options.get("verify") is None:
        settings = replace(settings, verify=made.judged)
    return Run(files, output, made, settings, run)


def concluded(run: Run, tally: Tally, rows: Sequence[Row]) -> Report:
    """The report of a run that has ended; the promise of a closed-set method is checked here."""
    from deidcli.evaluation.kanonymity import check_run

    status, problems = run.status(tally), []
    summary = run.summary(tally)
    if run.method.declares_donors and not run.options.shard:
        verdict = check_run(run.place, rows)
        summary += "; " + verdict.line()
        if not verdict.holds:
            status, problems = max(status, 1), [verdict.line()]
    problems += run.problems
    return Report(
        tuple(rows), status, summary, run.place, run.files.left_out, tally.faces["replaced"], tally.faces["covered"],
        tuple(problems),
    )  # fmt: skip


class Anonymizer:
    """Replaces faces in pictures that are arrays; networks are loaded once. Not for methods that need a whole set.

    settings: of the run, `deidcli.engine.settings.Settings`. Use one from one thread at a time.
    """

    def __init__(self, method: str = "cleanir", **options: Any):
        """Raises UsageError for an option that is not known or out of range, PresetError, MissingDependency."""
        own, settings, _ = split_options(method, options)
        if strange := [key for key in _OF_FILES if options.get(key) is not None]:
            raise UsageError(f"{strange[0]} is about files", "use anonymize() on them")
        self.method = make(method, own, settings.seed)
        if self.method.closed:
            raise UsageError(f"{method} has to see all faces first", "use anonymize() on a folder")
        self.settings = replace(settings, verify=self.method.judged) if options.get("verify") is None else settings
        judge = recogniser(self.settings.recogniser) if self.settings.describes else None
        self._replacer = Replacer(self.method, self.settings, judge)
        self._detector = detector(self.settings.detect)
        self._count = 0

    def image(self, pixels: np.ndarray, faces: Sequence[Face] | None = None) -> tuple[np.ndarray, tuple[Outcome, ...]]:
        """One picture with every face replaced or covered, and what was done to each. faces: None to search."""
        frame = Frame(checked_pixels(pixels))
        if faces is None:
            faces = locate(frame.pixels, self._detector.detect([frame.pixels])[0])
        numbered = tuple(replace(face, track=number) for number, face in enumerate(faces))
        self._count += 1
        [done] = self._replacer([Request(frame, numbered, f"picture {self._count}")])
        return done.frame.pixels, done.outcomes

    def frames(
        self, frames: Iterable[np.ndarray], fps: float = 25.0, times: Iterable[float] | None = None
    ) -> Iterator[tuple[np.ndarray, tuple[Outcome, ...]]]:
        """Every frame of a video, in order, its faces followed: one track keeps one new face.

        fps: frames a second; times: of each frame in seconds instead, never going back. A frame comes out some seconds
        of video after it went in, since faces are covered before they are first found too. Raises MediaError where a
        frame could not be searched or replaced: nothing unsearched comes out.
        """
        self._count += 1
        name = f"video {self._count}"
        with ThreadPoolExecutor(THREADS, thread_name_prefix="deid") as pool:
            finder = Finder(self._detector, None, pool, 2 * THREADS, self.settings.read, self.settings.track)
            found = finder.found(iter(_items(name, frames, fps, times)))
            for batch in batched(found, lambda item: 1, BATCH, longest=BATCH):
                sound = [item for item in batch if isinstance(item, FileFrame)]
                for done in self._replacer([Request(item.frame, item.faces, name) for item in sound]):
                    yield done.frame.pixels, done.outcomes
                if failed := next((item for item in batch if isinstance(item, FileFailure)), None):
                    raise MediaError(failed.error)


def _items(
    name: str, frames: Iterable[np.ndarray], fps: float, times: Iterable[float] | None
) -> Iterator[FrameOrFailure]:
    """The frames of a video that is an iterable, each held back until it is known whether it is the last."""
    source = Source(Job(None, None, name), None, None, 0.0)
    steady = (index / Fraction(str(fps)) for index in count())
    clock: Iterator[Fraction] = steady if times is None else map(Fraction, times)
    held: Frame | None = None
    for index, (pixels, time) in enumerate(zip(frames, clock, strict=False)):
        if held is not None:
            yield FileFrame(source, held, False)
        held = Frame(checked_pixels(pixels), index, time)
    if held is not None:
        yield FileFrame(source, held, True)


def split_options(method: str | Method, options: Mapping[str, Any]) -> tuple[dict[str, Any], Settings, RunOptions]:
    """The options of a method, and those of a run, out of one dictionary. Raises UsageError for one that is neither."""
    if options.get("labels") in FORMATS:  # a word that is also the flag of a method, for a file
        options = {**options, "labels": None, "label_format": options["labels"]}
    kind = type(method) if isinstance(method, Method) else available().get(method)
    own = {item.name for item in fields(kind.Options)} if kind else set()
    run_names = {item.name for item in fields(RunOptions)}
    flags = {key: value for key, value in options.items() if key in own}
    run = {key: _run_value(key, value) for key, value in options.items() if key in run_names}
    others = {item.name for kind in available().values() for item in fields(kind.Options)}
    # A flag of another method is for `make` to refuse, in the method's words.
    flags |= {key: value for key, value in options.items() if key in others}
    rest = {key: value for key, value in options.items() if key not in flags and key not in run}
    return flags, settings_from(rest), RunOptions(**run)


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Settings by the names of the command's options; None stands for the default. Raises UsageError."""
    parts: dict[str, dict[str, Any]] = {name: {} for name in _PARTS}
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if value is not None:
            place = _place(key)
            (flat if place == "" else parts[place])[_RENAMED.get(key, key)] = value
    write = WriteOptions(**parts["write"], video=VideoOptions(**parts["video"]))
    made = {name: _PARTS[name](**parts[name]) for name in ("detect", "track", "blend", "read")}
    return Settings(**made, write=write, **flat)


def checked_pixels(pixels: np.ndarray) -> np.ndarray:
    """`pixels` if they are a picture. Raises UsageError."""
    shape, kind = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    if not isinstance(pixels, np.ndarray) or kind != np.uint8 or len(pixels.shape) != 3 or pixels.shape[2] != 3:
        raise UsageError(f"a picture is (height, width, 3) uint8, RGB, not {shape} {kind}", "convert it first")
    return pixels


def _place(key: str) -> str:
    """Where an option belongs: the part of the settings that has it, "" for the settings themselves."""
    own = {item.name for item in fields(Settings)} - _NESTED
    if key in own:
        return ""
    for name, kind in _PARTS.items():
        names = {item.name for item in fields(kind)} - {"video"}
        if _RENAMED.get(key, key) in names and key not in _RENAMED.values():
            return name
    owners = [name for name, kind in available().items() if key in {item.name for item in fields(kind.Options)}]
    near = get_close_matches(key, [*own, *(item.name for kind in _PARTS.values() for item in fields(kind))], 1)
    hint = f"did you mean {near[0]}?" if near else "see `deid anonymize --help`"
    hint = f"it is for {' or '.join(owners)}" if owners else hint
    raise UsageError(f"no option is called {key!r} here", hint)


def _run_value(key: str, value: Any) -> Any:
    if key == "since" and isinstance(value, str):
        return parsed_time(value)
    if key == "column":
        return (value,) if isinstance(value, str) else tuple(value)
    if key in _PATHS:
        return place_of(value) if value is not None else None
    if key == "faces_class":
        return tuple(word for word in value.split(",") if word) if isinstance(value, str) else tuple(value or ())
    return parse_shard(value) if key == "shard" and isinstance(value, str) else value
