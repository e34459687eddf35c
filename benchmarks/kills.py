"""Killed and resumed: `python benchmarks/kills.py [--cycles 1000] [--seed 1] [--minutes M]`.

A folder of small pictures and animations with given faces is anonymized by a process that is ended by SIGKILL a random
time after it has begun to write (every second time after its first temporary file, else after its first output; of ten
kills one comes at any moment of the run), and gone on with by the next one, until it is done; then the next folder
begins. Whatever lies under a
final name after a kill has to be byte for byte what an undisturbed run wrote, a manifest's lines have to be whole but
for the last, and a folder that was done after any number of kills has to equal the undisturbed one, without litter.
Processes are forked from one that has everything imported, so a cycle takes as long as the run itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import cv2
from specimens import moving, stills

from deidcli.engine.files import LOCK

FILES = 24
AT_ONCE = 0.02  # seconds within which a run is killed that has begun a temporary file
LIMIT = 120  # seconds that a run may take


def arguments(place: Path, output: str) -> list[str]:
    """The command, with faces that are given: nothing is searched."""
    faces = ["--faces", str(place / "faces.jsonl"), "--workers", "2", "--batch-size", "2", "--quiet"]
    return ["anonymize", "--method", "pixelate", "--no-verify", *faces, str(place / "in"), str(place / output)]


def furnish(place: Path) -> None:
    """Draw the inputs and list a face in each."""
    (place / "in" / "sub").mkdir(parents=True)
    sources = [
        *sorted(stills().items()),
        *((n, d) for n, d in sorted(moving().items()) if n.endswith((".gif", ".png"))),
    ]
    sources = [(name, data) for name, data in sources if not name.endswith((".avif", ".heic"))]
    lines = []
    for number in range(FILES):
        name, data = sources[number % len(sources)]
        name = f"{'sub/' if number % 3 == 0 else ''}{number:02}-{name}"
        (place / "in" / name).write_bytes(data)
        for frame in range(14 if "moving" in name else 1):
            faces = [{"box": [30 + number % 5, 25, 95, 100]}]
            lines.append(json.dumps({"input": name, "frame": frame, "faces": faces}))
    (place / "faces.jsonl").write_text("\n".join(lines) + "\n")


def started(work: list[str] | Callable[[], object]) -> int:
    """The process of a run, or of anything else."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        cv2.setNumThreads(1)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        from deidcli.__main__ import run

        status = run(work) if isinstance(work, list) else int(bool(work()))
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """The exit status of a process; -9 where it was killed."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


def names(folder: Path) -> set[str]:
    """The files of the folder, those of the manifest and the lock left out."""
    return {
        os.path.join(place, name)
        for place, _, there in os.walk(folder)
        for name in there
        if name != LOCK and not name.startswith("deid-manifest")
    }


def is_temporary(name: str) -> bool:
    """Whether a file has no final name yet."""
    return os.path.basename(name).startswith(".")


def killed(pid: int, folder: Path, draw: random.Random, seconds: float) -> None:
    """Kill a run at a random moment. seconds: how long an undisturbed one takes."""
    before, sign = names(folder), draw.choice((True, False))
    if draw.random() < 0.1:
        time.sleep(draw.random() * seconds)
    else:
        while not any(is_temporary(name) == sign for name in names(folder) - before):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(0.001)
        time.sleep(draw.random() * (AT_ONCE if sign else seconds / 6))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def noted(place: Path) -> None:
    """Do a run, and note what it has imported."""
    from deidcli.__main__ import run

    run(arguments(place, "first"))
    (place / "modules").write_text("\n".join(sorted(sys.modules)))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but manifests."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("deid-manifest"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def faults(folder: Path, whole: dict[str, bytes], done: bool) -> list[str]:
    """What is wrong with a folder. done: whether the run says that it is."""
    found, there = [], tree(folder) if folder.exists() else {}
    for name, data in there.items():
        if Path(name).name.startswith("."):
            found += [f"{name} is litter"] if done else []
        elif data != whole.get(name):
            found.append(f"{name} is not what an undisturbed run writes")
    manifest = folder / "deid-manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True) if manifest.exists() else []
    for line in lines[:-1] if not done else lines:
        try:
            json.loads(line)
        except ValueError:
            found.append("a line of the manifest is torn")
    if done:
        found += [f"{name} is missing" for name in whole if name not in there]
        listed = {json.loads(line)["input"] for line in lines}
        found += [f"{name} is not listed" for name in whole if name not in listed]
    return found


def main() -> None:
    """Run the cycles and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9)
    asked = parser.parse_args()
    draw, began = random.Random(asked.seed), time.monotonic()
    count = {
        "kills": 0,
        "kills of a run that had written a file": 0,
        "kills in the midst of a file": 0,
        "runs that ended": 0,
        "folders done": 0,
        "faults": 0,
    }
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ended(started(partial(furnish, place)))  # not here: a process that has threads cannot be forked
        ended(started(partial(noted, place)))
        for module in (place / "modules").read_text().split():
            with suppress(Exception):
                import_module(module)  # so that the children need not
        first = time.monotonic()
        if (status := ended(started(arguments(place, "whole")))) != 0:
            sys.exit(f"the undisturbed run ended with {status}")
        seconds, whole = time.monotonic() - first, tree(place / "whole")
        while count["kills"] < asked.cycles and time.monotonic() - began < 60 * asked.minutes:
            before = names(place / "out")
            pid = started([*arguments(place, "out"), "--resume"])
            killed(pid, place / "out", draw, seconds)
            status = ended(pid)
            if status == -9:
                count["kills"] += 1
                new = names(place / "out") - before
                count["kills of a run that had written a file"] += any(not is_temporary(name) for name in new)
                count["kills in the midst of a file"] += any(is_temporary(name) for name in new)
            else:
                count["runs that ended"] += 1
            found = faults(place / "out", whole, status != -9)
            if status not in (-9, 0):
                found.append(f"a run ended with {status}")
            for fault in found[:3]:
                print(f"after {count['kills']} kills: {fault}", flush=True)
            count["faults"] += len(found)
            if status == 0:
                count["folders done"] += 1
                shutil.rmtree(place / "out")
    print(json.dumps(count | {"files": FILES, "seconds": round(time.monotonic() - began)}))
    sys.exit(bool(count["faults"]))


if __name__ == "__main__":
    main()
