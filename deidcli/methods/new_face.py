"""New face: put an identity of the face model into a photograph. What every method in the canonical frame shares.

The face is unwrapped and read (`read`), a method chooses another identity, and `draw` makes the new face: the texture
that what is kept predicts with that of the new identity, in the photograph's tone, light and contrast, on a shape that
has the new person's proportions, the old one's pose, expression, gaze and mouth, at the photograph's resolution. Jaw
and temples move with the shape, and what is about them bends with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.faces.align import apply_affine, compose, places, resampled, similarity
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.canonical import (
    IBUG,
    INNER_LIPS,
    LEFT_LIDS,
    OUTER_LIPS,
    PRESENT,
    RIGHT_LIDS,
    RIM,
    SMALL,
    canonical,
    frame_map,
    look,
    mean_mesh,
    pose,
    posed_mean_mesh,
    unwrap,
    with_ring,
)
from deidcli.faces.face_model import FaceModel, Identity, Reading
from deidcli.faces.regions import openings, rim_distance
from deidcli.faces.render import render
from deidcli.methods.tone import lit, width_of
from deidcli.values import Box, Crop, CropSpec, Frame, Layer

NO_MASK = CropSpec(size=None, margin=0, align="window", transfer_lighting=False)  # a layer says how it lies
EDGE = (3.0, 10.0)  # pixels within the rim at which the new face begins, and from which on there is nothing of the old
FADE = 30.0  # pixels within the rim from which on a point moves as its part of the face does, and not as the rim
# Standard deviations over which the rim's movement is smoothed: in points along it, and in pixels of the frame.
ALONG, NEAR = 2.5, 14.0
FARTHEST = 0.10  # how far a point of the rim moves at most, in half widths of the face
SIZES = (0.85, 1.18)  # least and most by which eyes and mouth change their size
SPREAD, BEND = 0.10, 0.28  # of the rim's movement in the picture: smoothed over, and gone at, these shares of the face
LEAST_REPLACED = 0.6  # share of the face that the new one has to cover
GAZE = 24  # pixels of a face from which gaze and teeth are kept; in a smaller one they could only identify the person
GRAIN = (0.8, 1.6)  # standard deviations in pixels of the photograph, between which octaves of grain lie
GRAIN_TILE, FEW_GRAINS = 256, 100  # side of the noise, which is repeated; pixels by which grain cannot be measured
SEAM = 0.7  # share of the difference at the rim that is spread over the new face
# By how much of its brightness that changes a face at the most: 1 in 100 faces of LFW is changed by more, a profile,
# whose rim is hair or lies before a wall, by nearly all of it.
MOST_CHANGED = 0.15
# Brightness of 255 that a tenth of a face exceeds, below which it may be read as with a longer exposure and drawn as
# without it: the contrast that is kept at the least, and what hides a face, are set for more light. No face counts as
# darker than the third. The last: how much of a pixel has to be seen to count.
DIM, BRIGHTEST, DARKEST, COUNTS = 64, 90, 4.0, 0.5


@dataclass(frozen=True)
class Seen:
    """A crop with its mesh (468, 3) in its pixels, and what the model reads of it.

    exposure: how many times as bright as the crop the face is that was read.
    """

    crop: Crop
    mesh: np.ndarray
    reading: Reading
    exposure: float = 1.0

    @property
    def span(self) -> float:
        """The longer side of the face in pixels of the crop."""
        return float(np.ptp(self.mesh[:, :2], axis=0).max())


def read(model: FaceModel, crop: Crop, dlib: np.ndarray, soft: bool = False) -> Seen:
    """What is in a crop. dlib: the descriptor (128,) of its face. soft: whether a dark face keeps its low contrast."""
    mesh = mesh_of(crop)
    texture, shown = unwrap(crop.pixels, mesh)
    exposure = _exposure(texture, shown) if soft else 1.0
    if exposure > 1:
        texture = cv2.convertScaleAbs(texture, alpha=exposure)
    return Seen(crop, mesh, model.read(texture, shown, mesh, dlib), exposure)


def _exposure(texture: np.ndarray, shown: np.ndarray) -> float:
    """How many times as bright a texture (256, 256, 3) uint8 is read, at least 1. shown: as `unwrap` returns it.

    The root of what would make it as bright as others: drawn with as little contrast as a dark face has by itself, a
    new one would hardly differ from it.
    """
    return float(np.sqrt(max(DIM / max(_brightness(texture, shown), DARKEST), 1)))


def is_dark(seen: Seen) -> bool:
    """Whether so little light falls on a face that it may be read as with a longer exposure."""
    return _brightness(seen.reading.texture * 255, seen.reading.visible) < DIM * seen.exposure


def _brightness(texture: np.ndarray, shown: np.ndarray) -> float:
    """What a tenth of the pixels of a texture in [0, 255] that are shown exceeds; infinite where nothing is shown."""
    known = texture[shown > COUNTS]
    return float(np.percentile(known.mean(axis=1), BRIGHTEST)) if len(known) else np.inf


def shrunk(seen: Seen, side: int) -> Seen:
    """What was seen, in a crop whose face is at most about `side` pixels large."""
    if seen.span <= side:
        return seen
    height, width = seen.crop.pixels.shape[:2]
    size = max(1, round(width * side / seen.span)), max(1, round(height * side / seen.span))
    pixels = cv2.resize(seen.crop.pixels, size, interpolation=cv2.INTER_AREA)
    x, y = size[0] / width, size[1] / height
    scale = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    crop = replace(seen.crop, pixels=pixels, transform=compose(scale, seen.crop.transform))
    return replace(seen, crop=crop, mesh=np.column_stack([apply_affine(scale, seen.mesh[:, :2]), seen.mesh[:, 2] * x]))


def mesh_of(crop: Crop) -> np.ndarray:
    """The mesh (468, 3) of a crop's face, where its 68 landmarks are: the network's, or the mean mesh where it is
    lost.
    """
    marks = apply_affine(crop.transform, np.asarray(crop.face.landmarks))
    low, high = marks.min(axis=0), marks.max(axis=0)
    across = marks[42:48].mean(axis=0) - marks[36:42].mean(axis=0)
    mesh, presence = look(crop.pixels, Box(*low, *high), float(np.arctan2(across[1], across[0])))
    if presence < PRESENT or high[1] - low[1] < SMALL:
        mesh = posed_mean_mesh(mean_mesh()[IBUG], marks)
    # Landmarks are smoothed along a track; the mesh follows them.
    moved = similarity(mesh[IBUG, :2].astype(np.float64), marks)
    scale = float(np.hypot(moved[0, 0], moved[1, 0]))
    return np.column_stack([apply_affine(moved, mesh[:, :2]), mesh[:, 2] * scale])


def share_replaced(seen: Seen) -> float:
    """How much of a face a new one would cover: less than 1 where something lies over it."""
    return float((face_alpha() * (1 - seen.reading.hidden)).sum() / face_alpha().sum())


def draw(
    model: FaceModel,
    seen: Seen,
    identity: Identity,
    shape: float,
    texture: np.ndarray | None = None,
    within: np.ndarray | None = None,
) -> Crop:
    """The crop with the new face, and the layer that says how it lies over the photograph.

    shape: how far the shape goes towards that of the identity. texture: (256, 256, 3) float32 in [0, 1], what is drawn
    instead of the identity's own, in the tone and light of the face likewise. within: (256, 256) in [0, 1], where in
    the frame the new face lies, where that is not all of it. Raises MethodError where so much lies over the face, as it
    seems, that hardly any of it would be replaced.
    """
    replaced = share_replaced(seen)
    if replaced < LEAST_REPLACED:
        raise MethodError(f"{1 - replaced:.0%} of the face seem to be hidden", "another method replaces it")
    texture = texture_of(model, seen.reading, identity) if texture is None else texture
    texture = lit(texture, seen.reading, width_of(seen.span)) / np.float32(seen.exposure)
    moved = seen.mesh + _movement(model, seen, identity, shape)
    return _laid_over(seen, moved, texture, face_alpha() if within is None else face_alpha() * within)


def texture_of(model: FaceModel, reading: Reading, identity: Identity) -> np.ndarray:
    """The texture (256, 256, 3) float32 of an identity with what is kept of a face."""
    kept = reading.kept.copy()
    kept[: len(identity.traits)] = identity.traits
    return model.base(kept) + identity.texture


def composited(crop: Crop, made: Crop) -> np.ndarray:
    """The pixels of a window with its new face, as the frame will show them."""
    here = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    return blend(Frame(crop.pixels), replace(made, transform=here), NO_MASK, BlendOptions()).frame.pixels


def _movement(model: FaceModel, seen: Seen, identity: Identity, shape: float) -> np.ndarray:
    """How far the points of the mesh (468, 3) move, in pixels of the crop."""
    change = shape * (identity.shape - model.own_shape(seen.reading))
    for part in (np.concatenate([INNER_LIPS, OUTER_LIPS]), LEFT_LIDS, RIGHT_LIDS):
        change[part] = _rigid(seen.reading.shape[part], change[part])
    inner, near = _rim_shares()
    rim = change[RIM] * (1, 1, 0)
    smooth = _around_the_rim() @ rim
    length = np.linalg.norm(smooth, axis=1, keepdims=True)
    smooth *= np.minimum(1, FARTHEST / np.maximum(length, 1e-9))
    rotation, _ = pose(seen.mesh)
    return (change * inner[:, None] + near @ smooth * (1 - inner[:, None])) @ rotation


def _rigid(points: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The change (n, 3) of a part that moves and changes its size, and else stays as it is: its opening, its look."""
    goal = points + change
    before, after = points - points.mean(axis=0), goal - goal.mean(axis=0)
    size = np.sqrt((after[:, :2] ** 2).sum() / max(float((before[:, :2] ** 2).sum()), 1e-9))
    return change.mean(axis=0) + before * (np.clip(size, *SIZES) - 1) * (1, 1, 0)


