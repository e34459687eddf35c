"""dlib's networks against this project's port of them, in one run on one machine: `make bench`.

Detection of single frames and of frames in batches, without upsampling, and descriptors in batches of 32. Each side is
warmed up first; of several rounds the fastest counts, because a busy machine only ever adds time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "in"
SIZES = ((640, 360), (1280, 720))
CHIPS, FRAMES = 32, 4
SLOW, FAST = 2, 6  # rounds of dlib's own networks, and of the port


def main() -> None:
    """Print a table with a row for each task."""
    print(f"{'task':36} {'dlib, ms':>10} {'port, ms':>10} {'times faster':>13}")
    for name, count, theirs, ours in tasks():
        slow, fast = timed(theirs, SLOW) / count, timed(ours, FAST) / count
        print(f"{name:36} {slow:10.1f} {fast:10.1f} {slow / fast:13.1f}", flush=True)


def tasks() -> Iterator[tuple[str, int, Callable[[], object], Callable[[], object]]]:
    """For each task its name, how many pictures one call takes, and the call with dlib's network and with the port."""
    import dlib

    from deidcli.networks.dlib_detector import detect
    from deidcli.networks.dlib_recogniser import describe
    from deidcli.presets import dlib_weights

    detector = dlib.cnn_face_detection_model_v1(str(dlib_weights("mmod_human_face_detector.dat")))
    for width, height in SIZES:
        frames = pictures(width, height)
        name = f"detection, {width}x{height}"
        yield name, 1, lambda f=frames: detector(f[0], 0), lambda f=frames: detect(f[:1])
        yield (
            f"{name}, batch of {FRAMES}",
            FRAMES,
            lambda f=frames: [detector(x, 0) for x in f],
            lambda f=frames: detect(f),
        )
    recogniser = dlib.face_recognition_model_v1(str(dlib_weights("dlib_face_recognition_resnet_model_v1.dat")))
    chips = np.random.default_rng(0).integers(0, 256, (CHIPS, 150, 150, 3), np.uint8)
    own = list(chips)
    name = f"descriptors, batch of {CHIPS}"
    yield name, CHIPS, lambda: recogniser.compute_face_descriptor(own), lambda: describe(chips)


def pictures(width: int, height: int) -> list[np.ndarray]:
    """FRAMES pictures (height, width, 3) out of examples/in."""
    paths = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jpg", ".png"))
    read = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths[:FRAMES]]
    return [cv2.resize(read[i % len(read)], (width, height), interpolation=cv2.INTER_AREA) for i in range(FRAMES)]


def timed(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of the fastest of some rounds."""
    work()
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


if __name__ == "__main__":
    main()
