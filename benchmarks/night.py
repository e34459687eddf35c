"""A night of runs that nobody watches: `python benchmarks/night.py [--runs 20] [--seed 1]`.

A folder of small pictures and animations is anonymized again and again by `deid anonymize --incremental --method solid`
with the HOG detector. Between the runs files arrive, change (some with the same size, some with an older time), move
and vanish; some have arrived only in part, and the rest comes before the next run. Of every three runs one is started
twice at the same moment: one has to work, the other has to say that it does not (or, with `--lock wait`, to wait for
it). In every fourth run files change and vanish while it works.

Every picture shows a number in black and white squares, which tells its content, and a face, whose pixels have to be
gone. After every run the folder is looked at with Pillow and FFmpeg; after the last one, before which nothing changes
any more, every input has to have an output made of its present content. Ends with status 1 on any fault.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
from PIL import Image
from specimens import SIDE, patches

from deidcli.engine.manifest import DONE, FAILED, SKIPPED

BITS, CELL, HEIGHT = 16, 10, 168  # of the number below a face
WIDTH = BITS * CELL
AT = (16, 0)  # where the face lies, x and y
FACE = (slice(40, 100), slice(50, 110))  # rows and columns of a picture that the face fills
SUFFIXES = (".png", ".jpg", ".webp", ".gif", ".tif", ".bmp", ".moving.gif", ".avi")
DEID = (sys.executable, "-m", "deidcli")
LIMIT = 300  # seconds that a run may take
OPTIONS = ("--method", "solid", "--detector", "hog", "--incremental", "--workers", "1")
BUSY = "another run writes into"
NAMES = ("gate", "yard", "café", "two words", "-x", "snow☃")


def drawn(number: int, patch: np.ndarray) -> np.ndarray:
    """A face above a number in squares, (HEIGHT, WIDTH, 3) uint8."""
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    pixels[AT[1] : AT[1] + SIDE, AT[0] : AT[0] + SIDE] = patch
    for bit in range(BITS):
        pixels[-3 * CELL :, bit * CELL : (bit + 1) * CELL] = 235 if number >> bit & 1 else 20
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """The number that a picture shows."""
    rows = pixels[-2 * CELL : -CELL].mean((0, 2)).reshape(BITS, CELL)[:, 3:-3].mean(1)
    return sum(1 << bit for bit in range(BITS) if rows[bit] > 128)


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    """A picture as a file."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if suffix == ".moving.gif":
        image.save(buffer, "gif", save_all=True, append_images=[Image.fromarray(pixels ^ 1)] * 2, duration=40)
    elif suffix == ".avi":
        with av.open(buffer, "w", format="avi") as file:
            stream = file.add_stream("mjpeg", rate=25, width=WIDTH, height=HEIGHT, pix_fmt="yuvj420p")
            for _ in range(3):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            file.mux(stream.encode(None))
    else:
        image.save(buffer, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]))
    return buffer.getvalue()


def frames(path: Path) -> list[np.ndarray]:
    """Every frame of a file, (height, width, 3) uint8."""
    if path.suffix == ".avi":
        with av.open(str(path)) as file:
            return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with Image.open(path) as image:
        found = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            found.append(np.asarray(image.convert("RGB")))
        return found


