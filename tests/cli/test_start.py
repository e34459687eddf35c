"""What a run imports: TensorFlow takes seconds to start, and a face is found, covered and compared without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deidcli.faces.detectors import centerface

EXAMPLES = Path(__file__).parents[2] / "examples" / "in"
SCRIPT = """
import json, sys
from deidcli.__main__ import run
status = run(sys.argv[1:])
print(json.dumps([status, sorted(name for name in sys.modules if "." not in name)]))
"""
HEAVY = {"tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "faiss"}


@pytest.mark.parametrize("method", ["blur"])
def test_a_run_with_verification_starts_no_tensorflow(tmp_path, method):
    detector = "centerface" if centerface.WEIGHTS.find() else "hog"
    words = ["anonymize", "--method", method, "--detector", detector, str(EXAMPLES / "badge.gif"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0 and "onnxruntime" in modules, done.stderr
    assert not HEAVY & set(modules)
    row = json.loads((tmp_path / "deid-manifest.jsonl").read_text().splitlines()[-1])
    assert row["faces"] and all("distance" in face or "covered" in str(face) for face in row["faces"])


def test_help_imports_next_to_nothing():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert not {*HEAVY, "dlib", "onnxruntime", "av"} & set(json.loads(done.stdout.splitlines()[-1])[1])
