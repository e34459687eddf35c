"""The contract of a method: aligned crops of faces in, the same crops with new faces out."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from deidcli.errors import MethodError, PresetError, UsageError
from deidcli.presets import Preset, load_preset
from deidcli.values import Box, Crop, CropSpec, Face


def option(default: Any, help: str, low: float | None = None, high: float | None = None, choices: Sequence = ()) -> Any:
    """A setting of a method: the field of its frozen `Options` from which flag, check and report column are made.

    low, high: the range that is allowed, both included.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": tuple(choices)})


@dataclass(frozen=True)
class Secret:
    """What a run's random draws are made from. Whoever knows it can repeat them, so it is never written anywhere."""

    key: bytes = field(repr=False)

    @classmethod
    def drawn(cls) -> Secret:
        """A new one from the system's randomness."""
        return cls(os.urandom(32))

    @classmethod
    def seeded(cls, seed: int) -> Secret:
        """The same one for the same number."""
        return cls(hashlib.sha256(f"deid seed {seed}".encode()).digest())

    def generator(self, name: str) -> np.random.Generator:
        """Random numbers that belong to `name` (a track, a person), whatever was drawn before and in which order."""
        # Names of files that are no UTF-8 are held as surrogates, which stand for their bytes.
        name_bytes = name.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(name_bytes, key=self.key, digest_size=32).digest()
        return np.random.default_rng(np.frombuffer(digest, np.uint32))


class Models:
    """What a method loads: presets, networks, indices; each a cached property of a subclass.

    Made from the options alone and shared by every instance that has the same ones, so neither a secret nor a closed
    set can be handed on with it.
    """

    def __init__(self, options: Any):
        self.options = options


class Method(ABC):
    """Replaces faces.

    Subclasses set `name` (the word after --method), `summary` (one line for the help), `crop` (what the engine cuts out
    for them), `Options`, and `Models` where they load something. One instance serves a whole run and is called from one
    thread. Its capabilities, so that no other code depends on its name:

    closed: it has to see every face before the first is replaced (methods/closed.py).
    judged: its new faces are compared with their originals unless the command says otherwise.
    removes_face: nothing of a face is left, so that comparing embeddings of the result is pointless.
    linear: what it does to pixels is a sum of them, so that whoever knows it can look for the face behind an output.
    reversible: `reverse` undoes `apply`, as far as the method can be undone.
    declares_donors: `marks` names whose faces a new face is made of: person, surrogate, group and guarantee.
    listed: False for a variant that `create` of the class of the same name chooses.
    needs_pixels, stored: of a closed set, whether `prepare` needs pictures of the faces, and their side in pixels.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    crop: CropSpec
    closed: ClassVar[bool] = False
    judged: ClassVar[bool] = True
    removes_face: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    declares_donors: ClassVar[bool] = False
    listed: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True
    stored: int = 0
    Models: ClassVar[type[Models]] = Models

    @dataclass(frozen=True)
    class Options:
        """No settings."""

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        """models: what another instance with the same options has loaded; None to load it when it is needed."""
        self.options = checked(options or self.Options())
        self.secret = secret or Secret.drawn()
        self.models: Any = self.Models(self.options) if models is None else models

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method with these options: this class, or the variant of it that they ask for."""
        return cls(options, secret)

    def again(self, secret: Secret) -> Method:
        """A fresh instance with another secret, which has seen no closed set. What is loaded is shared."""
        return type(self)(self.options, secret, self.models)

    def prepare(self, census: Census) -> None:  # noqa: B027 - most methods have nothing to prepare
        """See every face before the first is replaced; the engine calls it where `closed` is set."""

    def accepts(self, crop: Crop) -> bool:
        """Whether a face, as it was found, belongs to the closed set at all; others are not in it and are covered."""
        return True

    def marks(self, key: str) -> dict[str, Any]:
        """Further fields of the manifest for a face that this method replaced; empty for most methods."""
        return {}

    def ready(self) -> None:  # noqa: B027 - most methods have nothing to load
        """Load what the first crop would load, while the first faces are searched for; nothing for most methods.

        What is raised is raised again at the first crop.
        """

    @abstractmethod
    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        """The same crops, in order, with new pixels of the same shape. The same `key` and seed give the same new face.

        Raises MethodError, or anything else, for a batch that cannot be made; the engine then covers those faces.
        """

    def reverse(self, crops: Sequence[Crop], sense: int = -1) -> list[Crop]:
        """Crops of new faces taken back, by their keys, with the secret and settings of this instance.

        sense: -1 or 1, for methods where a new face does not show which way it was changed. Raises MethodError where
        `reversible` is not set.
        """
        raise MethodError(f"{self.name} cannot be reversed")

    def escalate(self, attempt: int) -> Method | None:
        """A stronger setting of this method for a face that is still recognised after `attempt` tries (1 and up).

        None where there is none; the engine then covers the face.
        """
        return None

    @property
    def weights(self) -> str:
        """The checksum of the preset in use, for the manifest; empty for a method that has none."""
        return ""

    @property
    def preset(self) -> str:
        """The name of the preset in use, for reports; empty for a method that has none."""
        return ""

    @property
    def k(self) -> int:
        """People behind each new face, at least, as the method promises; 0 where it promises nothing of the kind."""
        return 0