@cache
def _rim_shares() -> tuple[np.ndarray, np.ndarray]:
    """How far a point moves on its own, (468,) in [0, 1], and otherwise with which points of the rim, (468, 36)."""
    points = canonical().points[: len(mean_mesh())]
    apart = np.linalg.norm(points[:, None] - points[RIM][None], axis=2)
    near = np.exp(-0.5 * (apart / NEAR) ** 2) + 1e-9
    return np.clip(apart.min(axis=1) / FADE, 0, 1), near / near.sum(axis=1, keepdims=True)


@cache
def _around_the_rim() -> np.ndarray:
    """(36, 36) weights that smooth along the rim."""
    count = len(RIM)
    apart = np.abs(np.arange(count)[:, None] - np.arange(count)[None])
    weights = np.exp(-0.5 * (np.minimum(apart, count - apart) / ALONG) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _laid_over(seen: Seen, moved: np.ndarray, texture: np.ndarray, alpha: np.ndarray) -> Crop:
    """The crop with the texture on the mesh `moved`; mouth and eyes come along from the old face."""
    old = seen.crop.pixels.astype(np.float32) / 255
    height, width = old.shape[:2]
    # Where the frame's pixels lie in the old picture is drawn like its colours, so that the old face can follow.
    came_from = frame_map(canonical(), with_ring(seen.mesh)[:, :2])
    follows = openings() if seen.span >= GAZE else np.zeros_like(openings())
    if seen.reading.rims is not None:
        follows = np.maximum(follows, seen.reading.rims)
    pack = np.dstack([texture, alpha * (1 - seen.reading.hidden), follows, came_from]).astype(np.float32)
    drawn, shown = render(pack, moved, (width, height))
    cover = np.clip(drawn[..., 3], 0, 1) * shown
    own = (np.clip(drawn[..., 4], 0, 1) * shown)[..., None]
    followed = resampled(old, np.ascontiguousarray(drawn[..., 5:]), cv2.INTER_CUBIC)
    face = drawn[..., :3] * (1 - own) + followed * own
    bend = _bend(seen.mesh, moved, (width, height))
    grain = _grain(old, face, (cover > 0.9) & (own[..., 0] < 0.1))
    face += (_seam(_bent(old, bend), face, cover) + grain) * (1 - own)
    pixels = np.clip(face * 255 + 0.5, 0, 255).astype(np.uint8)
    return seen.crop.with_pixels(pixels, Layer(cover, bend))


@cache
def face_alpha() -> np.ndarray:
    """Where the new face lies, (256, 256) float32 in [0, 1]: all within the rim, softly at its edge."""
    first, whole = EDGE
    return np.clip((rim_distance() - first) / (whole - first), 0, 1)


def _bend(mesh: np.ndarray, moved: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """By how many pixels a picture of `size` (width, height) moves about the head as its rim does, (h, w, 2)
    float32.
    """
    width, height = size
    rim, shift = moved[RIM, :2], (moved - mesh)[RIM, :2]
    span = float(np.ptp(rim, axis=0).max())
    step = max(1.0, span / 24)
    columns, rows = int(np.ceil(width / step)) + 1, int(np.ceil(height / step)) + 1
    y, x = np.mgrid[0:rows, 0:columns] * step
    apart = (x[..., None] - rim[:, 0]) ** 2 + (y[..., None] - rim[:, 1]) ** 2
    weights = np.exp(-(apart - apart.min(axis=2, keepdims=True)) / (2 * (SPREAD * span) ** 2))
    field = weights @ shift / weights.sum(axis=2, keepdims=True)
    inside = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(inside, [np.round(rim / step * 16).astype(np.int32)], 1, shift=4)
    fall = np.where(inside > 0, 1, np.clip(1 - np.sqrt(apart.min(axis=2)) / (BEND * span), 0, 1) ** 1.5)
    # What is bent ends within the crop, and the border of a picture stays where it is.
    margin = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    fall *= np.clip(margin / (0.06 * span), 0, 1)
    field = (field * fall[..., None]).astype(np.float32)
    return resampled(field, places(width, height) / np.float32(step))


def _bent(old: np.ndarray, bend: np.ndarray) -> np.ndarray:
    height, width = old.shape[:2]
    return resampled(old, places(width, height) - bend)


def _grain(old: np.ndarray, face: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What is added to a new face (h, w, 3) so that it is as grainy as the photograph `old`: noise, (h, w, 1) float32.

    In each of two octaves it makes up for what the new face lacks, by the medians over `where` (h, w), which lines and
    features do not decide. Of the old face it takes these two numbers alone.
    """
    total: np.ndarray = np.zeros((*where.shape, 1), np.float32)
    places = np.flatnonzero(where)[::3]
    if len(places) < FEW_GRAINS:
        return total
    height, width = where.shape
    noise = np.tile(_noise(), (height // GRAIN_TILE + 1, width // GRAIN_TILE + 1))[:height, :width]
    layers = [*(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (old, face)), noise]
    for width_of_octave in GRAIN:
        softer = [cv2.GaussianBlur(layer, (0, 0), width_of_octave) for layer in layers]
        bands = [layer - soft for layer, soft in zip(layers, softer, strict=True)]
        before, after, pattern = (float(np.median(np.abs(band.ravel()[places]))) for band in bands)
        total[..., 0] += bands[2] * (np.sqrt(max(0.0, before**2 - after**2)) / max(pattern, 1e-6))
        layers = softer
    return total


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((GRAIN_TILE, GRAIN_TILE)).astype(np.float32)


def _seam(old: np.ndarray, face: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """What is added to the new face so that its rim is like the photograph's: the gap there, spread over the face."""
    height, width = cover.shape
    rim = (4 * cover * (1 - cover))[..., None]
    size = max(4, width // 8), max(4, height // 8)
    small = [cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in ((old - face) * rim, rim)]
    shared, weight = (cv2.GaussianBlur(v, (0, 0), max(size) / 6) for v in small)
    spread = SEAM * cv2.resize(shared / np.maximum(weight, 1e-4)[..., None], (width, height))
    changed, bright = (abs(float((part * cover[..., None]).sum())) for part in (spread, old))
    return spread * np.float32(min(1.0, MOST_CHANGED * bright / max(changed, 1e-6)))
