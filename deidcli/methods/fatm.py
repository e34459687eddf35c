"""FATM (Li and Lyu 2019): a donor's face with the expression of the face that it replaces.

One encoder takes what is not identity out of a face, one decoder for each donor draws the donor with it. With a preset
of the paper's kind (`fatm-64`) both work on upright crops, and the decoder's picture is put back. With one that names a
face model (`fatm-256`) they work in the canonical frame: the face model says in a linear way what expression and light
do to the donor's texture, the decoder adds what that leaves out, and the shared renderer (methods/new_face.py) draws
the donor with the photograph's pose, gaze, mouth and tone.

The paper has consenting donors and does not say which of them replaces whom. The donors that are shipped do not exist,
and the one that is nearest in gender, age and tone is taken unless another one is asked for. A key keeps its donor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from deidcli.errors import PresetError, UsageError
from deidcli.faces.blend import inner_outline
from deidcli.faces.canonical import IBUG, POINTS, SIZE, canonical
from deidcli.faces.face_model import FaceModel, Identity, Reading, deviations
from deidcli.methods.base import Method, Models, PresetMethod, Secret, crop_of, option
from deidcli.methods.identities import REMEMBERED, TRIES, WINDOW, Candidates, IdentityMethod, PresetFaceModels
from deidcli.methods.new_face import Seen, draw, read, texture_of
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop, CropSpec

if TYPE_CHECKING:
    from deidcli.networks.fatm import Faces

DONORS = "donors.npz"  # of a preset: what is known of its donors
NEAREST, RANDOM = "nearest", "random"
# What a squared deviation of gender, age and of each colour of the tone, all standardised, makes a donor less near.
COSTS = np.array([0.15, 0.10, 0.03, 0.03, 0.03])
FEATHER = 6.0  # pixels of the frame, to either side, over which a donor's face goes over into the old one
PASSED = TRIES  # donors that are passed over for a face which is still recognised: those that were tried
SHAPE, FARTHEST = 1.5, 2.0  # how far the shape of such a face goes first, and in the end


@dataclass(frozen=True)
class Donor:
    """kept: (k,) what the face model keeps of this person's face, standardised. identity: in the canonical frame; None
    in a preset of crops.
    """

    name: str
    kept: np.ndarray
    identity: DonorIdentity | None


@dataclass(frozen=True)
class DonorIdentity(Identity):
    """The identity of a donor, who has a decoder."""

    donor: str


class FatmModels(PresetFaceModels):
    """The preset, the face model by which the nearest donors are found, and the networks."""

    method = "fatm"

    @property
    def model_name(self) -> str:
        return self.preset.config["face_model"]

    @cached_property
    def faces(self) -> Faces:
        from deidcli.networks.fatm import load

        return load(self.preset)

    @cached_property
    def donors(self) -> tuple[Donor, ...]:
        return tuple(load_donors(self.preset, self.model))


class Fatm(PresetMethod):
    """A decoder's picture in place of an upright crop, as in the paper. Raises PresetError where the preset is
    damaged, UsageError for a donor that it does not have.
    """

    name = "fatm"
    summary = "a donor who does not exist shows the face's expression, pose, gaze and light"
    Models: ClassVar[type[Models]] = FatmModels

    @dataclass(frozen=True)
    class Options:
        donor: str = option(NEAREST, "whose face: the name of one of the preset's donors, nearest or random")
        among: int = option(0, "choose among the first so many donors of the preset; 0: among all", 0)
        skip: int = option(0, "pass over so many donors, as is done where a face is still recognised", 0)
        shape: float = option(1.0, "how far the shape of the face goes to the donor's; not of fatm-64", 0, 3)
        reach: float = option(0.1, "how far the donor's face reaches beyond the paper's mask; not of fatm-64", 0, 1)
        paper: bool = option(False, "the paper's mask, and no tone matching; fatm-64 alone")
        preset: str = option("fatm-256", "name or folder of the weights")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: FatmModels | None = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)
        self.crop = self._spec()
        self._names = names_of(self.models, self.options)
        self._chosen: OrderedDict[str, str] = OrderedDict()

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method in the canonical frame where the preset's donors are drawn there."""
        options = options or cls.Options()
        in_frame = load_preset(options.preset, cls.name).config.get("frame") == "canonical"
        return (CanonicalFatm if in_frame else cls)(options, secret)

    def _spec(self) -> CropSpec:
        spec = crop_of(self.models.preset)
        return replace(spec, mask="inner", transfer_lighting=False) if self.options.paper else spec

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        return [self._one(crop) for crop in crops]

    def _one(self, crop: Crop) -> Crop:
        """The crop with the picture that the decoder of its donor draws."""
        made = self.models.faces(crop.pixels[None].astype(np.float32) / 255, self._donor(crop))[0]
        return crop.with_pixels(np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8))

    def _donor(self, crop: Crop) -> str:
        """The donor of a key: the one that it has, or that its first face asks for."""
        if crop.key not in self._chosen:
            order = self.order(crop.key, self._reading(crop) if self.options.donor == NEAREST else None)
            self._chosen[crop.key] = order[min(self.options.skip, len(order) - 1)]
            if len(self._chosen) > REMEMBERED:
                self._chosen.popitem(last=False)
        self._chosen.move_to_end(crop.key)
        return self._chosen[crop.key]

    def _reading(self, crop: Crop) -> Reading:
        return read(self.models.model, crop, self.models.described(crop.pixels, crop)[0]).reading

    def order(self, key: str, reading: Reading | None) -> list[str]:
        """The donors that a face may have, the first choice first. reading: of the face, for the nearest."""
        if self.options.donor == RANDOM:
            return self.secret.generator(key).permutation(self._names).tolist()
        if self.options.donor != NEAREST or reading is None:
            return [self.options.donor]
        near = [donor for donor in self.models.donors if donor.name in self._names]
        far = deviations(np.stack([donor.kept[: len(COSTS)] for donor in near]), reading.kept) @ COSTS
        return [near[i].name for i in np.argsort(far, kind="stable")]

    def marks(self, key: str) -> dict[str, Any]:
        """Whose face the new one is."""
        return {"donor": self._chosen[key]} if key in self._chosen else {}

    def escalate(self, attempt: int) -> Method | None:
        """The donor's face as far as it can reach, then other donors; of one who was named a shape that goes on."""
        options = self._stronger()
        return None if options is None else type(self)(options, self.secret, self.models)

    def _stronger(self) -> Any:
        chosen, further = self.options.donor in (NEAREST, RANDOM), self.options.skip + PASSED
        if isinstance(self, CanonicalFatm) and self.options.reach < 1:
            return replace(self.options, reach=1.0, shape=max(SHAPE, self.options.shape))
        if chosen:
            return replace(self.options, skip=further) if further < len(self._names) else None
        if isinstance(self, CanonicalFatm) and self.options.shape < FARTHEST:
            return replace(self.options, shape=FARTHEST)
        return None


