"""The report in a real browser: nothing reaches past the screen, by day and by night, and paper gets all of it."""

import html
import json
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from deidcli.evaluation.report.plots import PAPER
from deidcli.evaluation.report.tables import as_page, compared
from tests.evaluation.browser import FLAGS, executable
from tests.evaluation.drawn_results import drawn

pytest.importorskip("matplotlib")
WIDTHS = (320, 360, 768, 1280)
# A frame for each width, because a window cannot be as narrow as a phone; the page itself stays as it is.
PROBE = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><pre id="said"></pre>
<script>
function probe(frame) {
  const page = frame.contentDocument, root = page.documentElement, width = root.clientWidth
  page.querySelectorAll("details").forEach(each => each.open = true)
  const inside = (a, b) => Math.min(a.left - b.left, b.right - a.right, a.top - b.top, b.bottom - a.bottom) > -3
  const name = each => each.tagName + " " + (each.textContent || "").trim().slice(0, 40)
  const elements = [...page.body.querySelectorAll("*")].filter(each => !each.closest("svg,.unseen"))
  const past = elements.filter(e => !e.closest(".scroll *") && e.getBoundingClientRect().right > width + 1)
  const cut = [...page.querySelectorAll("svg text")].filter(
    each => !inside(each.getBoundingClientRect(), each.ownerSVGElement.getBoundingClientRect()))
  const boxes = [...page.querySelectorAll(".scroll")]
  const tiny = [...page.querySelectorAll("svg text")].filter(each => each.getBoundingClientRect().height < 7)
  return {width, scroll: root.scrollWidth, past: past.map(name), cut: cut.map(name), tiny: tiny.length,
    scrolls: boxes.filter(b => b.scrollWidth > b.clientWidth && getComputedStyle(b).overflowX == "auto").length,
    boxes: boxes.length, pictures: [...page.images].filter(i => i.complete && i.naturalWidth > 100).length,
    images: page.images.length, ground: getComputedStyle(page.body).backgroundColor, height: root.scrollHeight}
}
onload = () => { said.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(probe)) }
</script>
"""


@pytest.fixture(scope="module")
def chrome():
    """`chrome(*flags, page)` runs a headless browser; what it wrote to standard output."""
    found = executable()

    def call(*arguments):
        # Its own folder each time: a profile that is in use would hand the page to another process.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [found, *FLAGS, "--virtual-time-budget=4000", f"--user-data-dir={profile}", *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")

    probed = call("--dump-dom", "data:text/html,<p>ready")
    if "ready" not in probed.stdout:
        pytest.skip(f"{found} does not start here: {probed.stderr.strip()[-200:]}")
    return call


@pytest.fixture(scope="module")
def page(report):
    return report[1]


def looked_at(chrome, text, folder: Path, *flags):
    """What PROBE says of a page at each width."""
    frames = "".join(
        f'<iframe style="width:{width}px;height:600px;border:0" srcdoc="{html.escape(text)}"></iframe>'
        for width in WIDTHS
    )
    (folder / "probe.html").write_text(PROBE + frames, encoding="utf-8")
    dumped = chrome(*flags, "--dump-dom", (folder / "probe.html").as_uri()).stdout
    return json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', dumped, re.S)[1]))


def check(said):
    """Everything fits, and nothing is missing."""
    assert [each["width"] for each in said] == list(WIDTHS)
    for each in said:
        assert each["scroll"] <= each["width"] and not each["past"], each
        assert not each["cut"], "a label is cut off"
        assert each["pictures"] == each["images"]
    assert said[0]["scrolls"] == said[0]["boxes"] or said[0]["scrolls"] > 0, "tables scroll within themselves"
    assert said[0]["height"] > said[-1]["height"] > 1000


def test_report_fits_every_screen(chrome, page, tmp_path):
    said = looked_at(chrome, page.read_text(encoding="utf-8"), tmp_path)
    check(said)
    assert {each["ground"] for each in said} == {_rgb(PAPER[0])}
    assert all(each["images"] == 1 for each in said)
    assert not said[1]["tiny"], "labels of plots can be read on a phone"


def test_night(chrome, page, tmp_path):
    said = looked_at(chrome, page.read_text(encoding="utf-8"), tmp_path, "--blink-settings=preferredColorScheme=0")
    check(said)
    assert {each["ground"] for each in said} == {_rgb(PAPER[1])}


def test_comparison_fits_every_screen(chrome, tmp_path):
    results = drawn(tmp_path)
    check(looked_at(chrome, as_page(compared(results, results), "a" * 200, "b"), tmp_path))


def test_paper(chrome, page, tmp_path):
    """What is folded up on a screen is printed, too."""
    chrome(f"--print-to-pdf={tmp_path / 'all.pdf'}", page.as_uri())
    text = page.read_text(encoding="utf-8")
    (tmp_path / "less.html").write_text(re.sub(r"<details.*?</details>", "", text, flags=re.S), encoding="utf-8")
    chrome(f"--print-to-pdf={tmp_path / 'less.pdf'}", (tmp_path / "less.html").as_uri())
    whole, less = (_pages(tmp_path / name) for name in ("all.pdf", "less.pdf"))
    assert 2 <= less < whole - 2


def _pages(path):
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def _rgb(colour):
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
