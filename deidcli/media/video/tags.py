"""What of a video's metadata may be written: the policies of `media.metadata` for containers.

none: nothing but what is needed to play it: colours, shape, rotation, and which track is the default one.
safe: also the language of each track, and where chapters begin.
all:  also titles, comments, dates, places, devices, names of chapters and tracks.

Whatever the policy: no cover art, no attachment, no second track of moving pictures and no preview, for each may show a
face; no tag into which a picture was packed; no word on the program that wrote the file. Captions within the frames
(CEA-608) stay, and so does what a camera wrote into the compressed frames of a video that is copied as it is.
"""

from __future__ import annotations

from deidcli.media.metadata import holds_picture

_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
_LONGEST = 1 << 16


def file_tags(tags: dict[str, str], policy: str) -> dict[str, str]:
    """The tags of a whole file, or of a chapter, that may be written."""
    return _told(tags) if policy == "all" else {}


def track_tags(tags: dict[str, str], policy: str) -> dict[str, str]:
    """The tags of a track that may be written."""
    if policy == "all":
        return _told(tags)
    return {"language": tags["language"]} if policy == "safe" and "language" in tags else {}


def chapters(found: list, policy: str) -> list:
    """The chapters that may be written, as PyAV has them."""
    if policy == "none":
        return []
    return [{**chapter, "metadata": file_tags(chapter["metadata"], policy)} for chapter in found]


def _told(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.lower() not in _OWN and not _suspect(value)}


def _suspect(value: str) -> bool:
    return len(value) > _LONGEST or holds_picture(value.encode("utf-8", "replace"))
