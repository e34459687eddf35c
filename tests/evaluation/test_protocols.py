"""Lists of pairs, the papers' tables, and the commands of `evaluate` over an album of nobody."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import UsageError
from deidcli.evaluation import closed_sets, crops, everything
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.closed_sets import WORDS, expression_draws
from deidcli.evaluation.plan import limited, load_pairs, matched, paired
from deidcli.evaluation.report import tables
from deidcli.evaluation.results import Results
from deidcli.evaluation.tables import ETA, TABLES, eta
from deidcli.faces.align import MEAN_SHAPE, align
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.recognisers import recogniser
from deidcli.faces.recognisers.shipped import WEIGHTS as SFACE
from deidcli.values import Box, CropSpec, Face, Frame
from tests.conftest import found
from tests.evaluation.conftest import PEOPLE
from tests.evaluation.test_results import ATTACK, RUN

PICTURES = {f"p{i}": [f"p{i}/{k}.jpg" for k in range(i % 4 + 1)] for i in range(12)}
QUICK = ("--detector", "hog", "--quiet", "--seed", "1")


def test_official_pairs_of_lfw(tmp_path):
    (tmp_path / "pairs.txt").write_text("1\t1\nAnn\t1\t2\nAnn\t1\tBob_Lee\t12\n")
    assert load_pairs(tmp_path / "pairs.txt") == [
        ("Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", True),
        ("Ann/Ann_0001.jpg", "Bob_Lee/Bob_Lee_0012.jpg", False),
    ]


def test_our_pairs(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,same\nx/1.png,x/2.png,1\nx/1.png,y/1.png,0\n")
    pairs = load_pairs(tmp_path / "pairs.csv")
    assert pairs == [("x/1.png", "x/2.png", True), ("x/1.png", "y/1.png", False)] and limited(pairs * 3, 2) == [
        *[pairs[0]] * 2,
        *[pairs[1]] * 2,
    ]


@pytest.mark.parametrize("text", ["a,b,same\nx,y,maybe\n", "a,c\nx,y\n", "10\nAnn 1\n", "10\nAnn one two\n"])
def test_what_is_no_list_of_pairs_is_refused(tmp_path, text):
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(UsageError, match="line 2"):
        load_pairs(tmp_path / "pairs")


def test_drawn_pairs_take_people_in_turn():
    pairs = paired(PICTURES, 9, 1)
    same, strangers = ([p for p in pairs if p[2] is kind] for kind in (True, False))
    assert len(same) == len(strangers) == 9 == len({a.split("/")[0] for a, _, _ in same}), "no person twice, at first"
    assert all(a.split("/")[0] == b.split("/")[0] and a != b for a, b, _ in same)
    assert all(a.split("/")[0] != b.split("/")[0] for a, b, _ in strangers)
    assert pairs == paired(PICTURES, 9, 1) != paired(PICTURES, 9, 2)
    every = sum(len(names) * (len(names) - 1) // 2 for names in PICTURES.values())
    assert sum(p[2] for p in paired(PICTURES, None, 1)) == every
    assert len({a.split("/")[0] for a, _, s in matched(PICTURES, 5, 1) if s}) == 5


def test_eta_is_a_euclidean_distance_of_unit_vectors(bench):
    assert eta(bench, 1.1) == pytest.approx(1.1)
    bench.judge = type("Cosine", (), {"distance": staticmethod(lambda a, b: 1 - np.sum(a * b, axis=-1))})()
    assert eta(bench, 1.1) == pytest.approx(0.605) and ETA[0] == 0.1 and ETA[-1] == 1.7


def test_a_table_runs_with_the_methods_that_exist(deid, album, tmp_path):
    done = deid(
        "evaluate", "table", "fatm-lfw", album, "--methods", "original,nonsense,blur", "--out", tmp_path, *QUICK
    )
    assert done.status == 0 and "nonsense" in done.err and "left out" in done.err
    runs = Results.load(tmp_path).runs
    assert [(run.label, run.protocol) for run in runs] == [(w, "table:fatm-lfw") for w in ("original", "blur")]
    assert [run.figure("itself no longer matched").value for run in runs] == [0, 1]


def test_every_table_is_offered():
    from deidcli.cli.evaluate.reports import TABLES as NAMES

    assert set(NAMES) == set(TABLES)


def test_all_tables_tell_something_of_the_album(album, bench):
    from deidcli.evaluation.bench import pictures_of
    from deidcli.evaluation.originals import ClassifierLabeller

    bench.instruments = replace(bench.instruments, labellers=(ClassifierLabeller("expression-judge"),))
    for table in TABLES.values():
        if table.verifiers:  # it knows people of LFW alone
            continue
        labels = ({f"person{i}/1.png": "neutral" for i in range(1, PEOPLE)},) if table.label else ()
        plan = table.plan(pictures_of(album), 1, None, *labels)
        bench.read(plan.names)
        run = next(
            everything.evaluate_table(bench, table, [Subject("original")], plan, None, False, lambda label: None)
        )
        assert run.figures and all(figure.name for figure in run.figures)


def test_a_table_of_crops_shows_what_leaves_the_networks(deid, album, tmp_path):
    rows = "original", "autoencoder:preset=autoencoder-fc-64:shift=none"
    asked = "--methods", ",".join(rows), *QUICK
    page = tmp_path / "page.png"
    drawn = "--sheet", page
    for more, protocol in ((drawn, "table:autoencoder-8:crops"), (("--photographs",), "table:autoencoder-8")):
        done = deid("evaluate", "table", "autoencoder-8", album, *asked, *more, "--out", tmp_path / str(len(more)))
        assert done.status == 0, done.err
        runs = Results.load(tmp_path / str(len(more))).runs
        assert [run.protocol for run in runs] == [protocol] * 2
        assert runs[0].figure("FCNS").value == 1 and runs[0].figure("DEID").value == 0
        assert np.isfinite(runs[1].figure("DIV").value)
    old, new = np.vsplit(np.asarray(Image.open(page)).astype(int), 2)
    assert old.shape == (128, 128 * min(crops.FACES, PEOPLE), 3) and (old[..., 0] == old[..., 2]).all()
    assert 2 < np.abs(old - new).mean() < 60
    wrong = deid("evaluate", "table", "autoencoder-8", album, "--methods", "blur", *QUICK)
    assert wrong.status == 2 and "--photographs" in wrong.err
    page.unlink()
    wrong = deid("evaluate", "table", "autoencoder-8", album, "--photographs", *drawn, *QUICK)
    assert wrong.status == 2 and "--sheet" in wrong.err


def test_a_face_stands_where_its_enlarged_crop_shows_it():
    points = np.random.default_rng(1).normal(MEAN_SHAPE * 80 + 40, 0.5).astype(np.float32)
    pixels = np.full((160, 160, 3), 40, np.uint8)
    x, y = points[30].round().astype(int)
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    crop = align(Frame(pixels), Face(Box(45, 55, 110, 120), 1.0, points), CropSpec(64, 0.06))
    large, face = crops.enlarged(crop.pixels), crops.enlarged_face(crop)
    bright = np.argwhere(large[..., 0] > 150).mean(axis=0)[::-1]
    assert large.shape == (160, 160, 3) and np.abs(bright - face.landmarks[30]).max() < 2
    assert (face.box.left < face.landmarks[36:48, 0].min()) and (face.box.right > face.landmarks[36:48, 0].max())


def test_privacy_utility_and_quality_in_one_table(deid, doubles, album, tmp_path):
    """Nobody is protected who is left as he is; with a neighbour's face everybody is, and retrieval finds no one."""
    asked = "--methods", "original,same,swap", "--recogniser", "dlib", "--out", tmp_path
    done = deid("evaluate", "table", "fdeid", album, *asked, *QUICK)
    assert done.status == 0, done.err
    runs = {run.label: {f.name: f for f in run.figures} for run in Results.load(tmp_path).runs}
    for name in ("PSR", "rank-1", "rank-5", "mAP", "match rate at FAR 0.001"):
        assert runs["original"][f"{name}, dlib"] == runs["same"][f"{name}, dlib"], name
    assert [runs[who]["PSR, dlib"].value for who in ("same", "swap")] == [0, 1]
    assert [runs[who]["rank-1, dlib"].value for who in ("same", "swap")] == [1, 0]
    assert runs["swap"]["mAP, dlib"].value < 0.5 < runs["same"]["mAP, dlib"].value == 1
    floor = runs["original"]["rank-1 by chance, dlib"]
    assert floor.low <= 1 / PEOPLE <= floor.high and floor.value == pytest.approx(1 / PEOPLE, abs=0.03)
    assert runs["original"]["Fréchet distance, dlib"].value < 1e-6 < runs["swap"]["face SSIM"].value < 0.99
    said = tables.markdown(Results.load(tmp_path))
    assert all(each in said for each in ("| privacy: TAR at FAR 0.001, dlib |", "quality: SSIM", "rank-1 by chance"))


