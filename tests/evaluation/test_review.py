"""The page of `deid review`: what stands on it, and that people can decide on it in a browser, by mouse and by keys."""

import json
import re
import shutil
import stat

import cv2
import numpy as np
import pytest
from PIL import Image

import deidcli
from deidcli.evaluation import review
from deidcli.faces.recognisers import recogniser
from deidcli.faces.recognisers.shipped import WEIGHTS
from deidcli.values import Box
from tests.conftest import found, read, rows, save
from tests.evaluation.browser import Page

WIDTHS = (320, 768, 1280, 1920)
HOW = {"method": "pixelate", "detector": "hog", "seed": 1}


@pytest.fixture(scope="module")
def work(tmp_path_factory, portraits, crowd, nobody):
    """A folder that was anonymized but for one person who is kept: two pictures, one without a face, a clip."""
    if WEIGHTS.find() is None:
        pytest.skip("the weights of sface are missing")
    root = tmp_path_factory.mktemp("review")
    save(portraits[0], root / "in" / "one.png")
    save(crowd, root / "in" / "sub" / "<three> & more.jpg", quality=92)
    save(nobody, root / "in" / "none.png")
    save(portraits[1], root / "people" / "second.png")
    frames = [Image.fromarray(np.roll(portraits[2], 2 * index, axis=1)) for index in range(6)]
    frames[0].save(root / "in" / "clip.png", save_all=True, append_images=frames[1:], duration=200)
    report = deidcli.anonymize(root / "in", root / "out", keep_people=root / "people", **HOW)
    assert report.status == 0
    return root


@pytest.fixture
def again(work, tmp_path):
    """A copy of the work that a test may change, and its page with originals."""
    shutil.copytree(work, tmp_path / "work")
    return tmp_path / "work"


def told(deid, work, *options):
    """The page, and what stands in it."""
    done = deid("review", work / "out", "--page", work / "page.html", *options)
    assert done.status == 0, done.err
    text = (work / "page.html").read_text(encoding="utf-8")
    return text, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_a_card_for_each_face_and_track(deid, work):
    text, said = told(deid, work)
    names = [file["name"] for file in said["files"]]
    assert sorted(names) == ["clip.png", "none.png", "one.png", "sub/<three> & more.jpg"]
    cards = sorted((names[card["file"]], card["action"]) for card in said["cards"])
    assert cards == [("clip.png", "replaced"), ("one.png", "replaced"), ("sub/<three> & more.jpg", "left"),
                     *[("sub/<three> & more.jpg", "replaced")] * 2]  # fmt: skip
    assert all(card["after"].startswith("data:image/jpeg;base64,") and not card["before"] for card in said["cards"])
    assert [card["wrong"] for card in said["cards"] if card["action"] == "left"] == ["replace"]
    [clip] = [card for card in said["cards"] if names[card["file"]] == "clip.png"]
    assert clip["runs"] == [[0.0, pytest.approx(1.2), "replaced"]] and clip["times"] == [0.0, 1.0]
    assert sorted(number for group in said["groups"] for number in group["cards"]) == list(range(5))


def test_the_page_stands_alone(deid, work):
    """Nothing is fetched, no name becomes markup, and nobody but its owner reads it."""
    text, _ = told(deid, work, "--originals", work / "in")
    assert "<three>" not in text and not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in text and "@" not in re.sub(r"base64,[^\"]*|@media", "", text)
    assert stat.S_IMODE((work / "page.html").stat().st_mode) == 0o600


def test_originals_are_shown_when_asked_for_and_tell_people_apart(deid, work):
    _, said = told(deid, work, "--originals", work / "in")
    assert all(card["before"] for card in said["cards"])
    # The first and the third portrait are in the crowd, too.
    together = sorted(len(group["cards"]) for group in said["groups"])
    assert together == [1, 2, 2] and all(group["name"].startswith("Person") for group in said["groups"])


