"""Records: which result belongs to which input, by their names, and what the manifest says of it where there is one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidcli.engine.jobs import SHEET
from deidcli.engine.manifest import COPIED, DONE, SALVAGED, Earlier
from deidcli.engine.survey import MANIFEST, walk
from deidcli.errors import UsageError
from deidcli.media.open import is_media
from deidcli.values import Box

UNTOLD = "untold"  # the status of a file that no manifest speaks of
HEAD = 1 << 16  # bytes by which a text is told from other files


@dataclass(frozen=True)
class Known:
    """A face of the manifest. action: "replaced", "covered" or "left". said: its distance to the original as the run
    measured it, None where the run did not. reason: why it was covered or left.
    """

    frame: int
    box: Box
    track: int
    action: str
    method: str
    said: float | None
    reason: str


@dataclass(frozen=True)
class Record:
    """An input with its result, or a folder of frames. before, after: where they lie, None where they are not found.

    status: "done", "skipped", "salvaged" or "failed" by the manifest, UNTOLD where none speaks of it. sha256,
    output_sha256: of both when the run ended, empty where not known.
    """

    name: str
    status: str
    before: Path | None
    after: Path | None
    sha256: str = ""
    output_sha256: str = ""
    frames: int = 0
    faces: tuple[Known, ...] = ()
    settings: str = ""
    error: str = ""

    @property
    def written(self) -> bool:
        """Whether there should be a result."""
        return self.status in (DONE, SALVAGED) or (self.status == UNTOLD and self.after is not None)


@dataclass(frozen=True)
class Records:
    """records: by name, those without a result included. strays: pictures and videos of the output that come from no
    input. unlisted: inputs that a manifest, where there is one, does not speak of. beside: other files of the output
    that are text; unlooked: other files that nobody looked into. compared: whether the inputs are at hand. listed:
    whether there is a manifest.
    """

    records: tuple[Record, ...]
    strays: tuple[str, ...]
    unlisted: tuple[str, ...]
    compared: bool
    listed: bool = True
    beside: tuple[str, ...] = ()
    unlooked: tuple[str, ...] = ()


def load(out: Path, inputs: Path | None, manifest: Path | None = None) -> Records:
    """The records of the folder `out` by its manifest. inputs: the folder (or file) that was anonymized, if at hand.

    Raises UsageError where a folder or every manifest is missing, or a manifest holds no whole line.
    """
    _check(out, inputs)
    rows = rows_of(out, manifest)
    if not rows:
        said = manifest or out / MANIFEST
        raise UsageError(f"{said}: no manifest with a file in it", "give --manifest FILE if it lies elsewhere")
    records = tuple(_record(name, row, out, inputs) for name, row in sorted(rows.items()))
    return Records(records, _strays(out, inputs, records), _unlisted(out, inputs, rows), inputs is not None)


def paired(out: Path, inputs: Path, manifest: Path | None = None, trusted: bool = True) -> Records:
    """The records of every file below `inputs` and `out`, whether a manifest speaks of it or not.

    A result belongs to the input of its own name, else to that of its name without the suffix, or with something
    appended to it (a.heic and a.jpg, a.mp4 and a_anonymized.mp4). manifest, trusted: a list that lies elsewhere, and
    whether any is read. Raises UsageError for a folder that is not there and a damaged manifest.
    """
    _check(out, inputs)
    if out.is_file():
        before = inputs if inputs.is_file() else inputs / out.name
        return Records((Record(out.name, UNTOLD, before if before.exists() else None, out),), (), (), True, False)
    rows = rows_of(out, manifest) if trusted else {}
    listed = [_record(name, row, out, inputs) for name, row in sorted(rows.items())]
    strays, unlisted = list(_strays(out, inputs, listed)), list(_unlisted(out, inputs, rows))
    if not rows:
        unlisted = [path.relative_to(inputs).as_posix() for path in _walked(inputs, out)]
    partners = _partners(unlisted, strays)
    new = [Record(name, UNTOLD, _inside(inputs, name), out / partners[name] if name in partners else None)
           for name in unlisted]  # fmt: skip
    lone = [name for name in strays if name not in partners.values()]
    new += [Record(name, UNTOLD, None, out / name) for name in lone]
    records = tuple(sorted([*listed, *new], key=lambda record: record.name))
    beside, unlooked = _others(out, inputs)
    lost = tuple(name for name in unlisted if rows)
    return Records(records, tuple(lone), lost, True, bool(rows), beside, unlooked)


def _check(out: Path, inputs: Path | None) -> None:
    if not out.is_dir() and not (out.is_file() and inputs is not None):
        raise UsageError(f"{out}: there is no such folder", "name the OUTPUT of `deid anonymize`")
    if inputs is not None and not inputs.exists():
        raise UsageError(f"--input {inputs}: there is no such folder", "leave --input out, or name it where it is now")


def rows_of(out: Path, manifest: Path | None = None) -> dict[str, dict[str, Any]]:
    """The last row of each input in the manifests of a folder, or in one that lies elsewhere. Raises UsageError.

    A file that was copied as it is has none: it is looked at as what it is.
    """
    lists = [manifest] if manifest else sorted(out.glob(f"{Path(MANIFEST).stem}*.jsonl"))
    rows = {name: row for place in lists for name, row in Earlier.load(place).rows.items()}
    if not rows and (torn := next((place for place in lists if place.is_file() and place.stat().st_size), None)):
        raise UsageError(f"{torn}: no line of the manifest can be read", "run deid again, or give --manifest none")
    return {name: row for name, row in rows.items() if row.get("status") != COPIED}


def places(name: str, row: Mapping[str, Any], out: Path, inputs: Path | None) -> tuple[Path | None, Path | None]:
    """Where the input of a row, if it is at hand, and its result lie; None for what is not found."""
    # Beside the manifest first: folders are moved as a whole. What lies elsewhere is no result in this folder.
    said = Path(row["output"]) if row.get("output") else out / name
    within = said.resolve().is_relative_to((out if out.is_dir() else out.parent).resolve())
    after = _first([out / name, *([said] if within else [])])
    return _first(_inputs(name, inputs)) if inputs else None, after


def _record(name: str, row: dict[str, Any], out: Path, inputs: Path | None) -> Record:
    try:
        before, after = places(name, row, out, inputs)
        return Record(
            name=name,
            status=str(row.get("status")),
            before=before,
            after=after,
            sha256=row.get("sha256") or "",
            output_sha256=row.get("output_sha256") or "",
            frames=int(row.get("frames") or 0),
            faces=(*(_known(entry) for entry in row.get("faces") or ()), *_left_tracks(row)),
            settings=_settings(row),
            error=row.get("error") or "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the manifest's line of {name} is damaged: {error!r}", "run deid again") from error


def _known(entry: dict[str, Any]) -> Known:
    box = Box(*map(float, entry["box"]))
    said = None if entry.get("distance") is None else float(entry["distance"])
    place = int(entry.get("frame", 0)), box, int(entry.get("track", 0))
    reason = entry.get("reason") or entry.get("choice") or ""
    return Known(*place, str(entry["action"]), str(entry.get("method")), said, reason)


def _left_tracks(row: dict[str, Any]) -> Iterator[Known]:
    """The faces of tracks that were left as they were, frame by frame: nobody should take them for forgotten ones."""
    for track in row.get("tracks") or ():
        places = sorted((int(place[0]), Box(*map(float, place[1:]))) for place in track["boxes"])
        for first, last, action, *_ in track["runs"]:
            for frame in range(first, last + 1) if action == "left" else ():
                box = places[max(0, bisect_right([start for start, _ in places], frame) - 1)][1]
                yield Known(frame, box, int(track["track"]), action, "", None, track.get("choice") or "")


def _settings(row: dict[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in (row.get("options") or {}).items())
    return f"{row.get('method')} ({options})" if options else str(row.get("method"))


def _inputs(name: str, inputs: Path) -> Iterator[Path]:
    """Where the original may lie: of several inputs each folder's name was put before its files' names."""
    if inputs.is_file():
        yield from [inputs] if inputs.name == name else []
        return
    yield inputs / name
    if Path(name).parts[:1] == (inputs.resolve().name,):
        yield inputs.resolve().parent / name


def _inside(inputs: Path, name: str) -> Path | None:
    return _first(_inputs(name, inputs))


def _first(places: Iterable[Path]) -> Path | None:
    return next((place for place in places if place.exists()), None)


def _walked(folder: Path, skip: Path | None) -> Iterator[Path]:
    return walk(folder, skip=skip) if folder.is_dir() else iter([folder])


def _strays(out: Path, inputs: Path | None, records: Iterable[Record]) -> tuple[str, ...]:
    listed = {record.after.resolve() for record in records if record.after}
    sheets = {place.with_name(place.name + SHEET) for place in listed}
    files = ((path, path.resolve()) for path in walk(out, skip=inputs))
    return tuple(
        path.relative_to(out).as_posix() for path, place in files if not (listed | sheets) & {place, place.parent}
    )


def _unlisted(out: Path, inputs: Path | None, rows: dict[str, dict]) -> tuple[str, ...]:
    if inputs is None or not inputs.is_dir():
        return ()
    files = [path.relative_to(inputs) for path in walk(inputs, skip=out)]
    # A name of several inputs begins with its folder's; a folder of frames stands for all that is in it.
    known = {*rows, *(name.removeprefix(f"{inputs.resolve().name}/") for name in rows)}
    return tuple(path.as_posix() for path in files if not known & {path.as_posix(), path.parent.as_posix()})


def _partners(inputs: Iterable[str], results: Iterable[str]) -> dict[str, str]:
    """The result of each input by name; those that have none are left out, and so are those that could be several's."""
    left = dict.fromkeys(results)
    found = {name: name for name in inputs if name in left}
    for name in found.values():
        del left[name]
    for rule in (_same_stem, _longer_stem):
        waiting = [name for name in inputs if name not in found]
        fits = {name: [other for other in left if rule(Path(name), Path(other))] for name in waiting}
        for name, others in fits.items():
            if len(others) == 1 and sum(others[0] in each for each in fits.values()) == 1:
                found[name] = others[0]
                del left[others[0]]
    return found


def _same_stem(one: Path, other: Path) -> bool:
    return one.parent == other.parent and one.stem == other.stem


def _longer_stem(one: Path, other: Path) -> bool:
    return one.parent == other.parent and other.stem.startswith((f"{one.stem}_", f"{one.stem}-", f"{one.stem}."))


def _others(out: Path, inputs: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files of the output that are no pictures or videos: those of text, and those that nobody can look into."""
    walked, skip = {path for path in walk(out, skip=inputs)}, inputs.resolve()
    found: tuple[list[str], list[str]] = [], []
    for path in sorted(out.rglob("*")):
        if path.is_symlink() or not path.is_file() or path in walked or path.resolve().is_relative_to(skip):
            continue
        if path.name.startswith(Path(MANIFEST).stem) or path.name.endswith(".deid-part") or is_media(path):
            continue
        found[not _is_text(path)].append(path.relative_to(out).as_posix())
    return tuple(found[0]), tuple(found[1])


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    try:
        return b"\0" not in head and bool(head[:-3].decode("utf-8") or True)
    except UnicodeDecodeError as error:
        return error.start > len(head) - 7
