"""Face sets for FATM: who the donors are, and the pictures from which each one's decoder learns.

In the canonical frame a donor is a texture and a shape, of one face or of a weighted mean of several; the finest detail
is that of the first. The face model says in a linear way what an expression changes. What that leaves out is learnt
from people who are seen in several expressions: the ratio of two textures of one person moves any other face into that
expression (an expression ratio image, Liu et al. 2001). The encoder is shown the moved face with the identity of a
stranger, so that what it encodes belongs to nobody. Donors are compared with people who are known, drawn into pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.canonical import PRESENT, SIZE, ibug, locate_mesh
from deidcli.faces.face_model import EXPRESSION, LIMIT, FaceModel
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.faces.regions import openings, rim_distance
from deidcli.methods.fatm import CanonicalFatm, Fatm, identity_of
from deidcli.methods.new_face import composited
from deidcli.networks.fatm import FatmConfig
from deidcli.presets import Preset
from deidcli.training.data import Pack, Textures, load_pack, load_textures
from deidcli.training.face_model import completed
from deidcli.training.fatm import FaceSet
from deidcli.training.sampling import StrongAugment
from deidcli.values import Box, Crop, CropSpec, Face, Frame

SEEN = 0.97  # share of a texture that has to be seen of a face that is learnt from
FINE = 1.5  # standard deviation, in pixels of the frame, below which detail is taken from one face
BROAD = 12 / 128  # standard deviation, as a share of the side, above which light and not expression changes a texture
DARK = 0.05  # added before a ratio is taken, so that dark pixels have one
RATIOS = (0.4, 2.5)  # least and most of a ratio
SWAPPED = 1.2  # how far, at most, the identity of what the encoder is shown goes to that of a stranger
NEUTRAL = "neutral"
IN_FRAME = StrongAugment(mirror=False, shift=0.02, scale=0.03, turn=3.0, light=0.2, colour=0.08, blur=0.02, gray=0.1)
# Section 3.2: places, rotation, mirroring and scale; brightness, contrast, colour and sharpness.
OF_CROPS = StrongAugment(blur=0.015, gray=0.0)


@dataclass(frozen=True)
class KnownFace:
    """A face in the canonical frame. texture: (256, 256, 3) float32 in [0, 1], whole. shape: (468, 3), the person's
    own. kept: (k,) what the face model keeps of it.
    """

    texture: np.ndarray
    shape: np.ndarray
    kept: np.ndarray


def known_face(model: FaceModel, pack: Textures, row: int) -> KnownFace | None:
    """A face of a pack; None where too little of it is seen."""
    seen = pack.seen[row].astype(np.float32) / 255
    whole, known = completed(pack.textures[row], seen)
    if float(known[rim_distance() > 3].mean()) < SEEN:
        return None
    pixels = np.clip(whole * 255 + 0.5, 0, 255).astype(np.uint8)
    reading = model.read(pixels, known, pack.shapes[row].astype(np.float64), pack.dlib[row])
    return KnownFace(whole, model.own_shape(reading), reading.kept)


def blended(faces: Sequence[KnownFace], weights: Sequence[float]) -> KnownFace:
    """The weighted mean of pictures of a face, with the finest detail of the first. Raises UsageError for none."""
    if not faces:
        raise UsageError("a donor has no face that is seen whole", "give pictures from in front")
    share = np.array(weights, np.float64) / np.sum(weights)
    texture = _sum(share, [face.texture for face in faces]).astype(np.float32)
    texture += fine(faces[0].texture) - fine(texture)
    shape, kept = _sum(share, [face.shape for face in faces]), _sum(share, [face.kept for face in faces])
    return KnownFace(np.clip(texture, 0, 1), shape, kept.astype(np.float32))


def nobody(model: FaceModel, faces: Sequence[KnownFace], weights: Sequence[float]) -> KnownFace:
    """A mixture of several people that is as distinct as each of them: the squares of its weights sum to 1.

    A mean lies nearer to everybody than people do.
    """
    mean = blended(faces, weights)
    share = np.array(weights, np.float64) / np.sum(weights)
    further = float(1 / np.sqrt(np.sum(share**2)))
    base = model.base(mean.kept)
    texture = base + further * (mean.texture - base)
    return KnownFace(np.clip(texture, 0, 1).astype(np.float32), further * mean.shape, mean.kept)


def _sum(weights: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.tensordot(weights, np.stack(rows), 1)


def fine(texture: np.ndarray) -> np.ndarray:
    """The detail of a texture that is smaller than FINE."""
    return texture - cv2.GaussianBlur(texture, (0, 0), FINE)


@dataclass(frozen=True)
class Moves:
    """Expressions. ratios: (n, side, side, 3) float32, by which a texture is multiplied. kept: (n, e), what is added to
    what the face model keeps of the expression. people: (n,) whose they are.
    """

    ratios: np.ndarray
    kept: np.ndarray
    people: np.ndarray

    @classmethod
    def of(cls, model: FaceModel, pack: Textures, side: int) -> Moves:
        """The expressions of everybody in a pack who is seen neutral and otherwise; `person` and `expression` are its
        labels. Raises UsageError where there is nobody.
        """
        missing = {"person", "expression"} - set(pack.labels)
        if missing:
            raise UsageError(f"the pack has no label {missing.pop()}", "pack with `deid align --labels FILE`")
        ratios, kept, people = [], [], []
        for person in sorted(set(pack.labels["person"]) - {""}):
            rows = np.flatnonzero((pack.labels["person"] == person) & (pack.labels["expression"] != ""))
            faces = [(row, face) for row in rows.tolist() if (face := known_face(model, pack, row))]
            calm = next((f for row, f in faces if pack.labels["expression"][row] == NEUTRAL), None)
            for row, face in faces:
                if calm is not None and pack.labels["expression"][row] != NEUTRAL:
                    ratios.append(_ratio(_resized(face.texture, side), _resized(calm.texture, side)))
                    kept.append((face.kept - calm.kept)[EXPRESSION])
                    people.append(person)
        if not ratios:
            raise UsageError("the pack knows nobody in a neutral and in another expression", "give one that does")
        return cls(np.stack(ratios), np.stack(kept), np.array(people))


def _ratio(moved: np.ndarray, calm: np.ndarray) -> np.ndarray:
    """The ratio of two textures of a person (side, side, 3), 1 where light changed and not the expression."""
    side = len(moved)
    logs = np.log(np.clip((moved + DARK) / (calm + DARK), *RATIOS))
    face = _resized(np.clip((rim_distance() - 6) / 10, 0, 1), side) * (1 - _resized(openings(), side))
    share = cv2.GaussianBlur(face, (0, 0), BROAD * side)[..., None]
    broad = cv2.GaussianBlur(logs * face[..., None], (0, 0), BROAD * side) / np.maximum(share, 1e-3)
    return np.exp((logs - broad) * face[..., None])


def _resized(texture: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Strangers:
    """Identities that the encoder's input is given in place of the donor's, at `size` pixels."""

    model: FaceModel
    size: int

    @cached_property
    def components(self) -> np.ndarray:
        """(n, size * size * 3) of the face model's texture, small."""
        rows = np.eye(len(self.model.components), dtype=np.float32)
        return np.stack([_resized(self.model.picture(row, mean=False), self.size).ravel() for row in rows])

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """The identities (n, size, size, 3) of faces (n,) of the bank."""
        return (self.model.bank_texture[faces] @ self.components).reshape(-1, self.size, self.size, 3)


