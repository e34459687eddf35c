"""ICC profiles written anew from the tags that colour needs (ICC.1:2022 and the older version 2).

What stays: the curves, matrices, white point and tables of the transform, each of the size and range that the
specification allows. Everything else in a profile can name a person, a machine or a place, or hold a second picture:
dates, makers, device settings, private tags, bytes between the tags and free text. The two texts that a profile must
have, its name and its copyright, are replaced unless the name is one of the well-known spaces.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

from deidcli.media.metadata import holds_picture

_HEADER, _LONGEST = 128, 1 << 24
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_SPACES = {b"RGB ": 3, b"GRAY": 1, b"CMYK": 4, b"Lab ": 3}
_D50 = bytes.fromhex("0000f6d6000100000000d32d")
_TEXTS = (b"desc", b"cprt")
_TEXTS_OF_ALL = (*_TEXTS, b"dmnd", b"dmdd", b"vued")
_FAR = 4.0
"""No tristimulus value or matrix entry of a real profile is as large as this."""
_NAMES = {
    "sRGB", "sRGB IEC61966-2.1", "sRGB IEC61966-2-1", "sRGB built-in", "sRGB2014", "c2", "Display P3", "DCI-P3",
    "Adobe RGB (1998)", "AdobeRGB1998", "Apple RGB", "ColorMatch RGB", "ProPhoto RGB", "ROMM RGB: ISO 22028-2:2013",
    "Wide Gamut RGB", "Rec. ITU-R BT.709-5", "Rec. ITU-R BT.2020-1", "Rec. ITU-R BT.2100 PQ", "Rec. ITU-R BT.2100 HLG",
    "Generic RGB Profile", "Generic Gray Profile", "Generic Gray Gamma 2.2 Profile", "Generic CMYK Profile",
    "Gray Gamma 2.2", "Gray Gamma 1.8", "Dot Gain 20%", "Dot Gain 15%", "sGray", "U.S. Web Coated (SWOP) v2",
    "Coated FOGRA39 (ISO 12647-2:2004)", "Coated FOGRA27 (ISO 12647-2:2004)", "Japan Color 2001 Coated",
    "Camera RGB Profile",
}  # fmt: skip
"""Descriptions that name a colour space and no person; any other becomes `_PLAIN_NAME`."""
_PLAIN_NAME, _PLAIN_COPYRIGHT = "colour profile", "none"


def scrubbed(profile: bytes, policy: str) -> bytes:
    """The profile with the tags of its colour transform alone; under the policy "all" with its texts too.

    Empty where nothing of it can be used, where it is damaged, and under the policy "none".
    """
    if policy == "none" or not _HEADER + 4 <= len(profile) <= _LONGEST:
        return b""
    if profile[12:16] not in _CLASSES or profile[16:20] not in _SPACES or profile[20:24] not in (b"XYZ ", b"Lab "):
        return b""
    try:
        kept = {kind: value for kind, value in _tags(profile).items() if _may_stay(kind, value, policy)}
    except (struct.error, IndexError):  # a tag that is cut off
        return b""
    if not (
        {b"rTRC", b"gTRC", b"bTRC", b"rXYZ", b"gXYZ", b"bXYZ"} <= kept.keys()
        or kept.keys() & {b"kTRC", b"A2B0", b"B2A0"}
    ):
        return b""
    texts = {b"desc": _name(kept.get(b"desc", b"")), b"cprt": _PLAIN_COPYRIGHT}
    for kind, text in texts.items():
        if policy != "all" or kind not in kept:
            kept[kind] = _text(text, kind, profile[8])
    return _laid_out(profile, {kind: _without_gaps(value) for kind, value in kept.items()})


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    found: dict[bytes, bytes] = {}
    for index in range(min(count, 100)):
        kind, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * index)
        if size >= 8 and start + size <= len(profile):
            value = profile[start : start + size]
            exact = _curve_size(value)
            # Some writers count the zeros that fill up to a multiple of four.
            found.setdefault(kind, value[:exact] if exact and len(value) - exact < 4 else value)
    return found


def _laid_out(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of these tags under the header of `profile`, cut to the fields that say how to use it."""
    table, body, places = b"", b"", {}
    start = _HEADER + 4 + 12 * len(tags)
    for kind, value in tags.items():
        if value not in places:
            places[value] = start + len(body)
            body += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", kind, places[value], len(value))
    (intent,) = struct.unpack_from(">I", profile, 64)
    head = struct.pack(">I4x2s2x", start + len(body), profile[8:10]) + profile[12:24]
    # A date is required; this one identifies no person.
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + struct.pack(">I", min(intent, 3)) + _D50
    return head.ljust(_HEADER, b"\0") + struct.pack(">I", len(tags)) + table + body


def _may_stay(kind: bytes, value: bytes, policy: str) -> bool:
    if kind in _TEXTS_OF_ALL:
        return kind == b"desc" or (policy == "all" and not holds_picture(value))
    check = _KNOWN.get(kind)
    return check is not None and check(value)


def _fixed(value: bytes, start: int) -> list[float]:
    """s15Fixed16 numbers from `start` to the end."""
    count = (len(value) - start) // 4
    return [number / 65536 for number in struct.unpack_from(f">{count}i", value, start)]


