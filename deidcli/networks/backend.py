"""Keras and its backend, imported without their log lines: `from deidcli.networks.backend import keras, layers, ops`.

They are imported when something of them is first asked for, because a run on the processor needs neither (`store.py`):
importing a module that only defines functions is cheap. One that derives a class from a layer imports them at once, so
such classes are in `own_layers.py`, which functions import.

At every start they print a page of log lines about processors and GPU libraries that are not there. Those are taken
out of standard error; every other line comes through.

Keras would import scikit-learn and matplotlib, for wrappers and plots that nothing here uses: a third of what it takes
to start. It goes on without them where they are not installed, and so they are hidden from it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

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
