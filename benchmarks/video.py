"""What tracking is worth in a video: `python benchmarks/video.py CLIP FACES [OTHER...]`.

CLIP is a video. FACES and OTHER are lists that `deid detect --no-track` wrote of it, with one detector each: FACES are
tracked and replaced, and every face of any list is then looked up in the output. Printed are, frame by frame and
tracked: how many faces are covered, how much of each listed box was changed, how far a mask jumps between neighbouring
frames, and how steady the new faces are. Options: --method, --limit FRAMES, --every N (as --detect-every).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from deidcli.engine.face_list import FaceList, load_faces
from deidcli.engine.find import Finder
from deidcli.engine.frames import FileFailure, FileFrame
from deidcli.engine.jobs import Job
from deidcli.engine.replace import Replaced, Replacer, Request
from deidcli.engine.settings import Settings
from deidcli.faces.align import align
from deidcli.faces.recognisers import recogniser
from deidcli.faces.tracking import TrackOptions
from deidcli.media.open import open_reader
from deidcli.methods import find
from deidcli.methods.base import Secret
from deidcli.values import Box, CropSpec, Face

UNCOVERED = 0.5  # of a box that has to be changed before its face counts as covered
FACE = CropSpec(96, 0.0)  # the crop in which neighbouring frames are compared: turned upright, nothing around it
BATCH = 16


@dataclass
class Run:
    """What came out of a clip: the faces of each frame, how much of each listed box changed, and each track's looks."""

    faces: list[tuple[Face, ...]] = field(default_factory=list)
    actions: list[dict[str, int]] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    looks: dict[int, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    seconds: float = 0.0


def main() -> None:
    """Print a table for frames alone and one for tracks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("others", type=Path, nargs="*")
    parser.add_argument("--method", default="cleanir")
    parser.add_argument("--limit", type=int, default=10**9)
    parser.add_argument("--every", type=int, default=1, help="look up every Nth frame in the list only")
    options = parser.parse_args()
    lists = {path.name: load_faces(path) for path in (options.faces, *options.others)}
    detector = Listed(options.clip, lists[options.faces.name])
    reference = [item.faces for item in frames(options.clip, detector, TrackOptions(), options.limit)]
    for title, track in (
        ("frame by frame", TrackOptions(track=False)),
        ("tracked", TrackOptions(detect_every=options.every)),
    ):
        found = frames(options.clip, detector, track, options.limit)
        report(title, measured(found, reference, lists, options.clip.name, options.method))


class Listed:
    """A detector that has searched every frame of a clip before: it knows a frame by its pixels."""

    batches = False

    def __init__(self, clip: Path, given: FaceList):
        with open_reader(clip) as reader:
            self.faces = {_digest(f.pixels): given.of(clip.name, f.index) for f in reader.frames()}

    def detect(self, pictures: Sequence[np.ndarray], followed: bool = False) -> list[list[Face]]:
        """The faces of the list."""
        return [self.faces[_digest(pixels)] for pixels in pictures]


def _digest(pixels: np.ndarray) -> bytes:
    return sha256(pixels.tobytes()).digest()


def frames(clip: Path, detector: Listed, track: TrackOptions, limit: int) -> Iterator[FileFrame]:
    """The frames of a clip with the faces of a list, as a run takes them."""
    with ThreadPoolExecutor(2) as pool:
        for item in Finder(detector, None, pool, 4, track=track)([Job(clip, None, clip.name)]):
            if isinstance(item, FileFailure):
                raise SystemExit(item.error)
            if item.frame.index >= limit:
                return
            yield item


def measured(
    found: Iterator[FileFrame],
    reference: Sequence[tuple[Face, ...]],
    lists: dict[str, FaceList],
    name: str,
    method: str,
) -> Run:
    """Replace the faces and take every figure. Looks are those of the faces of `reference`, whatever was tracked."""
    judge = recogniser("dlib")
    replacer = Replacer(find(method)(secret=Secret.seeded(1)), Settings(), judge)
    run, began = Run(), time.process_time()
    for batch in _batches(found):
        made = replacer([Request(item.frame, item.faces, name) for item in batch])
        for item, done in zip(batch, made, strict=True):
            _record(run, item, done, reference[item.frame.index], judge)
            for title, given in lists.items():
                boxes = [face.box for face in given.of(name, item.frame.index)]
                run.shares[title] += [share(box, done.changed) for box in boxes]
    run.seconds = time.process_time() - began
    return run


def _batches(found: Iterator[FileFrame]) -> Iterator[list[FileFrame]]:
    batch: list[FileFrame] = []
    for item in found:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _record(run: Run, item: FileFrame, done: Replaced, faces: Sequence[Face], judge) -> None:
    run.faces.append(item.faces)
    run.actions.append({f"{outcome.face.track} {outcome.action}": 1 for outcome in done.outcomes})
    shown = [face for face in faces if face.landmarks is not None]
    if not shown:
        return
    described = judge.embed(judge.chips(done.frame.pixels, shown))
    for face, descriptor in zip(shown, described, strict=True):
        old, new = (align(frame, face, FACE).pixels for frame in (item.frame, done.frame))
        run.looks[face.track].append((item.frame.index, descriptor, old, new))


def share(box: Box, changed: np.ndarray | None) -> float:
    """How much of a box, as far as it lies in the frame, was changed."""
    if changed is None:
        return 0.0
    rows = slice(max(0, round(box.top)), max(0, round(box.bottom)))
    columns = slice(max(0, round(box.left)), max(0, round(box.right)))
    part = changed[rows, columns]
    return float(part.mean()) if part.size else 1.0


def jumps(faces: Sequence[tuple[Face, ...]]) -> tuple[float, float]:
    """The largest shift of a track's centre between neighbouring frames as a share of its side, and the largest
    deviation from the middle between its neighbours: motion leaves the second one small.
    """
    ways: dict[int, dict[int, Face]] = defaultdict(dict)
    for index, each in enumerate(faces):
        for face in each:
            ways[face.track][index] = face
    shift = jerk = 0.0
    for way in ways.values():
        for index, face in way.items():
            side = np.sqrt(face.box.area)
            here = np.array(face.box.center)
            if index + 1 in way:
                shift = max(shift, float(np.linalg.norm(np.array(way[index + 1].box.center) - here) / side))
            if index + 1 in way and index - 1 in way:
                middle = (np.array(way[index + 1].box.center) + way[index - 1].box.center) / 2
                jerk = max(jerk, float(np.linalg.norm(middle - here) / side))
    return shift, jerk


def report(title: str, run: Run) -> None:
    """Print the figures of a run."""
    print(f"\n{title}: {sum(map(len, run.faces))} faces, {len({f.track for e in run.faces for f in e})} tracks")
    for name, shares in run.shares.items():
        short = sum(value < UNCOVERED for value in shares)
        print(
            f"  {name}: {len(shares)} boxes, {short} less than {UNCOVERED:.0%} changed, "
            f"mean {np.mean(shares or [1]):.3f}, least {min(shares, default=1):.3f}"
        )
    shift, jerk = jumps(run.faces)
    print(f"  largest jump of a mask {shift:.2f} of its side; off the middle of its neighbours {jerk:.2f}")
    for track, looks in sorted(run.looks.items()):
        _steadiness(track, looks, run)


def _steadiness(track: int, looks: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], run: Run) -> None:
    if len(looks) < 10:
        return
    descriptors = np.array([look[1] for look in looks])
    spread = float(np.mean(np.sum((descriptors - descriptors.mean(axis=0)) ** 2, axis=1)))
    pairs = [(a, b) for a, b in zip(looks, looks[1:], strict=False) if b[0] == a[0] + 1]
    old, new = (
        float(np.mean([np.abs(a[k].astype(int) - b[k]).mean() for a, b in pairs])) if pairs else 0.0 for k in (2, 3)
    )
    print(
        f"  track {track}: {len(looks)} frames, variance of the descriptor {spread:.4f}, "
        f"difference of neighbouring frames {new:.2f} (source {old:.2f})"
    )


if __name__ == "__main__":
    main()
