"""Train the face model: synthetic faces in, the linear model of faces/face_model.py out. No network is trained.

Every face gets its mesh, its texture in the canonical frame and its descriptors by both recognisers. Faces in glasses,
under fringes and in stage light are left out of the bank. Texture and shape are regressed on what is kept of a face;
the principal components of the textures and of what is left of the shapes hold the rest.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from deidcli.errors import UsageError
from deidcli.faces.canonical import POINTS, SIZE, canonical, ibug, locate_mesh, mean_mesh, unwrap
from deidcli.faces.face_model import TONE, FaceModel, frontal, ridge, unit
from deidcli.faces.recognisers import recogniser
from deidcli.faces.regions import rim_distance, tone_and_light
from deidcli.presets import Preset, save_preset
from deidcli.training.face_bank import KEPT_PENALTY, drawn_bank, plain, presentable, save_bank_sheet
from deidcli.training.face_effects import EFFECTS, learn_effects
from deidcli.values import Box, Face

FILE, WITHOUT = "face_model.npz", "without.txt"
BATCH = 32  # faces that are described in one call
NOWHERE = Box(0, 0, 1, 1)  # of a face whose landmarks say where it is
PRESENT, SEEN = (
    0.98,
    0.985,
)  # presence of a mesh, and the share of a texture that was seen, of a face that is learnt from
TRAIT_PENALTY = 1.0  # of the ridge regression on what recognisers see
SEED = 0  # of the portraits and identities by which the effects of identities are learnt
EXPRESSIONS, SHAPES = 10, 60  # directions of expression, and components of the shapes of people


@dataclass(frozen=True)
class Recipe:
    """components: how many of the texture. licences: of the faces that are learnt from, as faces.csv has them. without:
    files whose faces the bank does not take, because somebody saw glasses or the like on them. portraits: into how many
    identities are drawn to learn their effects on recognisers, and drawn: how many into each.
    """

    components: int = 200
    licences: tuple[str, ...] = ("CC0", "MIT")
    without: frozenset[str] = frozenset()
    portraits: int = 240
    drawn: int = 25


@dataclass(frozen=True)
class Sample:
    """One face. texture: (256, 256, 3) float32 in [0, 1]. shape: (468, 3) as the mean mesh. dlib, sface: (128,)."""

    row: dict[str, str]
    texture: np.ndarray
    shape: np.ndarray
    dlib: np.ndarray
    sface: np.ndarray


def train(folder: Path, recipe: Recipe, out: Path, work: Path, said: Callable[[str], None]) -> Preset:
    """Learn from FOLDER/faces.csv and FOLDER/images, and write a preset. Faces of the split `val` only measure it.

    A sheet of the bank and the names of its files, in the same order, go to `work`.
    """
    rows = [row for row in _rows(folder) if row["licence"] in recipe.licences]
    samples = [s for start in range(0, len(rows), BATCH) for s in _samples(folder, rows[start : start + BATCH])]
    learnt = [s for s in samples if s.row["split"] == "train"]
    unseen = [s for s in samples if s.row["split"] != "train"]
    said(f"{len(rows)} faces, {len(samples)} seen from in front, {len(learnt)} of them learnt from")
    out.mkdir(parents=True, exist_ok=True)
    arrays, files = learn(learnt, recipe)
    _save(out / FILE, arrays)
    model = FaceModel(out / FILE)
    pictures, tones = drawn_bank(model), model.bank_kept[: model.people, TONE].mean(axis=1)
    taken = presentable(pictures, tones) & ~np.isin(files, sorted(recipe.without))
    arrays = _with_bank(arrays, taken)
    files = [name for name, used in zip(files, taken, strict=True) if used]
    said(f"{len(files)} of the faces that the components are learnt from make the bank")
    _save(out / FILE, arrays)
    save_bank_sheet(pictures[taken], work / "bank.png")
    (work / "bank.txt").write_text("".join(f"{name}\n" for name in files), encoding="utf-8")
    (out / WITHOUT).write_text("".join(f"{name}\n" for name in sorted(recipe.without)), encoding="utf-8")
    random = np.random.default_rng(SEED)
    several = random.choice(len(learnt), min(recipe.portraits, len(learnt)), replace=False)
    faces = [face for n in several if (face := _face(folder / "images" / learnt[n].row["file"]))]
    arrays.update(learn_effects(FaceModel(out / FILE), [face[:2] for face in faces], recipe.drawn, random))
    said(f"identities of the bank were drawn into {len(faces)} portraits")
    _save(out / FILE, arrays)
    figures = measure(FaceModel(out / FILE), unseen)
    config = {
        "method": "face-model",
        "frame": SIZE,
        "licences": list(recipe.licences),
        "faces": len(learnt),
        "figures": {**figures, "bank": len(arrays["bank_texture"])},
    }
    return save_preset(out, config, [FILE, WITHOUT], card(out.name, config))


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez_compressed(path, **arrays)


def _with_bank(arrays: Mapping[str, np.ndarray], taken: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays with some faces of the bank alone, and their mirror images. taken: (people,) bool."""
    both = np.concatenate([taken, taken])
    return {name: rows[both] if name.startswith("bank_") else rows for name, rows in arrays.items()}


