"""The report: what it says, that it is one sound and self-contained file, and what lies beside it."""

import csv
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MissingDependency, UsageError
from deidcli.evaluation import results as measures
from deidcli.evaluation.attacks import BACKGROUND, SAME_SECRET
from deidcli.evaluation.report import environment, figures_csv, summary, write_report
from deidcli.evaluation.report.plots import colours, row_shares, slug
from deidcli.evaluation.report.summary import interval, percent, recognised, useful, written
from deidcli.evaluation.results import KINDS, PRIVACY, SHARE, UTILITY, Figure, Matrix, Measure, Results
from tests.conftest import save
from tests.evaluation.drawn_results import NASTY, attack, rate, run

pytest.importorskip("matplotlib")
VOID = {"meta", "br", "img", "hr"}


class Page(HTMLParser):
    """The elements of a page; fails where they do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def small(report):
    """Two of its runs."""
    return Results(report[0].runs[3:5], report[0].attacks[:1])


@pytest.fixture(scope="module")
def page(report):
    return Page(report[1].read_text(encoding="utf-8"))


def test_what_lies_in_the_folder(report):
    results, path = report
    assert sorted(p.name for p in path.parent.iterdir()) == ["figures.csv", "plots", "report.html", "report.json"]
    assert Results.load(path.parent).runs[0].label == "original"
    names = {p.name for p in (path.parent / "plots").iterdir()}
    assert {"g1-cmc-cleanir.png", "g2-match-rate-over-threshold.png", "g1-kept-ssim.png", "2-cleanir-90-expression.png",
            "5-cleanir-180-worst.png"} <= names  # fmt: skip
    for name in names:
        with Image.open(path.parent / "plots" / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 100


def test_page_stands_alone(report, page):
    """Nothing is fetched, nothing runs."""
    for tag, attrs, _ in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,")), attrs
    assert not re.search(r"url\((?!['\"]?#)|@import", report[1].read_text(encoding="utf-8"))


def test_page_is_for_everybody(page):
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert page.all("img") and all(len(image["alt"]) > 20 for image in page.all("img"))
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids)), "an id is of one element"
    drawings = page.all("svg")
    assert len(drawings) > 5 and all(d["role"] == "img" and d["aria-labelledby"] in ids for d in drawings)
    assert all(link["href"][1:] in ids for link in page.all("a"))
    assert all("scope" in head for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    boxes = [attrs for _, attrs, _ in page.elements if attrs.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert all("div" in above for tag, _, above in page.elements if tag == "table"), "a table scrolls by itself"


def test_headings_go_down_by_one(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_names_are_no_markup(page):
    assert NASTY in page.text and not page.all("script")


def test_summary_says_what_broke(page):
    assert "The attack “reversal” breaks cleanir 180: it names the right person for 90.0 % of faces" in page.text
    assert "The attack “parrot” does not break solid." in page.text
    assert "breaks original" not in page.text, "what was not protected cannot be broken"
    assert "On the untouched originals dlib (one person up to a distance of 0.6) matches 97.0 %" in page.text
    assert "solid: 0.2 % are still recognised" in page.text
    assert "cleanir 180: the closest new face is 0.82 from its original." in page.text


def test_without_faces(report, small, tmp_path):
    path = write_report(small, tmp_path, faces=False)
    text = path.read_text(encoding="utf-8")
    assert "<img" not in text and "shows original faces" not in text
    assert "shows original faces" in report[1].read_text(encoding="utf-8")


def test_faces_that_are_gone(small, tmp_path):
    gone = tuple(replace(w, before="nowhere.png", after="nowhere.png") for w in small.runs[1].worst)
    path = write_report(Results((replace(small.runs[1], worst=gone, curves=()),)), tmp_path)
    assert "<img" in path.read_text(encoding="utf-8")


def test_nothing_was_measured(tmp_path):
    assert "Nothing but untouched" in Page(write_report(Results(), tmp_path).read_text(encoding="utf-8")).text
    bare = replace(run("given", "given", 0.1, 0.5), figures=(), curves=(), matrices=())
    assert "not measured" in Page(write_report(Results((bare,)), tmp_path).read_text(encoding="utf-8")).text


def test_table_of_figures(report):
    rows = list(csv.DictReader(figures_csv(report[0]).splitlines()))
    assert len(rows) == sum(len(r.figures) for r in report[0].runs) + 2 * len(report[0].attacks)
    first = next(row for row in rows if row["label"] == "cleanir 90" and row["figure"] == "match rate")
    assert float(first["value"]) == 0.43 and first["options"] == "angle=90.0" and first["better"] == "lower"
    assert next(row for row in rows if "age" in row["figure"])["value"] == "", "not measured is not zero"


def test_verdicts():
    attacks = [attack("reversal", "broken", 0.9, True), attack("naive", "good", 0.02, False)]
    for label, matched, word in (("broken", 0.001, summary.FAILS), ("good", 0.001, summary.HOLDS),
                                 ("edge", 0.045, summary.PARTLY), ("bad", 0.3, summary.FAILS)):  # fmt: skip
        assert summary.verdict(run(label, "blur", matched, 1.0), attacks) == word
    assert summary.verdict(run("original", "original", 0.97, 1.0), attacks) == summary.BASE
    unknown = replace(run("none", "blur", 0.0, 1.0), figures=(rate(measures.MATCH_RATE, float("nan")),))
    assert summary.verdict(unknown, attacks) == summary.UNKNOWN


def test_a_method_is_as_good_as_where_it_did_worst(report):
    found = summary.standing(report[0])
    assert "cleanir 150" in found[summary.FAILS], "facenet knows 30 %, though dlib knows 4 %"
    assert found[summary.HOLDS] == ["solid"]


def test_the_rule_is_told(page):
    assert "at most 5.0 % of people" in page.text and "more than 25.0 % are" in page.text


def test_what_figures_are_about():
    """Every measure says what it is, once; a figure carries it, and keeps it in report.json."""
    known = [each for each in vars(measures).values() if isinstance(each, Measure)]
    assert len(known) > 30 and len({each.name for each in known}) == len(known)
    assert all(each.meaning.endswith(".") and each.kind in KINDS for each in known)
    assert all(each.better in measures.BETTER for each in known)
    match = measures.MATCH_RATE.figure(0.5)
    assert (match.kind, match.unit, match.better) == (PRIVACY, SHARE, "lower") and match.meaning
    assert measures.FACENESS.kind == UTILITY
    assert Figure("something new", 1.0).kind == "other" and Figure("something new", 1.0).unit != SHARE


def test_who_is_recognised():
    base = run("x", "blur", 0.2, 0.5)
    assert recognised(base).value == 0.2
    hidden = replace(base, figures=(measures.DEID.figure(0.9, 0.85, 0.95, 10),))
    figure = recognised(hidden)
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.1, 0.05, 0.15))
    assert recognised(replace(base, figures=(rate("strangers matched", 0.01),))) is None


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [(0.0123, measures.MATCH_RATE, "1.2 %"), (1.0, measures.FACENESS, "100 %"), (0.97, measures.SSIM, "0.97"),
     (3.0, measures.ANONYMITY, "3"), (math.nan, measures.FACENESS, "not measured"),
     (None, measures.FACENESS, "not measured")],
)  # fmt: skip
def test_values_as_text(value, measure, text):
    assert written(value, measure.unit) == text


def test_intervals_as_text():
    assert interval(measures.MATCH_RATE.figure(0.1, 0.05, 0.2)) == "5.0 to 20.0 %"
    assert interval(measures.SSIM.figure(0.9, 0.85, 0.95)) == "0.85 to 0.95"
    assert interval(measures.SSIM.figure(0.9)) == interval(measures.SSIM.figure(0.9, math.nan, 1.0)) == ""
    assert percent(0.9996) == "100.0 %"


def test_rows_of_a_matrix():
    shares = row_shares(Matrix("m", ("a", "b"), ("a", "b"), ((3.0, 1.0), (0.0, 0.0))))
    assert shares.tolist() == [[0.75, 0.25], [0, 0]]


def test_templates_escape():
    def shown(template, **values):
        return environment().from_string(template).render(**values)

    said = shown('<p title="{{ t }}">{{ a }}</p>', t='"', a="a < b & c")
    assert said == '<p title="&#34;">a &lt; b &amp; c</p>'
    assert shown("{{ a }}{{ b }}", a="a\udcff", b=None).encode() == b"a?", "a name that is no UTF-8, and nothing"
    assert shown("{{ a }}", a="5.0 %") == "5.0\u00a0%", "a number and its sign stay together"
    table = (
        '{% import "parts.html" as part with context %}{{ part.caption(a) }}{{ part.head([a]) }}{{ part.list([a]) }}'
    )
    assert "<script" not in shown(table, a="<script>")


def test_slugs():
    assert slug("Rate > Threshold: 90°") == "rate-threshold-90" and slug("…") == "plot"


@pytest.mark.parametrize("night", [False, True])
def test_contrast(night):
    """Text has a contrast of 4.5 with the page and with cards, marks of plots 3 (WCAG 2.1, 1.4.3 and 1.4.11)."""
    shades = dict(re.findall(r"--(\w+):(#\w{6})", colours(night)))
    for name in ("ink", "faint", "good", "fair", "bad", "link"):
        assert min(_contrast(shades[name], shades[ground]) for ground in ("paper", "card")) >= 4.5, name
    for name in (name for name in shades if re.fullmatch(r"s\d", name)):
        assert _contrast(shades[name], shades["paper"]) >= 3, name


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_without_matplotlib(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match="deidcli\\[eval\\]"):
        write_report(small, tmp_path)


def test_a_folder_that_cannot_be(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(small, tmp_path / "file")


def test_command(deid, small, tmp_path):
    small.save(tmp_path / "report.json")
    done = deid("evaluate", "report", tmp_path, tmp_path / "again", "--no-faces")
    assert done.status == 0 and done.out.decode().strip() == str(tmp_path / "again" / "report.html")
    assert "<img" not in (tmp_path / "again" / "report.html").read_text(encoding="utf-8")
    assert deid("evaluate", "report", tmp_path / "none.json", tmp_path / "x").status == 2


def test_attacks_with_a_condition_are_told_apart():
    secret = attack("reversal", "x", 0.9, True, SAME_SECRET)
    rest = attack("background", "x", 0.9, True, BACKGROUND)
    assert summary.verdict(run("x", "blur", 0.001, 1.0), [secret, rest]) == summary.HOLDS
    assert not summary.broken([secret, rest])
    first, second = summary.broken([rest, secret], anybody=False)
    assert "breaks x by the picture around the face" in first
    assert "breaks x for those who know the secret of the run" in second


def test_one_sentence_an_attack():
    said = summary.broken([attack("parrot", "a", 0.3, True), attack("parrot", "b", 0.8, True)])
    assert len(said) == 1 and said[0].startswith("The attack “parrot” breaks b and a: at worst, with b, it names")


def test_one_figure_under_two_names_is_told_once():
    twice = [replace(r, figures=(*r.figures, replace(r.figures[1], name=measures.FACES_FOUND.name)))
             for r in (run("a", "blur", 0.1, 0.5), run("b", "blur", 0.1, 0.7))]  # fmt: skip
    assert useful(twice) == ["FCNS", "expression accuracy", "SSIM"]


def test_an_attack_tells_its_price():
    confirmed = replace(attack("naive", "x", 0.5, True), verification=rate("TAR at FAR 0.01", 0.4), far=0.01)
    assert "it confirms 40.0 % of people where it errs on 1.0 % of strangers" in summary.broken([confirmed])[0]


def test_all_ends_with_a_page(deid, portraits, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("skimage")
    for number, pixels in enumerate(portraits):
        for shade in (0, 12):
            save(np.clip(pixels.astype(int) + shade, 0, 255).astype(np.uint8),
                 tmp_path / "lfw" / "images" / f"nobody {number}" / f"{shade}.png")  # fmt: skip
    lines = [f"nobody {number},val" for number in range(len(portraits))]
    (tmp_path / "lfw" / "people.csv").write_text("\n".join(["person,split", *lines]) + "\n")
    done = deid("evaluate", "all", "--data", tmp_path, "--out", tmp_path / "out", "--methods", "original,solid",
                "--attacks", "none", "--detector", "hog", "--cache", "none", "--seed", 1, "--quiet")  # fmt: skip
    assert done.status == 0, done.err
    text = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "solid: 0 % are still recognised" in text and str(tmp_path / "out" / "report.html") in done.err
