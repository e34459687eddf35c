"""Which processor the networks in Keras are run on: a GPU by Keras, or the processor by ONNX Runtime without Keras."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
from functools import cache
from pathlib import Path

_CHOSEN: list[str] = []  # what `choose` was given last


def choose(name: str) -> None:
    """Use "cpu" or "gpu" from now on, whatever is there; "auto" for a GPU where there is one that Keras can use."""
    _CHOSEN[:] = [name]


def chosen() -> str:
    """What `choose` was given last."""
    return _CHOSEN[-1] if _CHOSEN else "auto"


def on_gpu() -> bool:
    """Whether networks run in Keras on a GPU."""
    return gpu_is_there() if chosen() == "auto" else chosen() == "gpu"


@cache
def gpu_is_there() -> bool:
    """Whether there are an Nvidia GPU that this process may use and the libraries with which TensorFlow runs on it.

    Told by what is installed, because asking TensorFlow would start it.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    # /dev/dxg is the GPU of a Linux within Windows.
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()):
        return False
    bundled = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.cudnn") is not None
    return bundled or ctypes.util.find_library("cudnn") is not None
