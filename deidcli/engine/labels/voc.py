"""Pascal VOC: an XML file for each picture, with `filename`, `size` and an `object` for each face.

Its boxes count pixels from 1 and include the last one, in whole numbers: `xmin` is the left side and one, `xmax` the
right side. The frames of a video lie in a folder VIDEO.labels, by their 0-based number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from deidcli.engine import records
from deidcli.engine.face_list import FARTHEST
from deidcli.engine.labels.base import FACE, HINT, Classes, Entry, Labelled, Names, as_xml, box_of, child, entry, xml
from deidcli.engine.labels.yolo import FRAMES_OF
from deidcli.errors import UsageError
from deidcli.values import UNTRACKED, Face

SUFFIX = ".xml"
ROOT = "annotation"


def read(path: Path, names: Names, classes: Classes) -> Iterator[Entry]:
    """What an XML file, or each of a folder, says. Raises UsageError, OSError."""
    folder = path if path.is_dir() else path.parent
    files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    roots = {each: xml(each) for each in files}
    kinds = {kind for root in roots.values() for kind in _kinds(root)}
    try:
        chosen = classes.chosen(kinds)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", HINT) from error
    for each, root in roots.items():
        with entry(each, 1):
            (name, index), size = _place(root, each, folder, names), _size(root)
        faces = []
        for number, found in enumerate(root.iterfind("object"), 1):
            with entry(each, number):
                if child(found, "name") in chosen:
                    faces.append(_face(found))
        yield Entry(name, Labelled(index, size, tuple(faces)))


def write(name: str, frame: Labelled) -> bytes:
    """A frame of the file `name` as the XML of its picture."""
    root, path = ElementTree.Element(ROOT), Path(name)
    _add(root, "folder", path.parent.name)
    _add(root, "filename", path.name)
    size = ElementTree.SubElement(root, "size")
    for tag, side in zip(("width", "height", "depth"), (*(frame.size or (0, 0)), 3), strict=True):
        _add(size, tag, side)
    _add(root, "segmented", 0)
    for face in frame.faces:
        found = ElementTree.SubElement(root, "object")
        for tag, value in (("name", FACE), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _add(found, tag, value)
        box, corners = ElementTree.SubElement(found, "bndbox"), face.box
        left, top = round(corners.left) + 1, round(corners.top) + 1
        right, bottom = max(left, round(corners.right)), max(top, round(corners.bottom))
        for tag, value in (("xmin", left), ("ymin", top), ("xmax", right), ("ymax", bottom)):
            _add(box, tag, value)
    return as_xml(root)


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


def _kinds(root: ElementTree.Element) -> Iterator[str]:
    if root.tag != ROOT:
        return
    for found in root.iterfind("object"):
        yield (found.findtext("name") or "").strip() or "?"


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    sides = [round(records.finite(child(root, f"size/{side}"), side)) for side in ("width", "height")]
    width, height = (records.whole(side, "size", 0, FARTHEST) for side in sides)
    return (width, height) if width and height else None


def _place(root: ElementTree.Element, path: Path, folder: Path, names: Names) -> tuple[str, int]:
    """The input and the frame that an XML file is of. Raises ValueError."""
    if root.tag != ROOT:
        raise ValueError(f"its root is <{root.tag}>, and <{ROOT}> is that of Pascal VOC")
    inside = path.relative_to(folder)
    if inside.parent.name.endswith(FRAMES_OF) and path.stem.isdigit():
        return names.of(inside.parent.as_posix().removesuffix(FRAMES_OF)), int(path.stem)
    own = (inside.parent / Path(child(root, "filename").replace("\\", "/")).name).as_posix()
    found = names.of(own)
    return (found if found in names.names else names.of_stem(inside.with_suffix("").as_posix()) or own), 0


def _face(found: ElementTree.Element) -> Face:
    left, top, right, bottom = (
        records.finite(child(found, f"bndbox/{side}"), side) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return Face(box_of(left - 1, top - 1, right, bottom), track=UNTRACKED)