def test_each_part_of_a_recogniser_sees_its_own_numbers(album):
    if SFACE.find() is None:
        pytest.skip("the weights of sface are not there: deid models fetch")
    bench = Bench(Study(album, "album", detect=DetectOptions("hog"), recogniser="both"))
    names = bench.read(["person1/1.png", "person2/1.png"])
    seen = {name: (each, own) for name, each, own in bench.by_each(bench.observe(Subject("original"), names))}
    assert list(seen) == ["dlib", "sface"] and bench.originals.descriptors(names).shape[1] == 256
    alone = recogniser("dlib")
    frame, known = bench.originals.frame(names[0]), bench.originals.known[names[0]]
    row = alone.embed(alone.chips(frame.pixels, [known.face]))
    for each, own in (seen["dlib"],):
        assert each.threshold == alone.threshold and np.allclose(own.of(names[:1]), row, atol=1e-5)
        assert np.allclose(each.originals.descriptors(names[:1]), row, atol=1e-5)
    assert seen["sface"][0].judge.name == "sface" and not np.allclose(seen["sface"][1].of(names[:1]), row)


def test_epd_nets_table_over_ranks(deid, album):
    """No original is unlike itself, and the further ranks miss no more of the people than the first."""
    done = deid("evaluate", "table", "epdnet-1", album, "--methods", "original", "--json", *QUICK)
    assert done.status == 0, done.err
    run = json.loads(done.out)
    figures = {figure["name"]: figure["value"] for figure in run["figures"]}
    missed = [figures[f"missed at rank {rank}"] for rank in range(1, 6)]
    assert figures["unlike itself at FAR 0.001"] == 0 and missed == sorted(missed, reverse=True)
    assert missed[0] < 0.5 and [c["name"] for c in run["curves"]] == ["misclassification"]


