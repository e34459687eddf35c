"""Many small files in a bucket on this machine: memory over the run, a kill in the middle, what is there in the end.

    python benchmarks/scale.py bucket [--files 5000]
    python benchmarks/scale.py ray [--files 200] [--repeat 3]

The second compares Ray with two nodes on this machine with two workers in one process: seconds and bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples" / "in"
OPTIONS = ("--method", "blur", "--no-verify", "--detector", "hog", "--seed", "1", "--progress", "json")


def pictures(count: int, side: int = 160):
    """JPEGs of nobody's face, each another one."""
    whole = cv2.imread(str(EXAMPLES / "portrait.jpg"))
    small = cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA)
    for number in range(count):
        shifted = np.roll(small, number % side, axis=1)
        yield f"{number % 100:02}/{number:06}.jpg", cv2.imencode(".jpg", cv2.add(shifted, number % 7))[1].tobytes()


class Watched:
    """A run of the command, with its memory every half second. kill_at: files after which it is killed."""

    def __init__(self, arguments: list[str], kill_at: int | None = None):
        self.memory: list[tuple[int, float]] = []
        self.done, self.killed, began = 0, False, time.monotonic()
        command = [sys.executable, "-m", "deidcli", "anonymize", *OPTIONS, *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        watching = threading.Thread(target=self._watch, args=(kill_at,), daemon=True)
        watching.start()
        assert self.process.stderr is not None
        self.last = ""
        for line in self.process.stderr:
            if line.startswith("{"):
                self.done = json.loads(line)["done"]
            else:
                self.last = line.strip()
        self.status, self.seconds = self.process.wait(), time.monotonic() - began

    def _watch(self, kill_at: int | None) -> None:
        while self.process.poll() is None:
            try:
                status = Path(f"/proc/{self.process.pid}/status").read_text()
            except OSError:
                return
            size = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
            self.memory.append((self.done, size / 1024))
            if kill_at is not None and self.done >= kill_at:
                self.killed = True
                self.process.send_signal(signal.SIGKILL)
                return
            time.sleep(0.5)

    def megabytes(self, share: float) -> float:
        """The most that it held up to a share of its files, once it had begun."""
        end = share * max(done for done, _ in self.memory)
        return max((size for done, size in self.memory if 0 < done <= end), default=0.0)


def bucket(files: int) -> None:
    """A bucket with many small files, anonymized, killed in the middle, and gone on with."""
    import fsspec

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-c", script], **quiet)
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "me",
                   "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    try:
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        for _ in range(60):
            try:
                fs.mkdir("bench")
                break
            except Exception:
                time.sleep(1)
        names = []
        for name, data in pictures(files):
            fs.pipe_file(f"bench/in/{name}", data)
            names.append(name)
        first = Watched(["s3://bench/in", "s3://bench/out"], kill_at=files // 2)
        second = Watched(["--incremental", "s3://bench/in", "s3://bench/out"])
        rows = [json.loads(line)["input"] for line in fs.cat_file("bench/out/deid-manifest.jsonl").splitlines()]
        out = sorted(key.removeprefix("bench/out/") for key in fs.find("bench/out") if key.endswith(".jpg"))
        print(f"{files} files of about {len(data) / 1024:.0f} kB")
        for name, run in (("until the kill", first), ("gone on with", second)):
            half, whole = run.megabytes(0.5), run.megabytes(1)
            print(f"{name}: {run.done} files in {run.seconds:.0f} s, at most {half:.0f} MB in the first half, "
                  f"{whole:.0f} MB in all")  # fmt: skip
        print(f"killed: {first.killed}; then: {second.last}")
        print(f"missing: {len(set(names) - set(out))}, unasked: {len(set(out) - set(names))}, "
              f"without a row: {len(set(names) - set(rows))}, rows twice: {len(rows) - len(set(rows))}")  # fmt: skip
    finally:
        server.terminate()


def tree(folder: Path) -> dict[str, str]:
    """The sha256 of every picture below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix == ".jpg"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def ray(files: int, repeat: int) -> None:
    """Two nodes of Ray on this machine against two workers, one after the other and again."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, data in pictures(files, side=480):
            (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "in" / name).write_bytes(data)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
        seconds: dict[str, list[float]] = {"local": [], "ray": []}
        try:
            for number in range(repeat):
                for kind, more in (("local", ["--workers", "2"]), ("ray", ["--runner", "ray", "--workers", "2"])):
                    run = Watched([*more, str(root / "in"), str(root / f"{kind}{number}")])
                    if run.status:
                        raise SystemExit(f"{kind}: status {run.status}: {run.last}")
                    seconds[kind].append(run.seconds)
        finally:
            cluster.shutdown()
        same = all(tree(root / "local0") == tree(root / f"{kind}{n}") for kind in seconds for n in range(repeat))
        local, two = (min(seconds[kind]) for kind in ("local", "ray"))
        print(f"{files} files, the best of {repeat}: two workers {local:.1f} s, Ray with two nodes {two:.1f} s, "
              f"ratio {two / local:.2f}; equal bytes: {same}")  # fmt: skip


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bucket", "ray"])
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "bucket":
        bucket(asked.files or 5000)
    else:
        ray(asked.files or 200, asked.repeat)


if __name__ == "__main__":
    main()