@dataclass(frozen=True)
class FrameSamples:
    """What a donor's face set is drawn from. pictures: (n, size, size, 3) uint8. wanted: (n, drawn, drawn, 3) float16,
    what the face model leaves out of them. identity: (size, size, 3), the donor's own.
    """

    pictures: np.ndarray
    wanted: np.ndarray
    identity: np.ndarray
    strangers: Strangers

    def plain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every row with the identity of one stranger."""
        others = self.strangers(rows * 7 % self.strangers.model.faces)
        return self._swapped(rows, others, np.ones(len(rows), np.float32)), self.wanted[rows].astype(np.float32)

    def draw(self, rows: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows with identities of strangers, varied in colour and place; half of them mirrored."""
        others = self.strangers(random.integers(self.strangers.model.faces, size=len(rows)))
        share = random.uniform(0, SWAPPED, len(rows)).astype(np.float32)
        swapped = np.clip(self._swapped(rows, others, share) * 255 + 0.5, 0, 255).astype(np.uint8)
        pictures, wanted = IN_FRAME(swapped, random).astype(np.float32) / 255, self.wanted[rows].astype(np.float32)
        flip = random.random(len(rows)) < 0.5
        pictures[flip], wanted[flip] = pictures[flip][:, :, ::-1], wanted[flip][:, :, ::-1]
        return pictures, wanted

    def _swapped(self, rows: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
        plain = self.pictures[rows].astype(np.float32) / 255
        return np.clip(plain + share[:, None, None, None] * (others - self.identity), 0, 1)


def moved_set(model: FaceModel, name: str, face: KnownFace, moves: Moves, config: FatmConfig) -> FaceSet:
    """The face set of a donor who is known from one picture, moved into all expressions of `moves`, and calm."""
    base, small = _resized(face.texture, config.drawn), _resized(face.texture, config.size)
    pictures, wanted, linear = [small], [np.zeros_like(base)], _expressions(model, config.drawn)
    calm = face.kept[EXPRESSION]
    for ratio, kept in zip(moves.ratios, moves.kept, strict=True):
        pictures.append(small * _resized(ratio, config.size))
        changed = np.clip(calm + kept, -LIMIT, LIMIT) - calm
        wanted.append(base * (ratio - 1) - np.tensordot(changed, linear, 1))
    groups = np.concatenate([["calm"], moves.people])
    return _set(name, pictures, wanted, groups, face, Strangers(model, config.size))


def _expressions(model: FaceModel, side: int) -> np.ndarray:
    """What each of the model's expressions adds to a texture, (e, side, side, 3), as `_detail` has it."""
    calm = np.zeros_like(model.kept_mean)
    rows = np.eye(len(calm))[EXPRESSION]
    return np.stack([_detail(_resized(model.base(row) - model.base(calm), side)) for row in rows])


def own_set(model: FaceModel, name: str, faces: Sequence[KnownFace], donor: KnownFace, config: FatmConfig) -> FaceSet:
    """The face set of a donor who is known from several pictures: what the face model leaves out of each."""
    identity = identity_of(model, name, donor.texture, donor.shape, donor.kept).texture
    wanted = [_detail(_resized(f.texture - model.base(f.kept) - identity, config.drawn)) for f in faces]
    pictures = [_resized(face.texture, config.size) for face in faces]
    return _set(name, pictures, wanted, np.arange(len(faces)), donor, Strangers(model, config.size))


def _detail(texture: np.ndarray) -> np.ndarray:
    """A difference of textures without what light does to it, and within the face alone."""
    side = len(texture)
    face = _resized(np.clip((rim_distance() - 6) / 10, 0, 1), side) * (1 - _resized(openings(), side))
    share = cv2.GaussianBlur(face, (0, 0), BROAD * side)[..., None]
    broad = cv2.GaussianBlur(texture * face[..., None], (0, 0), BROAD * side) / np.maximum(share, 1e-3)
    return (texture - broad) * face[..., None]


def _set(
    name: str,
    pictures: Sequence[np.ndarray],
    wanted: Sequence[np.ndarray],
    groups: np.ndarray,
    donor: KnownFace,
    strangers: Strangers,
) -> FaceSet:
    model, size = strangers.model, strangers.size
    identity = identity_of(model, name, donor.texture, donor.shape, donor.kept).texture
    shown = np.clip(np.stack(pictures) * 255 + 0.5, 0, 255).astype(np.uint8)
    samples = FrameSamples(shown, np.stack(wanted).astype(np.float16), _resized(identity, size), strangers)
    return FaceSet(name, samples.draw, samples.plain, len(shown), groups)


def crop_set(name: str, pack: Pack) -> FaceSet:
    """The face set of the paper: crops of one donor, which are varied and drawn again."""

    def plain(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        crops = pack.crops[rows].astype(np.float32) / 255
        return crops, crops

    def draw(rows: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        crops = OF_CROPS(pack.crops[rows], random).astype(np.float32) / 255
        return crops, crops

    return FaceSet(name, draw, plain, len(pack), np.arange(len(pack)))


def arrays_of(donors: Mapping[str, KnownFace], textures: bool) -> dict[str, np.ndarray]:
    """What a preset's file of donors holds, in their order. textures: whether they are drawn in the canonical frame."""
    faces = list(donors.values())
    arrays = {"kept": np.stack([face.kept for face in faces])}
    if textures:
        shown = np.stack([np.clip(face.texture * 255 + 0.5, 0, 255).astype(np.uint8) for face in faces])
        assert shown.shape[1:] == (SIZE, SIZE, 3)
        arrays |= {"textures": shown, "shapes": np.stack([face.shape for face in faces]).astype(np.float32)}
    return arrays


CARRIERS = 4  # pictures that a donor is drawn into
LIKELY = 30  # faces of a pack, the nearest by dlib, that SFace compares where it has to describe them first
JUDGES = ("dlib", "sface")


@dataclass(frozen=True)
class Known:
    """Faces of a pack. dlib: (n, 128). sface: (n, 128), or None where only crops are known. names: (n,)."""

    name: str
    names: np.ndarray
    dlib: np.ndarray
    sface: np.ndarray | None
    crops: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, path: Path) -> Known:
        """The faces of a pack of textures or of crops. Raises UsageError for another file."""
        try:
            pack = load_textures(path)
        except UsageError:
            crops = load_pack(path)
            if crops.landmarks is None:
                raise UsageError(f"{path} has no landmarks", "make it with `deid align --pack`") from None
            return cls(path.stem, crops.names, crops.descriptors, None, crops.crops, crops.landmarks)
        return cls(path.stem, pack.names, pack.dlib, pack.sface, np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Likeness:
    """The nearest face of a pack. dlib, sface: its file and its distance by each recogniser, as a share of the
    threshold. both: of all faces the least of the larger of both shares; 1 and less where both recognisers take the
    donor for one face.
    """

    dlib: tuple[str, float]
    sface: tuple[str, float]
    both: float


def likenesses(preset: Preset, pack: Textures, pictures: Path, known: Sequence[Path], parts: dict) -> dict:
    """For each donor of `preset`, and each pack by its name, whom the donor is most like.

    pictures: the folder of the faces in `pack`, of which some are drawn over; they, and the faces that a donor is made
    of (`parts`, by donor), are not compared.
    """
    packs = [Known.of(path) for path in known]
    found: dict[str, dict[str, Likeness]] = {}
    for donor in preset.config["donors"]:
        method = Fatm.create(Fatm.Options(donor=donor, reach=1.0, preset=str(preset.folder)))
        assert isinstance(method, CanonicalFatm)
        gender = next(d.kept[0] for d in method.models.donors if d.name == donor)
        carriers = _carriers(pack, "female" if gender > 0 else "male")
        crops = [crop for name in carriers if (crop := _crop(pictures / name, method.crop))]
        if not crops:
            raise UsageError(f"{pictures} has none of the pack's pictures", "give the folder that it was packed from")
        drawn = [composited(crop, method.apply([crop])[0]) for crop in crops]
        own = [_described(judge, crops, drawn) for judge in map(recogniser, JUDGES)]
        apart = {*carriers, *parts[donor]}
        found[donor] = {one.name: _nearest(one, own, apart) for one in packs}
    return found


def _carriers(pack: Textures, sex: str) -> list[str]:
    labels = pack.labels.get("sex", np.full(len(pack), ""))
    return pack.names[np.argsort(labels != sex, kind="stable")][:CARRIERS].tolist()


def _crop(path: Path, spec: CropSpec) -> Crop | None:
    read = cv2.imread(str(path))
    if read is None:
        return None
    pixels = np.ascontiguousarray(read[..., ::-1])
    height, width = pixels.shape[:2]
    face = Face(Box(width * 0.25, height * 0.28, width * 0.75, height * 0.78))
    mesh, presence = locate_mesh(pixels, face)
    return align(Frame(pixels), replace(face, landmarks=ibug(mesh)), spec, path.name) if presence > PRESENT else None


def _described(judge: Recogniser, crops: Sequence[Crop], drawn: Sequence[np.ndarray]) -> np.ndarray:
    chips = []
    for crop, pixels in zip(crops, drawn, strict=True):
        points = apply_affine(crop.transform, np.asarray(crop.face.landmarks)).astype(np.float32)
        chips.append(judge.chips(pixels, [replace(crop.face, landmarks=points)])[0])
    return judge.embed(np.stack(chips))


def _nearest(known: Known, own: Sequence[np.ndarray], apart: set[str]) -> Likeness:
    dlib, sface = map(recogniser, JUDGES)
    rows = np.flatnonzero(~np.isin(known.names, list(apart)))
    first = _shares(dlib, own[0], known.dlib[rows])
    if known.sface is None:
        near = np.argsort(first, kind="stable")[:LIKELY]
        rows, first = rows[near], first[near]
        box = Box(0, 0, known.crops.shape[2], known.crops.shape[1])
        chips = [sface.chips(known.crops[i], [Face(box, landmarks=known.landmarks[i])])[0] for i in rows]
        described = sface.embed(np.stack(chips))
    else:
        described = known.sface[rows]
    second = _shares(sface, own[1], described)
    nearest = [(str(known.names[rows[far.argmin()]]), round(float(far.min()), 3)) for far in (first, second)]
    return Likeness(nearest[0], nearest[1], round(float(np.maximum(first, second).min()), 3))


def _shares(judge: Recogniser, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean distances (n,) of others (n, d) to the drawings of a donor (m, d), as shares of the threshold."""
    apart = [judge.distance(others, np.broadcast_to(row, others.shape)) for row in own]
    return np.mean(apart, axis=0) / judge.threshold
