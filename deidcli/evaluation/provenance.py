"""Provenance: which code and which weights made a figure."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from deidcli import __version__
from deidcli.methods.base import Method

VERSION = __version__


@cache
def commit() -> str:
    """The commit of the checkout that this code lies in, with "+" behind it where files differ; empty outside one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        head, changed = (_git(folder, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    except (OSError, subprocess.SubprocessError):
        return ""
    return head[:12] + ("+" if changed else "")


def weights(method: Method | None) -> tuple[str, str]:
    """Name and checksum of a method's preset, empty where it has none."""
    if method is None:
        return "", ""
    return str(getattr(method.options, "preset", "")), method.weights


def now() -> str:
    """This moment as UTC in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
