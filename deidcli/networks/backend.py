"""Keras and its backend, imported without their log lines: `from deidcli.networks.backend import keras, layers, ops`.

They are imported when something of them is first asked for, because a run on the processor needs neither (`store.py`):
importing a module that only defines functions is cheap. One that derives a class from a layer imports them at once, so
such classes are in `own_layers.py`, which functions import.

At every start they print a page of log lines about processors and GPU libraries that are not there. Those are taken
out of standard error; every other line comes through.

Keras would import scikit-learn and matplotlib, for wrappers and plots that nothing here uses: a third of what it takes
to start. It goes on without them where they are not installed, and so they are hidden from it.

Beside it: which processor networks run on (--device), a GPU by Keras or the processor by ONNX Runtime without Keras.
"""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deidcli.errors import UsageError

if TYPE_CHECKING:
    import keras
    from keras import layers, ops


_NOISE = re.compile(
    r"WARNING: All log messages before absl::|To enable the following instructions|I0000 "
    r"|E0000 .*(cuda_platform|cuda_executor|failed call to)|INFO: Created TensorFlow Lite"
)
_ONE = threading.Lock()  # standard error belongs to the whole process


@contextmanager
def without_noise() -> Iterator[None]:
    """Capture standard error while the body runs, then write the lines that are not known log noise."""
    with _ONE, ExitStack() as last:
        try:
            sys.stderr.flush()
            held = last.enter_context(tempfile.TemporaryFile())
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):  # it is closed, or there is no room to hold anything back
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            kept = [line for line in held.read().decode(errors="replace").splitlines() if not _NOISE.match(line)]
            if kept:
                with suppress(OSError):
                    os.write(2, ("\n".join(kept) + "\n").encode())


__all__ = ["keras", "layers", "ops"]


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Let packages that are not imported yet look as if they were not installed while the body runs."""
    hidden = [name for name in packages if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@functools.cache
def _imported() -> Any:
    with without_noise(), _without("sklearn", "matplotlib"):
        import keras

        # The first operation wakes the backend up, which has more to say.
        keras.ops.zeros(1)
    return keras


class _Later:
    """A proxy of Keras, or of a module of it, that imports it when an attribute is first used."""

    def __init__(self, part: str = ""):
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(_imported(), self._part) if self._part else _imported(), name)


if TYPE_CHECKING:
    import keras
    from keras import layers, ops
else:
    keras, layers, ops = _Later(), _Later("layers"), _Later("ops")


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
