"""Review: one page that shows what became of every face, on which people decide, and whose decisions a run takes back.

The page holds everything in itself: pictures as data, the script, no address. It shows faces as they were only where
the originals are given.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deidcli.engine.zones import BY_HAND, LEAVE, REPLACE, Instructions, Zone
from deidcli.errors import UsageError, one_line
from deidcli.evaluation.verify.records import places, rows_of
from deidcli.faces.landmarks import locate
from deidcli.faces.people import is_comparable, people
from deidcli.faces.recognisers import Recogniser
from deidcli.media.open import open_reader
from deidcli.values import Box, Face, Frame

MOST = 2000  # cards of a page
PICTURES = 200  # files of a page that zones can be drawn on
SIDE, WIDE = 112, 960  # pixels of the picture of a face, and of a file
ROOM = 1.6  # sides of a face's box that its picture shows
ONLY = "--only-people"


@dataclass(eq=False)
class Card:
    """A face of a picture, or a track of a video. seen: the frame and the box that are shown.

    number: its place on the page. frame, box: by which a decision finds it. times: seconds in which a track is there;
    runs: (start, end, action) of it. action: "replaced", "covered" or "left", the most frequent one; mixed: whether
    there are others. wrong: what "wrong person" means for it, "" where it was taken for nobody. group: by likeness.
    """

    file: int
    frame: int
    track: int
    box: list[float]
    action: str
    why: str
    doubt: bool
    seen: tuple[int, Box]
    wrong: str = ""
    times: tuple[float, float] = (0.0, 0.0)
    runs: list[tuple[float, float, str]] = field(default_factory=list)
    mixed: bool = False
    number: int = 0
    before: str = ""
    after: str = ""
    descriptor: np.ndarray | None = None


@dataclass(eq=False)
class Reviewed:
    """A file of the run. before, after: where the input, if it is at hand, and the result lie."""

    name: str
    sha256: str
    size: tuple[int, int]
    video: bool
    frames: int
    before: Path | None
    after: Path | None
    seconds: float = 0.0
    picture: str = ""
    shown: tuple[int, int] = (0, 0)


def reviewed(out: Path, originals: Path | None) -> tuple[list[Reviewed], list[Card]]:
    """The files of a folder that a run wrote, and the faces in them, those in doubt first. Raises UsageError."""
    files: list[Reviewed] = []
    cards: list[Card] = []
    rows = rows_of(out)
    if not rows:
        raise UsageError(f"{out}: no manifest with a file in it", "name the OUTPUT folder of `deid anonymize`")
    for name, row in sorted(rows.items()):
        if row.get("status") not in ("done", "salvaged"):
            continue
        before, after = places(name, row, out, originals)
        width, height = row.get("size") or (1, 1)
        tracks = row.get("tracks") or ()
        try:
            own = [_of_track(len(files), each) for each in tracks] + [
                _of_face(len(files), f) for f in row.get("faces") or ()
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"the manifest's line of {name} is damaged: {error!r}", "run deid again") from error
        file = Reviewed(
            name, row.get("sha256") or "", (width, height), bool(tracks), row.get("frames") or 0, before, after
        )
        file.seconds = round(max((end for card in own for _, end, _ in card.runs), default=0.0), 3)
        files.append(file)
        cards += own
    cards.sort(key=lambda card: (not card.doubt, card.file, card.frame, card.track))
    return files, cards


def doubtful(out: Path) -> Iterator[dict[str, Any]]:
    """The faces of a run that are in doubt, as lines of JSON have them. Raises UsageError."""
    files, cards = reviewed(out, None)
    for card in cards:
        if card.doubt:
            said = {"input": files[card.file].name, "frame": card.frame, "track": card.track, "box": card.box}
            yield {**said, "times": list(card.times), "action": card.action, "choice": card.why}


def was_decided(out: Path) -> bool:
    """Whether a run was given decisions or zones, which a page knows of only where it is given them, too."""
    return any(
        row.get("zones") or any(str(each.get("choice")).startswith(BY_HAND) for each in (*(row.get("faces") or ()),
                                                                                       *(row.get("tracks") or ())))
        for row in rows_of(out).values()
    )  # fmt: skip


def _of_face(file: int, entry: Mapping[str, Any]) -> Card:
    box = [float(side) for side in entry["box"]]
    frame = int(entry.get("frame", 0))
    return Card(file, frame, int(entry["track"]), box, entry["action"], _why(entry), bool(entry.get("doubt")),
                (frame, Box(*box)), _wrong(entry))  # fmt: skip


def _of_track(file: int, entry: Mapping[str, Any]) -> Card:
    first, *box = entry["boxes"][0]
    largest = max(entry["boxes"], key=lambda place: (place[3] - place[1]) * (place[4] - place[2]))
    counts = {word: entry.get(word, 0) for word in ("replaced", "covered", "left")}
    start, end = entry["frames"]
    begin, over = entry["times"]
    step = (over - begin) / max(1, end - start)
    runs = [(begin + step * (a - start), begin + step * (b + 1 - start), word) for a, b, word, *_ in entry["runs"]]
    action = max(counts, key=lambda word: counts[word])
    return Card(file, int(first), int(entry["track"]), [float(side) for side in box], action, _why(entry),
                bool(entry.get("doubt")), (int(largest[0]), Box(*map(float, largest[1:]))), _wrong(entry),
                (begin, over), runs, sum(map(bool, counts.values())) > 1)  # fmt: skip


def _why(entry: Mapping[str, Any]) -> str:
    measured = f"distance {entry['distance']:.2f}" if entry.get("distance") is not None else ""
    return "; ".join(word for word in (entry.get("choice") or "", entry.get("reason") or "", measured) if word)


def _wrong(entry: Mapping[str, Any]) -> str:
    """What becomes of a face that was taken for the wrong person, "" where that makes no difference."""
    if not entry.get("match"):
        return ""
    if str(entry.get("choice")).startswith(ONLY):
        return LEAVE
    return REPLACE if entry.get("action") == "left" or entry.get("left") else ""


def add_pictures(file: Reviewed, cards: Sequence[Card], drawable: bool, judge: Recogniser | None) -> str:
    """Look at a file, and give its cards their pictures; with a judge also what tells their people apart.

    drawable: whether zones are to be drawn on it. Returns why it could not be looked at, "" where it could.
    """
    if file.after is None:
        return f"{file.name} is shown without pictures: its result is not at hand"
    wanted = {card.seen[0] for card in cards} or {0}
    try:
        for frame in _frames(file.after, wanted):
            if drawable and not file.picture:
                file.picture, file.shown = _whole(frame.pixels)
            for card in cards:
                if card.seen[0] == frame.index:
                    card.after = _cut(frame.pixels, card.seen[1])
        if file.before is not None:
            for frame in _frames(file.before, wanted):
                for card in cards:
                    if card.seen[0] == frame.index:
                        card.before = _cut(frame.pixels, card.seen[1])
                        card.descriptor = _described(judge, frame.pixels, card.seen[1]) if judge else None
    except Exception as error:
        return f"{file.name} is shown without pictures: {one_line(error)}"
    return ""


def _frames(path: Path, wanted: set[int]) -> Iterator[Frame]:
    with open_reader(path) as reader:
        for frame in reader.frames():
            if frame.index in wanted:
                yield frame
            if frame.index >= max(wanted):
                return


def _described(judge: Recogniser, pixels: np.ndarray, box: Box) -> np.ndarray | None:
    """What tells a face apart; None where it is too small or turned, and all of its kind look like one person."""
    [face] = locate(pixels, [Face(box)])
    return judge.embed(judge.chips(pixels, [face]))[0] if is_comparable(face) else None


def _cut(pixels: np.ndarray, box: Box) -> str:
    """The square about a box as the address of a picture."""
    (x, y), side = box.center, max(box.width, box.height, 8.0) * ROOM
    scale = SIDE / side
    moved = np.array([[scale, 0, SIDE / 2 - scale * x], [0, scale, SIDE / 2 - scale * y]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return _address(cv2.warpAffine(pixels, moved, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE), 80)


def _whole(pixels: np.ndarray) -> tuple[str, tuple[int, int]]:
    height, width = pixels.shape[:2]
    scale = min(1.0, WIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _address(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 70), size


def _address(pixels: np.ndarray, quality: int) -> str:
    coded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def groups(files: Sequence[Reviewed], cards: Sequence[Card], judge: Recogniser | None) -> list[dict[str, Any]]:
    """The cards by likeness, where originals were described, else by file; groups in doubt first, then large ones."""
    described = [card for card in cards if card.descriptor is not None]
    found: dict[tuple[int, int], list[Card]] = {}
    if described and judge is not None:
        labels = people(
            np.stack([card.descriptor for card in described if card.descriptor is not None]), judge.threshold
        )
        for card, label in zip(described, labels.tolist(), strict=True):
            found.setdefault((0, label), []).append(card)
    for card in cards:
        if card.descriptor is None:
            found.setdefault((1, card.file), []).append(card)
    order = sorted(found.items(), key=lambda each: (not any(card.doubt for card in each[1]), -len(each[1]), each[0]))
    made: list[dict[str, Any]] = []
    persons = count(1)
    for (by_file, _), own in order:
        name = files[own[0].file].name if by_file else f"Person {next(persons)}"
        made.append({"name": name, "cards": [card.number for card in own]})
    return made


def page(
    out: Path, files: Sequence[Reviewed], cards: Sequence[Card], judge: Recogniser | None, instructions: Instructions
) -> str:
    """The page, self-contained. instructions: what was decided before, to go on with."""
    for number, card in enumerate(cards):
        card.number = number
    said, others = _before(files, cards, instructions)
    counts = {word: sum(card.action == word for card in cards) for word in ("replaced", "covered", "left")}
    doubts = sum(card.doubt for card in cards)
    about = f"{len(files)} files, {len(cards)} faces or tracks: " + ", ".join(
        f"{n} {word}" for word, n in counts.items()
    )
    about += f"; {doubts} in doubt." + ("" if judge else " Faces are grouped by file; with --originals by likeness.")
    value = {
        "name": out.resolve().name, "about": about, "said": said, "others": others,
        "zones": [_zone(zone) for zone in instructions.zones], "groups": groups(files, cards, judge),
        "files": [{"name": f.name, "sha256": f.sha256, "size": f.size, "video": f.video, "pages": f.frames > 1,
                   "seconds": max(f.seconds, 0.001), "picture": f.picture, "shown": f.shown} for f in files],
        "cards": [{"number": c.number, "file": c.file, "frame": c.frame, "track": c.track, "box": c.box,
                   "wrong": c.wrong, "action": c.action, "why": c.why, "doubt": c.doubt, "times": c.times,
                   "runs": c.runs, "mixed": c.mixed, "before": c.before, "after": c.after} for c in cards],
    }  # fmt: skip
    # Within a script nothing but this could end it.
    text = json.dumps(value).replace("<", "\\u003c")
    folder = resources.files("deidcli.evaluation.report") / "templates"
    script = (folder / "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    whole = (folder / "review.html").read_text(encoding="utf-8")
    return whole.replace("@HASH@", f"sha256-{digest}").replace("@SCRIPT@", script).replace("@DATA@", text)


def _before(
    files: Sequence[Reviewed], cards: Sequence[Card], instructions: Instructions
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The decisions of before: on cards of the page by their numbers, and all others as they stand."""
    places = {(files[card.file].name, card.frame, card.track): card for card in cards}
    said, others = {}, []
    for name, decisions in instructions.decisions.items():
        for each in decisions:
            card = places.get((name, each.frame, each.track))
            if card is not None:
                said[str(card.number)] = each.action
            else:
                more = {"sha256": each.sha256} if each.sha256 else {}
                others.append({"input": name, "frame": each.frame, "track": each.track, "box": each.box.as_list(),
                               "action": each.action, **more})  # fmt: skip
    return said, others


def _zone(zone: Zone) -> dict[str, Any]:
    more = {"size": list(zone.size)} if zone.size else {}
    return {"zone": zone.kind, "input": zone.input, "polygon": [list(corner) for corner in zone.polygon],
            "from": zone.begin, "to": zone.end, **more}  # fmt: skip
