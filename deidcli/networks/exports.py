"""Which networks a preset has, so that `deid models export` can write their graphs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from deidcli.networks.store import Network
from deidcli.presets import Preset

# By the method of a preset: the module whose `load(preset)` returns what holds its networks.
_LOADERS = {
    "autoencoder": "autoencoder",
    "classifier": "classifiers",
    "cleanir": "cleanir",
    "epdnet": "epd_net",
    "fatm": "fatm",
}


def networks_of(preset: Preset) -> list[Network]:
    """Every `Network` that the loaded preset holds, as an attribute or in a mapping. Raises PresetError."""
    if preset.method not in _LOADERS or "network" not in preset.config:
        return []
    held = import_module(f"deidcli.networks.{_LOADERS[preset.method]}").load(preset)
    parts = [
        each for value in vars(held).values() for each in (value.values() if isinstance(value, Mapping) else [value])
    ]
    return [part for part in parts if isinstance(part, Network)]
