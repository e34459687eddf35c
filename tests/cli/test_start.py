"""What a run imports: TensorFlow takes seconds to start, and a face is found, covered and compared without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deidcli.faces.detectors import shipped
from deidcli.methods import available
from tests.conftest import save

EXAMPLES = Path(__file__).parents[2] / "examples" / "in"
SCRIPT = """
import json, sys
from deidcli.__main__ import run
status = run(sys.argv[1:])
print(json.dumps([status, sorted(name for name in sys.modules if "." not in name)]))
"""
HEAVY = {"tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "faiss"}


DETECTOR = ["--detector", "centerface" if shipped.WEIGHTS.find() else "hog"]


def test_a_run_with_verification_starts_no_tensorflow(tmp_path):
    words = ["anonymize", "--method", "blur", *DETECTOR, str(EXAMPLES / "badge.gif"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0 and "onnxruntime" in modules, done.stderr
    assert not HEAVY & set(modules)
    row = json.loads((tmp_path / "deid-manifest.jsonl").read_text().splitlines()[-1])
    assert row["faces"] and all("distance" in face or "covered" in str(face) for face in row["faces"])


# One process for all: what one of them imports is there at the end.
EVERY = """
import json, sys
from deidcli.__main__ import run
runs = json.loads(sys.argv[1])
print(json.dumps([[run(words) for words in runs], sorted(name for name in sys.modules if "." not in name)]))
"""


def test_no_method_starts_tensorflow_on_the_processor(tmp_path, crowd):
    three = save(crowd, tmp_path / "three.png")
    methods = [[name, "--k", "2"] if kind.closed else [name] for name, kind in available().items()]
    methods += [["cleanir", "--preset", "cleanir-64"]]
    runs = [
        [
            "anonymize",
            *DETECTOR,
            "--device",
            "cpu",
            "--method",
            *words,
            str(three),
            str(tmp_path / str(i)),
        ]
        for i, words in enumerate(methods)
    ]
    done = subprocess.run([sys.executable, "-c", EVERY, json.dumps(runs)], capture_output=True, text=True, check=True)
    statuses, modules = json.loads(done.stdout.splitlines()[-1])
    assert set(statuses) == {0} and len(statuses) > 7, done.stderr
    assert not {"tensorflow", "keras", "torch", "jax", "matplotlib"} & set(modules)


def test_help_imports_next_to_nothing():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert not {*HEAVY, "dlib", "onnxruntime", "av"} & set(json.loads(done.stdout.splitlines()[-1])[1])


ALONE = """
import json, os, sys, time
from deidcli.__main__ import run
status = run(sys.argv[1:])
time.sleep(1)  # events are kept, and sent, by a thread of its own
names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
held = [os.readlink(name) for name in names if os.path.lexists(name)]
print(json.dumps([status, "onnxruntime" in sys.modules, held]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are read in /proc")
def test_onnx_runtime_keeps_and_sends_nothing(tmp_path):
    """It would write an identity and a store of events into the user's cache, and send them when it can."""
    home = tmp_path / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    own |= {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    words = ["anonymize", "--method", "blur", "--detector", "hog", "--landmarks", "dlib", str(EXAMPLES / "badge.gif")]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=own,
        check=True,
    )
    status, loaded, held = json.loads(done.stdout.splitlines()[-1])
    assert status == 0 and loaded, done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert not [name for name in held if name.startswith("socket:") or "onnxruntime.db" in name]