def test_epd_nets_verifiers_judge_pictures_that_they_did_not_learn(deid, album, tmp_path, monkeypatch):
    """A gallery of six of seven people: their held-out pictures are measured, by the preset's own verifiers."""
    from deidcli.networks import classifiers, epd_net
    from deidcli.presets import save_preset
    from deidcli.training.classifiers import held_out
    from deidcli.training.epd_net import EMOTIONS, HELD_OUT, word

    people = tuple(sorted(word(f"person{i}/1.png") for i in range(1, PEOPLE)))
    asked = {"identity": (people, "vgg", (4, 4, 4, 4, 4)), "emotion": (EMOTIONS, "xception", (4, 4))}
    configs = {
        name: classifiers.ClassifierConfig((classifiers.Head(name, words),), 64, channels, style=style)
        for name, (words, style, channels) in asked.items()
    }
    made = {name: classifiers.build_classifier(config) for name, config in configs.items()}
    config = epd_net.EpdConfig(32, (4, 4, 4))
    folder = tmp_path / "epdnet-64"
    names = epd_net.save(folder, epd_net.build_generator(config), **made)
    stored = {name: each.stored() for name, each in configs.items()}
    crop = {"method": "epdnet", "crop": {"size": 32, "margin": 0.06}, "network": config.stored()}
    save_preset(folder, crop | stored, names, "")
    monkeypatch.setenv("DEID_MODELS", str(tmp_path))
    done = deid("evaluate", "table", "epdnet-gallery", album, "--methods", "original", "--json", *QUICK)
    assert done.status == 0, done.err
    figures = {figure["name"]: figure for figure in json.loads(done.out)["figures"]}
    known = [f"person{i}/{k}.png" for i in range(1, PEOPLE) for k in (1, 2)]
    assert figures["self de-identification"]["count"] == held_out(np.array(known), HELD_OUT).sum() > 0
    assert figures["emotion error"]["value"] == 0 and figures["SSIM"]["value"] == 1
    assert 0 <= figures["missed at rank 5"]["value"] <= figures["missed at rank 1"]["value"] <= 1


