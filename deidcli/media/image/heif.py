"""AVIF and HEIC: pixels by Pillow and pillow-heif, files without a changed frame scrubbed in place.

A changed picture is encoded again with 8 bits a channel. So is a sequence without a changed frame, whose tables cannot
be scrubbed in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from types import ModuleType

import numpy as np
from PIL import AvifImagePlugin, Image

from deidcli.errors import MediaError, MissingDependency
from deidcli.media.image import exif, xmp
from deidcli.media.image.bmff import Item, structure
from deidcli.media.image.bmff_scrub import exif_block, scrub
from deidcli.media.image.container import Container, Rewriter, check_size, decoded, encoded, turned
from deidcli.media.image.modes import Native, from_pillow, to_pillow, upright

QUALITY = 90
"""Quality of a picture that is written anew, of 100; these formats do not say with which they were made."""


class _Boxed(Container):
    """What HEIC and AVIF share: the boxes, and a rewriter that hands all frames to one encoder."""

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.structure = structure(data)
        self.sequence = any(box.kind == b"moov" for box in self.structure.top)

    def scrubbed(self, metadata: str) -> bytes:
        if not self.sequence:
            return scrub(self.data, self.structure, metadata)
        writer = self.rewriter(metadata)
        for native in self.natives():
            writer.add(native, None)
        return writer.finish()

    def rewriter(self, metadata: str) -> Rewriter:
        return _BoxedRewriter(self, metadata)

    def encode(self, frames: list[Image.Image], told: dict[str, bytes]) -> bytes:
        """The file of these frames. told: `icc_profile`, `exif` and `xmp`, those that the policy keeps."""
        raise NotImplementedError

    def profile(self) -> bytes:
        """The ICC profile of the primary picture, or nothing."""
        raise NotImplementedError

    def told(self, metadata: str) -> dict[str, bytes]:
        """What an encoder is given beside the pixels."""
        told = {"icc_profile": self.profile() if metadata != "none" else b""}
        if metadata == "all":
            told["exif"] = exif.scrubbed_exif(exif_block(self._item(b"Exif")), self.size, oriented=False) or b""
            told["xmp"] = xmp.scrubbed(self._item(b"mime")) or b""
        return {key: value for key, value in told.items() if value}

    def _item(self, kind: bytes) -> bytes:
        item = next((item for item in self.structure.items.values() if item.kind == kind), Item(kind, 0))
        return b"".join(self.data[start:end] for start, end in item.spans)


class Avif(_Boxed):
    """AVIF, by Pillow."""

    format = "AVIF"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        image = self._opened()
        self.size = turned(check_size(image.size), self._orientation(image))
        self.times = (None,) * image.n_frames
        self._durations = [0] * image.n_frames

    def natives(self) -> Iterator[Native]:
        image = self._opened()
        for index in range(image.n_frames):
            image.seek(index)
            native = decoded(image)
            if image.n_frames > 1:
                # Only the decoder knows the clock, and only of frames that it has decoded.
                known = self.times[:index] + (Fraction(image.info["timestamp"], 1000),)
                self.times = known + self.times[index + 1 :]
                self._durations[index] = image.info["duration"]
            yield upright(native, self._orientation(image))

    def encode(self, frames: list[Image.Image], told: dict[str, bytes]) -> bytes:
        if len(frames) == 1:
            return encoded(frames[0], "AVIF", quality=QUALITY, **told)
        rest = {"save_all": True, "append_images": frames[1:], "duration": self._durations}
        return encoded(frames[0], "AVIF", quality=QUALITY, **rest, **told)

    def profile(self) -> bytes:
        return self._opened().info.get("icc_profile") or b""

    def _opened(self) -> AvifImagePlugin.AvifImageFile:
        return AvifImagePlugin.AvifImageFile(BytesIO(self.data))

    @staticmethod
    def _orientation(image: Image.Image) -> int:
        # Pillow states the turns and mirrors of the boxes in this way.
        return exif.read_exif(image.info.get("exif", b"").removeprefix(b"Exif\0\0")).orientation


class Heif(_Boxed):
    """HEIC, by pillow-heif."""

    format = "HEIC"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.library = _pillow_heif()
        images = list(self.library.open_heif(BytesIO(data)))
        for image in images:
            check_size(image.size)
        self.size = images[0].size
        self.times: tuple[None, ...] = (None,) * len(images)

    def natives(self) -> Iterator[Native]:
        for image in self.library.open_heif(BytesIO(self.data)):
            # The library has applied the turns and mirrors of the boxes; EXIF has no say in this format.
            yield from_pillow(image.to_pillow())

    def encode(self, frames: list[Image.Image], told: dict[str, bytes]) -> bytes:
        for frame in frames:
            frame.info = {"icc_profile": told["icc_profile"]} if "icc_profile" in told else {}
        file = self.library.from_pillow(frames[0])
        for frame in frames[1:]:
            file.add_from_pillow(frame)
        buffer = BytesIO()
        extra = {key: told[key] for key in ("exif", "xmp") if key in told}
        file.save(buffer, quality=QUALITY, save_all=True, **extra)
        return buffer.getvalue()

    def profile(self) -> bytes:
        return self.library.open_heif(BytesIO(self.data)).info.get("icc_profile") or b""


class _BoxedRewriter(Rewriter):
    def __init__(self, source: _Boxed, metadata: str):
        self.source, self.metadata = source, metadata
        self.frames: list[Image.Image] = []

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        self.frames.append(to_pillow(native))

    def finish(self) -> bytes:
        return self.source.encode(self.frames, self.source.told(self.metadata))


def _pillow_heif() -> ModuleType:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependency("reading HEIC needs pillow-heif", "pip install 'deidcli[heif]'") from error
    if not hasattr(pillow_heif, "open_heif"):
        raise MediaError("this pillow-heif is too old", "pip install --upgrade pillow-heif")
    return pillow_heif
