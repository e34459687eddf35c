"""Which metadata of a file may be written.

Three policies (`--metadata`), in the order of what they keep:

none: nothing but what is needed to show the picture: its colour numbers, and the orientation where pixels are copied;
      of a video colours, shape, rotation, and which track is the default one.
safe: also the ICC profile and the resolution (DPI); of a video the language of each track, and where chapters begin.
      Nothing that tells who, where, when or with which camera.
all:  also EXIF with GPS, XMP, IPTC, comments and text; of a video titles, comments, dates, places, devices, names of
      chapters and tracks.

Whatever the policy, no second copy of the picture is written: thumbnails, previews, maker notes (which hide previews),
gain maps, depth maps, layers, and data behind the end of the picture are dropped, because a copy would show the face.
So are, of a video, cover art, attachments, second tracks of moving pictures, tags into which a picture was packed, and
any word on the program that wrote the file. Captions within the frames (CEA-608) stay, and so does what a camera wrote
into the compressed frames of a video that is copied as it is.
"""

from __future__ import annotations

import re

from deidcli.errors import UsageError

POLICIES = ("none", "safe", "all")
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"WEBPVP8", b"ftyp"),
    # The same in base64, as far as it does not depend on the place, and in hexadecimal.
    *(b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"ZnR5cGF2aW", b"ZnR5cGhlaW", b"ZnR5cG1pZj"),
    *(b"ffd8ff", b"FFD8FF", b"89504e47", b"89504E47", b"47494638"),
)
_OPAQUE = re.compile(rb"[A-Za-z0-9+/=_-]{1000}")
"""Longer than any word or address: base64 or hexadecimal of something."""


def checked(policy: str) -> str:
    """The policy's name. Raises UsageError for one that does not exist."""
    if policy not in POLICIES:
        raise UsageError(f"unknown metadata policy {policy!r}", f"use one of {', '.join(POLICIES)}")
    return policy


def holds_picture(value: bytes) -> bool:
    """Whether a block of metadata looks as if a picture was packed into it, plain, in base64 or in hexadecimal."""
    # Text of 16 bits a character, and base64 in lines.
    joined = value.translate(None, b"\0\r\n")
    return any(signature in each for each in (value, joined) for signature in _SIGNATURES) or bool(
        _OPAQUE.search(joined)
    )


_WRITERS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
_LONGEST_TAG = 1 << 16
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
"""ISO 639, and of BCP 47 a script and a region: tags of private use say anything."""


def file_tags(tags: dict[str, str], policy: str) -> dict[str, str]:
    """The tags of a whole file, or of a chapter, that may be written."""
    return _kept_tags(tags) if policy == "all" else {}


def track_tags(tags: dict[str, str], policy: str) -> dict[str, str]:
    """The tags of a track that may be written."""
    if policy == "all":
        return _kept_tags(tags)
    language = tags.get("language", "")
    return {"language": language} if policy == "safe" and _LANGUAGE.fullmatch(language) else {}


def chapters(found: list, policy: str) -> list:
    """The chapters that may be written, as PyAV has them."""
    if policy == "none":
        return []
    return [{**chapter, "metadata": file_tags(chapter["metadata"], policy)} for chapter in found]


def _kept_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.lower() not in _WRITERS_OWN and not _is_suspect(value)}


def _is_suspect(value: str) -> bool:
    return len(value) > _LONGEST_TAG or holds_picture(value.encode("utf-8", "replace"))
