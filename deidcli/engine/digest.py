"""What a file, or a folder that stands for one, is made of: sixty-four digits that change with any of it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from deidcli import presets


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder that of all files in it, by name. Raises OSError."""
    if not path.is_dir():
        return presets.sha256(path)
    whole = sha256()
    for inside in sorted((p for p in path.iterdir() if p.is_file()), key=lambda p: p.name):
        whole.update(f"{presets.sha256(inside)}  {inside.name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
