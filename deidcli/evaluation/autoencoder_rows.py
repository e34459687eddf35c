"""What the tables of "Deep Autoencoders" (Nousi et al. 2020) compare, and what the paper reports.

A row is a method as `--methods` names it. Shifts that the shipped presets do not hold are left out, unless a preset of
the same name that holds them lies in a folder of DEID_MODELS; `docs/autoencoder.md` says how to train it.
"""

from __future__ import annotations

GREY, COLOUR = "autoencoder-fc-64", "autoencoder-conv-64"
DENSE, CONVOLUTIONAL = f"autoencoder:preset={GREY}", f"autoencoder:preset={COLOUR}"
PLAIN = f"{DENSE}:shift=none"
NAMES = {"Ethn": "race", "Mood": "expression", "Mth": "mouth"}  # the paper's, and the labels here
Row = dict[str, float]


def _figures(*percent: float) -> Row:
    return {name: round(value / 100, 4) for name, value in zip(("FCNS", "DEID", "DIV"), percent, strict=True)}


def _attributes(neighbors: int, order: str) -> str:
    names = "+".join(NAMES[word] for word in order.split("+"))
    return f"{DENSE}:shift=attribute:neighbors={neighbors}:attributes={names}"


def _neighbors(kind: str, count: int, alpha: float) -> str:
    return f"{CONVOLUTIONAL}:shift={kind}:neighbors={count}:alpha={alpha:g}"


TABLE_1 = {
    f"autoencoder:shift=none:preset={name}": _figures(*percent)
    for name, percent in {
        "autoencoder-fc-2048": (74.53, 85.44, 69.80),
        "autoencoder-fc-1024": (77.23, 84.30, 72.53),
        "autoencoder-fc-512": (76.55, 84.74, 70.33),
        "autoencoder-fc-1024-768": (73.43, 90.37, 75.94),
        "autoencoder-fc-64": (74.44, 94.40, 75.94),
        "autoencoder-fc-2048-1024-768-512": (56.62, 97.38, 78.42),
    }.items()
}
TABLE_3 = {
    PLAIN: _figures(92.88, 85.22, 59.47),
    _attributes(10, "Ethn"): _figures(96.82, 88.12, 59.27),
    _attributes(10, "Ethn+Mood"): _figures(99.10, 91.88, 48.51),
    _attributes(10, "Ethn+Mood+Mth"): _figures(98.25, 91.87, 43.40),
    _attributes(20, "Ethn+Mood"): _figures(99.76, 92.36, 51.44),
    _attributes(20, "Ethn+Mood+Mth"): _figures(99.85, 92.65, 48.25),
}
TABLE_4 = {
    _attributes(20, order): _figures(*percent)
    for order, percent in {
        "Ethn+Mood+Mth": (99.85, 92.65, 48.25),
        "Ethn+Mth+Mood": (99.78, 92.56, 48.96),
        "Mood+Ethn+Mth": (99.71, 92.74, 39.60),
        "Mood+Mth+Ethn": (99.76, 92.94, 51.28),
        "Mth+Mood+Ethn": (99.52, 93.02, 41.08),
        "Mth+Ethn+Mood": (99.62, 93.22, 34.00),
    }.items()
}
TABLE_5 = {
    f"{DENSE}:clusters={clusters}": _figures(*percent)
    for clusters, percent in {
        10: (100, 97.74, 7.42),
        50: (100, 95.76, 27.37),
        180: (99.83, 95.10, 44.93),
        300: (99.53, 94.91, 44.77),
    }.items()
}
TABLE_6 = {
    _neighbors("neighbor", count, alpha): _figures(*percent)
    for (alpha, count), percent in {
        (0.4, 5): (98.66, 56.14, 87.87),
        (0.4, 7): (98.92, 72.46, 78.00),
        (0.4, 9): (99.51, 91.48, 66.08),
        (0.8, 5): (98.87, 59.25, 86.75),
        (0.8, 7): (99.15, 76.43, 76.72),
        (0.8, 9): (99.80, 93.97, 55.14),
    }.items()
}
TABLE_7 = {
    _neighbors("cells", count, 0.8): _figures(*percent)
    for count, percent in {
        1: (98.04, 59.72, 88.76),
        5: (98.48, 61.29, 84.93),
        10: (98.62, 57.55, 87.43),
        20: (98.15, 65.11, 84.45),
    }.items()
}
TABLE_8: dict[str, Row] = {
    f"{DENSE}:clusters={clusters}": {"DEID": deid, "ANON": anon, "ATTR": kept}
    for clusters, (deid, anon, kept) in {
        10: (0.99, 39, 0.58),
        50: (0.99, 81, 0.55),
        180: (1.00, 55, 0.49),
        300: (0.99, 49, 0.55),
    }.items()
}
SHOWN = ("FCNS", "DEID", "DIV")
# By the number of a table in the paper: its title, the preset on whose crops it is measured, its rows with the paper's
# figures, and the figures that it shows.
ROWS: dict[int, tuple[str, str, dict[str, Row], tuple[str, ...]]] = {
    1: ("the encoder's layers", GREY, TABLE_1, SHOWN),
    3: ("k neighbors with the same attributes", GREY, TABLE_3, SHOWN),
    4: ("orders of attributes", GREY, TABLE_4, SHOWN),
    5: ("clusters", GREY, TABLE_5, SHOWN),
    6: ("the neighbor of n that is nearest to the mean", COLOUR, TABLE_6, SHOWN),
    7: ("the n-th neighbor of each cell", COLOUR, TABLE_7, SHOWN),
    8: ("k-anonymity and attributes, 200 people", GREY, TABLE_8, ("DEID", "ANON", "ATTR")),
}
