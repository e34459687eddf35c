"""Audit: what a data-protection officer asks of a folder that was anonymized, as plain values for JSON.

Everything comes from the manifests of the folder, from the files that lie there now, from the weights that are
installed and from the figures that were measured of the methods (`measured.json`). No secret is known.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from deidcli import __version__
from deidcli.engine.files import digest
from deidcli.engine.manifest import COPIED, DONE, FAILED, SALVAGED, SKIPPED, Earlier, Row, Tally
from deidcli.engine.survey import MANIFEST
from deidcli.errors import PresetError, UsageError, one_line
from deidcli.evaluation.bench import commit, now
from deidcli.evaluation.results import Results, to_json
from deidcli.evaluation.verify.records import Records, load
from deidcli.presets import dlib_file, load_preset, sha256

SCHEMA = 1
PACKAGES = ("onnxruntime", "tensorflow", "keras", "numpy", "opencv-python-headless", "dlib-bin", "pillow", "av")
# What is wrong ends the command with status 1; all others are told.
WRONG = {"failed": "could not be done; nothing was written of it", "missing": "its result is not there any more",
         "altered": "its result is not what the run wrote", "left out": "an input of which no manifest speaks",
         "unlisted result": "lies in the folder and comes from no run: it may be an original"}  # fmt: skip
REMARKS = {"salvaged": "damaged; what could be decoded was written", "skipped": "not written, as it was asked for",
        "covered": "faces that got a cover instead of a new face", "left": "faces that were left as they are",
        "in doubt": "faces that somebody should look at (deid review)",
        "not compared": "new faces that no recogniser compared with their originals",
        "not looked at": "lies in an archive, which was not opened",
        "noted": "what is otherwise than in the source", "copied": "no picture; copied as it is"}  # fmt: skip


def audit(out: Path, originals: Path | None = None, manifest: Path | None = None) -> dict[str, Any]:
    """Everything that is known of a folder that `deid anonymize` wrote, as plain values. Raises UsageError.

    originals: the inputs, if at hand; those of which no manifest speaks are named then. manifest: one elsewhere.
    """
    records = load(out, originals, manifest)
    lists = [manifest] if manifest else sorted(out.glob(f"{Path(MANIFEST).stem}*.jsonl"))
    rows = [_row(name, said) for place in lists for name, said in Earlier.load(place).rows.items()]
    tally = Tally()
    for row in rows:
        tally.add(row)
    found = list(_exceptions(rows, records, out))
    return {
        "schema": SCHEMA, "made": now(), "folder": str(out.resolve()), "by": _software(),
        "inputs at hand": originals is not None,
        "manifests": [{"file": place.name, "sha256": sha256(place), "lines": sum(1 for _ in place.open("rb"))}
                      for place in lists],
        "files": {**tally.files, "without a face": tally.unchanged},
        "frames": sum(row.frames for row in rows), "faces": dict(tally.faces), "tracks": dict(tally.sound),
        "runs": [_run(own) for own in _alike(rows)],
        "weights": [*_presets(rows), *_others()],
        "exceptions": found, "wrong": sum(entry["count"] for entry in found if entry["kind"] in WRONG),
    }  # fmt: skip


def _row(name: str, said: Mapping[str, Any]) -> Row:
    known = {each.name for each in fields(Row)}
    row = Row(**{key: value for key, value in said.items() if key in known})
    try:
        row.actions()
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the manifest's line of {name} is damaged: {error!r}", "run deid again") from error
    return row


def _software() -> dict[str, Any]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    said = {"deid": __version__, "commit": commit(), "python": platform.python_version()}
    return said | {"platform": platform.platform(), "packages": found}


# --- what ran


def _alike(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows that were made with the same settings, by the same version and weights."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.method is not None:
            made = {key: value for key, value in (row.made or {}).items() if key != "at"}
            key = json.dumps([row.method, row.options, row.search, made], sort_keys=True)
            found.setdefault(key, []).append(row)
    return list(found.values())


def _run(rows: Sequence[Row]) -> dict[str, Any]:
    """One set of settings, over which files, and what was measured of its method."""
    first = rows[0]
    made = dict(first.made or {})
    made.pop("at", None)
    times = sorted(row.made["at"] for row in rows if row.made and "at" in row.made)
    return {
        "method": first.method, "options": first.options or {}, "search": first.search or {}, "made": made,
        "begun": times[0] if times else None, "ended": times[-1] if times else None, "files": len(rows),
        "settings": sorted({(row.settings or "").partition("-")[0] for row in rows}),
        "measured": _measured(str(first.method), first.options or {}, str(made.get("weights") or "")),
    }  # fmt: skip


def _measured(method: str, options: Mapping[str, Any], weights: str) -> dict[str, Any] | None:
    """What this version knows of a method's worth: the run with its very options, else with its preset, else none."""
    results = measured()
    own = [run for run in results.runs if run.method == method]
    own = [run for run in own if run.preset == options.get("preset", "")]
    exact = [run for run in own if run.options == to_json(dict(options))]
    if not own:
        return None
    run = (exact or own)[0]
    return {
        "label": run.label, "data": f"{run.data} {run.split}".strip(), "measured": results.made,
        "version": run.version, "commit": run.commit, "same options": bool(exact),
        "same weights": None if not weights and run.checksum else run.checksum == weights,
        "same version": run.version == __version__,
        "figures": [{key: value for key, value in to_json(figure).items() if key in _KEPT} for figure in run.figures],
    }  # fmt: skip