class CanonicalFatm(IdentityMethod, Fatm):
    """`fatm` with a preset whose donors are drawn in the canonical frame, at the photograph's own resolution.

    Of the donors that are asked for, the first is taken whose face both recognisers tell from the old one.
    """

    listed = False

    def __init__(self, options: Any = None, secret: Secret | None = None, models: FatmModels | None = None):
        IdentityMethod.__init__(self, options, secret, models)
        if self.options.paper:
            hint = "give --preset fatm-64"
            raise UsageError(f"--paper does not belong to {self.options.preset}, which works without crops", hint)
        self.crop, self.shape = WINDOW, self.options.shape
        self._names = names_of(self.models, self.options)

    def candidates(self, reading: Reading, old: list[np.ndarray], key: str) -> Candidates:
        """The donors' identities, in the order of their choice."""
        known = {donor.name: donor.identity for donor in self.models.donors}
        order = self.order(key, reading)
        left = [one for name in order[min(self.options.skip, len(order) - 1) :] if (one := known[name]) is not None]
        texture, shape = (np.stack(own) for own in zip(*(self.models.model.projected(o) for o in left), strict=True))
        return Candidates(texture, shape, lambda number, _: left[number], most=0)

    def drawn(self, seen: Seen, identity: Identity) -> Crop:
        assert isinstance(identity, DonorIdentity)
        size = self.models.faces.config.size
        picture = cv2.resize(seen.reading.texture, (size, size), interpolation=cv2.INTER_AREA)
        added = self.models.faces(np.clip(picture, 0, 1)[None], identity.donor)[0]
        texture = texture_of(self.models.model, seen.reading, identity)
        texture += cv2.resize(added, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        return draw(self.models.model, seen, identity, self.shape, texture, area(self.options.reach))

    def marks(self, key: str) -> dict[str, Any]:
        """Whose face the new one is."""
        known = self._identities.get(key)
        return {"donor": known.identity.donor} if known and isinstance(known.identity, DonorIdentity) else {}


def names_of(models: FatmModels, options: Any) -> list[str]:
    """The donors that may be chosen. Raises UsageError for one who is not there."""
    names = [donor.name for donor in models.donors][: options.among or None]
    if options.donor not in (*names, NEAREST, RANDOM):
        known = ", ".join([NEAREST, RANDOM, *names])
        raise UsageError(f"--donor {options.donor}: there is no such donor", f"choose one of {known}")
    return names


def load_donors(preset: Preset, model: FaceModel) -> list[Donor]:
    """The donors of a preset, in its order. Raises PresetError for another file."""
    path = preset.file(DONORS)
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, kept = list(preset.config["donors"]), stored["kept"].astype(np.float32)
            if "textures" not in stored.files:
                return [Donor(name, row, None) for name, row in zip(names, kept, strict=True)]
            textures, shapes = stored["textures"], stored["shapes"].astype(np.float64)
            if textures.shape[1:] != (SIZE, SIZE, 3) or shapes.shape[1:] != (POINTS, 3):
                raise ValueError("it is of another canonical frame")
            rows = zip(names, kept, textures.astype(np.float32) / 255, shapes, strict=True)
            return [Donor(name, own, identity_of(model, name, t, shape, own)) for name, own, t, shape in rows]
    except (KeyError, ValueError, OSError) as error:
        raise PresetError(f"{path} holds no donors: {error}", "fetch the preset again") from error


def identity_of(
    model: FaceModel, donor: str, texture: np.ndarray, shape: np.ndarray, kept: np.ndarray
) -> DonorIdentity:
    """Who a donor is: the texture (256, 256, 3) float32 in [0, 1] without what is kept (k,) of it predicts, and the
    shape (468, 3) that is the person's own.
    """
    return DonorIdentity(texture - model.base(kept), shape, kept[:2].copy(), donor)


@cache
def area(reach: float) -> np.ndarray:
    """Where in the frame a donor's face lies, (256, 256) float32 in [0, 1].

    The paper's mask (Section 3, Figure 2), grown by `reach` half widths of the frame; softly at its edge.
    """
    points = canonical().points
    hull = inner_outline(points[IBUG])
    drawn: np.ndarray = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(drawn, np.round(hull).astype(np.int32), 1)
    outside = cv2.distanceTransform(1 - drawn, cv2.DIST_L2, 5) - cv2.distanceTransform(drawn, cv2.DIST_L2, 5)
    return np.clip((reach * SIZE / 2 + FEATHER - outside) / (2 * FEATHER), 0, 1).astype(np.float32)
