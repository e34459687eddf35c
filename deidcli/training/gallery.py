"""The gallery: proxy faces that show no real person, each the average of people of like age, gender, race and tone, in
three mouths.

Who is averaged is drawn at random among those who are alike. A picture that lies nearer to the people in it than to
others of their kind, as a recogniser sees it, is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deidcli.faces.align import apply_affine, similarity
from deidcli.faces.pose import upright, with_lips
from deidcli.faces.shape import MIRROR
from deidcli.faces.tone import skin, smooth_forehead, to_lab
from deidcli.faces.warp import warp_face
from deidcli.methods.ksame.proxies import log_age
from deidcli.training.composites import Composite, composite
from deidcli.training.people import People, read

SIDE = 320  # of a proxy, in pixels
PEOPLE = 60  # people averaged in one picture of a proxy
POOL = 1.5  # people are drawn among the POOL * PEOPLE that are most alike
DIFFERENT_PEOPLE = (
    0.36  # dlib's distance that two of them must keep: the data have no names, and show some people often
)
# Gap of the lips, as a share of the distance between the eyes, from and to which a mouth is of each kind.
MOUTHS = {"closed": (-1.0, 0.05), "teeth": (0.06, 0.2), "open": (0.2, 0.4)}
WIDE = (0.29, 1.0)  # of a fourth, so rare that all people together give one, of which only the inside is taken
FOREHEAD = 0.03  # width over which a forehead is smoothed, as a share of the side
LIP = 0.006  # soft edge between lips and the inside of the mouth, as a share of the side
OTHER_RACE, OTHER_TONE = 12.0, 0.4  # years that another race, or a unit of lightness, count as
OTHER_MOOD = 10.0  # years that a smile counts as where the mouth is closed, and none where teeth are seen
MAX_AUC = 0.6  # largest membership AUC of a picture (see `MembershipAuc`)
DRAWS = 8  # draws of one picture, of which the one with the smallest AUC is taken where none is below SIGN


@dataclass(frozen=True)
class Kind:
    """Who is averaged: gender 0 man, 1 woman; race by UTKFace's code; about how old; shade: -1 dark, 1 light, 0 any."""

    gender: int
    race: int
    age: int
    shade: int = 0

    @property
    def name(self) -> str:
        report = "man" if self.gender == 0 else "woman"
        race = ("white", "black", "asian", "indian", "other")[self.race]
        return f"{report}-{race}-{self.age}{({-1: '-dark', 0: '', 1: '-light'})[self.shade]}"


def _kinds() -> Iterator[Kind]:
    """As many as the data give people for."""
    both = (0, 1)
    for gender in both:
        yield from (Kind(gender, 0, age) for age in (2, 7, 15, 75))
        yield from (Kind(gender, 0, age, shade) for age in (22, 28, 35, 43, 52, 62) for shade in (-1, 1))
        yield from (Kind(gender, 1, age, shade) for age in (24, 30, 38) for shade in (-1, 1))
        yield Kind(gender, 1, 52)
        yield from (Kind(gender, 2, age) for age in (2, 24, 30, 40))
        yield from (Kind(gender, 3, age) for age in (22, 29, 38, 52))
        yield from (Kind(gender, 4, age) for age in (24, 38))
    yield from (Kind(0, 1, 65), Kind(0, 2, 64))


KINDS = tuple(_kinds())


@dataclass(frozen=True)
class Proxy:
    """One averaged face. faces: a composite for each of MOUTHS, and one with a wide open mouth.

    members: of each of MOUTHS, names of the files in it."""

    kind: Kind
    faces: tuple[Composite, ...]
    members: tuple[np.ndarray, ...]


# (picture, its kind, its mouth, rows of the people in it) to the membership AUC: how often a member of the picture is
# nearer to it than a similar person who is not in it; 0.5 means that membership cannot be told.
MembershipAuc = Callable[[Composite, Kind, tuple[float, float], np.ndarray], float]


