"""What a run imports: TensorFlow takes seconds to start, and a face is found, covered and compared without it."""

import json
import subprocess
import sys
from pathlib import Path

from deidcli.faces.detectors import shipped
from deidcli.methods import available

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


def test_no_method_starts_tensorflow_on_the_processor(tmp_path, generator_preset):
    kinds = {name: kind for name, kind in available().items() if name != "epdnet"}
    methods = [[name, "--k", "2"] if kind.closed else [name] for name, kind in kinds.items()]
    # Shipped presets have their graphs beside their weights; this one was drawn a moment ago.
    subprocess.run([sys.executable, "-m", "deidcli", "models", "export", generator_preset.folder], check=True)
    methods += [["epdnet", "--preset", str(generator_preset.folder)]]
    methods += [["cleanir", "--preset", "cleanir-64"]]
    runs = [
        [
            "anonymize",
            *DETECTOR,
            "--device",
            "cpu",
            "--method",
            *words,
            str(EXAMPLES / "group.jpg"),
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
