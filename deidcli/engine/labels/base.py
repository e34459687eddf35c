"""What all formats of labels share: a frame with its faces, which picture a label means, which classes are faces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from deidcli.engine import records
from deidcli.engine.face_list import FARTHEST, checked_box, misplaced
from deidcli.engine.records import Record
from deidcli.errors import UsageError
from deidcli.values import Box, Face, Frame

FACE = "face"  # the class that is written, and the word by which one is known as faces
EVERY = "all"  # the word for every class
LARGEST = 1 << 29  # bytes of a file of labels
HINT = "see docs/labels.md for what is read"
_ROOTS = ("labels", "images", "annotations", "Annotations", "JPEGImages")  # folders of a data set that pair with others


@dataclass(frozen=True)
class Labelled:
    """One frame with its faces. index: 0-based. size: (width, height) in pixels, None where a list does not say.

    followed: whether the frame is of a video, so that the numbers of its faces are tracks.
    """

    index: int
    size: tuple[int, int] | None
    faces: tuple[Face, ...] = ()
    followed: bool = False


def labelled(frame: Frame, faces: Iterable[Face]) -> Labelled:
    """A frame with its faces as labels have them: those that lie in the picture; of a video without landmarks."""
    followed = frame.time is not None
    shown = (face for face in faces if not misplaced(face, frame))
    # A long video has a million faces; their landmarks are located anew where they are needed.
    kept = tuple(replace(face, landmarks=None) if followed else face for face in shown)
    return Labelled(frame.index, (frame.width, frame.height), kept, followed)


@dataclass(frozen=True)
class Entry:
    """What a list says of one frame of a file. shares: its boxes are shares of width and height of the frame."""

    name: str
    frame: Labelled
    shares: bool = False


class Names:
    """Tells which input a label means. names: of all inputs; none where they are not known.

    A label means the input of the same path, or the only one of which the shorter of both paths is the end: `a.jpg`
    is `train/a.jpg` where there is no other a.jpg. The folders `labels` and `images` at the top do not count.
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names = frozenset(names)
        self._whole: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for name in sorted(self.names):
            path = PurePosixPath(name)
            self._whole.setdefault(path.name, []).append(name)
            self._stems.setdefault(path.stem, []).append(name)

    def of(self, said: str) -> str:
        """The input that is called `said`; `said` itself where there is none. Raises ValueError where it is unclear."""
        if said in self.names:
            return said
        path = PurePosixPath(said.replace("\\", "/"))
        return _only(said, [n for n in self._whole.get(path.name, ()) if _ends(n, path.parts)]) or said

    def of_stem(self, said: str) -> str | None:
        """The input that is called `said` and some suffix; None where there is none."""
        path = PurePosixPath(said)
        known = (name for name in self._stems.get(path.name, ()))
        return _only(said, [n for n in known if _ends(str(PurePosixPath(n).with_suffix("")), path.parts)])

    def only(self) -> str:
        """The input, where there is one. Raises ValueError."""
        if len(self.names) != 1:
            raise ValueError("it does not say of which video it is, and there is more than one input")
        return next(iter(self.names))


def _ends(name: str, said: tuple[str, ...]) -> bool:
    own = PurePosixPath(name).parts
    own, said = (parts[1:] if parts[0] in _ROOTS and len(parts) > 1 else parts for parts in (own, said))
    count = min(len(own), len(said))
    return own[-count:] == said[-count:]


def _only(said: str, names: Sequence[str]) -> str | None:
    if len(names) > 1:
        raise ValueError(f"{said} could be {names[0]} or {names[1]}: give the folder, too")
    return names[0] if names else None


@dataclass(frozen=True)
class Classes:
    """Which classes of a list are faces. wanted: their names, or EVERY; none for those that are called so."""

    wanted: tuple[str, ...] = ()

    def chosen(self, known: Iterable[str]) -> frozenset[str]:
        """Those of `known` that are faces. Raises ValueError where none is, although there are some.

        A list that names no class but numbers one has one class, and that is taken.
        """
        names = sorted(set(known))
        if EVERY in self.wanted or not names:
            return frozenset(names)
        if self.wanted:
            found = [name for name in names if name in self.wanted]
        else:
            found = [name for name in names if FACE in name.lower()]
            found = found or (names if len(names) == 1 and names[0].isdigit() else [])
        if not found:
            shown = ", ".join(name[:40] for name in names[:6]) + (", ..." if len(names) > 6 else "")
            wanted = f"called {' or '.join(self.wanted)}" if self.wanted else f"called {FACE}"
            raise ValueError(f"no class is {wanted}: there are {shown}; --faces-class says which are faces")
        return frozenset(found)


def box_of(left: float, top: float, right: float, bottom: float) -> Box:
    """A box in pixels. Raises ValueError where it is none, or as far away as no picture reaches."""
    return checked_box(
        Box(*(records.number(side, "a side", -FARTHEST, FARTHEST) for side in (left, top, right, bottom)))
    )


def document(path: Path) -> Record | None:
    """A file that holds one JSON object; None for one of another kind. Raises OSError, UsageError for a large one."""
    data = _bytes(path)
    if not data.lstrip().startswith((b"{", records.BOM)):
        return None
    try:
        value = records.parsed(data.removeprefix(records.BOM), LARGEST)
    except ValueError:
        return None  # lines of JSON are no document
    return value


def xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises UsageError, OSError. Declarations of entities are refused."""
    try:
        text = _bytes(path).decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UsageError(f"{path}: it declares entities, which labels have no use for", "take them out")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise UsageError(f"{path}: it is not XML in UTF-8: {error}", HINT) from error


def attribute(element: ElementTree.Element, name: str) -> float:
    """A number in an attribute. Raises ValueError."""
    text = element.get(name)
    if text is None:
        raise ValueError(f"<{element.tag}> has no {name}")
    return records.finite(text, name)


def child(element: ElementTree.Element, name: str) -> str:
    """The text of an element within another one. Raises ValueError."""
    text = element.findtext(name)
    if text is None or not text.strip():
        raise ValueError(f"<{element.tag}> has no <{name}>")
    return text.strip()


def as_xml(root: ElementTree.Element) -> bytes:
    """An element as a file, indented."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def as_json(value: object) -> bytes:
    """A value as a file of JSON."""
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def rounded(box: Box, digits: int = 2) -> list[float]:
    """left, top, right, bottom."""
    return [round(float(side), digits) for side in (box.left, box.top, box.right, box.bottom)]


@contextmanager
def entry(path: Path, number: int) -> Iterator[None]:
    """Turn what is wrong with an entry of a file into UsageError, in one line that names both."""
    try:
        yield
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        records.refuse(path, number, error)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{path}: it is longer than {LARGEST >> 20} MiB", "split it")
    return data