def test_small_faces_stand_by_file(crowd):
    """A recogniser takes the small faces of a crowd for one person. People are counted from one."""
    box, *_ = [face.box for face in found(crowd)]
    judge = recogniser("dlib")
    assert review._described(judge, crowd, box) is not None
    side = np.array([box.left, box.top, box.right, box.bottom]) * 25 / box.width
    small = cv2.resize(crowd, None, fx=25 / box.width, fy=25 / box.width, interpolation=cv2.INTER_AREA)
    assert review._described(judge, small, Box(*side)) is None
    files = [review.Reviewed(name, "", (9, 9), False, 1, None, None) for name in ("crowd.jpg", "one.jpg")]
    cards = [review.Card(n // 2, 0, n, [0, 0, 9, 9], "replaced", "", False, (0, box), "") for n in range(3)]
    for number, card in enumerate(cards):
        card.number = number
    cards[2].descriptor = np.zeros(128, np.float32)
    assert [group["name"] for group in review.groups(files, cards, judge)] == ["crowd.jpg", "Person 1"]


def test_those_in_doubt_come_first_and_are_listed(deid, work, tmp_path):
    shutil.copytree(work / "out", tmp_path / "out")
    place = tmp_path / "out/deid-manifest.jsonl"
    entries = [json.loads(line) for line in place.read_text().splitlines()]
    for row in entries:
        for face in row["faces"]:
            if row["input"] == "one.png":
                face |= {"choice": "--keep-people: a doubtful match", "doubt": True, "match": True}
    place.write_text("".join(json.dumps(row) + "\n" for row in entries))
    done = deid("review", "--list", tmp_path / "out")
    listed = [json.loads(line) for line in done.out.splitlines()]
    [line] = [line for line in listed if line["input"] == "one.png"]
    assert "a doubtful match" in line["choice"] and len(line["box"]) == 4
    assert deid("review", tmp_path / "out", "--page", tmp_path / "p.html").status == 0
    said = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "p.html").read_text(), re.S)[1])
    assert [card["doubt"] for card in said["cards"]] == [True] * len(listed) + [False] * (5 - len(listed))


def test_what_is_not_there(deid, work, tmp_path):
    out = work / "out"
    for arguments in (
        [tmp_path / "x"],
        [work / "in"],
        [out, "--originals", tmp_path / "x"],
        [out, "--decisions", tmp_path / "x"],
        [out, "--page", tmp_path / "x/y"],
    ):
        done = deid("review", *arguments)
        assert done.status == 2 and done.err.count("\n") == 1, done.err
    (tmp_path / "out").mkdir()
    moved = (work / "out/deid-manifest.jsonl").read_text().replace(str(work / "out"), str(tmp_path / "gone"))
    (tmp_path / "out/deid-manifest.jsonl").write_text(moved)
    (tmp_path / "in").mkdir()
    save(np.zeros((9, 9, 3), np.uint8), tmp_path / "in/one.png").write_bytes(b"no picture")
    call = ["review", tmp_path / "out", "--originals", tmp_path / "in", "--page", tmp_path / "p.html"]
    done = deid(*call)
    assert done.status == 1 and (tmp_path / "p.html").exists()
    assert "one.png is shown without pictures: its result is not at hand" in done.err
    shutil.copy(work / "out/one.png", tmp_path / "out")
    assert re.search("one.png is shown without pictures: .*not a picture", deid(*call).err)


# --- In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("downloads"))
    yield page
    page.close()


@pytest.fixture
def page(browser, deid, again, tmp_path):
    """The page of `again`, opened."""
    told(deid, again, "--originals", again / "in")
    browser.look(1280)
    browser.open(again / "page.html")
    return browser


