"""Records: what the manifest says of every file, and where the file and its result lie now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidcli.engine.jobs import MANIFEST, walk
from deidcli.engine.manifest import DONE, Earlier
from deidcli.errors import UsageError
from deidcli.values import Box


@dataclass(frozen=True)
class Known:
    """A face of the manifest. action: "replaced" or "covered". said: its distance to the original as the run measured
    it, None where the run did not. reason: why it was covered.
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
    """A file of the manifest, or a folder of frames. before, after: where the original and the result lie, None where
    they are not found.

    status: "done", "skipped" or "failed". sha256, output_sha256: of both when the run ended, empty where not known.
    """

    name: str
    status: str
    before: Path | None
    after: Path | None
    sha256: str
    output_sha256: str
    frames: int
    faces: tuple[Known, ...]
    settings: str
    error: str

    @property
    def written(self) -> bool:
        return self.status == DONE


@dataclass(frozen=True)
class Records:
    """records: by name. strays: pictures in the output that no manifest speaks of. unlisted: such inputs.

    compared: whether the folder of the inputs is known.
    """

    records: tuple[Record, ...]
    strays: tuple[str, ...]
    unlisted: tuple[str, ...]
    compared: bool


def load(out: Path, inputs: Path | None, manifest: Path | None = None) -> Records:
    """The records of the folder `out`. inputs: the folder (or file) that was anonymized, where it is at hand.

    Raises UsageError where a folder or every manifest is missing, or a manifest holds no whole line.
    """
    if not out.is_dir():
        raise UsageError(f"{out}: there is no such folder", "name the OUTPUT of `deid anonymize`")
    if inputs is not None and not inputs.exists():
        raise UsageError(f"--input {inputs}: there is no such folder", "leave --input out, or name it where it is now")
    places = [manifest] if manifest else sorted(out.glob(f"{Path(MANIFEST).stem}*.jsonl"))
    rows = {name: row for place in places for name, row in Earlier.load(place).rows.items()}
    if not rows:
        said = manifest or out / MANIFEST
        raise UsageError(f"{said}: no manifest with a file in it", "give --manifest FILE if it lies elsewhere")
    records = tuple(_record(name, row, out, inputs) for name, row in sorted(rows.items()))
    return Records(records, _strays(out, inputs, records), _unlisted(out, inputs, rows), inputs is not None)


def _record(name: str, row: dict[str, Any], out: Path, inputs: Path | None) -> Record:
    try:
        return Record(
            name=name,
            status=str(row.get("status")),
            before=_first(_inputs(name, inputs)) if inputs else None,
            # Beside the manifest first: folders are moved as a whole.
            after=_first([out / name, *([Path(row["output"])] if row.get("output") else [])]),
            sha256=row.get("sha256") or "",
            output_sha256=row.get("output_sha256") or "",
            frames=int(row.get("frames") or 0),
            faces=tuple(_known(entry) for entry in row.get("faces") or ()),
            settings=_settings(row),
            error=row.get("error") or "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the manifest's line of {name} is damaged: {error!r}", "run deid again") from error


def _known(entry: dict[str, Any]) -> Known:
    box = Box(*map(float, entry["box"]))
    said = None if entry.get("distance") is None else float(entry["distance"])
    place = int(entry.get("frame", 0)), box, int(entry.get("track", 0))
    return Known(*place, str(entry["action"]), str(entry.get("method")), said, entry.get("reason") or "")


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


def _first(places: Iterable[Path]) -> Path | None:
    return next((place for place in places if place.exists()), None)


def _strays(out: Path, inputs: Path | None, records: Iterable[Record]) -> tuple[str, ...]:
    listed = {record.after.resolve() for record in records if record.after and record.written}
    files = ((path, path.resolve()) for path in walk(out, skip=inputs))
    return tuple(path.relative_to(out).as_posix() for path, place in files if not listed & {place, place.parent})


def _unlisted(out: Path, inputs: Path | None, rows: dict[str, dict]) -> tuple[str, ...]:
    if inputs is None or not inputs.is_dir():
        return ()
    files = [path.relative_to(inputs) for path in walk(inputs, skip=out)]
    # A name of several inputs begins with its folder's; a folder of frames stands for all that is in it.
    known = {*rows, *(name.removeprefix(f"{inputs.resolve().name}/") for name in rows)}
    return tuple(path.as_posix() for path in files if not known & {path.as_posix(), path.parent.as_posix()})
