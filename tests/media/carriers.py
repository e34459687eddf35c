"""Planted files: a marker in a place that nothing shows, and the check that it is never written."""

import re
import zlib

import numpy as np

from deidcli.errors import MediaError

from .drawn import frames, through

SECRET = b"GEOSECRET52N13E"


def everything(data):
    """The bytes, and what is inflated from any place where a zlib stream may begin."""
    found = [data]
    for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data):
        try:
            found.append(zlib.decompressobj().decompress(data[match.start() :], 1 << 20))
        except zlib.error:
            continue
    return b"".join(found)


def shown(data):
    return [frame.pixels for frame in frames(data)]


def difference(old, new):
    """The mean difference of the levels of two frames; infinite where their sizes differ."""
    return np.abs(old.astype(int) - new).mean() if old.shape == new.shape else np.inf


def check(planted, lossless=True):
    """Whether the file was taken. Asserts that nothing of the marker is written, and the same picture."""
    assert SECRET in everything(planted)
    try:
        before = shown(planted)
    except MediaError:
        return False
    for policy in ("safe", "none"):
        copied = through(planted, False, policy)
        assert SECRET not in everything(copied), f"copied under {policy}"
        after = shown(copied)
        assert len(before) == len(after)
        most = 0 if lossless else 3
        assert all(difference(old, new) <= most for old, new in zip(before, after, strict=True)), "other pixels"
    # What is written anew is the encoder's own among the same kept blocks; "none" keeps fewer of them.
    assert SECRET not in everything(through(planted, True)), "written anew"
    return True


def refusals(plants, lossless=True):
    """Check each plant of a format; at most a third of them may be refused."""
    assert len(plants) == len(set(plants.values())), "two plants are the same file"
    failed, refused = [], []
    for name, data in plants.items():
        try:
            if not check(data, lossless):
                refused.append(name)
        except (AssertionError, MediaError) as error:
            failed.append(f"{name}: {next(iter(str(error).splitlines()), error)}")
    assert not failed
    assert len(refused) <= len(plants) / 3, refused
