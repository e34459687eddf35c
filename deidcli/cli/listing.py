"""The inputs of a command: arguments, and lists of names from a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deidcli.engine.jobs import STREAM, Job, list_jobs, shard
from deidcli.errors import UsageError


def gather(
    inputs: Sequence[str], output: str | None, files_from: str | None, null: bool, sequences: bool = False
) -> list[Job]:
    """The jobs of a command. Raises UsageError; also where there is nothing to do."""
    listed = _names(files_from, null) if files_from else []
    if not inputs and not listed:
        raise UsageError("no input was given", "name files or folders, or give --files-from")
    return list_jobs(inputs, output, sequences, listed)


def parted(jobs: list[Job], part: str | None) -> list[Job]:
    """The jobs of the part "I/N" of --shard; all where there is none. Raises UsageError."""
    return shard(jobs, *_part(part)) if part else jobs


def _names(files_from: str, null: bool) -> list[str]:
    try:
        text = sys.stdin.buffer.read() if files_from == STREAM else Path(files_from).read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from {files_from}: {error.strerror}", "give a file with one name a line") from error
    parts = text.split(b"\0") if null else text.splitlines()
    # Names are bytes on the systems we run on; this is how Python writes those that are not UTF-8.
    return [part.decode("utf-8", "surrogateescape") for part in parts if part]


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text}: not a part", "give I/N, like 1/4 to 4/4")
    return int(index), int(count)
