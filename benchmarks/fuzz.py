"""Mutated files: does one get through with its face open? `python benchmarks/fuzz.py stills|moving --count N OUT`.

`stills` are pictures of every format with changed, missing, moved and foreign bytes; `moving` are animations and videos
whose clocks are damaged, some of them with changed bytes, too. Their faces are known. Each lot of files goes through
`deid anonymize --method solid`, every second lot with --salvage. What was written is decoded by Pillow and FFmpeg, on
white and on black, and the HOG detector looks at every frame: a face that it finds is open. OUT gets a line for each
file (results.jsonl; a further run goes on behind its last one), and a copy of each file that is open, that ended the
command or that took too long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageFile, ImageSequence
from specimens import broken, damaged_clock, moving, stills

LOT = 25  # files that go through one command
SLOW = 120  # seconds a file may take
ENDED = (0, 1, 3)  # how a command may end that was given bad files
BACKGROUNDS = (255, 0)
MOST = 64  # frames that are looked at


@dataclass
class Case:
    """A mutated file and what became of it. open: the frames in which the detector found a face."""

    number: int
    kind: str
    name: str
    mutation: str
    status: str = "missing"
    error: str = ""
    seconds: float = 0.0
    open: list[int] = field(default_factory=list)
    ended: str = ""
    data: bytes = b""

    @property
    def file(self) -> str:
        return f"{self.number:06}-{self.name}"

    def line(self) -> str:
        return json.dumps({key: value for key, value in asdict(self).items() if key != "data"})


def case(kind: str, number: int) -> Case:
    """The case of that number, always the same."""
    rng = np.random.default_rng([number, kind == "moving"])
    sources = stills() if kind == "stills" else moving()
    names = sorted(sources)
    name, other = names[number % len(names)], names[int(rng.integers(len(names)))]
    if kind == "stills":
        mutation, data = broken(sources[name], sources[other], rng)
    else:
        mutation, data = damaged_clock(name, sources[name], rng)
        if rng.integers(4) == 0:
            also, data = broken(data, sources[other], rng)
            mutation += f"+{also}"
    return Case(number, kind, name, mutation, data=data)


def through(cases: list[Case], salvage: bool) -> None:
    """Run the cases in one command; if that ends badly, each one alone."""
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "in"), Path(place, "out")
        source.mkdir()
        for one in cases:
            (source / one.file).write_bytes(one.data)
        ended = _command(source, target, salvage, SLOW + 5 * len(cases))
        if ended and len(cases) > 1:
            for one in cases:
                through([one], salvage)
            return
        rows = _rows(target)
        for one in cases:
            row = rows.get(one.file, {})
            one.ended = ended
            one.status, one.error = row.get("status", "missing"), row.get("error") or ""
            one.seconds = row.get("seconds") or 0.0
            if (target / one.file).exists():
                one.open = [index for index, shown in enumerate(frames(target / one.file)) if faces(shown)]


def _command(source: Path, target: Path, salvage: bool, seconds: float) -> str:
    """How it ended; empty where that is as it should."""
    options = ["--method", "solid", "--no-verify", "--detector", "hog", "--upsample", "0", "--quiet"]
    command = [sys.executable, "-m", "deidcli", "anonymize", *options, *["--salvage"] * salvage, source, target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no end after {seconds} s"
    if done.returncode not in ENDED or "Traceback" in done.stderr:
        return f"status {done.returncode}: {done.stderr[-400:]}"
    return ""


def _rows(target: Path) -> dict[str, dict]:
    manifest = target / "deid-manifest.jsonl"
    rows = map(json.loads, manifest.read_bytes().splitlines()) if manifest.exists() else iter(())
    return {row["input"]: row for row in rows if "input" in row}


def frames(path: Path) -> Iterator[np.ndarray]:
    """What viewers show of a file, (height, width, 3) uint8 each, without any code of deid."""
    shown = list(_pillow(path)) or list(_ffmpeg(path))
    yield from shown[:MOST]


def _pillow(path: Path) -> Iterator[np.ndarray]:
    with suppress(Exception), Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            if frame.mode.startswith("I;16"):
                yield np.repeat((np.asarray(frame) >> 8).astype(np.uint8)[..., None], 3, 2)
                continue
            layers = frame.convert("RGBA") if "A" in frame.mode or "transparency" in frame.info else None
            if layers is None:
                yield np.asarray(frame.convert("RGB"))
                continue
            for level in BACKGROUNDS:
                ground = Image.new("RGBA", layers.size, (level,) * 3 + (255,))
                yield np.asarray(Image.alpha_composite(ground, layers).convert("RGB"))


def _ffmpeg(path: Path) -> Iterator[np.ndarray]:
    with suppress(Exception), av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(Exception):
                for frame in packet.decode():
                    yield frame.to_ndarray(format="rgb24")


def faces(pixels: np.ndarray) -> bool:
    """Whether the detector sees a face."""
    return min(pixels.shape[:2]) >= 40 and bool(_detector()(np.ascontiguousarray(pixels)))


@cache
def _detector():
    import dlib

    return dlib.get_frontal_face_detector()


def main() -> None:
    """Go on with the cases, and say what is known of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("stills", "moving"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100, help="cases in all")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long")
    asked = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    av.logging.set_level(None)
    os.environ.update(OMP_NUM_THREADS="1")
    asked.out.mkdir(parents=True, exist_ok=True)
    book = asked.out / "results.jsonl"
    known = [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []
    end = time.monotonic() + 60 * asked.minutes
    numbers = range(asked.first + len(known), asked.first + asked.count)
    for start in range(numbers.start, numbers.stop, LOT):
        if time.monotonic() > end:
            break
        cases = [case(asked.kind, number) for number in range(start, min(start + LOT, numbers.stop))]
        through(cases, bool(start // LOT % 2))
        with book.open("a") as file:
            file.writelines(one.line() + "\n" for one in cases)
        for one in cases:
            if one.open or one.ended or one.seconds > SLOW:
                (asked.out / one.file).write_bytes(one.data)
        known += [json.loads(one.line()) for one in cases]
    _tell(known)


def _tell(known: list[dict]) -> None:
    count = Counter(one["status"] for one in known)
    said = {"tried": len(known), **dict(sorted(count.items()))}
    said["open"] = sum(bool(one["open"]) for one in known)
    said["command ended badly"] = sum(bool(one["ended"]) for one in known)
    said[f"over {SLOW} s"] = sum(one["seconds"] > SLOW for one in known)
    said["slowest"] = max((one["seconds"] for one in known), default=0)
    print(json.dumps(said))
    for one in known:
        if one["open"] or one["ended"] or one["seconds"] > SLOW or one["status"] == "missing":
            print(json.dumps({**one, "ended": one["ended"][-300:]}))
    if said["open"] or said["command ended badly"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
