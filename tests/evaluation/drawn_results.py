"""Drawn results: methods of known quality, names that try to be markup, pictures of nobody."""

import numpy as np
from PIL import Image, ImageDraw

from deidcli.evaluation import results
from deidcli.evaluation.results import Attack, Curve, Figure, Judge, Matrix, Measure, Results, Run, Worst

NASTY = "<script>alert('x')</script> & \"long\" name: cells=6, fallback=solid"
NAN = float("nan")
MOODS = ("neutral", "happy", "sad", "surprised")


def rate(measure, value, better="lower", count=400, interval=True):
    half = 1.96 * (value * (1 - value) / count) ** 0.5
    sides = (max(0.0, value - half), min(1.0, value + half)) if interval else (None, None)
    measure = Measure(measure, results.OTHER, results.SHARE, "", better) if isinstance(measure, str) else measure
    return measure.figure(value, *sides, count)


def run(label, method, matched, kept, judge="dlib", worst=(), **options):
    """A run of which `matched` are still recognised, and which keeps `kept` of what is useful."""
    x = tuple(np.linspace(0.2, 1.2, 21))
    y = tuple(float(v) for v in np.clip(matched + np.linspace(-0.1, 0.3, 21), 0, 1))
    counts = np.round(100 * (kept * np.eye(4) + (1 - kept) / 3 * (1 - np.eye(4))))
    return Run(
        label, method, options, "tiny" if method == "cleanir" else "", "", "LFW pairs", "lfw", "val", 1, "0.1", "abc",
        Judge(judge, 0.6, 0.97, 0.004),
        (rate(results.MATCH_RATE, matched), rate(results.FACENESS, kept),
         rate(results.ACCURACY.named("expression accuracy"), kept), results.SSIM.figure(0.9 * kept, count=400),
         Figure("age difference in years", NAN)),
        (Curve("match rate over threshold", x, y, y, y, "distance threshold", "pairs matched"),
         Curve("CMC", (1, 2, 3), (matched, matched, 1.0), None, None, "rank", "people found")),
        (Matrix("expression", MOODS, MOODS, tuple(map(tuple, counts.tolist()))),),
        worst, 1.5,
    )  # fmt: skip


def attack(name, label, rank1, breaks, condition=""):
    confirmed = rate("true accepts at 1 % false accepts", rank1)
    return Attack(name, label, label.split()[0], rate(results.RANK_1, rank1), confirmed, 0.02, breaks,
                  f"{name}, as drawn", condition)  # fmt: skip


def drawn(folder):
    """Results with two recognisers, eleven methods, and attacks of which two work. folder: for pictures."""
    worst = tuple(
        Worst(f"{i}.png", 0.9 - i / 50, _face(folder / f"b{i}.png", 200), _face(folder / f"a{i}.png", 90 + 9 * i))
        for i in range(5)
    )
    runs = [run("original", "original", 0.97, 1.0)]
    runs += [run(f"cleanir {a}", "cleanir", m, 0.8, worst=worst * (a == 180), angle=float(a))
             for a, m in ((90, 0.43), (120, 0.13), (150, 0.04), (180, 0.005))]  # fmt: skip
    runs += [run(f"blur {b}", "blur", 0.3 - b / 5, 0.6, blur=b) for b in (0.1, 0.3, 0.5)]
    runs += [run("solid", "solid", 0.002, 0.0), run(NASTY, "pixelate", 0.06, 0.2, cells=6)]
    runs += [run("original", "original", 0.99, 1.0, "facenet"), run("cleanir 150", "cleanir", 0.3, 0.8, "facenet")]
    attacks = [attack("naive", "original", 1.0, True),
               attack("reversal", "cleanir 180", 0.9, True), attack("parrot", "blur 0.3", 0.95, True),
               attack("parrot", "solid", 0.02, False), attack("naive", NASTY, 0.03, False)]  # fmt: skip
    return Results(tuple(runs), tuple(attacks), "2026-01-02T03:04:05Z")


def _face(path, grey):
    page = Image.new("RGB", (80, 80), (190, 200, 210))
    ImageDraw.Draw(page).ellipse((20, 10, 60, 70), fill=(grey, 160, 130))
    page.save(path)
    return str(path)