def build(
    known: People,
    pictures: Path,
    kinds: Sequence[Kind] = KINDS,
    seed: int = 1,
    report: Callable[[str], None] = lambda text: None,
    membership_auc: MembershipAuc = lambda face, kind, mouth, rows: 0.5,
) -> list[Proxy]:
    """The proxies of `kinds`, from people whose files lie in `pictures`. report: called with a line about each.

    Raises UsageError where fewer than 50 people are of a kind.
    """  # fmt: skip
    proxies = []
    inside = wide_open_mouth(known, pictures, seed)
    for number, kind in enumerate(kinds):
        draws: list[Draw] = []
        for i, mouth in enumerate(MOUTHS.values()):
            like = draws[0].face if draws else None
            draws.append(drawn(known, pictures, kind, mouth, [seed, number, i], membership_auc, like))
        faces = [draw.face for draw in draws]
        faces.append(with_wide_open_mouth(faces[-1], inside))
        proxies.append(Proxy(kind, tuple(faces), tuple(known.names[draw.rows] for draw in draws)))
        told = (f"{len(d.rows)} {mouth} ({d.auc:.2f})" for d, mouth in zip(draws, MOUTHS, strict=True))
        report(f"{kind.name}: {', '.join(told)}")
    return proxies


@dataclass(frozen=True)
class Draw:
    """One picture of a proxy: the rows of the people in it, and the largest membership AUC by several recognisers."""

    face: Composite
    rows: np.ndarray
    auc: float


def drawn(
    known: People,
    pictures: Path,
    kind: Kind,
    mouth: tuple[float, float],
    seed: Sequence[int],
    membership_auc: MembershipAuc,
    like: Composite | None = None,
) -> Draw:
    """A picture of a kind whose membership AUC is at most SIGN, or the best of DRAWS. like: whose tone it has."""
    made: list[Draw] = []
    while not made or (len(made) < DRAWS and made[-1].auc > MAX_AUC):
        rows = chosen(known, kind, mouth, np.random.default_rng([*seed, len(made)] if made else seed))
        face = _average(known, rows, pictures)
        face = _toned(face, like) if like else face
        made.append(Draw(face, rows, membership_auc(face, kind, mouth, rows)))
    return min(made, key=lambda draw: draw.auc)


def wide_open_mouth(known: People, pictures: Path, seed: int) -> Composite:
    """The average of people whose mouth is wide open, whoever they are."""
    fits = known.good & (known.gap >= WIDE[0]) & (known.gap < WIDE[1])
    order = np.random.default_rng([seed, len(KINDS)]).permutation(np.flatnonzero(fits))
    return _average(known, distinct_people(known, order, len(order)), pictures)


