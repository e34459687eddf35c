"""What it costs to tell people apart and to group them, and how well it is done.

    python benchmarks/grouping.py                  # 1e3, 1e4 and 1e5 drawn descriptors: time, memory, people found
    python benchmarks/grouping.py --pack val.npz   # a pack of `deid align --pack` whose folders are people

Drawn people have 1 to 9 pictures; their descriptors lie as far apart as dlib's of LFW do (0.37 rms within a person,
0.87 between two). Each size runs in a process of its own; seconds are of the processor, memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from deidcli.faces.people import people
from deidcli.methods.closed import group_people, pair_furthest

SIZES = (1_000, 10_000, 100_000)
K = 10
WITHIN, BETWEEN = 0.37, 0.87  # rms distances of descriptors of one person, and of two


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack")
    parser.add_argument("--size", type=int)
    given = parser.parse_args()
    if given.pack:
        _quality(given.pack)
    elif given.size:
        print(json.dumps(measure(given.size)))
    else:
        head = ("descriptors", "drawn", "found", "people, s", "groups, s", "furthest, s", "smallest", "memory, MB")
        print("".join(f"{word:>13}" for word in head))
        for size in SIZES:
            done = subprocess.run(
                [sys.executable, __file__, "--size", str(size)], stdout=subprocess.PIPE, text=True, check=True
            )
            print("".join(f"{cell:>13}" for cell in json.loads(done.stdout)), flush=True)


def measure(size: int) -> list[float]:
    """The row of one size."""
    points, true = drawn(size)
    labels, first = timed(lambda: people(points, 0.6))
    centres = _centres(points, labels)
    groups, second = timed(lambda: group_people(centres, K))
    _, third = timed(lambda: pair_furthest(_centres(centres, groups)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    count = len(np.unique(true))
    return [size, count, int(labels.max()) + 1, first, second, third, int(np.bincount(groups).min()), memory]


def drawn(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (size, 128) float32 of people with 1 to 9 pictures each, in no order; and whose each is."""
    draw = np.random.default_rng(0)
    true = np.repeat(np.arange(size), draw.integers(1, 10, size))[:size]
    inner = WITHIN / np.sqrt(2 * 128)
    outer = np.sqrt(BETWEEN**2 - WITHIN**2) / np.sqrt(2 * 128)
    centres = outer * draw.standard_normal((true.max() + 1, 128))
    points = centres[true] + inner * draw.standard_normal((size, 128))
    order = draw.permutation(size)
    return points[order].astype(np.float32), true[order]


def timed(work: Callable) -> tuple:
    """What `work` returns, and its seconds of the processor."""
    began = time.process_time()
    result = work()
    return result, round(time.process_time() - began, 1)


def _centres(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    sums = np.zeros((labels.max() + 1, points.shape[1]))
    np.add.at(sums, labels, points)
    return sums / np.bincount(labels)[:, None]


def _quality(pack: str) -> None:
    """How people who are known are told apart, by threshold; and the groups of k that hold fewer than k of them."""
    data = np.load(pack, allow_pickle=False)
    names = [str(name).split("/")[0] for name in data["names"]]
    true = np.unique(names, return_inverse=True)[1]
    print(f"{len(true)} faces of {true.max() + 1} people")
    print("".join(f"{word:>12}" for word in ("threshold", "found", "split", "mixed", "k = 2", "k = 5", "k = 10")))
    for threshold in (0.45, 0.5, 0.55, 0.6, 0.65):
        labels = people(data["descriptors"], threshold)
        pairs = np.unique(np.stack([labels, true], axis=1), axis=0)
        split, mixed = (np.mean(np.bincount(column) > 1) for column in (pairs[:, 1], pairs[:, 0]))
        short = [_short(_centres(data["descriptors"], labels), labels, true, k) for k in (2, 5, 10)]
        print(f"{threshold:12}{labels.max() + 1:12}" + "".join(f"{share:12.4f}" for share in (split, mixed, *short)))


def _short(centres: np.ndarray, labels: np.ndarray, true: np.ndarray, k: int) -> float:
    """The share of groups of k people, as they were told apart, in which fewer than k are."""
    groups = group_people(centres, k)[labels]
    return float(np.mean([len(set(true[groups == group])) < k for group in range(groups.max() + 1)]))


if __name__ == "__main__":
    main()
