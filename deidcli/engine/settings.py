"""Everything that decides what a run writes, in one frozen value, and its fingerprint; and what it does with files.

Also for whom a method draws its secrets (`Personas`): faces with the same key get the same random draw (axis, donor).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deidcli import __version__
from deidcli.errors import UsageError
from deidcli.faces.blend import BlendOptions
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.recognisers import default as default_recogniser
from deidcli.faces.tracking import TrackOptions
from deidcli.media.stream import ReadOptions, WriteOptions
from deidcli.methods.base import Method
from deidcli.values import Face

ON_NO_FACE = ("copy", "skip", "fail")
FALLBACKS = ("solid", "pixelate", "blur")
LAST_RESORT = FALLBACKS[0]  # nothing of a face is left after it
RECOGNISER = "dlib"  # tells the people of a closed set apart, orders pages, measures where none is named
SHARDS = 100_000  # parts of a run


@dataclass(frozen=True)
class Settings:
    """How a run works.

    on_no_face: what happens to a file without a face: "copy" it with its metadata scrubbed, "skip" it, or "fail".
    fallback: the method that covers a face which the chosen one cannot replace. verify: compare every new face with its
    original and go on to stronger settings, then to the fallback, while `recogniser` still takes them for one person.
    distance: the recogniser's threshold, None for its own. persona: for whom secrets are drawn (`Personas`).
    choice: the sha256 of the pictures of people who are left, or who alone are replaced; empty where there are none.
    faces: the sha256 of a list of faces that was given, empty where they are searched for. inputs: for closed-set
    methods the sha256 of all inputs, on which every surrogate depends; empty for others. preview_sheet: whether a video
    gets a picture of its tracks beside it. label_format: of the labels that lie beside each
    output, "" for none. batch_size: faces that are made in one go. workers: threads that read,
    search and write; 0 for one a processor core.
    """

    detect: DetectOptions = field(default_factory=DetectOptions)
    track: TrackOptions = field(default_factory=TrackOptions)
    blend: BlendOptions = field(default_factory=BlendOptions)
    read: ReadOptions = field(default_factory=ReadOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    on_no_face: str = "copy"
    fallback: str = LAST_RESORT
    verify: bool = True
    recogniser: str = field(default_factory=default_recogniser)
    distance: float | None = None
    persona: str = "track"
    choice: str = ""
    faces: str = ""
    preview_sheet: bool = False
    label_format: str = ""
    inputs: str = ""
    batch_size: int = 32
    workers: int = 0
    seed: int | None = field(default=None, repr=False)

    @property
    def describes(self) -> bool:
        """Whether a recogniser is needed: to verify new faces, or to tell people apart."""
        return self.verify or self.persona == "identity"


# These change how fast a run is and not what it writes.
_SPEED = ("batch_size", "workers")


def fingerprint(method: Method, settings: Settings) -> str:
    """Sixteen hexadecimal digits that are equal for two runs if both would write the same (given a seed)."""
    said = {key: value for key, value in asdict(settings).items() if key not in _SPEED}
    said |= {"method": method.name, "options": asdict(method.options), "weights": method.weights, "deid": __version__}
    # scrypt, because a plain hash in the manifest would let anyone try all small seeds in a second.
    text = json.dumps(said, sort_keys=True).encode()
    return hashlib.scrypt(text, salt=b"deid settings", n=1 << 14, r=8, p=1, dklen=8).hex()


def made_by(method: Method, settings: Settings) -> dict[str, Any]:
    """What an audit asks of a file beside method, options and search: version, weights, who compared, what was set.

    Nothing secret is in it. weights: the checksum of the method's preset. recogniser: that compared every new face with
    its original, None where nothing did.
    """
    compared = settings.recogniser if settings.verify and not method.removes_face else None
    said = {"deid": __version__, "weights": method.weights, "recogniser": compared}
    own = ("verify", "distance", "fallback", "persona", "on_no_face", "choice")
    said |= {key: getattr(settings, key) for key in own}
    return said | {"metadata": settings.write.metadata, "streams": settings.write.video.streams}


def marked(fingerprint: str, mark: str) -> str:
    """The fingerprint of one file on which people have decided: another decision is another fingerprint."""
    return f"{fingerprint}-{mark}" if mark else fingerprint


@dataclass(frozen=True)
class RunOptions:
    """What a run does with files, beside how it treats them (`Settings`).

    faces: a list of faces that is taken in place of a search, of any kind that `engine.labels` reads. faces_class: the
    classes of labels that are faces, none for those that are called so. manifest: where the rows go, None for beside
    the output. resume: leave out files already done with the same settings. overwrite: whether files that exist are
    replaced. shard: (I, N) to do only part I of N. sequence: take a folder of numbered pictures as one video. unknown:
    what happens to files that are neither pictures nor videos ("skip", "copy" or "fail"). sidecars: whether texts
    beside pictures are copied, whatever `unknown` says ("skip" or "copy").
    incremental: like resume, and an input of the same size and time counts as the same. since: seconds since 1970;
    inputs that were last changed before are left out. max_minutes: after so long no further file is begun. quarantine:
    a folder that gets a copy of every input that failed. remove_source: remove an input when its output is on the disk,
    verified, listed and read again; one that failed is moved into the quarantine. wait: for a run that writes into the
    same folder, instead of failing. keep_people, only_people: folders of pictures of people who are left, or who alone
    are replaced. zones, decisions: lists of `engine.zones`; only files on which something else was decided than before
    are done again. column: of tables, the columns that hold pictures. runner: "local" or "ray" (`engine.runners`).
    """

    faces: Path | None = None
    faces_class: tuple[str, ...] = ()
    manifest: Path | None = None
    resume: bool = False
    overwrite: bool = False
    shard: tuple[int, int] | None = None
    sequence: bool = False
    unknown: str = "skip"
    sidecars: str = "skip"
    incremental: bool = False
    since: float | None = None
    max_minutes: float | None = None
    quarantine: Path | None = None
    remove_source: bool = False
    wait: bool = False
    keep_people: Path | None = None
    only_people: Path | None = None
    zones: Path | None = None
    decisions: Path | None = None
    column: tuple[str, ...] = ()
    runner: str = "local"


def parse_shard(text: str) -> tuple[int, int]:
    """ "I/N" as (I, N). Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= index <= count <= SHARDS:
        raise UsageError(f"--shard {text[:40]}: not a part", f"give I/N, like 1/4 to 4/4, with N up to {SHARDS}")
    return index, count


