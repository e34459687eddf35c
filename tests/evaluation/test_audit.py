"""The audit of a folder: counts, exceptions, weights and figures, as page, PDF and JSON, and its signature."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deidcli
from deidcli.evaluation.audit import measured
from deidcli.evaluation.report.tables import markdown
from deidcli.evaluation.tables import TABLES
from tests.conftest import save

pytest.importorskip("matplotlib")
pytest.importorskip("fpdf")
HOW = {"method": "pixelate", "detector": "hog", "recogniser": "dlib", "seed": 7351123}


@pytest.fixture(scope="module")
def work(tmp_path_factory, portraits, nobody):
    """A folder that was anonymized: two portraits, one of a strange name, a picture of nobody, a damaged one."""
    root = tmp_path_factory.mktemp("audit")
    save(portraits[0], root / "in" / "one.png")
    save(portraits[1], root / "in" / "<b>Ünal & Иван.png")
    save(nobody, root / "in" / "none.png")
    (root / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    frames = [Image.fromarray(np.roll(portraits[2], 2 * index, axis=1)) for index in range(3)]
    frames[0].save(root / "in" / "clip.png", save_all=True, append_images=frames[1:], duration=200)
    assert deidcli.anonymize(root / "in", root / "out", **HOW).status == 1
    return root


@pytest.fixture
def again(work, tmp_path):
    shutil.copytree(work, tmp_path / "work")
    return tmp_path / "work"


def told(deid, root, *options, status=1):
    """The audit as JSON; the page lies beside it."""
    done = deid("report", root / "out", "--page", root / "audit.html", *options)
    assert done.status == status, done.err
    return json.loads((root / "audit.json").read_text(encoding="utf-8"))


def kinds(said):
    return {(entry["kind"], entry["file"]) for entry in said["exceptions"]}


def test_counts_settings_and_hashes_are_those_of_the_run(deid, work):
    said = told(deid, work)
    assert said["files"] == {"done": 4, "failed": 1, "without a face": 1}
    assert said["faces"] == {"replaced": 5} and said["frames"] == 6
    manifest = work / "out" / "deid-manifest.jsonl"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert said["manifests"] == [{"file": manifest.name, "sha256": digest, "lines": 5}]
    [run] = said["runs"]
    assert (run["method"], run["options"], run["files"]) == ("pixelate", {"cells": 6}, 5)
    assert run["made"]["deid"] == deidcli.__version__ and run["made"]["recogniser"] == "dlib" and run["made"]["verify"]
    assert run["begun"] <= run["ended"] and run["search"]["detector"] == "hog"
    assert kinds(said) == {("failed", "broken.jpg")} and said["wrong"] == 1
    weights = {each["what"]: each for each in said["weights"]}
    assert weights["recogniser dlib"]["licence"] == "CC0" and re.fullmatch("[0-9a-f]{64}", weights["mesh"]["sha256"])


def test_no_secret_is_told(deid, work):
    told(deid, work)
    for name in ("audit.json", "audit.html"):
        assert "7351123" not in (work / name).read_text(encoding="utf-8")


def test_what_was_done_to_the_folder_since_is_found(deid, again):
    (again / "out" / "one.png").write_bytes((again / "out" / "none.png").read_bytes())
    (again / "out" / "none.png").unlink()
    shutil.copy(again / "in" / "one.png", again / "out" / "stray.png")
    shutil.copy(again / "in" / "one.png", again / "in" / "new.png")
    found = kinds(told(deid, again, "--originals", again / "in"))
    assert found == {("failed", "broken.jpg"), ("altered", "one.png"), ("missing", "none.png"),
                     ("unlisted result", "stray.png"), ("left out", "new.png")}  # fmt: skip


def test_faces_that_nobody_compared_or_that_were_covered_are_exceptions(deid, tmp_path, portraits):
    save(portraits[0], tmp_path / "in" / "one.png")
    save(portraits[1], tmp_path / "in" / "two.png")
    deidcli.anonymize(tmp_path / "in", tmp_path / "out", **HOW, verify=False)
    assert kinds(told(deid, tmp_path, status=0)) == {("not compared", "one.png"), ("not compared", "two.png")}
    manifest = tmp_path / "out" / "deid-manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["faces"][0] |= {"action": "covered", "reason": "no landmarks"}
    rows[1]["faces"][0] |= {"action": "left", "doubt": True, "choice": "kept"}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = told(deid, tmp_path, status=0)
    names = [row["input"] for row in rows]
    assert kinds(said) == {("covered", names[0]), ("left", names[1]), ("in doubt", names[1])}
    assert [e["why"] for e in said["exceptions"] if e["kind"] == "covered"] == ["no landmarks"]


def test_a_folder_of_before_such_records_says_so(deid, again):
    manifest = again / "out" / "deid-manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    manifest.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "made"}) + "\n" for r in rows))
    [run] = told(deid, again)["runs"]
    assert run["made"] == {} and run["begun"] is None
    assert "not recorded" in (again / "audit.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_the_paper_is_whole(deid, work):
    said = told(deid, work)
    page = (work / "audit.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page and not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "broken.jpg" in page and "What was measured of pixelate" in page and "<script" not in page
    paper = (work / "audit.pdf").read_bytes()
    assert paper.startswith(b"%PDF-") and paper.rstrip().endswith(b"%%EOF")
    for name, digest in said["beside"].items():
        assert hashlib.sha256((work / name).read_bytes()).hexdigest() == digest
    assert set(said["beside"]) == {"audit.html", "audit.pdf"}


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed (poppler-utils)")
def test_the_paper_says_what_the_page_says(deid, again):
    (again / "out" / "<b>Ünal & Иван.png").unlink()
    told(deid, again)
    text = subprocess.run(["pdftotext", "-layout", again / "audit.pdf", "-"], capture_output=True, text=True).stdout
    assert "<b>Ünal & Иван.png" in text and "broken.jpg" in text and "Weights and their licences" in text
    assert "&lt;b&gt;Ünal" in (again / "audit.html").read_text(encoding="utf-8")


def test_the_measured_figures_have_one_home():
    """Figures with the weights that they are of, and nobody of the pictures; the page of results tells the same."""
    results = measured()
    assert {"original", "cleanir", "blur"} <= {run.method for run in results.runs}
    wanted = {name for name, _ in TABLES["fdeid"].readme}
    for run in results.runs:
        assert run.checksum or not run.preset
        assert not (run.worst or run.curves) and {figure.name for figure in run.figures} & wanted
    said = (Path(deidcli.__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    assert markdown(results) in said


def test_figures_for_a_program_are_written_without_anybodys_pictures(deid, tmp_path):
    from tests.evaluation.drawn_results import drawn

    results = drawn(tmp_path)
    results.save(tmp_path / "whole")
    assert deid("evaluate", "readme", tmp_path / "whole" / "report.json", tmp_path / "few.json").status == 0
    few = type(results).load(tmp_path / "few.json")
    assert [run.label for run in few.runs] == [run.label for run in results.runs] and not few.attacks
    assert all(not run.worst and run.figures for run in few.runs)


def program(folder, name, text):
    """A program on the search path; and nothing else is there that signs."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{text}")
    (folder / name).chmod(0o755)


