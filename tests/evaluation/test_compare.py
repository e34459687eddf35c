"""Two evaluations side by side: what belongs together, and what counts as a difference."""

from dataclasses import replace

import pytest

from deidcli.evaluation.report.tables import (
    BETTER,
    NO_INTERVAL,
    ONLY_A,
    ONLY_B,
    OTHER,
    SAME,
    UNSURE,
    WORSE,
    Line,
    as_page,
    as_text,
    compared,
)
from deidcli.evaluation.results import Figure, Results
from tests.evaluation.drawn_results import NASTY, attack, drawn, rate, run
from tests.evaluation.test_report import Page


def figure(value, half=None, better="lower"):
    sides = (None, None) if half is None else (value - half, value + half)
    return Figure("rate", value, *sides, 100, better)


@pytest.mark.parametrize(
    ("a", "b", "mark"),
    [
        (figure(0.5, 0.1), figure(0.2, 0.1), BETTER),
        (figure(0.2, 0.1), figure(0.5, 0.1), WORSE),
        (figure(0.2, 0.1, "higher"), figure(0.5, 0.1, "higher"), BETTER),
        (figure(0.2, 0.1, "none"), figure(0.5, 0.1, "none"), OTHER),
        (figure(0.2, 0.1), figure(0.39, 0.1), UNSURE),
        (figure(0.2, 0.1), figure(0.2, 0.1), SAME),
        (figure(0.5), figure(0.2, 0.1), BETTER + NO_INTERVAL),
        (figure(0.5), None, ONLY_A),
        (figure(float("nan")), figure(0.5), ONLY_B),
        (figure(float("nan")), None, ""),
    ],
)
def test_marks(a, b, mark):
    assert Line("rate", a, b).mark == mark


def test_runs_meet_by_what_they_measured(tmp_path):
    a = drawn(tmp_path)
    blocks = compared(a, Results(a.runs[::-1], a.attacks))
    assert len(blocks) == len(a.runs) + len(a.attacks)
    assert {line.mark for block in blocks for line in block.lines} == {SAME}


def test_runs_of_other_people_do_not_meet():
    a, b = run("blur", "blur", 0.1, 0.5), replace(run("blur", "blur", 0.2, 0.5), split="test")
    more = run("solid", "solid", 0.0, 0.0)
    blocks = compared(Results((a, more)), Results((b, more)))
    assert len(blocks) == 3 and {line.mark for line in blocks[0].lines} == {ONLY_A}


def test_one_run_each_always_meets():
    blocks = compared(Results((run("old", "blur", 0.4, 0.5),)), Results((run("new", "solid", 0.1, 0.5),)))
    assert len(blocks) == 1 and blocks[0].title.startswith("old (A), new (B)")
    assert next(line for line in blocks[0].lines if line.name == "match rate").mark == BETTER


def test_attacks_meet_in_order():
    """The same attack on the same method, seen by two recognisers."""
    twice = (attack("naive", "blur", 0.5, True), attack("naive", "blur", 0.1, False))
    blocks = compared(Results((), twice), Results((), twice))
    assert [block.title for block in blocks] == ["naive attack on blur: breaks A and B", "naive attack on blur"]
    assert {line.mark for block in blocks for line in block.lines} == {SAME}


def test_text():
    a, b = Results((run("x", "blur", 0.4, 0.5),)), Results((run("x", "blur", 0.1, 0.5),))
    text = as_text(compared(a, b), "a.json", "b.json")
    line = next(line for line in text.splitlines() if "match rate" in line)
    said = "match rate 40.0 % [35.2 to 44.8 %] 10.0 % [7.1 to 12.9 %] -30.0 points better"
    assert " ".join(line.split()) == said
    assert text.endswith("From A to B: 1 better, 3 equal.")
    assert as_text(compared(Results(), Results()), "a", "b").endswith("Nothing is in both.")


def test_page(tmp_path):
    a = drawn(tmp_path)
    b = replace(a, runs=tuple(replace(r, figures=(rate("match rate", 0.001),)) for r in a.runs))
    page = Page(as_page(compared(a, b), "<a>", "b"))
    assert "A <a>" in page.text and NASTY in page.text and "better" in page.text
    assert not page.all("script") and len(page.all("h1")) == 1


def test_command(deid, tmp_path):
    drawn(tmp_path).save(tmp_path / "a")
    Results((run("solid", "solid", 0.5, 0.5),)).save(tmp_path / "b.json")
    done = deid("evaluate", "compare", tmp_path / "a", tmp_path / "b.json", "--html", tmp_path / "c.html")
    assert done.status == 0 and b"solid: LFW pairs on lfw val, seen by dlib" in done.out and b"worse" in done.out
    assert (tmp_path / "c.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert deid("evaluate", "compare", tmp_path / "a", tmp_path / "none").status == 2
    assert deid("evaluate", "compare", tmp_path / "a", tmp_path / "a", "--html", tmp_path / "no" / "c.html").status == 2