FITS = """(() => {
  const root = document.documentElement, width = root.clientWidth
  const past = [...document.body.querySelectorAll("*")].filter(each => !each.closest("svg,.skip") &&
    each.getBoundingClientRect().right > width + 1).map(each => each.tagName + "." + each.className)
  const clear = each => getComputedStyle(each).color
  return {width, scroll: root.scrollWidth, past, ground: getComputedStyle(document.body).backgroundColor,
    ink: clear(document.body), pictures: [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
    small: [...document.querySelectorAll("button,select")].filter(b => b.getClientRects().length &&
      b.getBoundingClientRect().height < 24).length}
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_every_screen_by_day_and_by_night(page, dark):
    grounds = set()
    for width in WIDTHS:
        page.look(width, dark)
        page.run("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
        page.wait("[...document.images].every(each => each.complete)")
        said = page.run(FITS)
        assert said["width"] == width and said["scroll"] <= width and not said["past"], said
        assert not said["pictures"] and not said["small"], said
        grounds.add((said["ground"], said["ink"]))
    [(ground, ink)] = grounds
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (ground, ink)]
    assert (light[0] < 60 and light[1] > 200) if dark else (light[0] > 200 and light[1] < 60)


def focus(page, wanted, limit=200):
    """Press Tab until a script says that what is wanted has the focus."""
    for _ in range(limit):
        page.press("Tab")
        if page.run(f"(() => {{ const e = document.activeElement; return !!({wanted}) }})()"):
            return
    raise AssertionError(f"no key leads to {wanted}")


def lines(page):
    return [json.loads(line) for line in page.run("document.getElementById('lines').value").splitlines()]


def saved(browser, folder):
    """Press "Save decisions" by the keyboard, and give the file."""
    focus(browser, "e.id === 'save'")
    place = folder / "deid-decisions.jsonl"
    place.unlink(missing_ok=True)
    browser.press("Enter")
    for _ in range(200):
        if place.exists() and place.stat().st_size:
            return place
        browser.run("new Promise(done => setTimeout(done, 25))")
    raise AssertionError("nothing was saved")


def test_by_keyboard_alone(deid, page, again, tmp_path, browser):
    """A wrong person and a missed zone are corrected without a mouse, saved, and done again; the rest is not."""
    browser._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    before = rows(again / "out")
    focus(page, "e.value === 'wrong'")
    page.press("Enter")
    focus(page, "e.value === 'leave' && e.closest('.card').textContent.includes('clip.png')")
    page.press(" ")
    focus(page, "e.id === 'file'")
    while page.run("document.getElementById('picture').alt") != "none.png":
        page.press("ArrowDown")
    focus(page, "e.id === 'draw'")
    for key, count in (
        ("ArrowLeft", 9),
        (" ", 1),
        ("ArrowRight", 12),
        (" ", 1),
        ("ArrowDown", 9),
        (" ", 1),
        ("Enter", 1),
    ):
        for _ in range(count):
            page.press(key)
    said = lines(page)
    assert sorted((line.get("action"), line["input"]) for line in said if "action" in line) == [
        ("leave", "clip.png"), ("replace", "sub/<three> & more.jpg"),
    ]  # fmt: skip
    [zone] = [line for line in said if "zone" in line]
    assert (
        zone["polygon"] == [[42, 45], [66, 45], [66, 63]] and zone["input"] == "none.png" and zone["size"] == [120, 90]
    )
    place = saved(page, tmp_path)
    assert [json.loads(line) for line in place.read_text().splitlines()] == said
    call = ["anonymize", "-m", "pixelate", "--detector", "hog", "--seed", "1", "--keep-people", again / "people"]
    done = deid(*call, "--decisions", place, again / "in", again / "out")
    assert done.status == 0 and "1 of 4 files are done already" in done.err, done.err
    done = deid("review", again / "out", "--page", again / "page.html")
    assert done.status == 0 and "a file saved on it lacks them: go on with them by --decisions FILE" in done.err
    done = deid("review", again / "out", "--page", again / "page.html", "--decisions", place)
    assert done.status == 0 and "lacks them" not in done.err
    after = rows(again / "out")
    assert [face["action"] for face in after["sub/<three> & more.jpg"]["faces"]].count("left") == 0
    assert after["clip.png"]["tracks"][0]["left"] == 6 and after["none.png"]["zones"] == 1
    assert after["one.png"]["seconds"] == before["one.png"]["seconds"], "what was not decided on is as it was"
    covered = read(again / "out/none.png")
    assert (covered[46, 60:64] == covered[46, 62]).all()


def test_by_mouse(page):
    """A click on a button decides, a second one takes it back; clicks on a picture draw a zone where they were made."""
    page.run("document.querySelector('button[value=cover]').scrollIntoView({block: 'center'})")
    middle = "(e => { const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2] })"
    at = page.run(f"{middle}(document.querySelector('button[value=cover]'))")
    page.click(*at)
    assert [line["action"] for line in lines(page)] == ["cover"]
    assert page.run("document.querySelector('button[value=cover]').getAttribute('aria-pressed')") == "true"
    page.click(*at)
    assert not lines(page)
    page.run("document.getElementById('draw').scrollIntoView({block: 'center'})")
    left, top, width, height = page.run("(b => [b.left, b.top, b.width, b.height])"
                                        "(document.getElementById('picture').getBoundingClientRect())")  # fmt: skip
    shares = [(0.1, 0.2), (0.8, 0.2), (0.8, 0.7)]
    for x, y in shares:
        page.click(left + x * width, top + y * height)
    page.click(left + 0.8 * width, top + 0.7 * height, 1)
    page.click(left + 0.8 * width, top + 0.7 * height, 2)
    [zone] = lines(page)
    wide, high = zone["size"]
    np.testing.assert_allclose(zone["polygon"], [(x * wide, y * high) for x, y in shares], atol=2)
    page.run("document.querySelector('#drawn button').click()")
    assert not lines(page)


def test_a_zone_that_was_not_closed_is_saved_all_the_same(page, tmp_path):
    """Whoever draws three corners and saves, or goes on to the next picture, has drawn a zone; two are none."""
    page._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))

    def draw(count):
        page.run("document.getElementById('draw').focus()")
        for key in ("ArrowLeft", "ArrowDown", "ArrowRight")[:count]:
            page.press(key)
            page.press(" ")

    names = []
    for count in (3, 2):
        names.append(page.run("document.getElementById('picture').alt"))
        draw(count)
        page.run("(f => { f.selectedIndex++; f.dispatchEvent(new Event('change')) })(document.getElementById('file'))")
    assert [(line["input"], len(line["polygon"])) for line in lines(page)] == [(names[0], 3)]
    names.append(page.run("document.getElementById('picture').alt"))
    draw(3)
    assert len(lines(page)) == 1
    said = [json.loads(line) for line in saved(page, tmp_path).read_text().splitlines()]
    assert [line["input"] for line in said] == [names[0], names[2]] and said == lines(page)


def test_filters_and_lines_of_time(page):
    count = "document.querySelectorAll('.card').length"
    choose = "(w => { const f = document.getElementById('filter'); f.value = w; f.dispatchEvent(new Event('change')) })"
    assert page.run(count) == 5
    for word, number in (("left", 1), ("replaced", 4), ("decided", 0)):
        page.run(f"{choose}('{word}')")
        assert page.run(count) == number
    page.run("document.querySelector('.time a').click()")
    assert page.run(count) == 5
    assert page.run("document.activeElement.textContent.includes('clip.png')"), "a bar leads to the card of its track"


def test_what_was_decided_is_gone_on_with(deid, page, again):
    row = rows(again / "out")["one.png"]
    face, lost = (
        row["faces"][0],
        {"input": "gone.png", "frame": 0, "track": 0, "box": [1, 2, 30, 40], "action": "cover"},
    )
    decision = {"input": "one.png", "frame": 0, "track": face["track"], "box": face["box"], "action": "cover"}
    zone = {"zone": "never", "input": "*", "polygon": [[0, 0], [9, 0], [9, 9]], "from": 0, "to": 5}
    (again / "d.jsonl").write_text("\n".join(map(json.dumps, (decision, lost, zone))))
    told(deid, again, "--decisions", again / "d.jsonl")
    page.open(again / "page.html")
    said = lines(page)
    assert {line["input"]: line["action"] for line in said if "action" in line} == {
        "one.png": "cover",
        "gone.png": "cover",
    }
    assert [line for line in said if "zone" in line] == [zone]
