"""The inputs of a command: arguments, and lists of names from a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deidcli.engine.jobs import STREAM, Job, list_jobs
from deidcli.errors import UsageError


def gather(
    inputs: Sequence[str], output: str | None, files_from: str | None, null: bool, sequences: bool = False
) -> list[Job]:
    """The jobs of a command. Raises UsageError; also where there is nothing to do."""
    return list_jobs(inputs, output, sequences, named(inputs, files_from, null))


def named(inputs: Sequence[str], files_from: str | None, null: bool) -> list[str]:
    """The names of --files-from. Raises UsageError; also where neither they nor `inputs` name anything."""
    listed = _names(files_from, null) if files_from else []
    if not inputs and not listed:
        raise UsageError("no input was given", "name files or folders, or give --files-from")
    return listed


def _names(files_from: str, null: bool) -> list[str]:
    try:
        text = sys.stdin.buffer.read() if files_from == STREAM else Path(files_from).read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from {files_from}: {error.strerror}", "give a file with one name a line") from error
    parts = text.split(b"\0") if null else text.splitlines()
    # Names are bytes on the systems we run on; this is how Python writes those that are not UTF-8.
    return [part.decode("utf-8", "surrogateescape") for part in parts if part]