PERSONAS = ("track", "file", "run", "identity")
ROOM = 64  # rows by which the table of people grows at the least


def track_key(name: str, face: Face) -> str:
    """The key of one person's way through the file `name`."""
    return f"{name}#{face.track}"


class Personas:
    """Keys by the setting `persona`.

    "track": every face of a file separately (a face that is followed through a video is one). "file": all faces of a
    file together. "run": all faces of the run together. "identity": every person of the run separately, in all files;
    the recogniser decides who is one person, comparing each face with the first one of each.
    """

    def __init__(self, persona: str, distance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None, threshold: float):
        self.persona, self.distance, self.threshold = persona, distance, threshold
        self._people = np.zeros((0, 0), np.float32)
        self._count = 0
        self._followed: dict[tuple[str, int], str] = {}

    def key(self, name: str, face: Face, descriptor: np.ndarray | None, followed: bool = False) -> str:
        """The key of a face in the file `name`. descriptor: None for a face that cannot be described; it is alone.

        followed: its track is one face through a video, and stays the person that it was first taken for.
        """
        if self.persona == "run":
            return ""
        if self.persona == "file":
            return name
        if self.persona == "identity" and (name, face.track) in self._followed:
            return self._followed[name, face.track]
        if self.persona == "identity" and descriptor is not None:
            key = f"person {self._person(descriptor)}"
            if followed:
                # Frames come in order: other files are over.
                self._followed = {known: person for known, person in self._followed.items() if known[0] == name}
                self._followed[name, face.track] = key
            return key
        return track_key(name, face)

    def _person(self, descriptor: np.ndarray) -> int:
        known = self._people[: self._count]
        if self._count and self.distance is not None:
            apart = self.distance(known, np.broadcast_to(descriptor, known.shape))
            nearest = int(apart.argmin())
            if apart[nearest] <= self.threshold:
                return nearest
        if self._count == len(self._people):
            self._people = np.resize(self._people, (max(ROOM, 2 * self._count), len(descriptor)))
        self._people[self._count] = descriptor
        self._count += 1
        return self._count - 1
