"""Identities: what every method in the canonical frame shares that gives a track an identity of the face model.

A method proposes many identities (`candidates`). The face model says how far each is likely to take the photograph from
the old face, by both recognisers; those that will do are drawn, in the method's own order, and the first that is far
enough indeed is the track's and stays it.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.faces import canonical
from deidcli.faces.align import apply_affine
from deidcli.faces.blend import face_size
from deidcli.faces.face_model import LIMIT, TRAITS, FaceModel, Identity, Reading, unit
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.base import Method, Models, PresetModels, Secret
from deidcli.methods.new_face import GAZE, Seen, composited, draw, is_dark, read, shrunk
from deidcli.methods.outlook import BEYOND, Outlook, Told, measures_of
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop, CropSpec, Face

MARGIN = 0.35  # of the face square, around it: what bends with the head lies within
WINDOW = CropSpec(size=None, margin=MARGIN, align="window", transfer_lighting=False)
REMEMBERED = 4096  # identities, the last that were used
# New faces that are tried for a key until one is far enough from the old face by both recognisers; else the farthest is
# taken. It is asked for more than their thresholds, so that other pictures of the person are far, too.
TRIES = 8
LOOKS = 3  # of them, at the face that a track has already
# Resemblance to the mean face below which a face of GAZE pixels and more gets no new one: its mesh lies askew, or what
# hides it does. Of 188 faces in scenes/, crowds/ and LFW four are below it. The second is for faces in the dark, whose
# features hardly show: below it are backs of heads.
RESEMBLES, IN_THE_DARK = 0.08, -0.1
DLIB_AT = 0.68  # dlib's distance to new faces on average, about which its changes are told
# Deviations by which an identity is moved away from the old face at the most, and how many more on each level.
MOST, FURTHER = 6.0, 2.0
# Pixels of a face below which a new one is also judged as a JPEG of that quality shows it, in blocks of that side.
SMALL, QUALITY, BLOCK = 48, 50, 16
JUDGED = 160  # pixels of a face at which it is tried; recognisers see no more
# How far a new face has to be, of dlib's and of SFace's threshold, and how much farther in a video: it is chosen by the
# first frame, and has to stay far in those that follow.
FAR, FOLLOWED = 1.1, 0.1
# How much farther than it is expected a new face may turn out: none is drawn that will not even so be farther than the
# farthest of those before it.
HOPE = 0.1
# How far the age that is drawn goes beyond the old face's: identities of the bank bring faces nearer to its mean age.
OLDER = 1.6
UNKNOWN = np.full(len(TRAITS) + 1, np.nan)  # the looks of a new face that dlib was not asked about
WEIGHTS = np.sqrt([0.4, 0.6])  # of dlib's descriptor and SFace's in a joined one; their squares sum to 1


T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """The new identity of a key and its coefficients (n + m,), dlib's descriptor (128,) of the old face as it was first
    seen, and whether it had thin glasses then: gender, age and glasses stay the same through a video.
    """

    identity: Identity
    row: np.ndarray
    dlib: np.ndarray
    glasses: bool


@dataclass(frozen=True)
class Candidates:
    """Identities that may do for a face, the one that a method likes best first.

    texture: (k, n) and shape: (k, m), their coefficients in the face model. made: the identity of one, by its number
    and coefficients (n + m,) that are added. most: how many deviations they may be moved away from the old face.
    """

    texture: np.ndarray
    shape: np.ndarray
    made: Callable[[int, np.ndarray], Identity]
    most: float


class FaceModels(Models):
    """A face model, and the recognisers that judge its faces. A subclass says which preset it is (`model_name`)."""

    @property
    def model_name(self) -> str:
        """The name or folder of the face model's preset."""
        raise NotImplementedError

    @cached_property
    def model_preset(self) -> Preset:
        return load_preset(self.model_name, "face-model")

    @cached_property
    def model(self) -> FaceModel:
        return FaceModel(self.model_preset.file("face_model.npz"))

    @cached_property
    def dlib(self) -> Recogniser:
        return recogniser("dlib")

    @cached_property
    def judges(self) -> tuple[Recogniser, Recogniser]:
        return self.dlib, recogniser("sface")

    def described(self, pixels: np.ndarray, crop: Crop) -> list[np.ndarray]:
        """The descriptors (128,) of the crop's face by both recognisers, in `pixels` of the crop's size."""
        placed = placed_face(crop)
        return [judge.embed(judge.chips(pixels, [placed]))[0] for judge in self.judges]

    def joined(self, descriptors: list[np.ndarray]) -> np.ndarray:
        """Descriptors (128,) by both recognisers as one of length 1 (256,), as the bank's faces have it."""
        dlib, sface = descriptors
        return joined(unit(dlib - self.model.dlib_mean)[None], unit(sface)[None])[0]

    def descriptor(self, pixels: np.ndarray, crop: Crop) -> np.ndarray:
        """The descriptor (128,) of the crop's face by dlib's recogniser alone, in `pixels` of the crop's size."""
        return self.dlib.embed(self.dlib.chips(pixels, [placed_face(crop)]))[0]

    def read(self, crop: Crop) -> Seen:
        """What is in a crop."""
        return read(self.model, crop, self.descriptor(crop.pixels, crop))

    def outlook(
        self, candidates: Candidates, old: list[np.ndarray], seen: Seen, told: list[Told], far: float, alike: bool
    ) -> Outlook:
        """What is to be expected of candidates for a face. old: its descriptors (128,) by both recognisers. alike:
        whether a new face has to look like the old one.
        """
        ways, size = ((old[0] - self.model.dlib_mean) / DLIB_AT, unit(old[1])), face_size(seen.crop.face)
        gradients = np.stack(
            [
                effect @ -way / (judge.threshold * judge.share_at(size))
                for judge, effect, way in zip(self.judges, self.model.effects, ways, strict=True)
            ],
            axis=1,
        )
        rows = np.concatenate([candidates.texture, candidates.shape], axis=1)
        effects = self.model.look_effects(old[0])
        # Gender and age go with a face through a video.
        looks = np.append(seen.reading.kept[: len(TRAITS)], self.model.looks(old[0])[len(TRAITS) :])
        step = partial(self.model.varied, kept=effects)
        measures = measures_of(gradients, effects, looks, far, alike)
        return Outlook(rows, measures, self.model.spread, step, told, candidates.most)

    def away(
        self, old: list[np.ndarray], pixels: np.ndarray, crop: Crop, least: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """How far the face in `pixels` is from the old one by dlib and SFace, in their thresholds, (2,), and dlib's
        descriptor (128,) of it.

        old: descriptors by both. SFace is asked first, because it passes fewer faces. Where it finds the face no
        farther than `least`, dlib is not asked: its distance is infinite, and there is no descriptor.
        """
        placed, size = placed_face(crop), face_size(crop.face)
        small = np.ptp(np.asarray(placed.landmarks), axis=0).max() < SMALL
        shown = [pixels, _coded(pixels, crop)] if small else [pixels]
        dlib, sface = self.judges
        nearest, _ = _apart(sface, old[1], shown, placed, size)
        if nearest <= least:
            return np.array([np.inf, nearest]), None
        apart, descriptor = _apart(dlib, old[0], shown, placed, size)
        return np.array([apart, nearest]), descriptor

    def verify(self, method: str) -> None:
        """Raises PresetError or MissingDependency for what is damaged or missing, before the first file is read."""
        self.model_preset.verify()
        canonical.WEIGHTS.verified(method)


class PresetFaceModels(PresetModels, FaceModels):
    """A preset, and the face model that it names under `model`."""

    @property
    def model_name(self) -> str:
        return self.preset.config["model"]

    @property
    def checksum(self) -> str:
        return hashlib.sha256((self.preset.checksum + self.model_preset.checksum).encode()).hexdigest()

    def verify(self, method: str) -> None:
        self.preset.verify()
        FaceModels.verify(self, method)


class IdentityMethod(Method):
    """A method that gives each key an identity, and keeps it. Its `Models` are FaceModels.

    shape: how far the shape goes towards that of the new identity, and beyond where it is above 1. far: how far a new
    face has to be from the old one, in thresholds of dlib, and by BEYOND farther in SFace's. glasses: whether thin
    glasses are kept. alike: whether of faces that are far enough one is taken that is read as of the old one's gender,
    and about its age and tone. tries: how many new faces are drawn for a key. soft: whether a new face in the dark has
    no more contrast than the old one, by which fewer are far enough. level: how often it was escalated, so that each
    level goes farther.
    """

    crop = WINDOW
    level: int = 0
    shape: float = 1.0
    far: float = FAR
    glasses: bool = False
    alike: bool = True
    tries: int = TRIES
    soft: bool = False

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        Method.__init__(self, options, secret, models)  # and not that of another class beside this one
        self.models.verify(self.name)
        self.models.judges  # noqa: B018 - loaded here, so that what is missing is said before the first file is read
        self._identities: OrderedDict[str, Known] = OrderedDict()
        self._told: OrderedDict[str, list[Told]] = OrderedDict()  # what was looked at for a key, on all levels
        self._earlier: IdentityMethod | None = None

    def drawable(self, texture: np.ndarray, shape: np.ndarray, kept: np.ndarray) -> Candidates:
        """Candidates that the face model draws, with the gender and age that is kept of a face."""
        model, split = self.models.model, texture.shape[1]
        traits = (kept[: len(TRAITS)] * [1, OLDER]).clip(-LIMIT, LIMIT).astype(np.float32)

        def made(number: int, more: np.ndarray) -> Identity:
            return model.drawn(texture[number] + more[:split], shape[number] + more[split:], traits)

        return Candidates(texture, shape, made, MOST + FURTHER * self.level)

    @abstractmethod
    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """The identities that may do for a face. old: its descriptors (128,) by both recognisers."""

    def escalate(self, attempt: int) -> Method | None:
        """The next level of the method that this is with crops, where that has one."""
        level = super().escalate(attempt)
        return self.remembering(level) if isinstance(level, IdentityMethod) else None

    def remembering(self, level: IdentityMethod) -> IdentityMethod:
        """The next level, which knows what was looked at and taken on those before."""
        level._told, level._earlier = self._told, self
        return level

    def _taken(self, key: str) -> Known | None:
        """What a key has on the last level before this one that gave it something."""
        earlier = self._earlier
        return None if earlier is None else earlier._identities.get(key) or earlier._taken(key)

    def _continued(self, known: Known, kept: np.ndarray) -> Candidates:
        """An identity that a track has already, several times, so that it is moved away and stays the same person."""
        split = self.models.model.bank_texture.shape[1]
        rows = np.tile(known.row, (LOOKS, 1))
        return self.drawable(rows[:, :split], rows[:, split:], kept)

    def ready(self) -> None:
        self.models.model  # noqa: B018 - it is loaded at first use, for half a second

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        return [self._one(crop) for crop in crops]

    def _one(self, crop: Crop) -> Crop:
        known = self._identities.get(crop.key)
        if known is None:
            old, taken = self.models.described(crop.pixels, crop), self._taken(crop.key) if crop.moving else None
            dlib, glasses = (taken.dlib, taken.glasses) if taken else (old[0], self.glasses)
            return self._first(self._read(crop, dlib, glasses), old, taken)
        self._identities.move_to_end(crop.key)
        return self.drawn(self._read(crop, known.dlib, known.glasses), known.identity)

    def _read(self, crop: Crop, dlib: np.ndarray, glasses: bool) -> Seen:
        """What is in a crop; without its thin glasses unless `glasses` says that they are kept."""
        seen = read(self.models.model, crop, dlib, self.soft)
        return seen if glasses else replace(seen, reading=replace(seen.reading, rims=None))

    def drawn(self, seen: Seen, identity: Identity) -> Crop:
        """The crop with the face of an identity, by the face model."""
        return draw(self.models.model, seen, identity, self.shape)

    def _first(self, seen: Seen, old: list[np.ndarray], taken: Known | None) -> Crop:
        """The first new face of a key, whose identity is remembered: of several, the first that is far enough.

        taken: what its track had on the level before, by an earlier frame.
        """
        key, kept = seen.crop.key, seen.reading.kept
        told = _held(self._told, key, [])
        least = IN_THE_DARK if is_dark(seen) else RESEMBLES
        # What was taken for a face on the level before is one.
        if not told and seen.span >= GAZE and self.models.model.resemblance(seen.reading) < least:
            raise MethodError("what is seen of it has no features of a face", "another method replaces it")
        proposed = [self.candidates(seen.reading, old, key)]
        if taken and proposed[0].most:
            told.clear()  # the earlier frame tells little of how far it is in this one
            proposed.insert(0, self._continued(taken, kept))
        far = self.far + FOLLOWED if self.far and seen.crop.moving else self.far
        best, first = None, (-np.inf, False)
        for candidates in proposed:
            found, first = self._farthest(candidates, seen, old, told, far, first)
            best = found or best
            if first == (far, True):
                break
        if best is None:
            raise MethodError("the face model has no identity for it", "fetch the preset again")
        if taken:
            best = replace(best, dlib=taken.dlib, glasses=taken.glasses)
        _held(self._identities, key, best)
        return self.drawn(seen, best.identity)

    def _farthest(
        self,
        candidates: Candidates,
        seen: Seen,
        old: list[np.ndarray],
        told: list[Told],
        far: float,
        first: tuple[float, bool],
    ) -> tuple[Known | None, tuple[float, bool]]:
        """The first of some candidates that is far enough, or else the farthest, and its rank; None and `first` where
        none has a higher rank than that.
        """
        best, tried, asked = None, shrunk(seen, JUDGED), self.alike and self.far > 0
        outlook = self.models.outlook(candidates, old, seen, told, far, asked)
        for _ in range(min(self.tries, len(candidates.texture))):
            number, more, hoped = outlook.likely()
            if best is not None and float((hoped[: len(BEYOND)] - BEYOND).min()) + HOPE < first[0]:
                break
            identity = candidates.made(number, more)
            made = self.drawn(tried, identity)
            away, dlib = self.models.away(old, composited(tried.crop, made), tried.crop, first[0] + BEYOND[1])
            looks = UNKNOWN if dlib is None else self.models.model.looks(dlib)
            outlook.note(number, more, np.concatenate([away, looks]))
            apart = min(float((away - BEYOND).min()), far)
            rank = apart, not asked or outlook.alike(looks)
            if rank > first:
                row = np.concatenate([candidates.texture[number], candidates.shape[number]]) + more
                best, first = Known(identity, row, old[0], seen.reading.rims is not None), rank
            if first == (far, True):
                break
        return best, first


def _held(values: OrderedDict[str, T], key: str, value: T) -> T:
    """The value of a key, which is `value` where it has none; the oldest are forgotten."""
    held = values.setdefault(key, value)
    if len(values) > REMEMBERED:
        values.popitem(last=False)
    return held


def joined(dlib: np.ndarray, sface: np.ndarray) -> np.ndarray:
    """Unit descriptors (n, 128) by both recognisers as one of length 1 (n, 256)."""
    return np.concatenate([WEIGHTS[0] * dlib, WEIGHTS[1] * sface], axis=1)


def _apart(
    judge: Recogniser, old: np.ndarray, shown: list[np.ndarray], face: Face, size: float
) -> tuple[float, np.ndarray]:
    """The least distance of a face in several pictures to a descriptor (128,), in thresholds for its size.

    Also the face's descriptor (128,) in the first of them.
    """
    found = judge.embed(np.concatenate([judge.chips(picture, [face]) for picture in shown]))
    apart = judge.distance(np.repeat(old[None], len(found), axis=0), found)
    return float(apart.min()) / (judge.threshold * judge.share_at(size)), found[0]


def _coded(pixels: np.ndarray, crop: Crop) -> np.ndarray:
    """The pixels (height, width, 3) uint8 of a window as a JPEG of the frame shows them, in the frame's own blocks.

    Of a small face coding takes away much of what is new.
    """
    above, left = (int(round(-shift)) % BLOCK for shift in crop.transform[::-1, 2])
    framed = cv2.copyMakeBorder(pixels[..., ::-1], above, 0, left, 0, cv2.BORDER_REPLICATE)
    done, data = cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise MethodError("it could not be coded as JPEG", "check the installation of OpenCV")
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[above:, left:, ::-1])


def placed_face(crop: Crop) -> Face:
    """The face of a crop with its landmarks in the crop."""
    marks = apply_affine(crop.transform, np.asarray(crop.face.landmarks))
    return replace(crop.face, landmarks=marks.astype(np.float32))
