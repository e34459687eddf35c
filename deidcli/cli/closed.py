"""What `anonymize` does for closed-set methods alone: the whole set in the settings, and the check at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from deidcli.engine.files import digest
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import Row
from deidcli.engine.settings import Settings
from deidcli.errors import UsageError


def settled(settings: Settings, whole: Sequence[Job], rest: dict[str, Any]) -> Settings:
    """The settings with a checksum over all inputs, since every surrogate depends on all of them.

    Raises UsageError where the set cannot be seen twice, or people would get other names in each run.
    """
    if any(job.source is None for job in whole):
        raise UsageError("standard input cannot be read twice, and a closed set has to be", "name files or folders")
    if settings.persona != "track":
        raise UsageError("--persona does not belong to closed-set methods", "they tell people apart in any case")
    for option in ("resume", "shard"):
        if rest[option] and rest["seed"] is None:
            hint = "give the same --seed to every part and every resumption"
            raise UsageError(f"--{option} of a closed-set method needs --seed: people would change their names", hint)
    all_of_them = hashlib.sha256()
    for job in whole:
        all_of_them.update(f"{_digest(job)} {job.name}\0".encode("utf-8", "surrogateescape"))
    return replace(settings, inputs=all_of_them.hexdigest())


def _digest(job: Job) -> str:
    try:
        return digest(job.source)
    except OSError:
        return "unreadable"  # the run itself will say what is wrong with it


class Kept:
    """Rows as they go by, remembered where no manifest is written."""

    def __init__(self, wanted: bool):
        self.wanted = wanted
        self.rows: list[Row] = []

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if self.wanted:
                self.rows.append(row)
            yield row


def concluded(status: int, place: Path | None, rows: Sequence[Row], rest: dict[str, Any]) -> int:
    """Check the guarantee of the run that ended with `status`, say what was found, and return the exit status."""
    from deidcli.evaluation.kanonymity import check, check_rows

    if rest["shard"]:
        if not rest["quiet"]:
            click.echo("the parts are checked together: deid evaluate kanonymity MANIFEST...", err=True)
        return status
    as_read = [(None, json.loads(json.dumps(asdict(row)))) for row in rows]
    verdict = check([place]) if place else check_rows(as_read)
    if not verdict.holds:
        click.echo(f"deid: {verdict.line()}", err=True)
        return max(status, 1)
    if not rest["quiet"]:
        click.echo(verdict.line(), err=True)
    return status
