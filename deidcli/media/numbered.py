"""Names of pictures that differ in one number alone: the frames of a sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PICTURE = re.compile(r"\.(png|apng|jpe?g|jpe|jfif|webp|tiff?|bmp|dib|avif|heic|heif)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(.*?)(\d+)(\.[A-Za-z]+)$", re.DOTALL)


def numbered(names: Iterable[str]) -> list[tuple[int, str]]:
    """(number, name) of the pictures among `names`, in the order of the numbers before their suffixes.

    Empty where they differ in more than that, where two have one number, or where there are fewer than two.
    """
    pictures = [name for name in names if _PICTURE.search(name)]
    parts = [part for part in map(_NUMBERED.match, pictures) if part]
    alike = len({(part[1], part[3]) for part in parts}) == 1 and len(parts) == len(pictures)
    order = sorted((int(part[2]), part[0]) for part in parts)
    return order if alike and len(order) > 1 and len({number for number, _ in order}) == len(order) else []
