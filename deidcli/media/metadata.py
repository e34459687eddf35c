"""Which metadata of a file may be written.

Three policies (`--metadata`), in the order of what they keep:

none: nothing but what is needed to show the picture: its colour numbers, and the orientation where pixels are copied.
safe: also the ICC profile and the resolution (DPI). Nothing that tells who, where, when or with which camera.
all:  also EXIF with GPS, XMP, IPTC, comments and text.

Whatever the policy, no second copy of the picture is written: thumbnails, previews, maker notes (which hide previews),
gain maps, depth maps, layers, and data behind the end of the picture are dropped, because a copy would show the face.
"""

from __future__ import annotations

from deidcli.errors import UsageError

POLICIES = ("none", "safe", "all")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"WEBPVP8", b"ftyp", b"/9j/", b"iVBORw0KGgo", b"ffd8ff")


def checked(policy: str) -> str:
    """The policy's name. Raises UsageError for one that does not exist."""
    if policy not in POLICIES:
        raise UsageError(f"unknown metadata policy {policy!r}", f"use one of {', '.join(POLICIES)}")
    return policy


def holds_picture(value: bytes) -> bool:
    """Whether a block of metadata looks as if a picture was packed into it, plain, in base64 or in hexadecimal."""
    return any(signature in value for signature in _SIGNATURES)
