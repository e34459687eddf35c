"""Face model: what faces look like in the canonical frame, and how that goes with who they are.

A linear model of texture and shape, learnt from synthetic faces (training/face_model.py). Texture and shape of a face
are split in two parts. What is kept (gender, age, tone, light, expression; `Kept`) predicts one part of both. The rest
is who it is: `Identity`, of which the model knows those of its bank of faces, beside the descriptors by which
recognisers know them. A new face is what is kept of the old one with an identity from the bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import PresetError
from deidcli.faces.canonical import POINTS, SIZE, canonical, pose
from deidcli.faces.glasses import rims, sunglasses
from deidcli.faces.regions import COARSE, beard_weights, hidden, rim_distance, shrunk, tone_and_light

DETAIL = 6.0  # standard deviation in pixels of 64 of what is taken off before a face is compared with the mean face
FITTED = 40  # components that are fitted to a face, to find out what occludes it
NOISE = 0.02  # variance of the pixels of a face about the fit, against which the components' variances count
UNLIKE = 0.16  # difference to the fit, of [0, 1], at which a pixel has lost most of its weight
TRAITS = ("gender", "age")  # the first of what is kept; then come tone (3), light (3) and expression
TONE, EXPRESSION = slice(2, 5), slice(8, None)
# Pixels within the rim between which an identity's texture fades in, and the rows of the frame between which that ends.
HAIR_LINE, SIDEBURNS = (8.0, 30.0), (115.0, 150.0)
OTHER_GENDER = 1000.0  # what a face of the bank with another gender counts as a squared deviation
TYPICAL = 0.5  # a direction in which faces of a gender vary by this share of what all do is halved by `typical`
FAINT = 0.01  # share of the strongest effect of identities on recognisers, squared, of which half is left out
TONE_PENALTY = 3.0  # of the regression that tells how light skin is from dlib's descriptor
LIMIT = 2.0  # standard deviations to which what is kept is clipped: beyond them the model has seen nothing


@dataclass(frozen=True)
class Reading:
    """What the model reads from a face.

    texture: (256, 256, 3) float32 in [0, 1] as unwrapped, completed from its other side, and by the fit where that was
    not seen either. visible: (256, 256) float32 in [0, 1], how far a pixel was seen and is face. hidden: (256, 256),
    how far something lies over it.
    shape: (468, 3), the mesh in the pose of the mean mesh. kept: (k,) standardised: gender, age, tone, light,
    expression. rims: (256, 256) float32 in [0, 1], the lines of thin glasses; None where there are none.
    """

    texture: np.ndarray
    visible: np.ndarray
    hidden: np.ndarray
    shape: np.ndarray
    kept: np.ndarray
    rims: np.ndarray | None = None


@dataclass(frozen=True)
class Identity:
    """texture: (256, 256, 3) float32, what it adds to what is kept. shape: (468, 3), likewise. traits: (2,)
    standardised gender and age, which go with it through a video.
    """

    texture: np.ndarray
    shape: np.ndarray
    traits: np.ndarray


class FaceModel:
    """The arrays of a preset's file; each is explained where it is used. Raises PresetError for another file."""

    def __init__(self, path: Path):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._load({name: arrays[name] for name in arrays.files})
        except (KeyError, ValueError, OSError) as error:
            raise PresetError(f"{path} is no face model: {error}", "fetch the preset again") from error

    def _load(self, z: dict[str, np.ndarray]) -> None:
        self.mean = z["mean"].astype(np.float32)  # (pixels * 3,)
        # (n, pixels * 3), orthonormal; 100 MB, which are written once.
        self.components = np.multiply(z["components"], z["scale"].astype(np.float32)[:, None], dtype=np.float32)
        self.deviation = z["deviation"].astype(np.float32)  # (n,) of the coefficients
        self.kept_mean, self.kept_deviation = z["kept_mean"], z["kept_deviation"]
        self.texture_of_kept = z["texture_of_kept"].astype(np.float32)  # (k, n)
        self.shape_mean = z["shape_mean"].astype(np.float64)  # (468 * 3,)
        self.shape_of_kept = z["shape_of_kept"].astype(np.float64)  # (traits and expression, 468 * 3)
        self.expression = z["expression"].astype(np.float64)  # (e, 468 * 3) orthonormal
        self.shape_components = z["shape_components"].astype(np.float64)  # (m, 468 * 3)
        self.bank_texture = z["bank_texture"].astype(np.float32)  # (faces, n)
        self.bank_shape = z["bank_shape"].astype(np.float64)  # (faces, m)
        self.bank_kept = z["bank_kept"].astype(np.float32)  # (faces, 5): gender, age and tone
        self.bank_dlib, self.bank_sface = unit(z["bank_dlib"]), unit(z["bank_sface"])  # (faces, 128)
        self.dlib_mean = z["dlib_mean"].astype(np.float32)  # (128,), taken off descriptors before they are compared
        self.trait_weights = z["trait_weights"].astype(np.float32)  # (128, 2), of a unit descriptor
        # (n + m, 128): what coefficients of texture and shape add to descriptors of the photograph they are drawn into.
        self.effects = z["effect_dlib"].astype(np.float32), z["effect_sface"].astype(np.float32)
        if self.mean.size != 3 * int(canonical().inside.sum()):
            raise ValueError("it is of another canonical frame")

    @property
    def faces(self) -> int:
        """How many faces the bank has."""
        return len(self.bank_texture)

    @property
    def people(self) -> int:
        """How many different faces it has: each is in it twice, the second time, `people` further on, mirrored."""
        return self.faces // 2

    def picture(self, coefficients: np.ndarray, mean: bool = True) -> np.ndarray:
        """The texture (256, 256, 3) float32 of coefficients (n,); without the mean where it is a difference."""
        flat = np.asarray(coefficients, np.float32) @ self.components[: len(coefficients)]
        return _in_frame(flat + self.mean if mean else flat)

    def read(self, texture: np.ndarray, seen: np.ndarray, mesh: np.ndarray, dlib: np.ndarray) -> Reading:
        """What a face is, from its unwrapped texture (256, 256, 3) uint8, what was seen of it (256, 256), its mesh
        (468, 3) and dlib's descriptor (128,).
        """
        shape = frontal(mesh.astype(np.float64))
        given = texture.astype(np.float32) / 255
        drawn, unlike = self._fit(given, seen)
        over = np.maximum(hidden(unlike), sunglasses(given))
        visible = seen * (1 - over)
        drawn = cv2.resize(drawn, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        # What was not seen is taken from the other side of the face, and from the fit where that was not seen either.
        other = visible[:, ::-1, None]
        filled_up = given[:, ::-1] * other + drawn * (1 - other)
        whole = given * visible[..., None] + filled_up * (1 - visible[..., None])
        return Reading(whole, visible, over, shape, self._kept(whole, shape, dlib), rims(given))

    def _fit(self, texture: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The fit (64, 64, 3) by what was seen, and its absolute difference to the face (64, 64).

        Weighted least squares with the coefficients' own variances as the prior; what does not look like a face loses
        its weight and is fitted without.
        """
        mean, components, inside, flat = self._coarse
        small, weight = shrunk(texture), shrunk(seen)
        known = weight[inside]
        off = (small - mean)[inside].reshape(-1)
        share, prior = known, np.diag(NOISE / self.deviation[:FITTED] ** 2)
        for _ in range(3):
            weighted = flat * np.repeat(share, 3)
            fit = np.linalg.solve(weighted @ flat.T + prior, weighted @ off).astype(np.float32)
            apart = np.abs((off - fit @ flat).reshape(-1, 3)).mean(axis=1)
            share = known * np.exp(-((apart / UNLIKE) ** 2))
        unlike = np.zeros((COARSE, COARSE), np.float32)
        unlike[inside] = apart * (known > 0.5)
        return mean + np.tensordot(fit, components, 1), unlike

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean (64, 64, 3) and first components (40, 64, 64, 3) at the side of a fit, the pixels that count (64, 64),
        and the components there (40, their number * 3).
        """
        inside = shrunk(canonical().inside.astype(np.float32)) > 0.99
        small = np.stack([shrunk(_in_frame(row)) for row in self.components[:FITTED]])
        return shrunk(self.picture(np.zeros(1))), small, inside, small[:, inside].reshape(len(small), -1)

    def _kept(self, texture: np.ndarray, shape: np.ndarray, dlib: np.ndarray) -> np.ndarray:
        expression = self.expression @ (shape.reshape(-1) - self.shape_mean)
        kept = np.concatenate([self._raw_traits(dlib), tone_and_light(texture), expression])
        return np.clip((kept - self.kept_mean) / self.kept_deviation, -LIMIT, LIMIT).astype(np.float32)

    def _raw_traits(self, dlib: np.ndarray) -> np.ndarray:
        return unit(dlib - self.dlib_mean) @ self.trait_weights

    def traits(self, dlib: np.ndarray) -> np.ndarray:
        """Gender and age (n, 2), standardised as in `Reading`, from dlib's descriptors (n, 128)."""
        rows = slice(len(TRAITS))
        traits = (self._raw_traits(dlib) - self.kept_mean[rows]) / self.kept_deviation[rows]
        return np.clip(traits, -LIMIT, LIMIT).astype(np.float32)

    def looks(self, dlib: np.ndarray) -> np.ndarray:
        """What dlib's descriptor (128,) says of a face, (3,): its `traits`, and how light its skin is likely to be in
        standard deviations of the bank. That goes with the features of light and of dark people, not with the lighting.
        """
        return np.append(self.traits(dlib), unit(dlib - self.dlib_mean) @ self._tone_weights)

    def look_effects(self, dlib: np.ndarray) -> np.ndarray:
        """(n + m, 3): what coefficients add to the `looks` of a photograph whose face has dlib's descriptor (128,)."""
        length = max(float(np.linalg.norm(dlib - self.dlib_mean)), 1e-9)
        weights = np.column_stack([self.trait_weights / self.kept_deviation[: len(TRAITS)], self._tone_weights])
        return self.effects[0] @ weights / length

    @cached_property
    def _tone_weights(self) -> np.ndarray:
        """(128,), by which unit descriptors say how light the skin is."""
        return ridge(self.bank_dlib, self.bank_kept[:, len(TRAITS)], TONE_PENALTY)

    def varied(self, gradient: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Coefficients (n + m,) of one deviation of the bank's faces, along what raises a gradient (n + m,) and changes
        nothing that `kept` (n + m, k) says.

        Each coefficient has its own variance, and none goes with another: what the few women of the bank have in
        common in so many coefficients is mostly chance, and faces would be changed more for the same effect.
        """
        variance = self.spread**2
        along = kept.T * variance
        gradient = gradient - kept @ np.linalg.solve(along @ kept, along @ gradient)
        way = variance * gradient
        return way / max(float(np.sqrt(gradient @ way)), 1e-9)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviations (n + m,) of the coefficients of texture and shape in the bank."""
        return np.concatenate([self.bank_texture, self.bank_shape], axis=1).std(axis=0)

    def typical(self, texture: np.ndarray, gender: float) -> np.ndarray:
        """Coefficients (n,) of a person's texture without what faces of a gender hardly ever have, as a beard in a
        woman's: in each direction the share that their variance has of theirs and TYPICAL times everybody's.
        """
        made = self._shares_of_genders[int(gender < 0)] @ texture
        return made * (np.linalg.norm(texture) / max(float(np.linalg.norm(made)), 1e-9))

    @cached_property
    def _shares_of_genders(self) -> tuple[np.ndarray, np.ndarray]:
        """The matrices (n, n) by which `typical` multiplies coefficients, of women and of men."""
        everybody, women = np.cov(self.bank_texture.T), self.bank_kept[:, 0] > 0
        own = [np.cov(self.bank_texture[who].T) for who in (women, ~women)]
        first, second = (np.linalg.solve(each + TYPICAL * everybody, each).T for each in own)
        return first, second

    def coefficients(self, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
        """Who a face is, as the bank has it: the coefficients of its texture (n,) and of its shape (m,)."""
        return self.own_texture(reading), self.shape_components @ self.own_shape(reading).reshape(-1)

    def mixtures(self, faces: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of texture (..., n) and shape (..., m): mixtures of bank faces (..., w) by weights (w,), as
        distinct as they are where the squares of these sum to 1.
        """
        bank = self.bank_texture, self.bank_shape
        texture, shape = (np.einsum("w,...wn->...n", weights, own[faces]) for own in bank)
        return texture, shape

    def drawn(self, texture: np.ndarray, shape: np.ndarray, traits: np.ndarray) -> Identity:
        """The identity of coefficients of texture (n,) and shape (m,), as `coefficients` has them: what recognisers see
        of them.
        """
        own = self._recognised @ np.concatenate([texture, shape])
        return self.decoded(own[: len(texture)], own[len(texture) :], traits)

    def decoded(self, texture: np.ndarray, shape: np.ndarray, traits: np.ndarray) -> Identity:
        """The identity of coefficients of texture (n,) and shape (m,) with all that is in them."""
        points = (shape @ self.shape_components).reshape(POINTS, 3)
        return Identity(self.picture(texture, mean=False) * _without_hair(), points, traits)

    @cached_property
    def _recognised(self) -> np.ndarray:
        """(n + m, n + m), by which coefficients become the likeliest that do the same to both descriptors and to the
        beard. More than a third of what a face of the bank has beside what is kept makes it nobody else: shadows, spots
        and what is left of its expression, which a mixture of two would show twice.
        """
        seen = [effects * self.spread[:, None] for effects in self.effects]
        columns = np.concatenate([each / max(float(np.linalg.norm(each)), 1e-9) for each in seen], axis=1)
        beard = np.append(self._beard[0], np.zeros(len(self.spread) - len(self._beard[0]))) * self.spread
        most = float(np.linalg.norm(columns, 2))
        columns = np.column_stack([columns, beard * (most / max(float(np.linalg.norm(beard)), 1e-9))])
        inner = columns.T @ columns + FAINT * max(most, 1e-9) ** 2 * np.eye(columns.shape[1])
        likeliest = columns @ np.linalg.solve(inner, columns.T)
        return self.spread[:, None] * likeliest / self.spread

    def projected(self, identity: Identity) -> tuple[np.ndarray, np.ndarray]:
        """The coefficients of texture (n,) and shape (m,) that are nearest to an identity."""
        texture = self.components @ identity.texture[canonical().inside].reshape(-1)
        return texture, self.shape_components @ identity.shape.reshape(-1)

    def base(self, kept: np.ndarray) -> np.ndarray:
        """The texture (256, 256, 3) that what is kept (k,) predicts."""
        return _in_frame(self.mean + np.asarray(kept, np.float32) @ self._pixels_of_kept)

    @cached_property
    def _pixels_of_kept(self) -> np.ndarray:
        """(k, pixels * 3): what each of the traits that are kept adds to the texture."""
        return self.texture_of_kept @ self.components

    def resemblance(self, reading: Reading) -> float:
        """How far what was seen has the detail of the mean face, a correlation in [-1, 1]: about 0.6 for faces, below
        0.1 for sleeves, hair and heads on which a mesh was laid askew.
        """
        weight = shrunk(reading.visible) * (shrunk(rim_distance()) > 2)
        mean, seen = (_detail(t.mean(axis=2), weight) for t in (self._coarse[0], shrunk(reading.texture)))
        both = float(np.vdot(weight * mean, mean)) * float(np.vdot(weight * seen, seen))
        return float(np.vdot(weight * mean, seen)) / max(float(np.sqrt(both)), 1e-9)

    def own_texture(self, reading: Reading) -> np.ndarray:
        """The coefficients (n,) of the texture that is the person's own: without what is kept."""
        off = reading.texture[canonical().inside].reshape(-1) - self.mean
        return self.components @ off - reading.kept @ self.texture_of_kept

    def beard(self, texture: np.ndarray) -> np.ndarray:
        """How dark the skin about the mouth is by coefficients (..., n) of people's own textures, in deviations of the
        men of the bank from their median: above 1 a beard or moustache.
        """
        direction, middle, spread = self._beard
        return (texture @ direction - middle) / spread

    def apart(self, reading: Reading) -> np.ndarray:
        """How far the faces of the bank are from a face in what is kept, squared, (faces, 6): gender, age and tone as
        `deviations` has them, and of men how bearded they are.
        """
        beard = np.zeros(self.faces)
        if reading.kept[0] < 0:
            beard = (self.beard(self.bank_texture) - self.beard(self.own_texture(reading))) ** 2
        return np.column_stack([deviations(self.bank_kept, reading.kept), beard])

    @cached_property
    def _beard(self) -> tuple[np.ndarray, float, float]:
        weights = np.repeat(beard_weights()[canonical().inside], 3) / 3
        direction = self.components @ weights.astype(np.float32)
        men = self.bank_texture[self.bank_kept[:, 0] < 0] @ direction
        return direction, float(np.median(men)), max(float(men.std()), 1e-6)

    def own_shape(self, reading: Reading) -> np.ndarray:
        """The shape (468, 3) that is the person's own: without what is kept, and without expression."""
        kept = np.concatenate([reading.kept[: len(TRAITS)], reading.kept[EXPRESSION]])
        own = reading.shape.reshape(-1) - self.shape_mean - kept @ self.shape_of_kept
        return (own - (own @ self.expression.T) @ self.expression).reshape(POINTS, 3)


def deviations(known: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """How far faces (n, 5) are in gender, age and tone from what is kept of a face (5 or more,), squared, (n, 5); one
    of another gender is OTHER_GENDER away, so that no woman gets a beard.
    """
    apart = (known - kept[: known.shape[1]]) ** 2
    apart[known[:, 0] * kept[0] < 0, 0] = OTHER_GENDER
    return apart


def _in_frame(values: np.ndarray) -> np.ndarray:
    """Values (pixels * 3,) of the pixels inside the frame as (256, 256, 3) float32, 0 outside."""
    drawn = np.zeros((SIZE * SIZE, 3), np.float32)
    drawn[_places_inside()] = values.reshape(-1, 3)
    return drawn.reshape(SIZE, SIZE, 3)


@cache
def _places_inside() -> np.ndarray:
    return np.flatnonzero(canonical().inside)


def _detail(picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A picture (64, 64) without what is wide in it; its mean over `weight` (64, 64) is 0."""
    near = np.maximum(cv2.GaussianBlur(weight, (0, 0), DETAIL), 1e-3)
    fine = picture - cv2.GaussianBlur(picture * weight, (0, 0), DETAIL) / near
    return fine - float(np.vdot(fine, weight)) / max(float(weight.sum()), 1e-6)


def ridge(known: np.ndarray, answers: np.ndarray, penalty: float) -> np.ndarray:
    """Weights (d, k) that predict answers (n, k) from known (n, d), both less their means; the constant is not
    returned.

    penalty: weight of the squared length of the weights.
    """
    known, answers = (np.asarray(v, np.float64) - np.mean(v, axis=0, dtype=np.float64) for v in (known, answers))
    return np.linalg.solve(known.T @ known + penalty * np.eye(known.shape[1]), known.T @ answers)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., d) float32 at length 1."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


@cache
def _without_hair() -> np.ndarray:
    """What of an identity's texture is drawn, (256, 256, 1) float32: all but the rim of forehead and temples, where the
    faces of the bank show their hair, which would lie as a band over the new face.
    """
    first, whole = HAIR_LINE
    low, high = SIDEBURNS
    rim = 1 - np.clip((rim_distance() - first) / (whole - first), 0, 1)
    above = np.clip((high - np.arange(SIZE, dtype=np.float32)) / (high - low), 0, 1)
    return (1 - rim * above[:, None])[..., None]


def frontal(mesh: np.ndarray) -> np.ndarray:
    """A mesh (468, 3) in the pose and scale of the mean mesh."""
    rotation, shift = pose(mesh)
    return (mesh - shift) @ np.linalg.inv(rotation)