def with_wide_open_mouth(face: Composite, inside: Composite) -> Composite:
    """`face` with its lips opened as wide as those of `inside`, and what is between them from there."""
    size = face.pixels.shape[:2]
    shape = upright(face.landmarks)
    shape = with_lips(shape, shape, upright(inside.landmarks))
    shape = apply_affine(similarity(upright(face.landmarks), face.landmarks.astype(np.float64)), shape)
    opened = warp_face(face.pixels, face.landmarks, shape, size).astype(np.float32)
    other = warp_face(inside.pixels, inside.landmarks, shape, size).astype(np.float32)
    hole = np.zeros(size, np.float32)
    cv2.fillPoly(hole, [np.round(shape[60:68] * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    share = cv2.GaussianBlur(hole, (0, 0), LIP * size[0])[..., None]
    pixels = np.clip(opened * (1 - share) + other * share + 0.5, 0, 255).astype(np.uint8)
    return Composite(pixels, shape.astype(np.float32), min(face.people, inside.people))


def chosen(known: People, kind: Kind, mouth: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Rows of the people who are averaged: drawn among those most alike, no two of them perhaps the same person.

    Where too few of those are left, the next most alike are asked.
    """
    rows, step = alike(known, kind, mouth), int(PEOPLE * POOL)
    parts = [rng.permutation(rows[start : start + step]) for start in range(0, len(rows), step)]
    return distinct_people(known, np.concatenate(parts) if parts else rows, PEOPLE)


def distinct_people(known: People, order: np.ndarray, wanted: int) -> np.ndarray:
    """The first rows in `order`, `wanted` at most, that keep their distance from each other."""
    drawn: list[int] = []
    for row in order:
        apart = np.linalg.norm(known.descriptors[drawn] - known.descriptors[row], axis=1)
        if len(drawn) < wanted and not (apart < DIFFERENT_PEOPLE).any():
            drawn.append(int(row))
    return np.array(drawn, int)


def alike(known: People, kind: Kind, mouth: tuple[float, float]) -> np.ndarray:
    """Rows of the people who can stand for a kind, most alike first: by age, and by shade where the kind has one."""
    fits = known.good & (known.gender == kind.gender) & (known.gap >= mouth[0]) & (known.gap < mouth[1])
    # In years at the kind's own age, which OTHER_RACE and OTHER_TONE are given in.
    cost = np.abs(log_age(known.age) - log_age(kind.age)) * np.exp(log_age(kind.age))
    # The closed mouth is the one of a calm face, the others are those of a smile.
    cost = cost + OTHER_MOOD * (known.expression != ("neutral" if mouth == MOUTHS["closed"] else "happiness"))
    other = known.race != kind.race
    if mouth == MOUTHS["open"]:
        # So few mouths are open that other races are asked, who are like in tone.
        strange = np.abs(known.tone[:, 0] - np.median(known.tone[~other, 0]))
        cost = cost + other * (OTHER_RACE + OTHER_TONE * strange)
    else:
        fits &= ~other
    order = np.argsort(np.where(fits, cost, np.inf), kind="stable")[: np.count_nonzero(fits)]
    return _shaded(known, kind, order)


def _shaded(known: People, kind: Kind, order: np.ndarray) -> np.ndarray:
    """Of every few hundred in order the lighter or the darker half."""
    if not kind.shade:
        return order
    span = int(2 * PEOPLE * POOL)
    blocks = [order[i : i + span] for i in range(0, len(order), span)]
    halves = [b[np.argsort(-kind.shade * known.tone[b, 0], kind="stable")][: len(b) // 2] for b in blocks]
    return np.concatenate(halves)


def _average(known: People, rows: np.ndarray, pictures: Path) -> Composite:
    """Every other person is mirrored, so that light falls on both sides alike."""
    images = [read(pictures / name) for name in known.names[rows]]
    points = list(known.landmarks[rows])
    for i in range(0, len(images), 2):
        images[i], points[i] = mirrored(images[i], points[i])
    return with_smooth_forehead(composite(images, points, SIDE))


def with_smooth_forehead(face: Composite) -> Composite:
    """`face` with what lies above the brows smoothed: most pictures end there, each somewhere else."""
    width = FOREHEAD * face.pixels.shape[0]
    smooth = smooth_forehead(face.pixels, face.landmarks, width, 0.3 * width)
    return Composite(np.clip(smooth + 0.5, 0, 255).astype(np.uint8), face.landmarks, face.people)


def mirrored(picture: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its landmarks (68, 2) as a mirror shows them."""
    flipped = np.column_stack([picture.shape[1] - 1 - landmarks[:, 0], landmarks[:, 1]])
    return np.ascontiguousarray(picture[:, ::-1]), flipped[MIRROR]


def _toned(face: Composite, like: Composite) -> Composite:
    """`face` with the mean Lab of the skin of `like`."""
    lab, wanted = to_lab(face.pixels), to_lab(like.pixels)
    own, other = (skin(f.landmarks, f.pixels.shape[:2]) for f in (face, like))
    lab += wanted[other].mean(axis=0) - lab[own].mean(axis=0)
    pixels = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Composite(pixels, face.landmarks, face.people)
