"""What it costs to search a video, and what stays open: `python benchmarks/coverage.py CLIP LIST...`.

Every frame of CLIP is searched once, as a run that follows faces searches it, and the time of the processor is taken.
For each way of leaving frames out (--detect-every) the faces are then followed and covered by ellipses about their
boxes, as `blur` does. Printed are the faces covered, and of each LIST, which `deid detect --no-track CLIP` wrote with
any detector, the boxes of which less than half is covered. Options: --detector NAME, --upsample, --no-low-light,
--every 1,3,5, --limit N, --manifest FILE.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from deidcli.engine.face_list import FaceList, load_faces
from deidcli.engine.follow import planned
from deidcli.engine.frames import FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.faces.blend import mask
from deidcli.faces.detectors import DetectOptions, default, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.tracking import FrameFaces, TrackOptions
from deidcli.faces.tracking.tracker import tracked_frames
from deidcli.media.open import open_reader
from deidcli.values import UNTRACKED, Box, Face, Frame

UNCOVERED = 0.5  # of a box that has to be covered before its face counts as covered
BATCH = 8  # frames in one call of the detector


def main() -> None:
    """Print a row for each interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("lists", type=Path, nargs="*")
    parser.add_argument("--detector", default=default())
    parser.add_argument("--upsample", type=int)
    parser.add_argument("--no-low-light", action="store_const", const=False, dest="low_light")
    parser.add_argument("--every", default="default,1,2,5,8,12,16", help="values of --detect-every")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--manifest", type=Path, help="of a run with blur, that is looked at instead of a search")
    options = parser.parse_args()
    with open_reader(options.clip) as reader:
        frames = list(islice(reader.frames(), options.limit))
    lists = {path.name: load_faces(path) for path in options.lists}
    if options.manifest:
        run = load_faces(options.manifest)
        done = [run.of(options.clip.name, frame.index) for frame in frames]
        print(f"{sum(map(len, done))} covered, {left_open(options.clip.name, frames, done, lists)}")
        return
    found, seconds = searched(
        frames, DetectOptions(options.detector, upsample=options.upsample, low_light=options.low_light)
    )
    print(f"{len(frames)} frames, {sum(map(len, found))} faces frame by frame, {seconds:.3f} s a search")
    for word in options.every.split(","):
        began = time.process_time()
        shots, done = followed(frames, found, TrackOptions(detect_every=None if word == "default" else int(word)))
        spent = (time.process_time() - began + seconds * shots) / len(frames)
        said = f"every {word}: {shots} searched, {1000 * spent:.0f} ms a frame, {sum(map(len, done))} covered, "
        print(said + left_open(options.clip.name, frames, done, lists), flush=True)


def left_open(name: str, frames: Sequence[Frame], done: Sequence[Sequence[Face]], lists: dict[str, FaceList]) -> str:
    """How many boxes of each list are open."""
    covers = [cover(frame, faces) for frame, faces in zip(frames, done, strict=True)]
    said = []
    for title, given in lists.items():
        shares = [share(face.box, covers[i]) for i, f in enumerate(frames) for face in given.of(name, f.index)]
        said.append(f"{title} {sum(each < UNCOVERED for each in shares)} of {len(shares)} open")
    return ", ".join(said)


def searched(frames: Sequence[Frame], options: DetectOptions) -> tuple[list[list[Face]], float]:
    """The faces of every frame with their landmarks, and the processor's seconds for one frame."""
    search = detector(options)
    search.detect([frames[0].pixels] * BATCH, followed=True)  # loads the network
    began, found = time.process_time(), []
    for start in range(0, len(frames), BATCH):
        part = [frame.pixels for frame in frames[start : start + BATCH]]
        faces = search.detect(part, followed=True)
        found += [locate(pixels, each) for pixels, each in zip(part, faces, strict=True)]
    loose = [[replace(face, track=UNTRACKED) for face in faces] for faces in found]
    return loose, (time.process_time() - began) / len(frames)


def followed(
    frames: Sequence[Frame], found: Sequence[Sequence[Face]], options: TrackOptions
) -> tuple[int, list[Sequence[Face]]]:
    """How many frames are searched, and the faces of every frame."""
    source = Source(Job(None, None, "clip"), None, None, 0.0)
    items = (FileFrame(source, frame, frame is frames[-1]) for frame in frames)
    plan = list(planned(items, options))
    seen = (
        FrameFaces(frame, tuple(faces) if item.searched else None, item.begins)
        for frame, faces, item in zip(frames, found, plan, strict=True)
    )
    return sum(item.searched for item in plan), [one.faces for one in tracked_frames(seen, options)]


def cover(frame: Frame, faces: Sequence[Face]) -> np.ndarray:
    """(height, width) bool: what ellipses about the boxes change."""
    changed = np.zeros((frame.height, frame.width), bool)
    for face in faces:
        soft = mask(face, "ellipse", (frame.width, frame.height))
        changed[soft.window] |= soft.alpha > 0
    return changed


def share(box: Box, changed: np.ndarray) -> float:
    """How much of a box, as far as it lies in the frame, is covered."""
    part = changed[
        max(0, round(box.top)) : max(0, round(box.bottom)), max(0, round(box.left)) : max(0, round(box.right))
    ]
    return float(part.mean()) if part.size else 1.0


if __name__ == "__main__":
    main()
