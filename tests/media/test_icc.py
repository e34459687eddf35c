"""Lookup tables in ICC profiles, as printers have them: what lies in or behind them and is no table goes."""

import struct

import pytest

from deidcli.media.image.icc import scrubbed

SECRET = b"taken by Ada Lovelace, 12 St James's Square"
CURVE = b"para\0\0\0\0\0\0\0\0" + struct.pack(">i", 65536)  # y = x


def table8(more=b""):
    """An 8-bit table (mft1) from CMYK to Lab with two points for each ink."""
    return b"mft1\0\0\0\0\4\3\2\0" + bytes(36) + bytes(range(256)) * 4 + bytes(2**4 * 3) + bytes(range(256)) * 3 + more


def table16(more=b""):
    """The same with 16 bits (mft2)."""
    return b"mft2\0\0\0\0\4\3\2\0" + bytes(36) + struct.pack(">HH", 2, 2) + bytes(2 * (2 * 4 + 2**4 * 3 + 2 * 3)) + more


def pieces(gap=b""):
    """A table of elements (mAB), three curves behind each other; gap: what lies between its head and them."""
    start = 32 + len(gap) + -len(gap) % 4
    return (b"mAB \0\0\0\0\3\3\0\0" + struct.pack(">5I", start, 0, 0, 0, 0) + gap).ljust(start, b"\0") + CURVE * 3


def profile(tag, space=b"CMYK"):
    head = b"\0\0\0\0test\4\0\0\0prtr" + space + b"Lab "
    place = 128 + 4 + 12
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", place, len(tag)) + tag


@pytest.mark.parametrize("tag", [table8(), table16(), pieces()], ids=["8 bits", "16 bits", "elements"])
def test_a_table_stays_as_it_is(tag):
    kept = scrubbed(profile(tag), "safe")
    assert tag in kept and kept[12:24] == b"prtrCMYKLab "


@pytest.mark.parametrize("tag", [table8(SECRET), table16(SECRET)], ids=["8 bits", "16 bits"])
def test_a_table_of_another_size_is_none(tag):
    assert scrubbed(profile(tag), "safe") == b""


def test_nothing_lies_between_the_elements_of_a_table():
    kept = scrubbed(profile(pieces(SECRET)), "safe")
    assert SECRET not in kept and kept.count(CURVE) == 3


def test_a_table_that_is_cut_off_makes_no_profile():
    """Wherever it ends, there is an answer; a file must not fail for its colours."""
    for tag in (table8(), table16(), pieces()):
        for size in (8, 9, 10, 11, 12, 20, 31, 40, 49, 51, len(tag) - 1):
            assert scrubbed(profile(tag[:size]), "safe") == b"", size