class PresetModels(Models):
    """What a method loads from the preset that its options name. method: whose preset it has to be."""

    method: ClassVar[str]

    @cached_property
    def preset(self) -> Preset:
        """The preset. Raises PresetError where there is none, or one of another method."""
        return load_preset(self.options.preset, self.method)

    @property
    def checksum(self) -> str:
        """Of everything that decides what a new face looks like."""
        return self.preset.checksum

    def verify(self, method: str) -> None:
        """Raises PresetError or MissingDependency for what is damaged or missing, before the first file is read.

        Found later, damaged weights would cost every face its new one. method: who needs them, for the message.
        """
        self.preset.verify()


class PresetMethod(Method):
    """A method whose weights are a preset. Its `Models` are PresetModels, its `Options` have the field `preset`."""

    @property
    def weights(self) -> str:
        return self.models.checksum

    @property
    def preset(self) -> str:
        return self.options.preset


def crop_of(preset: Preset) -> CropSpec:
    """The aligned crop that the networks of a preset were trained on. Raises PresetError where it does not say."""
    try:
        shape = preset.config["crop"]
        return CropSpec(size=int(shape["size"]), margin=float(shape["margin"]), mask="full")
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its crop", "fetch the preset again") from error


def checked(options: Any) -> Any:
    """`options` if every value is in its range. Raises UsageError that names the flag, the value and the range."""
    for item in fields(options):
        value, rule = getattr(options, item.name), item.metadata
        flag = "--" + item.name.replace("_", "-")
        if rule.get("choices") and value not in rule["choices"]:
            raise UsageError(f"{flag} {value}: not known", f"choose one of {', '.join(map(str, rule['choices']))}")
        low, high = rule.get("low"), rule.get("high")
        # Written so that a value that is no number (nan) is out of every range.
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise UsageError(f"{flag} {value} is out of range", f"from {low} to {high if high is not None else 'any'}")
    return options


# --- The census: every face of a closed set, by person, as the engine's first pass hands it to a method.


class Rows(Protocol):
    """An array that may lie on disk: `rows[numbers]` reads those rows and no others."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Census:
    """One row a track: a face of a photograph, or one person's way through a video.

    keys: (n,) the names of the tracks, as `Crop.key` will bring them. pixels: (n, side, side, 3) uint8, the clearest
    crop of each track. landmarks: (n, 68, 2) float32, in coordinates of that crop. descriptors: (n, d) float32, of the
    recogniser. people: (n,) int, the person of each track, from 0 to `count` - 1 without a gap.
    """

    keys: Sequence[str]
    pixels: Rows
    landmarks: Rows
    descriptors: np.ndarray
    people: np.ndarray

    @property
    def count(self) -> int:
        """How many people there are."""
        return int(self.people.max()) + 1 if len(self.people) else 0

    def centres(self) -> np.ndarray:
        """The mean descriptor of each person, (count, d) float64."""
        sums = np.zeros((self.count, self.descriptors.shape[1]))
        np.add.at(sums, self.people, self.descriptors)
        return sums / np.bincount(self.people, minlength=self.count)[:, None]

    def typical(self) -> np.ndarray:
        """The row of each person's most typical face, (count,) int: the one nearest to the person's centre.

        A person counts once, with this face, however many pictures there are.
        """
        apart = np.linalg.norm(self.descriptors - self.centres()[self.people], axis=1)
        order = np.lexsort((np.arange(len(apart)), apart, self.people))
        return order[np.searchsorted(self.people[order], np.arange(self.count))]

    def crops(self, rows: np.ndarray) -> list[Crop]:
        """The faces of rows (n,) as they were cut out, each in the coordinates of its own pixels."""
        shown = zip(rows.tolist(), self.pixels[rows], self.landmarks[rows], strict=True)
        return [_whole(pixels, points, self.keys[row]) for row, pixels, points in shown]


def _whole(pixels: np.ndarray, landmarks: np.ndarray, key: str) -> Crop:
    face = Face(Box(0, 0, pixels.shape[1], pixels.shape[0]), landmarks=np.asarray(landmarks, np.float32))
    return Crop(pixels, np.eye(2, 3), face, key)
