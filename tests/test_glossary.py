"""The glossary's terms are those of the code, each once and in order; the pages name files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "glossary.md"
TERMS = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
CODE = " ".join(path.read_text(encoding="utf-8").lower() for path in sorted((ROOT / "deidcli").rglob("*.py")))
# "closed set", "closed_set" and "ClosedSet" are one word.
JOINED = CODE.translate(str.maketrans("", "", " _-\n"))


def test_terms_stand_once_and_in_order():
    assert len(TERMS) > 30 and len(set(TERMS)) == len(TERMS)


@pytest.mark.parametrize("term", TERMS)
def test_the_code_uses_the_term(term):
    said = term.lower().translate(str.maketrans("", "", " _-"))
    assert said in JOINED, f"the code never says {term}"


@pytest.mark.parametrize("page", ["glossary.md", "architecture.md"])
def test_files_that_pages_name_are_there(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)[`.]", text))
    named = {name for name in paths if name.split("/")[0] not in ("in", "out")}
    assert len(named) > 5
    for name in named:
        places = [ROOT / "deidcli" / name, ROOT / name, ROOT / "deidcli" / f"{name}.py"]
        whole = [ROOT / "deidcli" / (re.match(r"[a-z_/]+?(?=\.[A-Za-z_]+$|$)", name) or [name])[0]]
        assert any(place.exists() for place in (*places, *whole)), f"docs/{page} names {name}, which is not there"
