"""Deep Autoencoders (Nousi et al. 2020): an encoder that was fine-tuned to move a face's code gives another person.

The fine-tuned encoder takes a face to its target (Equations 7 to 11) in one pass, and the decoder, which was trained to
reconstruct, draws what lies there. Deblurrer and smoother stand behind it; all four are one graph. Presets say which
shifts they know; `deid train autoencoder --shift` adds another in minutes.

Two departures from the paper. A face that is still recognised goes on in the direction in which the encoder moved it.
And the preset of the canonical frame draws the new face about the shifted code, in secret
(`methods/autoencoder_canonical.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.methods.base import Method, Models, PresetMethod, PresetModels, Secret, crop_of, option
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop

if TYPE_CHECKING:
    from deidcli.networks.autoencoder import Networks

METHOD = "autoencoder"
NONE = "none"  # no shift: the encoder as it was trained to reconstruct
KINDS = ("cluster", "neighbor", "nth", "cells", "attribute", NONE)
PUSH, FARTHEST = 0.5, 1.0  # how much farther a face that is still recognised goes, each time and at most


class AutoencoderModels(PresetModels):
    """The preset that the options name, and its networks."""

    method = METHOD

    @cached_property
    def networks(self) -> Networks:
        from deidcli.networks.autoencoder import load

        return load(self.preset)


class Autoencoder(PresetMethod):
    """The chain of networks of a preset, on aligned crops. Raises PresetError where it is damaged, UsageError for a
    shift that it does not know.
    """

    name = METHOD
    summary = "another person with the same attributes, by an autoencoder's shifted code"
    Models: ClassVar[type[Models]] = AutoencoderModels

    @dataclass(frozen=True)
    class Options:
        shift: str = option(
            "cluster",
            "where faces move: the centre of their cluster, the neighbor that is nearest to the mean, the nth, "
            "the nth for each cell of a convolutional code, or those with the same attribute",
            choices=KINDS,
        )
        clusters: int = option(180, "of --shift cluster: how many there are", 1, 10_000)
        neighbors: int = option(0, "of the other shifts: how many are looked at; 0: as the preset has it", 0, 1000)
        alpha: float = option(0.0, "how far towards the target, above 1 beyond it; 0: as the preset has it", 0, 2)
        attributes: str = option("expression,mouth,race", "of --shift attribute: which, in order, with , or +")
        vary: float = option(
            1.4,
            "of presets in the canonical frame: how far a face is drawn about its code, 1 as faces lie; 0: at it",
            0,
            2,
        )
        push: float = option(0.0, "how much farther than the encoder moves a face, as a share of its way", 0, 4)
        preset: str = option("autoencoder-256", "name or folder of the weights")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.models.verify(self.name)
        self.shift = known_shift(self.models.preset, self.options)
        self.crop = crop_of(self.models.preset)

    @classmethod
    def create(cls, options: Any = None, secret: Secret | None = None) -> Method:
        """The method in the canonical frame where the preset names a face model."""
        from deidcli.methods.autoencoder_canonical import CanonicalAutoencoder

        options = options or cls.Options()
        in_frame = "model" in load_preset(options.preset, METHOD).config
        return (CanonicalAutoencoder if in_frame else cls)(options, secret)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        pictures = np.stack([crop.pixels for crop in crops])
        made = self.models.networks.picture(pictures, self.shift, self.options.push)
        return [crop.with_pixels(pixels) for crop, pixels in zip(crops, made, strict=True)]

    def escalate(self, attempt: int) -> Method | None:
        """Farther in the direction in which the encoder moved the face; nothing where it does not move it."""
        if self.shift == NONE or self.options.push >= FARTHEST:
            return None
        farther = replace(self.options, push=min(FARTHEST, self.options.push + PUSH))
        return type(self)(farther, self.secret, self.models)


def known_shift(preset: Preset, options: Any) -> str:
    """The name of the first shift of a preset that is what the options ask for.

    Where none is asked for and the preset has no clusters, it is its first one. An attribute that it keeps in every
    shift ("keeps" of its config) need not be moved towards. Raises UsageError that names those that the preset knows.
    """
    if options.shift == NONE:
        return NONE
    asked = [word.strip() for word in options.attributes.replace("+", ",").split(",")]
    asked = [word for word in asked if word not in preset.config.get("keeps", [])]
    for name, entry in preset.config.get("shifts", {}).items():
        same = entry["kind"] == options.shift
        if options.shift == "cluster":
            same &= entry["clusters"] == options.clusters
        else:
            same &= options.neighbors in (0, entry["neighbors"])
        if options.shift == "attribute":
            same &= entry["attributes"] == asked
        if same and options.alpha in (0, entry["alpha"]):
            return name
    shifts = preset.config.get("shifts", {})
    usual = type(options)()
    asks = [getattr(options, name) != getattr(usual, name) for name in ("shift", "clusters", "neighbors", "alpha")]
    if not any(asks) and all(entry["kind"] != usual.shift for entry in shifts.values()):
        return next(iter(shifts), NONE)
    known = ", ".join(shifts) or "none"
    raise UsageError(
        f"preset {preset.name} has no such shift: it knows {known}",
        "give one of these, or make it with `deid train autoencoder --start --shift`",
    )