def _is_xyz(value: bytes) -> bool:
    return value[:8] == b"XYZ \0\0\0\0" and len(value) == 20 and max(map(abs, _fixed(value, 8))) < _FAR


def _is_matrix(value: bytes) -> bool:
    return value[:8] == b"sf32\0\0\0\0" and len(value) == 44 and max(map(abs, _fixed(value, 8))) < _FAR


def _is_chromaticity(value: bytes) -> bool:
    if value[:8] != b"chrm\0\0\0\0" or len(value) != 36:
        return False
    return value[8:12] in (b"\0\3\0" + bytes([i]) for i in range(5)) and all(0 <= n <= 1 for n in _fixed(value, 12))


def _is_cicp(value: bytes) -> bool:
    return value[:8] == b"cicp\0\0\0\0" and len(value) == 12


def _is_curve(value: bytes) -> bool:
    return _curve_size(value) == len(value) and _is_monotone(value)


def _is_monotone(value: bytes) -> bool:
    """Whether a tone curve never turns back: text in the place of its steps would."""
    if value[:4] == b"para":
        return all(abs(number) < 16 for number in _fixed(value, 12))
    steps = struct.unpack_from(f">{(len(value) - 12) // 2}H", value, 12)
    pairs = list(pairwise(steps))
    return all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs)


def _curve_size(value: bytes, start: int = 0) -> int:
    """Bytes of the curve that begins at `start`; 0 for none. Raises struct.error where it is cut off."""
    if value[start + 4 : start + 8] != bytes(4):
        return 0
    if value[start : start + 4] == b"curv":
        return 12 + 2 * int(struct.unpack_from(">I", value, start + 8)[0])
    if value[start : start + 4] == b"para":
        (function,) = struct.unpack_from(">Hxx", value, start + 8)
        return 12 + 4 * (1, 3, 4, 5, 7)[function] if function < 5 and not any(value[start + 10 : start + 12]) else 0
    return 0


def _is_table(value: bytes) -> bool:
    """Whether a lookup table has exactly the size that its header states."""
    inputs, outputs, grid = value[8], value[9], value[10]
    if value[4:8] != bytes(4) or not 1 <= inputs <= 4 or not 1 <= outputs <= 4:
        return False
    if value[:4] == b"mft1":
        return len(value) == 48 + 256 * inputs + grid**inputs * outputs + 256 * outputs and value[11] == 0
    if value[:4] == b"mft2":
        first, last = struct.unpack_from(">HH", value, 48)
        return len(value) == 52 + 2 * (first * inputs + grid**inputs * outputs + last * outputs) and value[11] == 0
    return value[:4] in (b"mAB ", b"mBA ") and bool(_pieces(value))


def _pieces(value: bytes) -> list[tuple[int, int]]:
    """First byte and end of each element of a lutAToB or lutBToA tag; none where one reaches out of the tag."""
    inputs, outputs = value[8], value[9]
    b, matrix, m, clut, a = struct.unpack_from(">5I", value, 12)
    into, out = (inputs, outputs) if value[:4] == b"mAB " else (outputs, inputs)
    found = [(0, 10), (12, 32)] + ([(matrix, matrix + 48)] if matrix else [])
    for start, count in ((b, out), (m, out), (a, into)):
        for _ in range(count if start else 0):
            size = _curve_size(value, start)
            if not size or start + size > len(value):
                return []
            found.append((start, start + size))
            start += size + -size % 4
    if clut:
        points = 1
        for grid in value[clut : clut + inputs]:
            points *= grid
        found += [(clut, clut + inputs), (clut + 16, clut + 17)]
        found += [(clut + 20, clut + 20 + points * outputs * max(value[clut + 16], 1))]
    return found if all(end <= len(value) for _, end in found) else []


def _without_gaps(value: bytes) -> bytes:
    """The tag with zeros wherever none of its elements lies."""
    if value[:4] not in (b"mAB ", b"mBA "):
        return value
    clean = bytearray(len(value))
    for start, end in _pieces(value):
        clean[start:end] = value[start:end]
    return bytes(clean)


_KNOWN: dict[bytes, Callable[[bytes], bool]] = {
    **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt"), _is_xyz),
    **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _is_curve),
    **dict.fromkeys((b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"), _is_table),
    b"chad": _is_matrix,
    b"chrm": _is_chromaticity,
    b"cicp": _is_cicp,
}


def _name(value: bytes) -> str:
    """The description, if it is that of a well-known space."""
    if value[:4] == b"desc":
        (size,) = struct.unpack_from(">I", value.ljust(12, b"\0"), 8)
        text = value[12 : 12 + min(size, 100)].decode("latin-1")
    else:
        size, start = struct.unpack_from(">II", value.ljust(28, b"\0"), 20)
        text = value[start : start + min(size, 200)].decode("utf-16-be", "replace")
    text = text.strip("\0 ")
    return text if text in _NAMES else _PLAIN_NAME


def _text(text: str, kind: bytes, version: int) -> bytes:
    """A text tag as versions 2 and 4 of the specification want it."""
    if version >= 4:
        wide = text.encode("utf-16-be")
        return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(wide), 28) + wide
    narrow = text.encode("ascii") + b"\0"
    if kind == b"cprt":
        return b"text\0\0\0\0" + narrow
    return b"desc" + struct.pack(">4xI", len(narrow)) + narrow + bytes(4 + 4 + 2 + 1 + 67)
