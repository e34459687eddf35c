"""Decode a picture that may be a decompression bomb in a separate process first, with limited memory and time.

A file of a few bytes can stand for gigabytes of pixels or for minutes of decoding, and a decoder that crashes ends its
process. So a picture that claims far more pixels than its bytes make likely is decoded once where only that process
can crash; its file then fails with one line. Ordinary pictures are decoded at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from deidcli.errors import MediaError
from deidcli.media.image import Container, container_of, explained

PIXELS = 100_000_000
"""Pixels of all frames together from which a picture is decoded in a process of its own first."""
DENSE, DENSE_PIXELS = 1000, 16_000_000
"""Pixels a byte from which it is so even for smaller pictures, and the number of pixels at which that begins."""
ENDLESS = 4_000_000_000
"""Pixels of all frames, so many a byte, that nobody searches: half an hour of work, for a file of any size."""
MEMORY = 3 << 30  # bytes of address space
SECONDS, SECONDS_A_MEGABYTE, LONGEST = 12, 3, 150  # of processor time
_ONE_AT_A_TIME = threading.Lock()  # each may take all the memory that one is allowed
_PATIENCE = 2.5  # seconds of the clock to one of the processor's, which others may use as well
_OUT_OF_TIME = -getattr(signal, "SIGXCPU", 0)  # the status of a process that has used up its time
_HINT = "leave it out, or convert it with a program that can open it"


def is_suspicious(container: Container) -> bool:
    """Whether a picture claims many pixels, or many more than its bytes make likely."""
    pixels = container.size[0] * container.size[1] * len(container.times) * container.passes
    return pixels > PIXELS or (pixels > DENSE_PIXELS and pixels > DENSE * len(container.data))


def is_endless(container: Container) -> bool:
    """Whether the frames of a file that holds next to nothing are more pixels than can be searched."""
    pixels = container.size[0] * container.size[1] * len(container.times)
    return pixels > ENDLESS and pixels > DENSE * len(container.data)


def rehearse(container: Container, kind: str) -> None:
    """Decode every frame in another process. Raises MediaError where that process fails, or takes too much.

    kind: as `open_image` takes it.
    """
    seconds = min(SECONDS + SECONDS_A_MEGABYTE * len(container.data) // 1_000_000, LONGEST)
    command = [sys.executable, "-m", "deidcli.media.image.rehearsal", kind, str(seconds), str(int(container.salvage))]
    try:
        with _ONE_AT_A_TIME:
            done = _run(command, container.data, seconds)
            if done.returncode < 0 and done.returncode != _OUT_OF_TIME:
                # Somebody, or a system without memory, may have ended it: the file is tried once more.
                done = _run(command, container.data, seconds)
    except subprocess.TimeoutExpired as error:
        raise MediaError(promise(container, f"it takes more than {seconds} seconds to decode"), _HINT) from error
    except OSError as error:
        raise MediaError(
            f"no process could be started to decode it in: {error.strerror}", "use fewer workers"
        ) from error
    if done.returncode == 1 and done.stdout:
        message, _, hint = done.stdout.decode("utf-8", "replace").partition("\n")
        raise MediaError(message, hint.strip() or _HINT)
    if done.returncode != 0:
        raise MediaError(promise(container, "it takes too much memory or time, or breaks its decoder"), _HINT)


def _run(command: Sequence[str], data: bytes, seconds: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command, input=data, capture_output=True, timeout=_PATIENCE * seconds, env=_environment(), check=False
    )


def promise(container: Container, what: str) -> str:
    """What a file claims to hold, and `what` it does."""
    (width, height), count = container.size, len(container.times)
    frames = f"{count} frames of " if count > 1 else ""
    return f"{frames}{width}x{height} pixels in {len(container.data)} bytes: {what}"


def _environment() -> dict[str, str]:
    """This process's own, with one thread a library: each would reserve address space of its own."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return os.environ | {name: "1" for name in names} | {"PYTHONPATH": path}


def _main(arguments: Sequence[str]) -> int:
    """Decode what standard input holds; the message and the hint of its failure go to standard output."""
    kind, seconds, salvage = arguments
    _confine(int(seconds))
    try:
        with explained("picture"):
            data = sys.stdin.buffer.read()
            for native in container_of(data, "picture", kind, salvage == "1").natives():
                del native
    except MediaError as error:
        print(error.message.removeprefix("picture: "), error.hint, sep="\n")
        return 1
    return 0


def _confine(seconds: int) -> None:
    """Limit this process; where the system knows no such limits only its clock stops it."""
    try:
        import resource
    except ImportError:
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        soft, hard = resource.getrlimit(what)
        allowed = [limit for limit in (most, soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(what, (min(allowed), hard))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