_KEPT = ("name", "value", "low", "high", "count", "better", "kind", "unit", "meaning")


def measured() -> Results:
    """The figures of every method as they were measured last: the one place where they stand."""
    place = resources.files("deidcli.evaluation") / "measured.json"
    with resources.as_file(place) as path:
        return Results.load(path)


# --- weights


def _presets(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Every weight file of the presets that the rows name, and of the presets that these are made of."""
    named = {(row.options or {}).get(key) for row in rows for key in ("preset", "gallery")}
    waiting = sorted(str(name) for name in named if name)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        try:
            preset = load_preset(name)
        except PresetError as error:
            yield {"what": f"preset {name}", "file": "", "sha256": "", "licence": "", "state": one_line(error)}
            continue
        parts = [str(preset.config[key]) for key in ("model", "face_model") if preset.config.get(key)]
        waiting += parts
        data = preset.config.get("licences") or ()
        licence = "research only" if preset.config.get("use") == "research" else (
            f"MIT; learnt from {' and '.join(data)} data" if data else "MIT")  # fmt: skip
        said = {"what": f"preset {name}", "licence": licence}
        yield {**said, "file": "config.json", "sha256": preset.checksum, "state": "the preset's checksum"}
        for file in preset.config.get("files", {}):
            try:
                yield {**said, "file": file, "sha256": sha256(preset.file(file)), "state": "whole"}
            except PresetError as error:
                yield {**said, "file": file, "sha256": "", "state": one_line(error)}


def _others() -> Iterator[dict[str, Any]]:
    """Networks of others as they are installed here: detectors, mesh, recognisers."""
    from deidcli.faces import canonical, detectors, recognisers
    from deidcli.networks.dlib_files import DETECTOR, RECOGNISER

    kinds = {"mesh": canonical.WEIGHTS, "detector cnn": dlib_file(DETECTOR), "recogniser dlib": dlib_file(RECOGNISER)}
    kinds |= {f"detector {name}": kind.weights for name, kind in detectors.available().items() if kind.weights}
    kinds |= {f"recogniser {name}": kind.weights for name, kind in recognisers.available().items() if kind.weights}
    for what, weights in kinds.items():
        path = weights.find()
        if path is not None:
            found = sha256(path)
            known = {found: "whole", "": "no checksum is known"}
            state = known.get(weights.checksum, "NOT the file that is known")
            name = Path(weights.name).name
            yield {"what": what, "file": name, "sha256": found, "licence": weights.licence, "state": state}


# --- exceptions


def _exceptions(rows: Iterable[Row], records: Records, out: Path) -> Iterator[dict[str, Any]]:
    """What was not as it should be, or is worth knowing, file by file. count: of faces, else 1."""
    for row in rows:
        plain = {FAILED: "failed", SALVAGED: "salvaged", SKIPPED: "skipped", COPIED: "copied"}.get(row.status)
        if plain:
            yield _entry(plain, row.input, row.error or "")
        if row.notes:
            yield _entry("noted", row.input, "; ".join(row.notes))
        if row.status not in (DONE, SALVAGED):
            continue
        for kind, faces in _faces(row).items():
            why = Counter(str(face.get("reason") or face.get("choice") or "") for face in faces)
            # Of a track it is known in how many frames.
            count = sum(int(face.get(kind, 1)) for face in faces)
            yield _entry(kind, row.input, "; ".join(word for word in why if word), count)
        after = _result(row, out)
        if after.is_file() and row.output_sha256 and digest(after) != row.output_sha256:
            yield _entry("altered", row.input, f"{after.name}: another sha256 than in the manifest")
        elif not after.exists():
            archive = any(folder.is_file() for folder in after.parents)
            yield _entry("not looked at" if archive else "missing", row.input, after.name)
    yield from (_entry("left out", name, "") for name in records.unlisted)
    own = {row.output and Path(row.output).name for row in rows if row.status == COPIED}
    yield from (_entry("unlisted result", name, "") for name in records.strays if Path(name).name not in own)


def _result(row: Row, out: Path) -> Path:
    """Where the result of a row should lie in the folder as it is now; its suffix may be another than its input's."""
    place = out / row.input
    return place.with_name(Path(row.output).name) if row.output else place


def _faces(row: Row) -> dict[str, list[dict[str, Any]]]:
    """The faces, or tracks, of a row that are an exception of each kind."""
    every: list[dict[str, Any]] = [*row.faces, *row.tracks]
    made = row.made or {}
    # Where a method leaves no face there is nothing to compare; of a track the least distance is kept.
    needless = made.get("verify") and (made["recogniser"] is None or row.tracks)
    kinds = {
        "covered": [face for face in every if face.get("action") == "covered" or face.get("covered")],
        "left": [face for face in every if face.get("action") == "left" or face.get("left")],
        "in doubt": [face for face in every if face.get("doubt")],
        "not compared": [face for face in every if (face.get("action") == "replaced" or face.get("replaced"))
                         and face.get("distance") is None and not needless],
    }  # fmt: skip
    return {kind: faces for kind, faces in kinds.items() if faces}


def _entry(kind: str, name: str, why: str, count: int = 1) -> dict[str, Any]:
    return {"kind": kind, "file": name, "count": count, "why": why}