def test_the_command_measures_doubles_from_another_package(deid, doubles, album):
    done = deid("evaluate", "folder", album, "--methods", "original,same,swap", "--people", PEOPLE, "--json", *QUICK)
    assert done.status == 0, done.err
    runs = {run["label"]: run for run in map(json.loads, done.out.splitlines())}
    rates = {label: {f["name"]: f["value"] for f in run["figures"]} for label, run in runs.items()}
    assert rates["same"]["match rate"] == rates["original"]["match rate"] == 1
    assert rates["swap"]["match rate"] == rates["swap"]["self match rate"] == 0


def test_a_folder_of_another_tool(deid, album, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(album, after)
    (after / "person1" / "1.png").unlink()
    (after / "person2" / "1.png").write_bytes((album / "person3" / "1.png").read_bytes())
    done = deid("evaluate", "pair", album, after, "--name", "rival", "--out", tmp_path, *QUICK)
    assert done.status == 1, "one output is missing"
    run = Results.load(tmp_path).runs[1]
    assert (run.label, run.method) == ("rival", "given") and run.figure("pictures missing").value == 1
    assert run.figure("self match rate").value == pytest.approx(1 - 1 / (2 * PEOPLE - 1))
    assert run.worst[0].after.startswith(str(after)) and run.worst[0].before.startswith(str(album))
    assert deid("evaluate", "pair", album, tmp_path / "gone", *QUICK).status == 2


def test_a_flat_folder_of_another_tool(deid, album, tmp_path):
    for place in ("before", "after"):
        for who in ("person1", "person2"):
            (tmp_path / place).mkdir(exist_ok=True)
            shutil.copy(album / who / "1.png", tmp_path / place / f"{who}.png")
    done = deid("evaluate", "pair", tmp_path / "before", tmp_path / "after", "--json", *QUICK)
    run = json.loads(done.out.splitlines()[1])
    figures = {figure["name"]: figure["value"] for figure in run["figures"]}
    assert done.status == 0 and figures["self match rate"] == 1 and "match rate" not in figures


@pytest.fixture
def data(album, tmp_path):
    """The album as LFW lies in a folder of research data."""
    shutil.copytree(album, tmp_path / "data" / "lfw" / "images")
    rows = [f"person{i},{'val' if i <= 5 else 'train'},2" for i in range(1, PEOPLE + 1)]
    (tmp_path / "data" / "lfw" / "people.csv").write_text("\n".join(["person,split,images", *rows]))
    return tmp_path / "data"


def test_everything_at_once_and_once_more(deid, data, tmp_path, monkeypatch):
    asked = ("--methods", "original,solid,nonsense", "--attacks", "naive", "--out", tmp_path / "report", *QUICK)
    done = deid("evaluate", "all", "--data", data, *asked)
    assert done.status == 1 and "failed: nonsense" in done.err
    results = Results.load(tmp_path / "report")
    assert [run.label for run in results.runs] == ["original", "solid"] == [a.label for a in results.attacks]
    assert [attack.breaks for attack in results.attacks] == [True, False] and results.made.endswith("Z")
    assert deid("evaluate", "all", "--data", data, *asked).status == 2, "a report is not written over unasked"
    monkeypatch.setattr(everything, "evaluate_subject", lambda *_: pytest.fail("it was measured again"))
    assert deid("evaluate", "all", "--data", data, "--resume", *asked).status == 1
    assert Results.load(tmp_path / "report") == results
    other = deid("evaluate", "all", "--data", data, "--resume", "--limit", "2", *asked)
    assert other.status == 2 and "other settings" in other.err


def test_the_readme_gets_its_table(deid, tmp_path):
    Results((RUN,), (ATTACK,)).save(tmp_path / "report")
    text = tmp_path / "README.md"
    text.write_text(f"Before.\n\n{tables.BEGIN}\nthe last table\n{tables.END}\n\nAfter.\n")
    assert deid("evaluate", "readme", tmp_path / "report" / "report.json", text).status == 0
    new = text.read_text()
    assert new.startswith("Before.\n") and new.endswith("After.\n") and "the last table" not in new
    assert f"| `{RUN.label}` | 0.250 [0.200, 0.300] | **naive 0.250 [0.200, 0.300]** |" in new and "dlib at 0.6" in new
    assert deid("evaluate", "readme", tmp_path / "report", text).status == 0 and text.read_text() == new
    text.write_text("no marks")
    assert deid("evaluate", "readme", tmp_path / "report", text).status == 2


def test_closed_sets_one_after_the_other(deid, album, tmp_path):
    """Each draw is a run of its own; the bound is told; pictures are written beside the report."""
    base = ("evaluate", "table", "ksame-net-3", album, "--limit", PEOPLE, "--out", tmp_path, *QUICK)
    assert deid(*base, "--methods", "original,ksame-pixel:k=2:size=64").status == 0
    before, after = Results.load(tmp_path).runs
    assert before.figure("rank-1 photograph").value == before.figure("worst LBP").value == 1
    assert before.figure("bound") is None and after.figure("bound").value == 0.5
    assert all(after.figure(f"rank-1 {look}").value <= 0.5 for look in ("photograph", "face"))
    assert {curve.name for curve in after.curves} == {f"CMC, {look}" for look in ("photograph", "face", "LBP")}
    written = {path.name for path in tmp_path.glob("*.png")}
    assert {"rank-1-photograph.png", "rank-1-lbp.png", "closed-cmc-face.png", "sheet.png"} <= written


def test_draws_of_expressions_hold_a_person_once():
    people = {f"p{i}": [f"p{i}/{k}.jpg" for k in range(4)] for i in range(90)}
    labels = {name: word for names in people.values() for name, word in zip(names, (*WORDS, "anger"), strict=True)}
    first, second = expression_draws(labels, people, 2, 1)
    assert first.people == tuple(sorted(set(first.people))) and first.probes == first.gallery
    assert {word: [labels[name] for name in first.probes].count(word) for word in WORDS} == WORDS
    assert first.probes != second.probes and [first, second] == expression_draws(labels, people, 2, 1)


def test_a_table_that_needs_labels_says_so(deid, album):
    done = deid("evaluate", "table", "ksame-net-11", album, *QUICK)
    assert done.status == 2 and "--labels" in done.err


def test_patterns_know_a_picture_whatever_its_light(portraits):
    pairs = [(Frame(pixels), found(pixels)[0]) for pixels in portraits[:2]]
    frame, face = pairs[0]
    darker = frame.with_pixels((frame.pixels * 0.7).astype(np.uint8)), face
    rows = closed_sets.lbp_histograms([*pairs, darker])
    assert np.allclose(rows.sum(axis=2), 1) and rows.shape == (3, 64, 59)
    apart = closed_sets.lbp_distances(rows, rows)
    assert np.allclose(np.diag(apart), 0) and apart[0, 2] < 0.5 * apart[0, 1]