def test_signing_takes_what_is_there_and_says_what_is_not(deid, work, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = deid("report", work / "out", "--page", tmp_path / "audit.html", "--sign")
    assert done.status == 2 and "minisign and gpg are not installed" in done.err
    assert not (tmp_path / "audit.html").exists(), "nothing is begun that cannot be ended"
    assert deid("report", work / "out", "--key", "me").status == 2
    program(tmp_path / "bin", "gpg", "import sys; open(sys.argv[sys.argv.index('--output') + 1], 'w').write('gpg')")
    told(deid, work, "--sign", "--key", "me@example.org")
    assert (work / "audit.json.asc").read_text() == "gpg"
    program(tmp_path / "bin", "minisign", "import sys; open(sys.argv[sys.argv.index('-x') + 1], 'w').write('mini')")
    told(deid, work, "--sign")
    assert (work / "audit.json.minisig").read_text() == "mini"
    program(tmp_path / "bin", "gpg", "raise SystemExit(2)")
    done = deid("report", work / "out", "--page", work / "audit.html", "--sign", "gpg")
    assert done.status == 3 and "gpg ended with status 2" in done.err and not (work / "audit.json.asc").exists()


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_signature_of_gpg_is_good(deid, work, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    command = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "dpo@example.org", "ed25519", "sign"]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    if made.returncode:
        pytest.skip(f"gpg makes no key here: {made.stderr.strip()[-100:]}")
    try:
        told(deid, work, "--sign", "gpg", "--key", "dpo@example.org")
        verify = ["gpg", "--verify", work / "audit.json.asc", work / "audit.json"]
        assert subprocess.run(verify, capture_output=True).returncode == 0
        (work / "audit.json").write_text("{}")
        assert subprocess.run(verify, capture_output=True).returncode != 0
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], capture_output=True)
