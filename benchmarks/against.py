"""How fast and large a whole run is, against deface and between methods, as a Markdown table: part of `make bench`.

    python benchmarks/against.py [--deface PROGRAM] [--workers 1 2] [--pictures 200] [--only WORD] [--runs 1]

Each row is one process, its start included, over one input: a photograph (examples/in/portrait.jpg), pictures of LFW
`val`, and clips of DEID_DATA. Given are seconds by the clock and of the processor (of all cores together, which other
programs on the machine change little), pictures or frames a second by the clock, peak memory, bytes written, and how
many times as fast as deface on the same input it is, by clock and by processor. `--deface` is the program of an
environment of its own: `pip install deface onnxruntime`. It blurs and verifies nothing. The least of so many runs.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "in"
WAYS = {
    "blur": ["--method", "blur"],
    "blur, not verified": ["--method", "blur", "--no-verify"],
    "cleanir": ["--method", "cleanir"],
    "cleanir, not verified": ["--method", "cleanir", "--no-verify"],
    "cleanir-64": ["--method", "cleanir", "--preset", "cleanir-64"],
    "ksame-m": ["--method", "ksame-m"],
}


@dataclass(frozen=True)
class Run:
    """Seconds by the clock and of the processor, peak memory in MB, bytes written."""

    clock: float
    processor: float
    memory: float
    written: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deface", default=shutil.which("deface"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", default="", help="rows whose input and way hold this word")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    print("| input | way | workers | s | CPU s | items/s | MB | bytes | × deface | by CPU |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for title, sources, items in inputs(options.pictures, Path(folder)):
            base = None
            if not any(options.only in f"{title} {way}" for way in ("deface", *WAYS)):
                continue
            for way, workers, command in commands(options.deface, options.workers, sources, Path(folder) / "out"):
                if options.only not in f"{title} {way}" and way != "deface":
                    continue
                runs = [measured(command, Path(folder) / "out", sources) for _ in range(options.runs)]
                run = min(runs, key=lambda each: each.processor)
                base = run if way == "deface" else base
                print(f"| {title} | {way} | {workers} | {row(run, base, items)} |", flush=True)


def inputs(pictures: int, folder: Path) -> Iterator[tuple[str, list[Path], int]]:
    """Title, files and how many pictures or frames they are."""
    yield "one photograph", [EXAMPLES / "portrait.jpg"], 1
    data = os.environ.get("DEID_DATA")
    if not data:
        return
    with (Path(data) / "lfw" / "people.csv").open(encoding="utf-8") as file:
        people = [line["person"] for line in csv.DictReader(file) if line["split"] == "val"]
    found = (path for name in people for path in sorted((Path(data) / "lfw" / "images" / name).glob("*.jpg")))
    some = [path for path, _ in zip(found, range(pictures), strict=False)]
    yield f"{len(some)} of LFW", some, len(some)
    for path in [*sorted((Path(data) / "video").glob("*.mp4")), *sorted((Path(data) / "clips").glob("*.mp4"))[:1]]:
        yield path.name, [path], frames(path)


def frames(path: Path) -> int:
    """How many frames a video has."""
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.demux(video=0)) - 1


def commands(
    deface: str | None, workers: Sequence[int], sources: list[Path], out: Path
) -> Iterator[tuple[str, str, list[str]]]:
    """What is run: the way, its workers, and the command."""
    if deface:
        one = ["-o", str(out / "deface.mp4")] if sources[0].suffix == ".mp4" else []
        yield "deface", "-", [deface, "--replacewith", "blur", *one, *(str(out / "in" / path.name) for path in sources)]
    for way, words in WAYS.items():
        for count in workers:
            deid = [sys.executable, "-m", "deidcli", "anonymize", "--overwrite", "--device", "cpu", *words]
            yield way, str(count), [*deid, "--workers", str(count), str(out / "in"), str(out / "made")]


def measured(command: Sequence[str], out: Path, sources: Sequence[Path]) -> Run:
    """Run a command over copies of the sources."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "in").mkdir(parents=True)
    for path in sources:
        shutil.copy(path, out / "in")
    given = sum(path.stat().st_size for path in sources)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise SystemExit(f"{' '.join(command)[:200]} ended with status {os.waitstatus_to_exitcode(status)}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) - given
    return Run(clock, spent, used.ru_maxrss / 1024, written)


def row(run: Run, base: Run | None, items: int) -> str:
    """The figures of a run, as cells."""
    ratios = "- | -" if base is None else f"{base.clock / run.clock:.2f} | {base.processor / run.processor:.2f}"
    speed = f"{items / run.clock:.2f}"
    return f"{run.clock:.1f} | {run.processor:.1f} | {speed} | {run.memory:.0f} | {run.written} | {ratios}"


if __name__ == "__main__":
    main()
