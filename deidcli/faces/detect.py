"""Detection: find the faces of a batch of pictures, with what --detector stands for."""

from __future__ import annotations

from deidcli.faces.detectors import available
from deidcli.faces.detectors.base import DEFAULTS, DetectOptions, Detector, default
from deidcli.faces.registry import named

__all__ = ["DEFAULTS", "DetectOptions", "Detector", "default", "detector"]


def detector(options: DetectOptions) -> Detector:
    """The detector that `options` names. Raises UsageError for an unknown name, or a file that is not there."""
    kind, file = named(available(), options.detector, "detector")
    return kind(options, file)
