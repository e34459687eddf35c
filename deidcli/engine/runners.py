"""Where a run is done: by threads of this process, or by processes of a cluster. Both run the same chain."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

from deidcli.engine.choice import Chooser
from deidcli.engine.face_list import FaceList
from deidcli.engine.frames import FrameOrFailure
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import Row
from deidcli.engine.output import OutputFolder
from deidcli.engine.pipeline import Watch
from deidcli.engine.settings import Settings
from deidcli.errors import MissingDependency, UsageError
from deidcli.methods.base import Method

LOCAL, RAY = "local", "ray"
RUNNERS = (LOCAL, RAY)


class Runner(Protocol):
    """Replaces every face of every job and writes the files: `local.anonymize` and `on_ray.anonymize`."""

    def __call__(
        self,
        jobs: Iterable[Job],
        method: Method,
        settings: Settings,
        given: FaceList | None,
        output: OutputFolder,
        watch: Watch,
        whole: Sequence[Job],
        seen: Callable[[Iterator[FrameOrFailure]], Iterator[FrameOrFailure]],
        chooser: Chooser,
    ) -> Generator[Row, None, None]:
        """As `local.anonymize`. Rows come in the order of the jobs, or as they are done where that is elsewhere."""
        ...


def runner(name: str) -> Runner:
    """The runner called `name`, one of `RUNNERS`. Raises UsageError, MissingDependency."""
    if name == LOCAL:
        from deidcli.engine.local import anonymize

        return anonymize
    if name != RAY:
        raise UsageError(f"no runner is called {name!r}", f"choose one of {', '.join(RUNNERS)}")
    try:
        from deidcli.engine.on_ray import anonymize as on_ray
    except ImportError as error:
        raise MissingDependency(f"--runner ray needs Ray: {error}", "pip install 'deidcli[ray]'") from error
    return on_ray
