"""The contract of a method: aligned crops of faces in, the same crops with new faces out."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.methods.census import Census
from deidcli.values import Crop, CropSpec


def option(default: Any, help: str, low: float | None = None, high: float | None = None, choices: Sequence = ()) -> Any:
    """A setting of a method: the field of its frozen `Options` from which flag, check and report column are made.

    low, high: the range that is allowed, both included.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": tuple(choices)})


@dataclass(frozen=True)
class Secret:
    """What a run's random draws are made from. Whoever knows it can repeat them, so it is never written anywhere."""

    key: bytes

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
        said = name.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(said, key=self.key, digest_size=32).digest()
        return np.random.default_rng(np.frombuffer(digest, np.uint32))


class Method(ABC):
    """Replaces faces.

    Subclasses set `name` (the word after --method), `summary` (one line for the help), `crop` (what the engine cuts out
    for them) and `Options`. One instance serves a whole run and is called from one thread. removes_face: whether
    nothing of a face is left, so that there is nothing to recognise. closed: whether it has to see every face first
    (methods/closed.py). judged: whether its new faces are compared with their originals unless the
    command says otherwise.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    crop: CropSpec
    removes_face: ClassVar[bool] = False
    closed: ClassVar[bool] = False
    judged: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """No settings."""

    def __init__(self, options: Any = None, secret: Secret | None = None):
        self.options = checked(options or self.Options())
        self.secret = secret or Secret.drawn()

    def again(self, secret: Secret) -> Method:
        """This method with another secret. What it has loaded is shared.

        That is what stands in its cached properties, so nothing of the secret or of a closed set may stand there.
        """
        other = type(self)(self.options, secret)
        loaded = {k: v for k, v in self.__dict__.items() if isinstance(getattr(type(self), k, None), cached_property)}
        other.__dict__.update(loaded)
        return other

    def prepare(self, census: Census) -> None:  # noqa: B027 - most methods have nothing to prepare
        """See every face before the first is replaced; the engine calls it where `closed` is set."""

    def marks(self, key: str) -> dict[str, Any]:
        """What the manifest says of a face that was replaced, beside what it says of all; most methods say nothing."""
        return {}

    @abstractmethod
    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        """The same crops, in order, with new pixels of the same shape. The same `key` and seed give the same new face.

        Raises MethodError, or anything else, for a batch that cannot be made; the engine then covers those faces.
        """

    def escalate(self, attempt: int) -> Method | None:
        """A stronger setting of this method for a face that is still recognised after `attempt` tries (1 and up).

        None where there is none; the engine then covers the face.
        """
        return None

    @property
    def weights(self) -> str:
        """The checksum of the preset in use, for the manifest; empty for a method that has none."""
        return ""


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
