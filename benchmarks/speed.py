"""How fast each method is, and how much memory it takes: `make bench`.

Each figure is taken in a process of its own, over copies of examples/in, after one run that warms up: pictures and
faces a second of the whole chain (read, search, replace, verify, write), faces a second of the method alone in batches,
and the peak memory of the process. Below them the paper's networks of `autoencoder`, milliseconds a face of the whole
chain in batches of 1 and of 64.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "in"
COPIES = 6
BATCH, ROUNDS = 32, 8
CHAINS, SIZES = ("autoencoder-fc-64", "autoencoder-conv-64"), (1, 64)


def main() -> None:
    """Print a table with a row for each method."""
    from deidcli.methods import available

    print(f"{'method':12} {'pictures/s':>11} {'faces/s':>9} {'method alone, faces/s':>22} {'peak memory, MB':>16}")
    # Closed-set methods have to see everybody first: `deid evaluate table ksame-net-3`.
    for name in (name for name, kind in available().items() if not kind.closed):
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:12} {row['pictures']:11.1f} {row['faces']:9.1f} {row['alone']:22.0f} {row['memory']:16.0f}")
    print()
    for name in CHAINS:
        times = (f"{milliseconds:.2f} ms a face in batches of {size}" for size, milliseconds in chain(name))
        print(f"{name:20} {', '.join(times)}")


def measure(name: str) -> dict[str, float]:
    """The figures of one method."""
    from deidcli.engine.jobs import list_jobs
    from deidcli.engine.local import anonymize
    from deidcli.engine.settings import Settings
    from deidcli.methods import find

    method = find(name)()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for copy in range(COPIES):
            shutil.copytree(EXAMPLES, work / "in" / str(copy))
        list(anonymize(list_jobs([str(work / "in" / "0")], str(work / "warm")), method, Settings()))
        jobs = list_jobs([str(work / "in")], str(work / "out"))
        began = time.perf_counter()
        rows = list(anonymize(jobs, method, Settings()))
        seconds = time.perf_counter() - began
    faces = sum(len(row.faces) for row in rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pictures": len(rows) / seconds, "faces": faces / seconds, "alone": _alone(method), "memory": memory}


def chain(preset: str) -> list[tuple[int, float]]:
    """Milliseconds a face of the networks of a preset of `autoencoder`, for each size of a batch."""
    from deidcli.methods.autoencoder import Autoencoder

    method = Autoencoder.create(Autoencoder.Options(preset=preset))
    return [(size, 1000 / _alone(method, size, BATCH * ROUNDS // size)) for size in SIZES]


def _alone(method, batch: int = BATCH, rounds: int = ROUNDS) -> float:
    """Faces a second in batches of `batch`, crops of 256 pixels where the method takes the photograph's resolution."""
    import numpy as np

    from deidcli.values import Box, Crop, Face

    side = method.crop.size or 256
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    crops = [Crop(pixels, np.eye(2, 3), Face(Box(0, 0, side, side)), str(i)) for i in range(batch)]
    method.apply(crops)
    began = time.perf_counter()
    for _ in range(rounds):
        method.apply(crops)
    return batch * rounds / (time.perf_counter() - began)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