def _rows(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(
            f"{folder} has no faces.csv: {error.strerror}", "give a folder with faces.csv and images/"
        ) from error


def _samples(folder: Path, rows: Sequence[dict[str, str]]) -> list[Sample]:
    """The faces of pictures that are cut square about them; those that are not seen from in front are left out."""
    found = [(row, *face) for row in rows if (face := _face(folder / "images" / row["file"]))]
    if not found:
        return []
    described = []
    for judge in map(recogniser, ("dlib", "sface")):
        chips = [judge.chips(pixels, [Face(NOWHERE, landmarks=ibug(mesh))])[0] for _, pixels, mesh, _ in found]
        described.append(judge.embed(np.stack(chips)))
    return [
        Sample(row, texture, frontal(mesh.astype(np.float64)), *descriptors)
        for (row, _, mesh, texture), *descriptors in zip(found, *described, strict=True)
    ]


def _face(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The pixels, the mesh and the whole texture of a picture's face; None where it is not seen from in front."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        return None
    pixels = np.ascontiguousarray(pixels[..., ::-1])
    height, width = pixels.shape[:2]
    mesh, presence = locate_mesh(pixels, Face(Box(width * 0.25, height * 0.28, width * 0.75, height * 0.78)))
    if presence < PRESENT:
        return None
    texture, seen = completed(*unwrap(pixels, mesh))
    return (pixels, mesh, texture) if seen[rim_distance() > 3].mean() >= SEEN else None


def completed(texture: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A texture uint8 as float32 in [0, 1], what was not seen of it taken from the other side of the face."""
    share = np.clip((seen - 0.6) / 0.3, 0, 1)[..., None]
    whole = texture.astype(np.float32) / 255
    return whole * share + whole[:, ::-1] * (1 - share), np.maximum(seen, seen[:, ::-1])


def mirror() -> np.ndarray:
    """Which point (468,) of the mesh takes the place of which when a face is mirrored."""
    mean = mean_mesh()
    apart = np.linalg.norm(mean[:, None] - mean[None] * (-1, 1, 1), axis=2) ** 2
    return linear_sum_assignment(apart + apart.T)[1]


def learn(samples: Sequence[Sample], recipe: Recipe) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a face model whose bank has every face that the components are learnt from, and their files."""
    inside = canonical().inside
    dlib = np.stack([s.dlib for s in samples])
    dlib_mean = dlib.mean(axis=0)
    trait_weights = _trait_weights(samples, unit(dlib - dlib_mean))
    shapes = np.stack([s.shape for s in samples])
    other = mirror()
    both = np.concatenate([shapes, shapes[:, other] * (-1, 1, 1)]).reshape(-1, POINTS * 3)
    shape_mean = both.mean(axis=0)
    expression = _expression(samples, shape_mean)
    kept = np.stack([_kept(s, trait_weights, dlib_mean, expression, shape_mean) for s in samples])
    mirrored = np.stack([_kept(_mirrored(s, other), trait_weights, dlib_mean, expression, shape_mean) for s in samples])
    kept_mean, kept_deviation = kept.mean(axis=0), kept.std(axis=0)
    known = (np.concatenate([kept, mirrored]) - kept_mean) / kept_deviation

    textures = np.stack([s.texture[inside].reshape(-1) for s in samples])
    free = np.array([not s.row.get("person") for s in samples])
    clean = plain([s.texture for s in samples], (kept - kept_mean) / kept_deviation, free)
    used = np.concatenate([clean, clean])
    flipped = np.stack([s.texture[:, ::-1][inside].reshape(-1) for s, ok in zip(samples, clean, strict=True) if ok])
    pictures = np.concatenate([textures[clean], flipped])
    mean = pictures.mean(axis=0)
    pictures -= mean
    components, deviation = _components(pictures, recipe.components)
    scale = np.abs(components).max(axis=1) / 127
    components = np.round(components / scale[:, None]).astype(np.int8)
    coefficients = pictures @ (components * scale[:, None].astype(np.float32)).T
    texture_of_kept = ridge(known[used], coefficients, KEPT_PENALTY)
    rest = coefficients - known[used] @ texture_of_kept

    person = np.concatenate([known[:, :2], known[:, 8:]], axis=1)
    shape_of_kept = ridge(person, both - shape_mean, KEPT_PENALTY)
    own = both - shape_mean - person @ shape_of_kept
    own = own - (own @ expression.T) @ expression
    shape_components = np.linalg.svd(own[used], full_matrices=False)[2][:SHAPES]
    files = [s.row["file"] for s, ok in zip(samples, clean, strict=True) if ok]
    arrays = {
        "mean": mean.astype(np.float16),
        "components": components,
        "scale": scale.astype(np.float32),
        "deviation": deviation.astype(np.float32),
        "kept_mean": kept_mean,
        "kept_deviation": kept_deviation,
        "texture_of_kept": texture_of_kept.astype(np.float32),
        "shape_mean": shape_mean.astype(np.float32),
        "shape_of_kept": shape_of_kept.astype(np.float32),
        "expression": expression.astype(np.float32),
        "shape_components": shape_components.astype(np.float16),
        "bank_texture": rest.astype(np.float16),
        "bank_shape": (own[used] @ shape_components.T).astype(np.float16),
        "bank_kept": known[used][:, :5].astype(np.float16),
        "bank_dlib": np.tile(unit(dlib - dlib_mean)[clean], (2, 1)).astype(np.float16),
        "bank_sface": np.tile(unit(np.stack([s.sface for s in samples]))[clean], (2, 1)).astype(np.float16),
        "dlib_mean": dlib_mean.astype(np.float32),
        "trait_weights": trait_weights.astype(np.float32),
        # Learnt when the bank is there.
        **{name: np.zeros((len(components) + len(shape_components), 128), np.float32) for name in EFFECTS},
    }
    return arrays, files


def _trait_weights(samples: Sequence[Sample], descriptors: np.ndarray) -> np.ndarray:
    """(128, 2): gender, 1 for women and -1 for men, and age in tens of years, of a unit descriptor."""
    sex = np.array([{"female": 1.0, "male": -1.0}.get(s.row.get("sex", ""), np.nan) for s in samples])
    age = np.array([float(s.row.get("age") or "nan") / 10 for s in samples])
    if np.isfinite(sex).sum() < 10 or np.isfinite(age).sum() < 10:
        raise UsageError("faces.csv says the sex and age of too few faces", "ten at least need both")
    columns = []
    for label in (sex, age):
        known = np.isfinite(label)
        columns.append(ridge(descriptors[known], label[known] - label[known].mean(), TRAIT_PENALTY))
    return np.stack(columns, axis=1)


def _expression(samples: Sequence[Sample], shape_mean: np.ndarray) -> np.ndarray:
    """The directions (e, 468 * 3) in which the shapes of one person differ."""
    people: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        if sample.row.get("person"):
            people.setdefault(sample.row["person"], []).append(sample.shape.reshape(-1))
    within = [np.stack(shapes) - np.mean(shapes, axis=0) for shapes in people.values() if len(shapes) > 3]
    if not within:
        raise UsageError("faces.csv knows no person with several pictures", "expression is learnt from four and more")
    return np.linalg.svd(np.concatenate(within), full_matrices=False)[2][:EXPRESSIONS]


def _kept(
    sample: Sample, traits: np.ndarray, dlib_mean: np.ndarray, expression: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """What is kept of a face, in its own units, as `FaceModel` reads it."""
    moved = expression @ (sample.shape.reshape(-1) - mean)
    return np.concatenate([unit(sample.dlib - dlib_mean) @ traits, tone_and_light(sample.texture), moved])


def _mirrored(sample: Sample, other: np.ndarray) -> Sample:
    shape = sample.shape[other] * (-1, 1, 1)
    return Sample(sample.row, np.ascontiguousarray(sample.texture[:, ::-1]), shape, sample.dlib, sample.sface)


def _components(pictures: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components (count, d) of centred rows (n, d), and the deviations (count,) along them."""
    values, vectors = np.linalg.eigh(pictures @ pictures.T)
    first = np.argsort(values)[::-1][: min(count, len(pictures) - 1)]
    lengths = np.sqrt(values[first])
    components = ((vectors[:, first] / lengths).T @ pictures).astype(np.float32)
    return components, lengths / np.sqrt(len(pictures))


def measure(model: FaceModel, unseen: Sequence[Sample]) -> dict[str, float]:
    """On faces that were not learnt from: the error of what is kept alone and of all components, root mean square of
    [0, 1], and how far the traits are off where they are known.
    """
    inside = canonical().inside
    errors = []
    for sample in unseen:
        off = sample.texture[inside].reshape(-1) - model.mean
        fit = (off @ model.components.T) @ model.components
        errors.append([np.sqrt(np.mean(off**2)), np.sqrt(np.mean((off - fit) ** 2))])
    known = [s for s in unseen if s.row.get("sex")]
    gender = [
        (unit(s.dlib - model.dlib_mean) @ model.trait_weights)[0] * (1 if s.row["sex"] == "female" else -1)
        for s in known
    ]
    spread, left = np.mean(errors, axis=0) if errors else (np.nan, np.nan)
    right = float(np.mean(np.array(gender) > 0)) if gender else float("nan")
    return {
        "faces": len(unseen),
        "spread": round(float(spread), 4),
        "error": round(float(left), 4),
        "gender": round(right, 3),
    }


def card(name: str, config: dict) -> str:
    """The card of a face model."""
    figures = config["figures"]
    return f"""# {name}

A linear model of faces in the canonical frame: texture ({config["frame"]} pixels) and shape (468 points), what of both
goes with gender, age, tone, light and expression, a bank of {figures["bank"]} identities with their descriptors by
dlib and SFace, and what an identity adds to both descriptors of a photograph into which it is drawn.

**Data**: {config["faces"]} synthetic faces of nobody whose licences are {" and ".join(config["licences"])}: portraits
of faker-js (CC0), SFHQ-T2I (MIT) and openpeople (MIT). Faces of the split `val` were not learnt from. No photograph of
a person was used. Companies may use it. The descriptors are by dlib's network (CC0) and SFace (Apache 2.0), the meshes
by MediaPipe's Face Mesh (Apache 2.0).

**Recipe**: `deid train face-model --data FOLDER --without models/{name}/{WITHOUT} --out models/{name}` (a quarter
of an hour on two cores; signs and last digits of components differ from run to run). The bank takes no face of
openpeople, some of which resemble actors, and none in glasses, under fringes, in stage light or with hard shadows, as
far as measures of the textures tell; `{WITHOUT}` names those that somebody saw besides.

**Figures**, on {figures["faces"]} synthetic faces that were not learnt from: the root mean square of their textures
about the mean is {figures["spread"]} of the range, about their projection {figures["error"]}; gender is read right in
{figures["gender"]}.

**Limits**: faces are seen from in front or filled up from their other side; few old and few very dark faces are in the
data.
"""
