"""Standard error without the lines with which inference libraries greet their users; every other line comes through."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NOISE = re.compile(
    r"WARNING: All log messages before absl::|To enable the following instructions|I0000 "
    r"|E0000 .*(cuda_platform|cuda_executor|failed call to)|INFO: Created TensorFlow Lite"
)
_ONE = threading.Lock()  # standard error belongs to the whole process


@contextmanager
def without_noise() -> Iterator[None]:
    """Hold standard error back while the body runs, then say what of it was no noise."""
    with _ONE, tempfile.TemporaryFile() as held:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):  # it is closed
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
                os.write(2, ("\n".join(kept) + "\n").encode())
