"""How faces are followed, and what goes into the tracker: values that every file of this package may import."""

from __future__ import annotations

from dataclasses import dataclass

from deidcli.errors import UsageError
from deidcli.faces.tracking.motion import REACH
from deidcli.values import Face, Frame


@dataclass(frozen=True)
class TrackOptions:
    """How faces are followed. Times are in seconds by the stream's own clock.

    track: whether they are, in files whose frames have times. detect_every: search every so many frames and carry the
    faces through those between; None for as few as lie no more than `between` apart. The first and the last frame of a
    shot are always searched. gap: how long a face may be lost and is still covered between, once it is found again.
    hold: how long it is covered before it was first and after it was last found, even where it cannot be seen. stay:
    how long it is covered while it is not found, but what is there still looks the same; one that was found in a few
    frames only stays for as many times `gap`. smooth: standard deviation of the smoothing of boxes; points: of
    landmarks.
    """

    track: bool = True
    detect_every: int | None = None
    between: float = 0.125
    gap: float = 1.0
    hold: float = 0.3
    stay: float = 4.0
    smooth: float = 0.12
    points: float = 0.05

    def __post_init__(self):
        every = 1 if self.detect_every is None else self.detect_every
        if every < 1:
            raise UsageError(f"--detect-every {every} is out of range", "from 1 up")
        if every > 1 and not self.track:
            raise UsageError("--detect-every needs tracks", "leave --no-track out")

    @property
    def around(self) -> float:
        """How far to either side of a frame its neighbours matter, in seconds."""
        return max(self.gap, self.hold, REACH * self.smooth)


@dataclass(frozen=True)
class FrameFaces:
    """A frame with its faces, None where it was not searched. begins: it is the first of a shot."""

    frame: Frame
    faces: tuple[Face, ...] | None
    begins: bool = False