class Night:
    """The folders, and what their owner knows of them."""

    def __init__(self, place: Path, seed: int):
        self.place, self.draw, self.count = place, random.Random(seed), Counter[str]()
        self.inputs, self.outputs = place / "in", place / "out"
        self.there: dict[str, int] = {}  # name: the number that it shows
        self.parts: dict[str, bytes] = {}  # name: the whole of a file of which a part has arrived
        self.touched: set[str] = set()  # while the present run works
        self.faults: list[str] = []
        self.next = 0
        self.read = 0  # lines of the manifest that were looked at
        self.inputs.mkdir()

    def fault(self, said: str) -> None:
        self.faults.append(said)
        print(f"run {self.count['runs']}: {said}", flush=True)

    def write(self, name: str, data: bytes, age: float) -> None:
        """Write an input that seems to have been changed `age` seconds ago, as one that was copied with its time."""
        path = self.inputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if age:
            then = time.time() - age
            os.utime(path, (then, then))

    def content(self, name: str) -> bytes:
        """New content for a file."""
        self.next += 1
        self.there[name] = self.next
        suffix = next(s for s in reversed(SUFFIXES) if name.endswith(s))
        return encoded(suffix, drawn(self.next, self.draw.choice(patches())))

    def arrive(self) -> None:
        folder = self.draw.choice(("", "", "cam1/", "cam1/night/", "cam 2/"))
        name = f"{folder}{self.draw.choice(NAMES)}{self.next}{self.draw.choice(SUFFIXES)}"
        data = self.content(name)
        if self.draw.random() < 0.15:
            self.parts[name] = data
            data = data[: len(data) // 2]
            self.count["arrived in part"] += 1
        self.write(name, data, self.draw.choice((0, 5, 4000)))
        self.count["arrived"] += 1
        self.touched.add(name)

    def any(self) -> str | None:
        names = sorted(set(self.there) - set(self.parts))
        return self.draw.choice(names) if names else None

    def change(self) -> None:
        if name := self.any():
            self.write(name, self.content(name), self.draw.choice((0, 3, 90000)))
            self.count["changed"] += 1
            self.touched.add(name)

    def move(self) -> None:
        if name := self.any():
            new = f"moved{self.next}-{Path(name).name.replace('/', '')}"
            (self.inputs / name).rename(self.inputs / new)
            self.there[new] = self.there.pop(name)
            self.count["moved"] += 1
            self.touched |= {name, new}

    def vanish(self) -> None:
        if name := self.any():
            (self.inputs / name).unlink()
            del self.there[name]
            self.count["vanished"] += 1
            self.touched.add(name)

    def between(self) -> None:
        """What comes to pass between two runs."""
        for name, data in self.parts.items():
            self.write(name, data, 0)
        self.parts.clear()
        for what, most in ((self.arrive, 5), (self.change, 4), (self.move, 1), (self.vanish, 2)):
            for _ in range(self.draw.randint(1, most)):
                what()

    def run(self, twice: str = "", restless: bool = False) -> None:
        """One run, or two at once. twice: the --lock of both. restless: files change while it works."""
        self.count["runs"] += 1
        self.touched = set()
        parts = set(self.parts)
        command = ["anonymize", *OPTIONS, *(("--lock", twice) if twice else ())]
        logs = [self.place / f"log{number}" for number in range(2 if twice else 1)]
        running = []
        for log in logs:
            with log.open("wb") as said:
                running.append(subprocess.Popen([*DEID, *command, self.inputs, self.outputs], stderr=said))
        if restless:
            for what in (self.change, self.vanish, self.arrive, self.change, self.move):
                time.sleep(self.draw.random() * 1.5)
                what()
        statuses = [each.wait(LIMIT) for each in running]
        ends = [(status, log.read_text(errors="replace")) for status, log in zip(statuses, logs, strict=True)]
        self.count["processes"] += len(ends)
        for status, said in ends:
            if "Traceback" in said:
                self.fault(f"traceback (status {status}): {said[-300:]}")
        if twice == "fail":
            self.count["two at once"] += 1
            refused = [status for status, said in ends if BUSY in said]
            if refused != [3]:
                self.fault(f"of two at once {len(refused)} were refused: {ends}")
            ends = [(status, said) for status, said in ends if BUSY not in said]
        elif twice:
            self.count["two at once, one waits"] += 1
            if sum(BUSY in said and "waiting" in said for _, said in ends) != 1:
                self.fault(f"of two at once not one waited: {ends}")
        rows = self.rows()
        failed = {row["input"] for row in rows if row["status"] == FAILED}
        self.count["files failed"] += len(failed)
        for name, times in Counter(row["input"] for row in rows if row["status"] == DONE).items():
            if times > 1 and name not in self.touched:
                self.fault(f"{name} was done {times} times")
        for name in failed - parts - self.touched:
            self.fault(f"{name} failed: {[row['error'] for row in rows if row['input'] == name]}")
        for name in parts - failed - self.touched:
            self.fault(f"{name} has come in part and is not said to have failed")
        wanted = {1} if failed else {0}
        if (seen := {status for status, _ in ends}) != wanted and not (len(ends) > 1 and failed and seen <= {0, 1}):
            self.fault(f"ended with {seen}, {len(failed)} files failed: {ends}")
        self.look(set(self.there) - self.touched - parts)

    def rows(self) -> list[dict]:
        """The lines that were added to the manifest, each a whole one."""
        try:
            data = (self.outputs / "deid-manifest.jsonl").read_bytes()
            rows = [json.loads(line) for line in data.splitlines()]
        except (OSError, ValueError) as error:
            self.fault(f"the manifest cannot be read: {error}")
            return []
        if data and not data.endswith(b"\n"):
            self.fault("the last line of the manifest is torn")
        self.last: dict[str, dict] = {}
        for row in rows:
            if not (row["status"] == FAILED and row["output"] is not None and row["input"] in self.last):
                self.last[row["input"]] = row
        new, self.read = rows[self.read :], len(rows)
        self.count["files written"] += sum(row["status"] == DONE for row in new)
        if odd := {row["status"] for row in rows} - {DONE, FAILED}:
            self.fault(f"{odd & {SKIPPED} or odd} is no status that was to be expected")
        return new

    def look(self, names: set[str]) -> None:
        """Look at the output. names: inputs that must have an output made of what they are now."""
        listed = {row["output"]: row for row in self.last.values() if row["status"] == DONE}
        there = {str(path): path for path in self.outputs.rglob("*") if path.is_file()}
        there.pop(str(self.outputs / "deid-manifest.jsonl"), None)
        for path in there.values():
            if path.name.startswith("."):
                self.fault(f"{path.name} is left over")
            elif (row := listed.get(str(path))) is None:
                self.fault(f"{path} is not listed")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != row["output_sha256"]:
                self.fault(f"{path} is not what is listed")
        for name in sorted(names):
            path, source = self.outputs / name, (self.inputs / name).read_bytes()
            if not path.is_file():
                self.fault(f"{name} has no output")
            elif self.last[name]["sha256"] != hashlib.sha256(source).hexdigest():
                self.fault(f"the line of {name} is not of what it is now")
            else:
                self.compare(name, path)

    def compare(self, name: str, path: Path) -> None:
        """An output with its input: as many frames, the same number, another face."""
        before = frames(self.inputs / name)
        try:
            after = frames(path)
        except (OSError, ValueError, SyntaxError) as error:
            self.fault(f"the output of {name} does not decode: {error}")
            return
        if len(after) != len(before):
            self.fault(f"the output of {name} has {len(after)} frames, not {len(before)}")
        for old, new in zip(before, after, strict=False):
            if (shown := number_of(new)) != self.there[name]:
                self.fault(f"the output of {name} shows {shown}, not {self.there[name]}")
            if np.abs(old[FACE].astype(int) - new[FACE]).mean() < 12:
                self.fault(f"the output of {name} shows its face")
        self.count["outputs compared"] += 1


def main() -> None:
    """Let the night pass and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        night = Night(Path(place), asked.seed)
        for _ in range(20):
            night.arrive()
        for number in range(asked.runs - 1):
            night.between()
            twice = ("fail", "", "", "wait", "", "")[number % 6]
            night.run(twice, restless=number % 4 == 2)
        for name, data in night.parts.items():
            night.write(name, data, 0)
        night.parts.clear()
        night.run()
        night.count["inputs at the end"] = len(night.there)
        night.count["outputs whose input has vanished"] = len(
            [row for row in night.last.values() if row["status"] == DONE and row["input"] not in night.there]
        )
    print(json.dumps(dict(night.count) | {"faults": len(night.faults), "seconds": round(time.monotonic() - began)}))
    sys.exit(bool(night.faults))


if __name__ == "__main__":
    main()
