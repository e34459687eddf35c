"""The tutorial and the how-tos, followed to the letter, and the documentation site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import deidcli
from tests.cli.test_video import walk
from tests.conftest import save

HOUSE = Path(deidcli.__file__).parents[1]
DOCS = HOUSE / "docs"


def jobs(page):
    """The sections of a page that have commands: title and shell text."""
    sections = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for section in sections:
        text = "\n".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
        if text:
            yield section.splitlines()[0], text


@pytest.fixture(scope="module")
def place(tmp_path_factory, portraits, nobody):
    """A folder with what the pages speak of."""
    here = tmp_path_factory.mktemp("jobs")
    for name in ("photos/a.jpg", "photos/b/c.png", "footage/1.png", "dataset/images/1.jpg", "one.jpg"):
        save(portraits[len(name) % 3], here / name)
    save(nobody, here / "photos" / "landscape.jpg")
    (here / "dataset" / "labels.txt").write_text("1.jpg person\n")
    (here / "seed.txt").write_text("7351")
    for name in ("dashcam", "cctv"):
        (here / name).mkdir()
        walk(here / name / "cam.mp4", portraits[0], nobody)
    (here / "bin").mkdir()
    command = f'#!/bin/sh\nexec "{sys.executable}" -m deidcli "$@"\n'
    (here / "bin" / "deid").write_text(command)
    (here / "bin" / "deid").chmod(0o755)
    return here


def follow(place, text):
    """Run a shell text in the folder; what it said on standard error, which has to be no failure."""
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(HOUSE)}
    done = subprocess.run(["sh", "-e", "-c", text], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stderr


@pytest.mark.parametrize("title, text", list(jobs("howto.md")), ids=lambda value: value[:30])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="videos need Python 3.11")
def test_how_to(place, title, text):
    said = follow(place, text)
    assert "replaced" in said or "In a pipe" in title
    outputs = {
        "Dash-cam folder": ["dashcam-safe/cam.mp4"],
        "Every night by cron": ["clean/1.png", "verify.xml"],
        "An export of a CCTV system": ["cctv-safe/cam.mp4"],
        "A data set before training": ["dataset-safe/images/1.jpg", "dataset-safe/labels.txt"],
        "In a pipe": ["safe.jpg", "piped/one.jpg"],
    }
    assert all((place / name).stat().st_size for name in outputs[title])


def test_tutorial(place):
    said = follow(place, "\n".join(text for _, text in jobs("tutorial.md")))
    assert "3 of 3 files written" in said and "1 without a face copied" in said
    assert len((place / "faces.jsonl").read_text().splitlines()) == 3
    assert (place / "safe" / "b" / "c.png").exists()


def test_an_example_picture_is_made(tmp_path):
    """The command checks itself that dlib finds the face where it was drawn."""
    made = [sys.executable, str(HOUSE / "examples" / "make.py"), "--out", str(tmp_path), "portrait.jpg"]
    done = subprocess.run(made, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(HOUSE)})
    assert b"1 faces, landmarks" in done.stdout
    assert Image.open(tmp_path / "portrait.jpg").size == Image.open(HOUSE / "examples" / "in" / "portrait.jpg").size


def test_every_page_is_in_the_site():
    listed = re.findall(r"([\w-]+\.md)", (HOUSE / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [HOUSE / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(deid, shell):
    done = deid("completion", shell)
    assert done.status == 0 and b"_DEID_COMPLETE" in done.out


def test_completion_knows_commands_and_options(tmp_path):
    environment = {
        **os.environ,
        "_DEID_COMPLETE": "bash_complete",
        "COMP_WORDS": "deid anonymize --met",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv = ['deid']; from deidcli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, env=environment, capture_output=True, text=True, check=True
    )
    assert "plain,--method" in done.stdout
