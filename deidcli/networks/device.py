"""Which processor the networks run on: a GPU by Keras, or the processor by ONNX Runtime without Keras (--device)."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
from functools import cache
from pathlib import Path

from deidcli.errors import UsageError

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


def use_device(name: str) -> None:
    """Run networks on the device `name`: "cpu" without TensorFlow, "gpu" or "gpu:N" by Keras, "auto" on what is there.

    Raises UsageError for another name, and for a GPU that is not there: there is no silent fallback to the CPU.
    """
    match = re.fullmatch(r"auto|cpu|gpu(?::(\d+))?", name)
    if match is None:
        raise UsageError(f"--device {name}: not known", "give auto, cpu, gpu or gpu:N")
    choose(name.partition(":")[0])
    if name == "auto":
        return
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return
    if match.group(1) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = match.group(1)
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        raise UsageError(f"--device {name}: TensorFlow sees no such GPU", "run `deid doctor`, or take --device cpu")
